#include "matrix_product.h"

#include "cuda_api.h"

namespace mili::cuda {
MatrixProduct::~MatrixProduct() {
  clear();
  if (handle_)
    library_->cublasLtDestroy(handle_);
}

void MatrixProduct::clear() {
  if (!library_)
    return;
  const CublasLt &lt = *library_;
  if (operation_)
    lt.cublasLtMatmulDescDestroy(operation_);
  if (a_)
    lt.cublasLtMatrixLayoutDestroy(a_);
  if (d_)
    lt.cublasLtMatrixLayoutDestroy(d_);
  if (preference_)
    lt.cublasLtMatmulPreferenceDestroy(preference_);
  operation_ = a_ = d_ = preference_ = nullptr;
  found_ = false;
}

bool MatrixProduct::prepare(int64_t size, bool fp8) {
  auto library = CublasLt::get();
  if (!library.ok())
    return false;
  library_ = *library;
  const CublasLt &lt = *library_;
  if (!handle_ && lt.cublasLtCreate(&handle_) != 0)
    return false;
  clear();
  const int transpose = 1, wanted = 1;
  const int8_t fast = 1;
  const auto side = static_cast<uint64_t>(size);
  const size_t workspace = side * side * 2;
  int found = 0;
  bool ok =
      lt.cublasLtMatmulDescCreate(&operation_, kCompute32f, kReal32f) == 0 &&
      lt.cublasLtMatmulDescSetAttribute(operation_, kMatmulTransA, &transpose, sizeof(transpose)) == 0 &&
      lt.cublasLtMatrixLayoutCreate(&a_, fp8 ? kReal8fE4m3 : kReal16Bf, side, side, size) == 0 &&
      lt.cublasLtMatrixLayoutCreate(&d_, kReal16Bf, side, side, size) == 0 &&
      lt.cublasLtMatmulPreferenceCreate(&preference_) == 0 &&
      lt.cublasLtMatmulPreferenceSetAttribute(preference_, kPreferenceWorkspace, &workspace, sizeof(workspace)) == 0;
  if (fp8)
    ok = ok && lt.cublasLtMatmulDescSetAttribute(operation_, kMatmulFastAccumulation, &fast, sizeof(fast)) == 0;
  found_ = ok &&
           lt.cublasLtMatmulAlgoGetHeuristic(handle_, operation_, a_, a_, d_, d_, preference_, wanted, heuristic_,
                                             &found) == 0 &&
           found > 0;
  return found_;
}

bool MatrixProduct::run(CUdeviceptr a, CUdeviceptr b, CUdeviceptr d, CUdeviceptr workspace, uint64_t workspace_bytes,
                        CUstream stream) {
  const float alpha = 1, beta = 0;
  auto pointer = [](CUdeviceptr address) { return reinterpret_cast<void *>(address); };
  return found_ &&
         library_->cublasLtMatmul(handle_, operation_, &alpha, pointer(a), a_, pointer(b), a_, &beta, pointer(d), d_,
                                  pointer(d), d_, heuristic_, pointer(workspace), workspace_bytes, stream) == 0;
}

}  // namespace mili::cuda
