#include "matrix_product.h"

#include <dlfcn.h>
#include <string>

namespace mili::cuda {
namespace {

constexpr int kCompute32F = 68, kReal32F = 0, kReal16BF = 14, kRealE4M3 = 28;
constexpr int kAttributeTransA = 3, kAttributeFastAccumulate = 25, kPreferenceWorkspace = 1;

// Entry points of libcublasLt; cublasStatus_t is an int, 0 is success.
struct CublasLt {
  int (*cublasLtCreate)(void **handle) = nullptr;
  int (*cublasLtDestroy)(void *handle) = nullptr;
  int (*cublasLtMatmulDescCreate)(void **operation, int compute, int scale) = nullptr;
  int (*cublasLtMatmulDescDestroy)(void *operation) = nullptr;
  int (*cublasLtMatmulDescSetAttribute)(void *operation, int attribute, const void *value, size_t bytes) = nullptr;
  int (*cublasLtMatrixLayoutCreate)(void **layout, int type, uint64_t rows, uint64_t columns, int64_t stride) = nullptr;
  int (*cublasLtMatrixLayoutDestroy)(void *layout) = nullptr;
  int (*cublasLtMatmulPreferenceCreate)(void **preference) = nullptr;
  int (*cublasLtMatmulPreferenceDestroy)(void *preference) = nullptr;
  int (*cublasLtMatmulPreferenceSetAttribute)(void *preference, int attribute, const void *value,
                                              size_t bytes) = nullptr;
  int (*cublasLtMatmulAlgoGetHeuristic)(void *handle, void *operation, void *a, void *b, void *c, void *d,
                                        void *preference, int wanted, void *results, int *found) = nullptr;
  int (*cublasLtMatmul)(void *handle, void *operation, const void *alpha, const void *a, void *a_layout, const void *b,
                        void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,
                        const void *algorithm, void *workspace, size_t workspace_bytes, CUstream stream) = nullptr;
  bool loaded = false;
};

const CublasLt &library() {
  static const CublasLt entries = [] {
    CublasLt lt;
    void *handle = nullptr;
    for (const char *folder : {"", "/usr/local/cuda/lib64/"})
      for (const char *name : {"libcublasLt.so.13", "libcublasLt.so.12"})
        if (!handle)
          handle = dlopen((std::string(folder) + name).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle)
      return lt;
    bool all = true;
    auto resolve = [&](const char *name, auto &function) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, name));
      all = all && function != nullptr;
    };
    resolve("cublasLtCreate", lt.cublasLtCreate);
    resolve("cublasLtDestroy", lt.cublasLtDestroy);
    resolve("cublasLtMatmulDescCreate", lt.cublasLtMatmulDescCreate);
    resolve("cublasLtMatmulDescDestroy", lt.cublasLtMatmulDescDestroy);
    resolve("cublasLtMatmulDescSetAttribute", lt.cublasLtMatmulDescSetAttribute);
    resolve("cublasLtMatrixLayoutCreate", lt.cublasLtMatrixLayoutCreate);
    resolve("cublasLtMatrixLayoutDestroy", lt.cublasLtMatrixLayoutDestroy);
    resolve("cublasLtMatmulPreferenceCreate", lt.cublasLtMatmulPreferenceCreate);
    resolve("cublasLtMatmulPreferenceDestroy", lt.cublasLtMatmulPreferenceDestroy);
    resolve("cublasLtMatmulPreferenceSetAttribute", lt.cublasLtMatmulPreferenceSetAttribute);
    resolve("cublasLtMatmulAlgoGetHeuristic", lt.cublasLtMatmulAlgoGetHeuristic);
    resolve("cublasLtMatmul", lt.cublasLtMatmul);
    lt.loaded = all;
    return lt;
  }();
  return entries;
}

}  // namespace

MatrixProduct::~MatrixProduct() {
  clear();
  if (handle_)
    library().cublasLtDestroy(handle_);
}

void MatrixProduct::clear() {
  const CublasLt &lt = library();
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
  const CublasLt &lt = library();
  if (!lt.loaded || (!handle_ && lt.cublasLtCreate(&handle_) != 0))
    return false;
  clear();
  const int transpose = 1, wanted = 1;
  const int8_t fast = 1;
  const auto side = static_cast<uint64_t>(size);
  const size_t workspace = side * side * 2;
  int found = 0;
  bool ok =
      lt.cublasLtMatmulDescCreate(&operation_, kCompute32F, kReal32F) == 0 &&
      lt.cublasLtMatmulDescSetAttribute(operation_, kAttributeTransA, &transpose, sizeof(transpose)) == 0 &&
      lt.cublasLtMatrixLayoutCreate(&a_, fp8 ? kRealE4M3 : kReal16BF, side, side, size) == 0 &&
      lt.cublasLtMatrixLayoutCreate(&d_, kReal16BF, side, side, size) == 0 &&
      lt.cublasLtMatmulPreferenceCreate(&preference_) == 0 &&
      lt.cublasLtMatmulPreferenceSetAttribute(preference_, kPreferenceWorkspace, &workspace, sizeof(workspace)) == 0;
  if (fp8)
    ok = ok && lt.cublasLtMatmulDescSetAttribute(operation_, kAttributeFastAccumulate, &fast, sizeof(fast)) == 0;
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
         library().cublasLtMatmul(handle_, operation_, &alpha, pointer(a), a_, pointer(b), a_, &beta, pointer(d), d_,
                                  pointer(d), d_, heuristic_, pointer(workspace), workspace_bytes, stream) == 0;
}

}  // namespace mili::cuda
