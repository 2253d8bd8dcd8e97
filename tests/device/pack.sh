#!/bin/bash
# Packs what a GPU machine needs to run tests/device/run.sh: test programs, plans of the golden models, synthetic plans for
# the benchmarks. The GPU machine needs a driver and NVRTC, no LLVM and no compiler; programs built on an older glibc run on
# a newer one.
#
#   tests/device/pack.sh FOLDER [BUILD]      BUILD is build/release
#
# Set MILI_SHAPES to a folder of folders with a config.json each (llama-3.1-8b, ...) to pack plans of those shapes with
# synthetic weights, too.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$1 build=${2:-$root/build/release}
mkdir -p "$out/bin" "$out/plans" "$out/mixed" "$out/models" "$out/shapes"
cp "$root/tests/device/run.sh" "$out/"
for program in golden_plans_test mixed_plans_test device_sampling_test runtime_cuda_test mili-bench mili-run mili-plan; do
  strip -o "$out/bin/$program" "$build/bin/$program"
done
if command -v nvcc >/dev/null; then
  for harness in attention ops; do
    [ -e "$root/tests/device/${harness}_harness.cu" ] || continue
    [ "$out/bin/${harness}_harness" -nt "$root/codegen/device/mili/device/gemm.cuh" ] &&
      [ "$out/bin/${harness}_harness" -nt "$root/tests/device/${harness}_harness.cu" ] && continue
    nvcc -std=c++17 -O2 -arch=sm_90a -I "$root/codegen/device" -I "$root/runtime/include" \
      -o "$out/bin/${harness}_harness" "$root/tests/device/${harness}_harness.cu" -L /usr/local/cuda/lib64/stubs -lcuda
  done
fi
models=$build/golden
compile() { "$build/bin/mili-compile" "$@" --target cuda:source -q; }
for model in llama llama-linear qwen2 qwen3 qwen3-yarn mistral-window phi3 phi3-longrope smollm3 olmo2 granite; do
  compile "$models/$model" -o "$out/plans/$model.mili" --requests 3
  mkdir -p "$out/models/$model"
  cp "$models/$model/golden.safetensors" "$models/$model/config.json" "$out/models/$model/"
done
for model in llama qwen3 mistral-window; do
  compile "$models/$model" -o "$out/mixed/$model.mili" --requests 32 --context 256 --deterministic
done
[ -z "${MILI_SHAPES:-}" ] || for config in "$MILI_SHAPES"/*/config.json; do
  shape=$(basename "$(dirname "$config")")
  compile "$(dirname "$config")" -o "$out/shapes/$shape.mili" --synthetic-weights 1 --requests 64 --context 2176
done
du -sh "$out"
