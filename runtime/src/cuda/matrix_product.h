// A square matrix product by cuBLASLt, opened at run time: the ceiling that our own products are held against.
#pragma once

#include "cuda_api.h"

namespace mili::cuda {

class MatrixProduct {
public:
  MatrixProduct() = default;
  ~MatrixProduct();
  MatrixProduct(const MatrixProduct &) = delete;
  MatrixProduct &operator=(const MatrixProduct &) = delete;

  // D = A' B of size x size, bf16 or fp8 (e4m3) to bf16. False where cuBLASLt is missing or refuses.
  bool prepare(int64_t size, bool fp8);
  bool run(CUdeviceptr a, CUdeviceptr b, CUdeviceptr d, CUdeviceptr workspace, uint64_t workspace_bytes,
           CUstream stream);

private:
  void clear();
  const CublasLt *library_ = nullptr;
  void *handle_ = nullptr;
  void *operation_ = nullptr, *a_ = nullptr, *d_ = nullptr, *preference_ = nullptr;
  alignas(16) unsigned char heuristic_[96] = {};
  bool found_ = false;
};

}  // namespace mili::cuda
