#!/bin/bash
# Packs what a GPU machine needs to run tests/device/run.sh: test programs, plans of the golden models and of a sweep of ops,
# plans with deliberate faults, synthetic plans for the benchmarks, with and without each fusion. The GPU machine needs a driver and NVRTC, no LLVM
# and no compiler; programs built on an older glibc run on a newer one.
#
#   tests/device/pack.sh FOLDER [BUILD]      BUILD is build/release
#
# MILI_SHAPES: a folder of folders with a config.json each, shapes/ if not set; of these the plans for run.sh's "bench" and
# "ablate" are made, with synthetic weights. MILI_COMPILER=1 packs mili-compile, too, linked without LLVM's
# shared libraries (link_static.sh), for run.sh's "wide" and "chat". MILI_OPS_CASES: cases of each kind of op, 12 if not set.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$1 build=${2:-$root/build/release} shapes=${MILI_SHAPES:-$root/tests/device/shapes}
mkdir -p "$out/bin" "$out/plans" "$out/mixed" "$out/ops" "$out/models" "$out/shapes" "$out/faults" "$out/ablate"
cp "$root/tests/device/run.sh" "$root/tests/device/bf16_reference.py" "$root/tests/device/compare_logits.py" "$out/"
for program in golden_plans_test mixed_plans_test ops_plans_test device_sampling_test runtime_cuda_test mili-bench mili-run; do
  strip -o "$out/bin/$program" "$build/bin/$program"
done
if command -v nvcc >/dev/null; then
  source=$root/tests/device/attention_harness.cu harness=$out/bin/attention_harness
  if [ ! -e "$harness" ] || [ -n "$(find "$root/codegen/device" "$source" -newer "$harness" | head -1)" ]; then
    nvcc -std=c++17 -O2 -arch=sm_90a -I "$root/codegen/device" -I "$root/runtime/include" -I "$root/ir/include" \
      -o "$harness" "$source" -L /usr/local/cuda/lib64/stubs -lcuda
  fi
fi
[ -z "${MILI_COMPILER:-}" ] || "$root/tests/device/link_static.sh" "$out/bin/mili-compile" "$build"

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

# The large sweep of ops: other shapes each time; a case is made again from the seed in its name.
rm -f "$out"/ops/*
MILI_OPS_WRITE=$out/ops MILI_OPS_CASES=${MILI_OPS_CASES:-12} "$build/bin/ops_test" --gtest_filter='*_cuda-*deep*:*broad*' --gtest_brief=1
# Of products of many rows few: their weights are large.
MILI_OPS_WRITE=$out/ops MILI_OPS_CASES=2 "$build/bin/ops_test" --gtest_filter='*broad_cuda' --gtest_brief=1

# Faults that the golden tests must catch: granite without its attention multiplier, smollm3 with RoPE in every layer, llama
# with three bits of mantissa in its keys and values.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
faulty() {  # MODEL PYTHON: compiles the model with an edited configuration `c`
  cp -r "$models/$1" "$work/$1"
  python3 - "$work/$1/config.json" "$2" <<'PY'
import json, sys
path, edit = sys.argv[1:]
c = json.load(open(path))
exec(edit)
json.dump(c, open(path, "w"))
PY
  compile "$work/$1" -o "$out/faults/$1.mili" --requests 3
}
faulty granite "c['attention_multiplier'] = (c['hidden_size'] // c['num_attention_heads']) ** -0.5"
faulty smollm3 "c['no_rope_layers'] = [1] * c['num_hidden_layers']"
mkdir -p "$work/headers/mili/runtime" "$work/headers/mili/IR"
cp -r "$root/codegen/device/mili/device" "$work/headers/mili/"
cp "$root/runtime/include/mili/runtime/batch_fields.def" "$work/headers/mili/runtime/"
cp "$root/ir/include/mili/IR/BlockPattern.h" "$work/headers/mili/IR/"
three_bits='{ Vector16 few = PACKED; for (int word = 0; word < 4; ++word) few.words[word] \&= 0xfff0fff0u; store16(TO, few); }'
edit() {  # FILE STATEMENT PACKED TO: replaces one statement, or fails
  local text=${three_bits/PACKED/$3}
  grep -qF "$2" "$work/headers/mili/device/$1"
  python3 - "$work/headers/mili/device/$1" "$2" "${text/TO/$4}" <<'PY'
import sys
path, old, new = sys.argv[1:]
text = open(path).read()
open(path, "w").write(text.replace(old, new.replace("\\&", "&")))
PY
}
edit attention_decode.cuh 'store16(to + chunk * 8, pack8(scratch + chunk * 8));' 'pack8(scratch + chunk * 8)' 'to + chunk * 8'
place='to + static_cast<int64_t>(i / kWidth) * kPageTokens * kWidth + i % kWidth'
edit rows.cuh "store8($place, v);" 'pack8(v)' "$place"
compile "$models/llama" -o "$out/faults/llama.mili" --requests 3 --cuda-headers "$work/headers"

for config in "$shapes"/*/config.json; do
  folder=$(dirname "$config") shape=$(basename "$(dirname "$config")")
  compile "$folder" -o "$out/shapes/$shape.mili" --synthetic-weights 1 --requests 64 --context 2176
  case $shape in llama-3.1-8b | llama-3.2-1b) ;; *) continue ;; esac
  "$build/bin/mili-compile" "$folder" -o "$out/shapes/$shape-images.mili" --synthetic-weights 1 --requests 64 \
    --context 2176 --target cuda:sm_90a -q
  variant() {
    local name=$1
    shift
    compile "$folder" -o "$out/ablate/$shape-$name.mili" --synthetic-weights 1 --requests 2 --context 2176 "$@"
  }
  variant all
  variant no-merge --no-merge-projections
  variant no-rope-append --disable-fusion rope,kv_append
  variant no-residual-norm --disable-fusion rms_norm-linear,rms_norm-logits,linear-add
  variant no-gated --disable-fusion gated
  variant no-arena-reuse --no-arena-reuse
  variant none --disable-fusion all --no-merge-projections
done
gzip -f "$out"/{plans,mixed,ops,shapes,faults,ablate}/*.mili 2>/dev/null || true
[ ! -e "$out/bin/mili-compile" ] || xz -T0 -6 -f "$out/bin/mili-compile"
du -sh "$out"
