// What MILI's CUDA kernels share: bf16 storage and conversion, 16-byte accesses, warp reductions, swizzled tiles.
//
// Compiled by NVRTC without a standard library (and by nvcc in tests): nothing here may include a toolkit header.

#ifndef MILI_DEVICE_COMMON_CUH
#define MILI_DEVICE_COMMON_CUH

#include "mili/device/ptx.cuh"

#define MILI_DEVICE static __device__ __forceinline__
#define MILI_MEMBER __device__ __forceinline__
/// Compile-time arithmetic, for kernels and for the host code that sizes their launches.
#define MILI_CONSTEXPR __host__ __device__ constexpr

namespace mili {

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr float kLog2E = 1.4426950408889634f;

MILI_CONSTEXPR int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}
MILI_CONSTEXPR int max_of(int a, int b) {
  return a > b ? a : b;
}
MILI_CONSTEXPR int min_of(int a, int b) {
  return a < b ? a : b;
}

/// Whether what `releasing` threads of a block give up suffices for what `claiming` threads of it take (setmaxnreg): a block
/// has no more registers than it was launched with, here all of a multiprocessor's, and a warpgroup that asks for more
/// waits forever.
MILI_CONSTEXPR bool registers_suffice(int threads, int releasing, int released_to, int claiming, int claimed) {
  const int limit = 65536 / threads / 8 * 8;
  return (claimed - limit) * claiming <= (limit - released_to) * releasing;
}

// How kernels begin that have nothing to read ahead.
MILI_DEVICE void begin_kernel() {
  start_dependents();
  await_previous();
}

MILI_DEVICE float minus_infinity() {
  return __int_as_float(0xff800000);
}

//===--- bf16
//-------------------------------------------------------------------------------------------------------===//

/// Storage of one bf16: the upper half of an f32.
struct alignas(2) bf16 {
  unsigned short bits;
};

MILI_DEVICE float to_float(bf16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}

/// Rounds to nearest, ties to even; a NaN stays one.
MILI_DEVICE bf16 to_bf16(float x) {
  return {bf16_bits(x)};
}

MILI_DEVICE float unpack_low(unsigned pair) {
  return __uint_as_float(pair << 16);
}
MILI_DEVICE float unpack_high(unsigned pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

//===--- 16-byte accesses
//-------------------------------------------------------------------------------------------===//

/// Eight bf16 or four f32, moved by one instruction; addresses are 16-byte aligned.
struct alignas(16) Vector16 {
  unsigned words[4];
};

MILI_DEVICE Vector16 load16(const void *from) {
  return *static_cast<const Vector16 *>(from);
}
MILI_DEVICE void store16(void *to, const Vector16 &value) {
  *static_cast<Vector16 *>(to) = value;
}

/// A read past L1, for data that other blocks of the running kernel wrote.
MILI_DEVICE Vector16 load16_l2(const void *from) {
  Vector16 v;
  load_words_l2(v.words, from);
  return v;
}

/// A read of data that is used once and that the running kernel does not write: leaves L1 to others.
MILI_DEVICE Vector16 load16_stream(const void *from) {
  Vector16 v;
  load_words_stream(v.words, from);
  return v;
}

MILI_DEVICE void unpack8(const Vector16 &v, float *out) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = unpack_low(v.words[i]);
    out[2 * i + 1] = unpack_high(v.words[i]);
  }
}

MILI_DEVICE Vector16 pack8(const float *in) {
  Vector16 v;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    v.words[i] = pack_bf16(in[2 * i], in[2 * i + 1]);
  return v;
}

//===--- warps
//------------------------------------------------------------------------------------------------------===//

MILI_DEVICE float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1)
    x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

MILI_DEVICE float warp_max(float x) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1)
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

/// Sum over the 4 lanes that hold one row of an mma.m16n8k16 accumulator.
MILI_DEVICE float quad_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}

MILI_DEVICE float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}

//===--- shared tiles
//-----------------------------------------------------------------------------------------------===//

/// Byte offsets in a shared tile of rows of kChunks 16-byte chunks (kChunks even), swizzled so that the 8 rows that
/// ldmatrix reads at one chunk column lie in 8 different groups of 4 banks. A row's start advances by kChunks modulo 8
/// chunks; the exclusive-or fills what that leaves equal: with P the power of two in kChunks (at most 8), 8 / P rows
/// start at different groups, and the P that start alike get different low chunk bits.
template <int kChunks>
struct Swizzle {
  static_assert(kChunks % 2 == 0, "rows of a multiple of 16 elements");
  static constexpr int kPeriod = kChunks % 8 == 0 ? 8 : kChunks % 4 == 0 ? 4 : 2;
  static constexpr int kShift = kPeriod == 8 ? 0 : kPeriod == 4 ? 1 : 2;

  /// The pattern of a row; rows that differ by a multiple of 8 share it.
  static MILI_MEMBER unsigned pattern(unsigned row) { return (row >> kShift) & (kPeriod - 1); }
  static MILI_MEMBER unsigned offset(unsigned row, unsigned chunk) {
    return (row * kChunks + (chunk ^ pattern(row))) * 16;
  }
};

}  // namespace mili

#endif  // MILI_DEVICE_COMMON_CUH
