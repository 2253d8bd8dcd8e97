// The emulator's own mili/device/tma.cuh: the same functions on the host. A barrier is a word in shared memory.
#pragma once

#include "mili/device/vector.cuh"

namespace mili {

struct alignas(64) TensorMap {
  uint64_t opaque[16];
};
static_assert(sizeof(MiliTensorMap) <= sizeof(TensorMap));

#if __CUDA_ARCH__ >= 900

static inline void barrier_init(uint32_t barrier, uint32_t arrivals) {
  mili_emulator->barrier_init(barrier, arrivals);
}
static inline void barrier_init_fence() {}
static inline void barrier_arrive(uint32_t barrier) {
  mili_emulator->barrier_arrive(barrier, 0);
}
static inline void barrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
  mili_emulator->barrier_arrive(barrier, bytes);
}
static inline void copies_arrive(uint32_t barrier) {
  mili_emulator->copies_arrive(barrier);
}
static inline void barrier_wait(uint32_t barrier, uint32_t parity) {
  mili_emulator->barrier_wait(barrier, parity);
}
static inline void copy_box(uint32_t to, const TensorMap &map, int column, int row, uint32_t barrier) {
  mili_emulator->copy_box(to, reinterpret_cast<const MiliTensorMap *>(&map), column, row, barrier);
}
static inline void prefetch_map(const TensorMap &) {}

#endif

}  // namespace mili
