// The emulator's own mili/device/wgmma.cuh: the same functions on the host.
#pragma once

#include "mili/device/vector.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

namespace mili {

static inline void warpgroup_arrive() {}
static inline void warpgroup_commit() {
  mili_emulator->wgmma_commit();
}
template <int kPending> static inline void warpgroup_wait() {
  mili_emulator->wgmma_wait(kPending);
}
template <int> static inline void release_registers() {}
template <int> static inline void claim_registers() {}

template <int kColumns>
static inline void wgmma(float (&d)[kColumns / 2], uint64_t a, uint64_t b, int accumulate) {
  mili_emulator->wgmma(d, kColumns, a, b, accumulate != 0);
}

template <int kColumns, bool kColumnMajor>
static inline void wgmma(float (&d)[kColumns / 2], const unsigned (&a)[4], uint64_t b, int accumulate) {
  mili_emulator->wgmma_registers(d, kColumns, a, b, kColumnMajor, accumulate != 0);
}
static inline void shared_fence() {}

}  // namespace mili

#endif
