// Tensor copies and the barriers that they complete on (sm_90).
#pragma once

#include "mili/device/vector.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define MILI_HAS_TMA 1
#endif

namespace mili {

// A CUtensorMap, passed by value as a __grid_constant__ parameter.
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

#ifdef MILI_HAS_TMA

MILI_DEVICE void barrier_init(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// Makes the initialized barriers visible to the copy engine.
MILI_DEVICE void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
MILI_DEVICE void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
MILI_DEVICE void barrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// Arrives once all asynchronous copies (copy_async16) of this thread so far have; the thread does not wait. What else it
// wrote is not ordered by this.
MILI_DEVICE void copies_arrive(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
MILI_DEVICE void barrier_wait(uint32_t barrier, uint32_t parity) {
  asm volatile("{\n"
               ".reg .pred done;\n"
               "again:\n"
               "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
               "@!done bra again;\n"
               "}" ::"r"(barrier),
               "r"(parity)
               : "memory");
}
// A box of `map` whose first element is (row, column), to shared memory; completes on `barrier`.
MILI_DEVICE void copy_box(uint32_t to, const TensorMap &map, int column, int row, uint32_t barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::
                   "r"(to),
               "l"(&map), "r"(barrier), "r"(column), "r"(row)
               : "memory");
}
MILI_DEVICE void prefetch_map(const TensorMap &map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

#endif  // MILI_HAS_TMA

}  // namespace mili
