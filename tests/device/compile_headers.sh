#!/bin/sh
# Compiles every instantiation that attention_harness.cu names, for sm_80, sm_90a and sm_100a, and prints registers, spilled
# bytes and dynamic shared memory; fails if one spills. One more unit goes through NVRTC's restrictions (no host headers).
# Needs nvcc (NVCC names another); needs no GPU. Run from anywhere; takes a minute or two.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
nvcc=${NVCC:-nvcc}
command -v "$nvcc" >/dev/null 2>&1 || nvcc=/usr/local/cuda/bin/nvcc
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The headers alone, as NVRTC gets them.
cat >"$work/unit.cu" <<'UNIT'
#include "mili/device/attention_decode.cuh"
#include "mili/device/attention_prefill.cuh"
struct Config {
  static constexpr int kHeads = 32, kKvHeads = 8, kHeadDim = 128, kWindow = 0, kPageTable = 0, kSplits = 4, kFewSplits = 4;
  static constexpr float kScale = 0.0883883f, kSoftCap = 0;
  static constexpr bool kSinks = false, kSparse = false;
};
struct Source {
  static constexpr bool kAppends = false, kRaw = true;
  const mili::bf16 *raw;
};
extern "C" __global__ void __launch_bounds__(mili::PrefillTile<Config>::kThreads, 2)
    prefill(const mili::Batch *batch, Source source, const mili::bf16 *pool, mili::bf16 *out) {
  mili::attention_prefill<Config>(batch, source, pool, nullptr, out, blockIdx.x);
}
extern "C" __global__ void __launch_bounds__(mili::DecodeTile<Config>::kThreads, 3)
    decode(const mili::Batch *batch, Source source, mili::bf16 *pool, mili::bf16 *out, float *partials,
           unsigned *counters) {
  mili::attention_decode<Config>(batch, source, pool, nullptr, out, partials, counters, blockIdx.x);
}
UNIT

# The driver that feeds it to NVRTC, headers in memory.
cat >"$work/driver.cc" <<'DRIVER'
#include <cstdio>
#include <fstream>
#include <iterator>
#include <nvrtc.h>
#include <string>
#include <vector>
static std::string read(const std::string &path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}
int main(int argc, char **argv) {
  const std::string root = argv[1], device = root + "/codegen/device/";
  const char *names[] = {"mili/device/ptx.cuh", "mili/device/common.cuh", "mili/device/batch.cuh",
                         "mili/device/attention_common.cuh", "mili/device/attention_prefill.cuh",
                         "mili/device/attention_decode.cuh", "mili/runtime/batch_fields.def", "mili/IR/BlockPattern.h"};
  std::vector<std::string> texts;
  std::vector<const char *> pointers;
  for (int i = 0; i < 8; ++i)
    texts.push_back(read((i < 6 ? device : root + (i < 7 ? "/runtime/include/" : "/ir/include/")) + names[i]));
  for (const std::string &text : texts)
    pointers.push_back(text.c_str());
  const std::string unit = read(argv[2]);
  for (int i = 3; i < argc; ++i) {
    nvrtcProgram program;
    nvrtcCreateProgram(&program, unit.c_str(), "unit.cu", 8, pointers.data(), names);
    const std::string arch = std::string("-arch=") + argv[i];
    const char *options[] = {arch.c_str(), "-std=c++17", "-default-device"};
    const nvrtcResult result = nvrtcCompileProgram(program, 3, options);
    size_t size = 0;
    nvrtcGetProgramLogSize(program, &size);
    std::string log(size, 0);
    nvrtcGetProgramLog(program, log.data());
    std::printf("NVRTC %s: %s\n%s", argv[i], nvrtcGetErrorString(result), log.c_str());
    if (result != NVRTC_SUCCESS)
      return 1;
  }
}
DRIVER
toolkit=$(dirname "$(dirname "$(readlink -f "$(command -v "$nvcc")")")")
if [ -e "$toolkit/include/nvrtc.h" ]; then
  c++ -std=c++17 -I "$toolkit/include" -o "$work/driver" "$work/driver.cc" -L "$toolkit/lib64" -lnvrtc \
    -Wl,-rpath,"$toolkit/lib64"
  "$work/driver" "$root" "$work/unit.cu" sm_80 sm_90a sm_100a
else
  echo "no nvrtc.h beside $nvcc: NVRTC is not checked"
fi

status=0
for arch in sm_80 sm_90a sm_100a; do
  "$nvcc" -std=c++17 -arch=$arch -Xptxas -v -I "$root/codegen/device" -I "$root/runtime/include" -I "$root/ir/include" -cubin \
    -o "$work/$arch.cubin" "$root/tests/device/attention_harness.cu" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
  echo "== $arch"
  awk '
    /Compiling entry function/ {
      if ($0 ~ /fill_random/) { kernel = ""; next }
      name = $0; sub(/^[^\047]*\047/, "", name); sub(/\047.*/, "", name)
      kernel = name ~ /prefill_kernel/ ? "prefill" : "decode"
      source = name ~ /RawSource/ ? "raw" : name ~ /EELb1EE/ ? "appending" : "computed"
      config = name; sub(/.*6ConfigI/, "", config); sub(/EE.*/, "", config); gsub(/L[ib]/, "", config); gsub(/E/, " ", config)
    }
    /bytes spill stores/ { spill = $0; sub(/ bytes spill stores.*/, "", spill); sub(/.*, /, "", spill) }
    /Used [0-9]+ registers/ && kernel != "" {
      registers = $0; sub(/.*Used /, "", registers); sub(/ registers.*/, "", registers)
      split(config, c, " "); dim = c[3]
      if (kernel == "prefill") {
        keys = dim <= 80 ? 64 : 32; rows = dim <= 128 ? 128 : 64
        shared = (rows + 4 * keys) * dim * 2 + (5 * rows + 4) * 4
      } else {
        slot = 32 * dim; slots = int(16384 / slot); slots = slots < 3 ? 3 : slots > 8 ? 8 : slots; if (dim > 96) slots = 3
        shared = (dim <= 128 ? 4 : 3) * slots * slot + (dim <= 96 ? 0 : slot)
      }
      printf "%-8s %-9s heads/kv/dim/window/cap/sinks/splits/few %-30s registers %3d spilled %d shared %d\n", \
        kernel, source, config, registers, spill, shared
      if (spill + 0 > 0) bad = 1
    }
    END { exit bad }' "$work/log" || { echo "$arch: registers are spilled"; status=1; }
done
exit $status
