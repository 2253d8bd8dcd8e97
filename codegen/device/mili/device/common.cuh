// What MILI's CUDA kernels share: bf16 storage and conversion, 16-byte accesses, warp reductions, asynchronous copies
// to shared memory, and the mma.sync / ldmatrix instructions of sm_80 and later.
//
// Compiled by NVRTC without a standard library (and by nvcc in tests): nothing here may include a toolkit header.

#ifndef MILI_DEVICE_COMMON_CUH
#define MILI_DEVICE_COMMON_CUH

#define MILI_DEVICE static __device__ __forceinline__
#define MILI_MEMBER __device__ __forceinline__
/// Compile-time arithmetic, for kernels and for the host code that sizes their launches.
#define MILI_CONSTEXPR __host__ __device__ constexpr

/// A kernel's dynamic shared memory. Every kernel of a unit sees the same array; 1024 bytes is the strictest alignment
/// that any of them needs (TMA's 128-byte swizzle).
extern __shared__ __align__(1024) unsigned char mili_shared_memory[];

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

// Programmatic dependent launch: the blocks of a kernel may begin while the one before it ends. Every kernel lets the next
// one begin at once, and awaits the one before it, on every path, before it touches memory that a kernel of the step
// writes; only weights and the batch's counts are read earlier. (A kernel that did not wait would end early, and the next
// one's wait would no longer cover the ones before.) Nothing happens where a launch does not ask for it.
MILI_DEVICE void start_dependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
MILI_DEVICE void await_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
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
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return {bits};
}

/// Two bf16 in a register, `low` at the lower address.
MILI_DEVICE unsigned pack_bf16(float low, float high) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
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
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.words[0]), "=r"(v.words[1]), "=r"(v.words[2]), "=r"(v.words[3])
               : "l"(from)
               : "memory");
  return v;
}

/// A read of data that is used once and that the running kernel does not write: leaves L1 to others.
MILI_DEVICE Vector16 load16_stream(const void *from) {
  Vector16 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.words[0]), "=r"(v.words[1]), "=r"(v.words[2]), "=r"(v.words[3])
               : "l"(from));
  return v;
}

MILI_DEVICE float load_l2(const float *from) {
  float v;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(from) : "memory");
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

/// threadIdx.x, read at this place: what is computed from it inside a loop is not kept in registers across the loop,
/// where the compiler would otherwise hold address terms by the dozen.
MILI_DEVICE unsigned thread_index_again() {
  unsigned index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}

//===--- fast math
//--------------------------------------------------------------------------------------------------===//

/// 2^x to 2^-22 relative; 2^-inf is 0.
MILI_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 1/x to 1 ulp; 1/inf is 0.
MILI_DEVICE float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

//===--- asynchronous copies
//----------------------------------------------------------------------------------------===//

MILI_DEVICE unsigned shared_address(const void *pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

/// 16 bytes from global to shared memory, past L1; with `valid` false nothing is read and zeros are written.
MILI_DEVICE void copy_async16(unsigned to_shared, const void *from, bool valid = true) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
               :
               : "r"(to_shared), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}

MILI_DEVICE void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most kPending of this thread's committed groups are under way.
template <int kPending>
MILI_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

//===--- matrices
//---------------------------------------------------------------------------------------------------===//

/// Four 8x8 matrices of bf16: lane i names a row (16 bytes) of matrix i / 8. Lane l gets row l / 4, columns 2 * (l % 4)
/// and the next of each.
MILI_DEVICE void load_matrix_x4(unsigned (&r)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// The same with each matrix transposed.
MILI_DEVICE void load_matrix_x4_trans(unsigned (&r)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// d[16x8] += a[16x16] * b[16x8]. Lane l holds d at row l / 4 (d[0], d[1]) and l / 4 + 8 (d[2], d[3]), columns 2 * (l %
/// 4) and the next.
MILI_DEVICE void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

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
