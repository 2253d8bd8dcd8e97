// The CUDA driver, NVRTC and cuBLASLt, opened at run time. The declarations are our own, as few as MILI needs; a test
// compares them with the toolkit's headers where those are installed (tests/runtime/cuda_api_test.cc).
#pragma once

#include "mili/runtime/status.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace mili::cuda {

using CUresult = int;
using nvrtcResult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st *;
using CUstream = struct CUstream_st *;
using CUevent = struct CUevent_st *;
using CUmodule = struct CUmod_st *;
using CUfunction = struct CUfunc_st *;
using CUgraph = struct CUgraph_st *;
using CUgraphExec = struct CUgraphExec_st *;
using nvrtcProgram = struct _nvrtcProgram *;
struct alignas(128) CUtensorMap {
  uint64_t opaque[16];
};

// Of the union behind an attribute only this member is used.
struct CUlaunchAttribute {
  int id;
  char pad[4];
  int programmatic_stream_serialization;
  char rest[60];
};
struct CUlaunchConfig {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  CUstream stream;
  CUlaunchAttribute *attributes;
  unsigned attribute_count;
};

inline constexpr int kLaunchAttributeProgrammaticStreamSerialization = 6;
inline constexpr CUresult kSuccess = 0, kOutOfMemory = 2;
inline constexpr int kAttributeMultiprocessors = 16, kAttributeMajor = 75, kAttributeMinor = 76,
                     kAttributeSharedPerBlock = 97;
inline constexpr int kFunctionSharedStatic = 1, kFunctionLocalBytes = 3, kFunctionRegisters = 4,
                     kFunctionMaxDynamicShared = 8;
inline constexpr unsigned kStreamNonBlocking = 1, kEventDefault = 0, kEventExternal = 1;
inline constexpr int kCaptureThreadLocal = 1;
inline constexpr int kTensorBf16 = 9, kTensorInterleaveNone = 0, kTensorSwizzle128 = 3, kTensorPromotion256 = 3,
                     kTensorFillZero = 0;
inline constexpr int kCompute32f = 68, kReal32f = 0, kReal16Bf = 14, kReal8fE4m3 = 28;
inline constexpr int kMatmulTransA = 3, kMatmulFastAccumulation = 25, kPreferenceWorkspace = 1;

// Entry points of libcuda.so.1.
struct Driver {
#define MILI_CUDA(name, symbol, ...) CUresult (*name)(__VA_ARGS__) = nullptr;
#include "cuda_api.def"

  // Loads and initializes once; Unavailable where there is no driver or no GPU that it can use.
  static StatusOr<const Driver *> get();
  // "CUDA_ERROR_OUT_OF_MEMORY: out of memory".
  std::string describe(CUresult error) const;
  // ok, or Internal with `what` and the driver's own words.
  Status check(CUresult error, const char *what) const;
};

// Entry points of libnvrtc.
struct Nvrtc {
#define MILI_NVRTC(name, ...) nvrtcResult (*name)(__VA_ARGS__) = nullptr;
#include "cuda_api.def"
  int major = 0, minor = 0;

  // Looks at $MILI_NVRTC, then for libnvrtc.so.13 and .12 where the loader does and under /usr/local/cuda. Unavailable
  // where there is none.
  static StatusOr<const Nvrtc *> get();
  std::string version() const { return std::to_string(major) + "." + std::to_string(minor); }
};

// Entry points of libcublasLt; a cublasStatus_t is an int, 0 is success.
struct CublasLt {
#define MILI_CUBLASLT(name, ...) int (*name)(__VA_ARGS__) = nullptr;
#include "cuda_api.def"

  // Looks for libcublasLt.so.13 and .12 where the loader does and under /usr/local/cuda. Unavailable where there is
  // none.
  static StatusOr<const CublasLt *> get();
};

}  // namespace mili::cuda
