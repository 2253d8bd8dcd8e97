#pragma once

#include <memory>

namespace mlir::mili::codegen {
class CpuKernelTemplate;
class CudaKernelTemplate;
}  // namespace mlir::mili::codegen

namespace example {
std::unique_ptr<mlir::mili::codegen::CpuKernelTemplate> createCpuNormTemplate();
std::unique_ptr<mlir::mili::codegen::CudaKernelTemplate> createCudaNormTemplate();
}  // namespace example
