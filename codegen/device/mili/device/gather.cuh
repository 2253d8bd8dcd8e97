// Rows, normalized, as a matrix of their own, which tensor copies can read. A block a row, kept in registers; Input as in
// product.cuh.
//
//   Config: kDepth, kThreads, kRowsAreWanted (a row for each wanted row, else for each token), kWanted (row r is gathered
//           from the token that wants it)
#pragma once

#include "mili/device/product.cuh"

namespace mili {

template <class Config, class Input> MILI_DEVICE void gather_rows(const Batch *batch, const Input &input, bf16 *out) {
  constexpr int kThreads = Config::kThreads, kDepth = Config::kDepth, kChunks = ceil_div(kDepth / 8, kThreads);
  __shared__ float partial[kThreads / 32];
  begin_kernel();
  const int64_t row = blockIdx.x;
  if (row >= row_count<Config::kRowsAreWanted>(batch))
    return;
  const int64_t token = token_of<Config::kWanted>(batch, row);
  float v[kChunks][8], sum = 0.0f;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int k = (c * kThreads + static_cast<int>(threadIdx.x)) * 8;
    if (k >= kDepth)
      break;
    input.load(v[c], token, k);
#pragma unroll
    for (int i = 0; i < 8; ++i)
      sum += v[c][i] * v[c][i];
  }
  float scale = 1.0f;
  if constexpr (Input::kNorm) {
    sum = warp_sum(sum);
    if (lane_id() == 0)
      partial[threadIdx.x / 32] = sum;
    __syncthreads();
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < kThreads / 32; ++w)
      total += partial[w];
    scale = rsqrtf(total / static_cast<float>(kDepth) + Input::kEps);
  }
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int k = (c * kThreads + static_cast<int>(threadIdx.x)) * 8;
    if (k >= kDepth)
      break;
    if constexpr (Input::kNorm) {
#pragma unroll
      for (int i = 0; i < 8; ++i)
        v[c][i] *= scale;
      input.gain(v[c], k);
    }
    store8(out + row * kDepth + k, v[c]);
  }
}

}  // namespace mili
