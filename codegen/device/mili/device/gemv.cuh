// Products for a few rows: y = W x by fused multiply-adds, bound by reading W [kFeatures][kDepth] bf16 once.
//
// A block takes tiles of kThreads / 32 * kRowsPerWarp features in turn. A warp owns kRowsPerWarp rows of W; its lanes read
// 16 bytes each, so a load is 512 consecutive bytes. The loads of the next batch (or of the next tile) are issued before
// the current one is used, and the first before the input is read. The input is staged in shared memory once per block as
// bf16, from where lanes read 16 bytes without bank conflicts.
//
//   Config: kRows (1..4, bound of the rows), kFeatures, kDepth (a multiple of 8), kThreads, kRowsPerWarp, kUnroll
//   (loads of a lane in a batch), kWanted
#pragma once

#include "mili/device/product.cuh"

namespace mili {

template <class Config> struct GemvShape {
  static constexpr int kWarps = Config::kThreads / 32;
  static constexpr int kTile = kWarps * Config::kRowsPerWarp;
  static constexpr int kTiles = ceil_div(Config::kFeatures, kTile);
  static constexpr int kBatches = ceil_div(Config::kDepth, 256 * Config::kUnroll);
};

template <class Config, class Input, class Epilogue>
MILI_DEVICE void gemv(const Batch *batch, const Input &input, const bf16 *__restrict__ weight, const Epilogue &epilogue) {
  using Shape = GemvShape<Config>;
  constexpr int kRows = Config::kRows, kDepth = Config::kDepth, kPerWarp = Config::kRowsPerWarp;
  constexpr int kUnroll = Config::kUnroll, kTile = Shape::kTile, kTiles = Shape::kTiles, kBatches = Shape::kBatches, kUnit = Epilogue::kUnit;
  static_assert(kTile % kUnit == 0);
  bf16 *x = reinterpret_cast<bf16 *>(mili_shared_memory);
  float *sums = reinterpret_cast<float *>(mili_shared_memory + round_up(kRows * kDepth * 2, 128));  // [2][kRows][kTile]
  const int warp = threadIdx.x / 32, lane = lane_id();
  start_dependents();
  const int64_t rows = row_count<Config::kWanted>(batch);
  if (rows == 0) {
    await_previous();
    return;
  }

  Vector16 w[kUnroll][kPerWarp];
  auto fetch = [&](Vector16(&to)[kUnroll][kPerWarp], int tile, int part) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int k = (part * kUnroll + u) * 256 + lane * 8;
#pragma unroll
      for (int r = 0; r < kPerWarp; ++r) {
        int feature = tile * kTile + warp * kPerWarp + r;
        if (Config::kFeatures % kTile != 0)
          feature = min(feature, Config::kFeatures - 1);
        if (kDepth % (256 * kUnroll) == 0 || k < kDepth)
          to[u][r] = load16_stream(weight + static_cast<int64_t>(feature) * kDepth + k);
        else
          to[u][r] = Vector16{};
      }
    }
  };
  int tile = blockIdx.x;
  if (tile < kTiles)
    fetch(w, tile, 0);
  await_previous();
  stage_rows<Config>(batch, input, x, sums);

  for (int parity = 0; tile < kTiles; tile += gridDim.x, parity ^= 1) {
    float acc[kRows][kPerWarp] = {};
    for (int part = 0; part < kBatches; ++part) {
      Vector16 next[kUnroll][kPerWarp];
      const int next_tile = part + 1 < kBatches ? tile : tile + static_cast<int>(gridDim.x);
      if (next_tile < kTiles)
        fetch(next, next_tile, part + 1 < kBatches ? part + 1 : 0);
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const int k = (part * kUnroll + u) * 256 + lane * 8;
        if (kDepth % (256 * kUnroll) != 0 && k >= kDepth)
          continue;
        float a[kPerWarp][8];
#pragma unroll
        for (int r = 0; r < kPerWarp; ++r)
          unpack8(w[u][r], a[r]);
#pragma unroll
        for (int t = 0; t < kRows; ++t) {
          float b[8];
          load8(b, x + t * kDepth + k);
#pragma unroll
          for (int r = 0; r < kPerWarp; ++r)
#pragma unroll
            for (int i = 0; i < 8; ++i)
              acc[t][r] = fmaf(a[r][i], b[i], acc[t][r]);
        }
      }
#pragma unroll
      for (int u = 0; u < kUnroll; ++u)
#pragma unroll
        for (int r = 0; r < kPerWarp; ++r)
          w[u][r] = next[u][r];
    }
    // One synchronization a tile: the other half of `sums` is written next.
    float *out = sums + parity * kRows * kTile;
#pragma unroll
    for (int t = 0; t < kRows; ++t)
#pragma unroll
      for (int r = 0; r < kPerWarp; ++r) {
        const float sum = warp_sum(acc[t][r]);
        if (lane == 0)
          out[t * kTile + warp * kPerWarp + r] = sum;
      }
    __syncthreads();
    for (int i = threadIdx.x; i < kRows * (kTile / kUnit); i += Config::kThreads) {
      const int t = i / (kTile / kUnit), unit = i % (kTile / kUnit);
      const int feature = tile * kTile + unit * kUnit;
      if (t >= rows || feature >= Config::kFeatures)
        continue;
      float v[kUnit];
#pragma unroll
      for (int j = 0; j < kUnit; ++j)
        v[j] = out[t * kTile + unit * kUnit + j];
      typename Epilogue::Operands operands;
      epilogue.fetch(operands, t, feature);
      epilogue(v, operands, t, feature);
    }
  }
}

}  // namespace mili
