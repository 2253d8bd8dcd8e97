// RMS norm of whole rows, a block a row; what was fused behind it gets eight features at a time (see Epilogue in
// mili/device/product.cuh).
#pragma once

#include "mili/device/product.cuh"
#include "mili/device/rows.cuh"

namespace example {

template <int kWidth, int kThreads, bool kWanted, class Epilogue>
MILI_DEVICE void norm(const mili::Batch *batch, const mili::bf16 *x, const float *gain, float eps,
                      const Epilogue &epilogue) {
  __shared__ float partial[kThreads / 32];
  const mili::BlockTeam<kThreads> team{partial};
  mili::begin_kernel();
  const mili::int64_t row = blockIdx.x;
  if (row >= mili::row_count<kWanted>(batch))
    return;
  float sum = 0.0f;
  for (int k = threadIdx.x * 8; k < kWidth; k += kThreads * 8) {
    float v[8];
    mili::load8(v, x + row * kWidth + k);
    for (int i = 0; i < 8; ++i)
      sum += v[i] * v[i];
  }
  const float scale = rsqrtf(team.sum(sum) / kWidth + eps);
  for (int k = threadIdx.x * 8; k < kWidth; k += kThreads * 8) {
    float v[8], g[8];
    mili::load8(v, x + row * kWidth + k);
    mili::load8(g, gain + k);
    for (int i = 0; i < 8; ++i)
      v[i] *= scale * g[i];
    typename Epilogue::Operands operands;
    epilogue.fetch(operands, row, k);
    epilogue(v, operands, row, k);
  }
}

}  // namespace example
