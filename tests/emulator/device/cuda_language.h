// CUDA C++ for a host compiler: included before a unit that the emulated NVRTC compiles. A CUDA thread is a fiber of
// the emulated driver; whatever concerns more than one thread is asked of it. Includes no standard header, which would
// cost more than the kernel.
#pragma once

#include "abi.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
// Blocks run one at a time, so static variables are the block's; a section of their own lets the driver poison them.
#define __shared__ static __attribute__((section("mili_shared")))

//===--- the thread and its block ---===//

static const MiliEmulator *mili_emulator;
static MiliDim3 threadIdx, blockIdx, blockDim, gridDim;
static unsigned char *mili_dynamic_shared;
extern unsigned char __start_mili_shared[] __attribute__((weak, visibility("hidden")));
extern unsigned char __stop_mili_shared[] __attribute__((weak, visibility("hidden")));

static inline void __syncthreads() {
  mili_emulator->barrier();
}
static inline void __syncwarp(unsigned mask = 0xffffffffu) {
  mili_emulator->sync_warp(mask);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

template <class T>
static inline T mili_shuffle(unsigned mask, MiliShuffle kind, T value, int argument) {
  static_assert(sizeof(T) <= sizeof(unsigned long));
  unsigned long bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  bits = mili_emulator->shuffle(mask, kind, bits, argument);
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}
template <class T>
static inline T __shfl_sync(unsigned mask, T value, int lane) {
  return mili_shuffle(mask, kMiliShuffleIndex, value, lane);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return mili_shuffle(mask, kMiliShuffleXor, value, lanes);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, int lanes) {
  return mili_shuffle(mask, kMiliShuffleUp, value, lanes);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, int lanes) {
  return mili_shuffle(mask, kMiliShuffleDown, value, lanes);
}
static inline unsigned __ballot_sync(unsigned mask, bool vote) {
  return mili_emulator->ballot(mask, vote);
}
static inline int __any_sync(unsigned mask, bool vote) {
  return mili_emulator->ballot(mask, vote) != 0;
}
static inline int __all_sync(unsigned mask, bool vote) {
  return mili_emulator->ballot(mask, vote) == mask;
}

// One OS thread runs all blocks, and a thread gives way only where it waits: plain arithmetic is atomic.
template <class T>
static inline T atomicAdd(T *at, T value) {
  const T before = *at;
  *at = before + value;
  return before;
}
template <class T>
static inline T atomicMax(T *at, T value) {
  const T before = *at;
  *at = before > value ? before : value;
  return before;
}
template <class T>
static inline T atomicExch(T *at, T value) {
  const T before = *at;
  *at = value;
  return before;
}
template <class T>
static inline T atomicCAS(T *at, T expected, T value) {
  const T before = *at;
  if (before == expected)
    *at = value;
  return before;
}
static inline unsigned atomicInc(unsigned *at, unsigned last) {
  const unsigned before = *at;
  *at = before >= last ? 0 : before + 1;
  return before;
}
template <class T>
static inline void __stcg(T *to, T value) {
  *to = value;
}
template <class T>
static inline T __ldcg(const T *from) {
  return *from;
}

//===--- vectors and arithmetic ---===//

struct __attribute__((aligned(8))) float2 {
  float x, y;
};
struct __attribute__((aligned(16))) float4 {
  float x, y, z, w;
};
struct __attribute__((aligned(8))) uint2 {
  unsigned x, y;
};
struct __attribute__((aligned(16))) uint4 {
  unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) {
  return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
static inline uint2 make_uint2(unsigned x, unsigned y) {
  return {x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}

static inline float __int_as_float(int bits) {
  return __builtin_bit_cast(float, bits);
}
static inline float __uint_as_float(unsigned bits) {
  return __builtin_bit_cast(float, bits);
}
static inline int __float_as_int(float x) {
  return __builtin_bit_cast(int, x);
}
static inline unsigned __float_as_uint(float x) {
  return __builtin_bit_cast(unsigned, x);
}

#define MILI_MIN_MAX(T)                                                                                                \
  static inline T min(T a, T b) {                                                                                      \
    return b < a ? b : a;                                                                                              \
  }                                                                                                                    \
  static inline T max(T a, T b) {                                                                                      \
    return a < b ? b : a;                                                                                              \
  }
MILI_MIN_MAX(int)
MILI_MIN_MAX(unsigned)
MILI_MIN_MAX(long)
MILI_MIN_MAX(unsigned long)
MILI_MIN_MAX(long long)
MILI_MIN_MAX(unsigned long long)
MILI_MIN_MAX(float)
#undef MILI_MIN_MAX
// As CUDA's overloads: a mixture of signs is unsigned, of widths the wider one.
template <class A, class B>
static inline decltype(A{} + B{}) min(A a, B b) {
  return min(static_cast<decltype(A{} + B{})>(a), static_cast<decltype(A{} + B{})>(b));
}
template <class A, class B>
static inline decltype(A{} + B{}) max(A a, B b) {
  return max(static_cast<decltype(A{} + B{})>(a), static_cast<decltype(A{} + B{})>(b));
}

#define fmaf __builtin_fmaf
#define fmaxf __builtin_fmaxf
#define fminf __builtin_fminf
#define fabsf __builtin_fabsf
#define sqrtf __builtin_sqrtf
#define rintf __builtin_rintf
#define floorf __builtin_floorf
#define erff __builtin_erff
#define tanhf __builtin_tanhf
#define expf __builtin_expf
#define exp2f __builtin_exp2f
#define logf __builtin_logf
#define log2f __builtin_log2f
#define sinf __builtin_sinf
#define cosf __builtin_cosf
#define __expf __builtin_expf
#define __logf __builtin_logf
#define __sinf __builtin_sinf
#define __cosf __builtin_cosf
static inline float rsqrtf(float x) {
  return 1.0f / __builtin_sqrtf(x);
}
static inline float __fdividef(float a, float b) {
  return a / b;
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long>(a) * b >> 32);
}
static inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
static inline int __ffs(int x) {
  return __builtin_ffs(x);
}
static inline int __clz(int x) {
  return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}

//===--- the way in ---===//

template <unsigned... kIndices>
struct MiliIndices {};
template <unsigned kCount, unsigned... kIndices>
struct MiliCount : MiliCount<kCount - 1, kCount - 1, kIndices...> {};
template <unsigned... kIndices>
struct MiliCount<0, kIndices...> {
  using Type = MiliIndices<kIndices...>;
};
template <class... P>
struct MiliParameters {
  static constexpr unsigned kBytes[] = {static_cast<unsigned>(sizeof(P))..., 0};
  static constexpr unsigned kCount = sizeof...(P);
  template <unsigned... kIndices>
  static void call(void (*kernel)(P...), void **from, MiliIndices<kIndices...>) {
    kernel(*static_cast<P *>(from[kIndices])...);
  }
};
template <class... P>
static constexpr MiliParameters<P...> mili_parameters(void (*)(P...)) {
  return {};
}

// The emulated NVRTC appends this to every unit.
#define MILI_EMULATED_KERNEL(kernel)                                                                                   \
  static void mili_call(void **parameters) {                                                                           \
    using P = decltype(mili_parameters(kernel));                                                                       \
    P::call(kernel, parameters, MiliCount<P::kCount>::Type{});                                                         \
  }                                                                                                                    \
  extern "C" __attribute__((visibility("default")))                                                                    \
  const MiliKernel mili_emulated_kernel = {#kernel,                                                                    \
                                           mili_call,                                                                  \
                                           decltype(mili_parameters(kernel))::kBytes,                                  \
                                           decltype(mili_parameters(kernel))::kCount,                                  \
                                           &mili_emulator,                                                             \
                                           &threadIdx,                                                                 \
                                           &blockIdx,                                                                  \
                                           &blockDim,                                                                  \
                                           &gridDim,                                                                   \
                                           &mili_dynamic_shared,                                                       \
                                           __start_mili_shared,                                                        \
                                           __stop_mili_shared};
