// What the kernels of products share: how they read their input and where their sums go.
//
// An emitted kernel passes two functors.
//
//   struct Input {                                  // rows of the activation, after element-wise ops fused before it
//     static constexpr bool kNorm;                  // RMS norm of the row before the product (arXiv 1910.07467)
//     static constexpr float kEps;
//     void load(float (&v)[8], int64_t row, int k) const;     // elements k..k+7 of row `row`
//     void gain(float (&v)[8], int k) const;                  // times the norm's weight; only if kNorm
//   };
//   struct Epilogue {                               // everything after the product, on consecutive features of a row
//     static constexpr int kUnit;                   // 8, or 16 where gate and up alternate in runs of 8
//     struct Operands;                              // what it reads from memory,
//     void fetch(Operands &operands, int64_t row, int feature) const;   // asked for some units ahead
//     void operator()(const float (&x)[kUnit], const Operands &operands, int64_t row, int feature) const;
//   };
//
// `row` counts the rows of the input that the product computes: tokens, or wanted rows (then Config::kWanted, and
// Input::load is given the token).
#pragma once

#include "mili/device/vector.cuh"

namespace mili {

MILI_CONSTEXPR int round_up(int a, int b) {
  return ceil_div(a, b) * b;
}

template <bool kWanted> MILI_DEVICE int64_t row_count(const Batch *batch) {
  return kWanted ? batch->logit_rows : batch->tokens;
}
template <bool kWanted> MILI_DEVICE int64_t token_of(const Batch *batch, int64_t row) {
  return kWanted ? batch->logit_tokens[row] : row;
}

// Eight features of a row that is `kWidth` wide, to memory; features beyond the row are dropped. Rows are aligned to 16
// bytes where kWidth is a multiple of 8.
template <int kWidth, class T> MILI_DEVICE void store_unit(T *row, int feature, const float (&v)[8]) {
  if constexpr (kWidth % 8 == 0) {
    store8(row + feature, v);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (feature + i < kWidth) {
        if constexpr (sizeof(T) == 2)
          row[feature + i] = to_bf16(v[i]);
        else
          row[feature + i] = v[i];
      }
  }
}
template <int kWidth, class T> MILI_DEVICE void load_unit(float (&v)[8], const T *row, int feature) {
  if constexpr (kWidth % 8 == 0) {
    load8(v, row + feature);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      v[i] = feature + i < kWidth ? to_float(row[feature + i]) : 0.0f;
  }
}

// Rows 0..kRows-1 of the input as bf16 in shared memory, [kRows][kDepth]; zeros for rows that the step does not have.
// `scratch` holds kRows * warps floats. Ends with the block synchronized.
template <class Config, class Input>
MILI_DEVICE void stage_rows(const Batch *batch, const Input &input, bf16 *x, float *scratch) {
  constexpr int kRows = Config::kRows, kDepth = Config::kDepth, kThreads = Config::kThreads;
  constexpr int kWarps = kThreads / 32, kChunks = ceil_div(kDepth / 8, kThreads);
  constexpr bool kKeep = kRows * kChunks <= 4;  // in registers between the two passes of a norm
  const int64_t rows = row_count<Config::kWanted>(batch);
  float kept[kKeep ? kRows * kChunks : 1][8];
  float sum[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    sum[r] = 0.0f;
    const bool present = r < rows;
    const int64_t token = present ? token_of<Config::kWanted>(batch, r) : 0;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int k = (c * kThreads + static_cast<int>(threadIdx.x)) * 8;
      float v[8] = {};
      if (k < kDepth && present)
        input.load(v, token, k);
      if constexpr (Input::kNorm) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          sum[r] += v[i] * v[i];
          if constexpr (kKeep)
            kept[r * kChunks + c][i] = v[i];
        }
      } else if (k < kDepth) {
        store8(x + r * kDepth + k, v);
      }
    }
  }
  if constexpr (Input::kNorm) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float partial = warp_sum(sum[r]);
      if (lane_id() == 0)
        scratch[r * kWarps + threadIdx.x / 32] = partial;
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float total = 0.0f;
#pragma unroll
      for (int w = 0; w < kWarps; ++w)
        total += scratch[r * kWarps + w];
      const float scale = rsqrtf(total / static_cast<float>(kDepth) + Input::kEps);
      const bool present = r < rows;
      const int64_t token = present ? token_of<Config::kWanted>(batch, r) : 0;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const int k = (c * kThreads + static_cast<int>(threadIdx.x)) * 8;
        if (k >= kDepth)
          continue;
        float v[8] = {};
        if constexpr (kKeep) {
#pragma unroll
          for (int i = 0; i < 8; ++i)
            v[i] = kept[r * kChunks + c][i];
        } else if (present) {
          input.load(v, token, k);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i)
          v[i] *= scale;
        input.gain(v, k);
        store8(x + r * kDepth + k, v);
      }
    }
  }
  __syncthreads();
}

}  // namespace mili
