//===- CudaProgram.h - a plan's kernels as CUDA source -----------*- C++ -*-===//
#ifndef MILI_CODEGEN_CUDAPROGRAM_H
#define MILI_CODEGEN_CUDAPROGRAM_H

#include "mlir/IR/BuiltinOps.h"

#include <map>
#include <string>
#include <vector>

namespace mlir::mili::codegen {

struct CudaFile {
  std::string name, text;
};

/// Everything that NVRTC needs for every kernel of a plan. A unit is one `extern "C"` kernel of its name; kernels of
/// different buckets that come out as the same text are one unit.
struct CudaProgram {
  std::vector<CudaFile> headers, units;
  /// Of every `mili_plan.kernel`, by its symbol: the unit of each stage.
  std::map<std::string, std::vector<std::string>> symbols;
};

/// The device headers that the compiler was built with, and the batch's field list, by the names that sources include.
std::vector<CudaFile> cudaHeaders();

/// A header of a plugin ("example/norm.cuh"), by the name that its sources include: every plan for CUDA carries it from
/// now on. False where there is one of that name.
bool addCudaHeader(CudaFile header);

/// One unit compiled for one architecture, and what it needs of a multiprocessor (see KernelResources in cuda.fbs).
struct CudaImage {
  std::string unit, bytes;
  uint32_t registers, spilled, stack, shared;
};
struct CudaCubins {
  std::string arch, nvrtc;
  std::vector<CudaImage> images;
};

/// Writes every stage of every `mili_plan.kernel`, and the units that serve the runtime. Emits located diagnostics.
FailureOr<CudaProgram> emitCudaProgram(ModuleOp planModule);

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_CUDAPROGRAM_H
