// The emulator's own mili/device/ptx.cuh: the same functions on the host.
#pragma once

#define mili_shared_memory mili_dynamic_shared

namespace mili {

// Launches run one after the other.
static inline void start_dependents() {}
static inline void await_previous() {}

static inline unsigned short bf16_bits(float x) {
  const unsigned bits = __float_as_uint(x);
  if (x != x)
    return 0x7fff;
  return static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
static inline unsigned pack_bf16(float low, float high) {
  return static_cast<unsigned>(bf16_bits(high)) << 16 | bf16_bits(low);
}

// Subnormal numbers count as zero in both.
static inline float exp2_fast(float x) {
  const float y = __builtin_exp2f(x);
  return y < 1.17549435e-38f ? 0.0f : y;
}
static inline float reciprocal(float x) {
  return 1.0f / x;
}

static inline unsigned thread_index_again() {
  return threadIdx.x;
}
static inline void forget_values(unsigned &, unsigned &) {}

static inline void load_words_l2(unsigned (&words)[4], const void *from) {
  __builtin_memcpy(words, from, 16);
}
static inline void load_words_stream(unsigned (&words)[4], const void *from) {
  __builtin_memcpy(words, from, 16);
}
static inline float load_l2(const float *from) {
  return *from;
}

static inline unsigned shared_address(const void *pointer) {
  return mili_emulator->shared_address(pointer);
}
static inline void copy_async16(unsigned to_shared, const void *from, bool valid = true) {
  mili_emulator->copy_async(to_shared, from, valid);
}
static inline void copy_async_commit() {
  mili_emulator->commit();
}
template <int kPending> static inline void copy_async_wait() {
  mili_emulator->wait(kPending);
}

static inline void load_matrix_x2(unsigned (&r)[2], unsigned address) {
  mili_emulator->load_matrix(r, 2, false, address);
}
static inline void load_matrix_x4(unsigned (&r)[4], unsigned address) {
  mili_emulator->load_matrix(r, 4, false, address);
}
static inline void load_matrix_x4_trans(unsigned (&r)[4], unsigned address) {
  mili_emulator->load_matrix(r, 4, true, address);
}
static inline void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  mili_emulator->mma(d, a, b0, b1);
}

}  // namespace mili
