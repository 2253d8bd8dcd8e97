//===- CpuTarget.h - instruction-set variants of a CPU plan ------*- C++ -*-===//
#ifndef MILI_CODEGEN_CPUTARGET_H
#define MILI_CODEGEN_CPUTARGET_H

#include "mlir/Support/LLVM.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

namespace mlir::mili::codegen {

/// One variant of the host object. Every plan carries all of them; the loader takes the last that the machine supports.
struct CpuVariant {
  StringRef name;
  StringRef llvmFeatures;           // "+avx2,+fma,..."
  ArrayRef<StringRef> cpuFeatures;  // what the loader looks for, in /proc/cpuinfo's spelling
  int64_t lanes;                    // f32 elements of a vector register
  bool vnni;                        // vpdpbusd on 512-bit vectors
};

/// Weakest first.
ArrayRef<CpuVariant> cpuVariants();

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_CPUTARGET_H
