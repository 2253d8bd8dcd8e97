// Synthetic weights: N(mean, std) by Box-Muller on Philox4x32-10 of (seed, stream, index).
#pragma once

#include "mili/device/sample.cuh"

namespace mili {

MILI_DEVICE void store_value(bf16 *p, float v) {
  *p = to_bf16(v);
}
MILI_DEVICE void store_value(float *p, float v) {
  *p = v;
}

template <class T>
MILI_DEVICE void fill_normal(T *data, uint64_t count, float mean, float std, uint64_t seed, uint32_t stream) {
  const uint64_t stride = static_cast<uint64_t>(gridDim.x) * blockDim.x;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x; 2 * i < count; i += stride) {
    const uint32_t low = static_cast<uint32_t>(i), high = static_cast<uint32_t>(i >> 32);
    const uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    const float u = open_uniform(philox(low, high, stream, 2, k0, k1));
    const float turn = 6.283185307179586f * open_uniform(philox(low, high, stream, 3, k0, k1));
    const float radius = std * sqrtf(-2.0f * __logf(u));
    store_value(data + 2 * i, mean + radius * __cosf(turn));
    if (2 * i + 1 < count)
      store_value(data + 2 * i + 1, mean + radius * __sinf(turn));
  }
}

}  // namespace mili
