// Instructions that have no name in CUDA C++, each as a function on built-in types; those of Hopper's matrix and copy units
// are in wgmma.cuh and tma.cuh. No other header has inline assembly, and the dynamic shared memory is declared here, so that
// an implementation of these three headers is all that another machine needs (tests/emulator).
#pragma once

/// A kernel's dynamic shared memory. Every kernel of a unit sees the same array; 1024 bytes is the strictest alignment
/// that any of them needs (TMA's 128-byte swizzle).
extern __shared__ __align__(1024) unsigned char mili_shared_memory[];

#define MILI_PTX static __device__ __forceinline__

namespace mili {

//===--- launches
//---------------------------------------------------------------------------------------------------===//

// Programmatic dependent launch: the blocks of a kernel may begin while the one before it ends. Every kernel lets the next
// one begin at once, and awaits the one before it, on every path, before it touches memory that a kernel of the step
// writes; only weights and the batch's counts are read earlier. (A kernel that did not wait would end early, and the next
// one's wait would no longer cover the ones before.) Nothing happens where a launch does not ask for it.
MILI_PTX void start_dependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
MILI_PTX void await_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

//===--- values
//-----------------------------------------------------------------------------------------------------===//

/// The bits of `x` as bf16: to nearest, ties to even; a NaN stays one.
MILI_PTX unsigned short bf16_bits(float x) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

/// Two bf16 in a register, `low` at the lower address.
MILI_PTX unsigned pack_bf16(float low, float high) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

/// 2^x to 2^-22 relative; 2^-inf is 0.
MILI_PTX float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 1/x to 1 ulp; 1/inf is 0.
MILI_PTX float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// threadIdx.x, read at this place: what is computed from it inside a loop is not kept in registers across the loop,
/// where the compiler would otherwise hold address terms by the dozen.
MILI_PTX unsigned thread_index_again() {
  unsigned index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}

/// What follows does not know the values of `a` and `b` any more: keeps what is computed from them out of registers.
MILI_PTX void forget_values(unsigned &a, unsigned &b) {
  asm volatile("" : "+r"(a), "+r"(b));
}

//===--- memory
//-----------------------------------------------------------------------------------------------------===//

/// A read of 16 bytes past L1, for data that other blocks of the running kernel wrote.
MILI_PTX void load_words_l2(unsigned (&words)[4], const void *from) {
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "l"(from)
               : "memory");
}

/// A read of 16 bytes that are used once and that the running kernel does not write: leaves L1 to others.
MILI_PTX void load_words_stream(unsigned (&words)[4], const void *from) {
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "l"(from));
}

/// A read past L1.
MILI_PTX float load_l2(const float *from) {
  float v;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(from) : "memory");
  return v;
}

/// What instructions on shared memory take as an address.
MILI_PTX unsigned shared_address(const void *pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

/// 16 bytes from global to shared memory, past L1; with `valid` false nothing is read and zeros are written.
MILI_PTX void copy_async16(unsigned to_shared, const void *from, bool valid = true) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
               :
               : "r"(to_shared), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}

MILI_PTX void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most kPending of this thread's committed groups are under way.
template <int kPending>
MILI_PTX void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

//===--- matrices
//---------------------------------------------------------------------------------------------------===//

/// Two 8x8 matrices of bf16: lane i < 16 names a row (16 bytes) of matrix i / 8. Lane l gets row l / 4, columns 2 * (l % 4)
/// and the next of each.
MILI_PTX void load_matrix_x2(unsigned (&r)[2], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(address)
               : "memory");
}

/// The same of four matrices, by all lanes.
MILI_PTX void load_matrix_x4(unsigned (&r)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// The same with each matrix transposed.
MILI_PTX void load_matrix_x4_trans(unsigned (&r)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// d[16x8] += a[16x16] * b[16x8]. Lane l holds d at row l / 4 (d[0], d[1]) and l / 4 + 8 (d[2], d[3]), columns 2 * (l %
/// 4) and the next.
MILI_PTX void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace mili

#undef MILI_PTX
