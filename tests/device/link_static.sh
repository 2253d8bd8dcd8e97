#!/bin/bash
# Links mili-compile without shared libraries of LLVM, so that it travels to a GPU machine that has none: about 50 MB, 13 MB
# with xz. Needs lld and LLVM's static libraries (libmlir-22-dev, llvm-22-dev bring them) and a finished build.
#
#   tests/device/link_static.sh OUTPUT [BUILD]      BUILD is build/release
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
output=$(realpath -m "$1") build=${2:-$root/build/release} llvm=/usr/lib/llvm-22/lib
cd "$build"
objects=$(find ir passes codegen compiler frontends -path '*Mili*.dir/*' -name '*.o')
main=$(find compiler/CMakeFiles/mili-compile.dir -name '*.o')
# shellcheck disable=SC2046,SC2086
c++ -fuse-ld=lld -B/usr/lib/llvm-22/bin -static-libstdc++ -static-libgcc -Wl,--gc-sections,-s,--icf=all -o "$output" \
  $main $objects -Wl,--start-group lib/*.a $(ls $llvm/libMLIR*.a | grep -v -E 'Test|CAPI|Bindings') \
  $llvm/liblldELF.a $llvm/liblldCommon.a $llvm/libLLVM*.a -Wl,--end-group \
  -l:libxxhash.a -l:libzstd.a -l:libz.a -ldl -lpthread -lm
