// Eight consecutive values as f32, and the scalar functions of epilogues.
#pragma once

#include "mili/device/batch.cuh"
#include "mili/device/common.cuh"

namespace mili {

using uint32_t = unsigned;

MILI_DEVICE int lane_id() {
  return threadIdx.x & 31;
}
MILI_DEVICE float to_float(float v) {
  return v;
}

// `p` is aligned to 16 bytes.
MILI_DEVICE void load8(float (&v)[8], const bf16 *p) {
  unpack8(load16(p), v);
}
MILI_DEVICE void load8(float (&v)[8], const float *p) {
  const float4 a = *reinterpret_cast<const float4 *>(p), b = *reinterpret_cast<const float4 *>(p + 4);
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
MILI_DEVICE void store8(bf16 *p, const float (&v)[8]) {
  store16(p, pack8(v));
}
MILI_DEVICE void store8(float *p, const float (&v)[8]) {
  *reinterpret_cast<float4 *>(p) = make_float4(v[0], v[1], v[2], v[3]);
  *reinterpret_cast<float4 *>(p + 4) = make_float4(v[4], v[5], v[6], v[7]);
}

// e^x by the hardware's 2^x: relative error about 2e-7 near 0, growing with |x|; results are rounded to bf16.
MILI_DEVICE float exp_fast(float x) {
  return exp2_fast(x * 1.4426950408889634f);
}
MILI_DEVICE float silu(float x) {
  return __fdividef(x, 1.0f + exp_fast(-x));
}
MILI_DEVICE float gelu(float x) {
  return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f));
}
MILI_DEVICE float gelu_tanh(float x) {
  return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}
MILI_DEVICE float relu(float x) {
  return x > 0.0f ? x : 0.0f;
}

}  // namespace mili
