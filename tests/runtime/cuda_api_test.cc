// Our declarations of the CUDA driver, NVRTC and cuBLASLt against the toolkit's own headers, where those are installed.
#include <gtest/gtest.h>

#if __has_include(<cuda.h>) && __has_include(<nvrtc.h>) && __has_include(<cublasLt.h>)
#include <cublasLt.h>
#include <cuda.h>
#include <nvrtc.h>

#include "cuda/cuda_api.h"

#include <type_traits>

namespace {

// What the calling convention sees of a type.
template <class T>
constexpr int kind_of() {
  return std::is_pointer_v<T> ? 1 : std::is_floating_point_v<T> ? 2 : 3;
}
template <class A, class B>
constexpr bool passed_alike() {
  return sizeof(A) == sizeof(B) && kind_of<A>() == kind_of<B>();
}

template <class Ours, class Theirs>
struct Alike : std::false_type {};
template <class R, class... A, class S, class... B>
  requires(sizeof...(A) == sizeof...(B))
struct Alike<R (*)(A...), S (*)(B...)> {
  static constexpr bool value = passed_alike<R, S>() && (passed_alike<A, B>() && ...);
};

#define TEXT(x) #x
#define EXPANDED(x) TEXT(x)

TEST(CudaApi, DriverFunctions) {
  // Names in code are mapped by cuda.h to the symbols that its declarations belong to. Newer headers map some to newer
  // symbols; those keep the older ones' parameters where they are checked here.
#define MILI_CUDA(name, symbol, ...)                                                                                   \
  EXPECT_TRUE((Alike<decltype(mili::cuda::Driver::name), decltype(&::name)>::value)) << symbol;                        \
  EXPECT_EQ(std::string(EXPANDED(name)).rfind(std::string(symbol).substr(0, std::string(symbol).find("_v")), 0), 0u)   \
      << symbol << " is " << EXPANDED(name) << " in cuda.h";
#include "cuda/cuda_api.def"
}

TEST(CudaApi, NvrtcFunctions) {
#define MILI_NVRTC(name, ...)                                                                                          \
  EXPECT_TRUE((Alike<decltype(mili::cuda::Nvrtc::name), decltype(&::name)>::value)) << #name;
#include "cuda/cuda_api.def"
}

TEST(CudaApi, CublasLtFunctions) {
#define MILI_CUBLASLT(name, ...)                                                                                       \
  EXPECT_TRUE((Alike<decltype(mili::cuda::CublasLt::name), decltype(&::name)>::value)) << #name;
#include "cuda/cuda_api.def"
}

TEST(CudaApi, AFalseDeclarationIsSeen) {
  EXPECT_FALSE((Alike<int (*)(int, int), CUresult (*)(void *, int)>::value));
  EXPECT_FALSE((Alike<int (*)(int), CUresult (*)(size_t)>::value));
  EXPECT_FALSE((Alike<int (*)(int, int), CUresult (*)(int)>::value));
}

TEST(CudaApi, Constants) {
  using namespace mili::cuda;
  EXPECT_EQ(kSuccess, static_cast<int>(CUDA_SUCCESS));
  EXPECT_EQ(kOutOfMemory, static_cast<int>(CUDA_ERROR_OUT_OF_MEMORY));
  EXPECT_EQ(kAttributeMultiprocessors, static_cast<int>(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
  EXPECT_EQ(kAttributeMajor, static_cast<int>(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR));
  EXPECT_EQ(kAttributeMinor, static_cast<int>(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR));
  EXPECT_EQ(kAttributeSharedPerBlock, static_cast<int>(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN));
  EXPECT_EQ(kFunctionSharedStatic, static_cast<int>(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES));
  EXPECT_EQ(kFunctionLocalBytes, static_cast<int>(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES));
  EXPECT_EQ(kFunctionRegisters, static_cast<int>(CU_FUNC_ATTRIBUTE_NUM_REGS));
  EXPECT_EQ(kFunctionMaxDynamicShared, static_cast<int>(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES));
  EXPECT_EQ(kStreamNonBlocking, static_cast<unsigned>(CU_STREAM_NON_BLOCKING));
  EXPECT_EQ(kEventDefault, static_cast<unsigned>(CU_EVENT_DEFAULT));
  EXPECT_EQ(kEventExternal, static_cast<unsigned>(CU_EVENT_RECORD_EXTERNAL));
  EXPECT_EQ(kCaptureThreadLocal, static_cast<int>(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  EXPECT_EQ(kTensorBf16, static_cast<int>(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16));
  EXPECT_EQ(kTensorInterleaveNone, static_cast<int>(CU_TENSOR_MAP_INTERLEAVE_NONE));
  EXPECT_EQ(kTensorSwizzle128, static_cast<int>(CU_TENSOR_MAP_SWIZZLE_128B));
  EXPECT_EQ(kTensorPromotion256, static_cast<int>(CU_TENSOR_MAP_L2_PROMOTION_L2_256B));
  EXPECT_EQ(kTensorFillZero, static_cast<int>(CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  EXPECT_EQ(kCompute32f, static_cast<int>(CUBLAS_COMPUTE_32F));
  EXPECT_EQ(kReal32f, static_cast<int>(CUDA_R_32F));
  EXPECT_EQ(kReal16Bf, static_cast<int>(CUDA_R_16BF));
  EXPECT_EQ(kReal8fE4m3, static_cast<int>(CUDA_R_8F_E4M3));
  EXPECT_EQ(kMatmulTransA, static_cast<int>(CUBLASLT_MATMUL_DESC_TRANSA));
  EXPECT_EQ(kPreferenceWorkspace, static_cast<int>(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES));
  EXPECT_EQ(kMatmulFastAccumulation, static_cast<int>(CUBLASLT_MATMUL_DESC_FAST_ACCUM));
  EXPECT_EQ(kLaunchAttributeProgrammaticStreamSerialization,
            static_cast<int>(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION));
  EXPECT_EQ(sizeof(mili::cuda::CUlaunchAttribute), sizeof(::CUlaunchAttribute));
  EXPECT_EQ(offsetof(mili::cuda::CUlaunchAttribute, programmatic_stream_serialization),
            offsetof(::CUlaunchAttribute, value));
  EXPECT_EQ(sizeof(mili::cuda::CUlaunchConfig), sizeof(::CUlaunchConfig));
  EXPECT_EQ(offsetof(mili::cuda::CUlaunchConfig, shared_bytes), offsetof(::CUlaunchConfig, sharedMemBytes));
  EXPECT_EQ(offsetof(mili::cuda::CUlaunchConfig, stream), offsetof(::CUlaunchConfig, hStream));
  EXPECT_EQ(offsetof(mili::cuda::CUlaunchConfig, attributes), offsetof(::CUlaunchConfig, attrs));
  EXPECT_EQ(offsetof(mili::cuda::CUlaunchConfig, attribute_count), offsetof(::CUlaunchConfig, numAttrs));
  EXPECT_EQ(sizeof(mili::cuda::CUtensorMap), sizeof(::CUtensorMap));
  EXPECT_GE(alignof(mili::cuda::CUtensorMap), alignof(::CUtensorMap));
}

}  // namespace
#else
TEST(CudaApi, DriverFunctions) {
  GTEST_SKIP() << "the CUDA toolkit's headers are not installed (looked for cuda.h, nvrtc.h, cublasLt.h)";
}
#endif
