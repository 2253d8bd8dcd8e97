//===- CpuTarget.cpp ---------------------------------------------------------===//
#include "mili/Codegen/CpuTarget.h"

using namespace mlir;
using namespace mlir::mili::codegen;

ArrayRef<CpuVariant> mlir::mili::codegen::cpuVariants() {
  static const StringRef v3[] = {"avx2", "fma", "f16c", "bmi2"};
  static const StringRef vnni[] = {"avx2",     "fma",      "f16c",     "bmi2",       "avx512f",
                                   "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"};
  static const CpuVariant variants[] = {
      {"x86-64-v3", "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+popcnt", v3, 8, false},
      {"x86-64-v4-vnni",
       "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+popcnt,+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl,"
       "+avx512vnni,-prefer-256-bit",
       vnni, 16, true},
  };
  return variants;
}
