// Products for more rows on tensor cores: Y = X W^T with X [rows][kDepth], W [kFeatures][kDepth], both bf16.
//
// Operands are swapped: features of W are the m side of the matrix instruction, rows of X the n side, so that 16 rows
// waste nothing and W, the large operand, is read in tiles of its own. A work item is a tile of kTileFeatures x kTileRows and
// one of kSplits parts of the depth; blocks take items in turn, all tiles of rows for one tile of features first, so that
// W comes from memory once. With several splits the parts add up through memory in a fixed order: the block that arrives
// last sums them (no float atomics, so results do not depend on timing).
//
// sm_90a: one producer thread copies boxes of 64 elements of depth (TMA, 128-byte swizzle) into a ring of kStages; one or
// two warpgroups of consumers issue wgmma. The producer runs ahead into the next item during the epilogue.
// Others: cp.async into the same ring with the same swizzle, mma.sync on 8 warps.
//
//   Config: kFeatures, kDepth (a multiple of 8), kTileFeatures (64, 128), kSplits, kWanted;
//           kTileRows (16..256), kStages and kBlocks (of a multiprocessor) on sm_90a, kTileRowsMma (16..128) and kStagesMma on others
//
// `partials`: kSplits * tiles * kTileFeatures * kTileRows floats, `counters`: a word for each 16 features x tile of rows,
// both only where kSplits > 1.
#pragma once

#include "mili/device/product.cuh"
#include "mili/device/tma.cuh"
#include "mili/device/descriptor.cuh"
#include "mili/device/wgmma.cuh"

namespace mili {

constexpr int kGemmDepth = 64;  // elements of depth in a stage: one swizzled row of 128 bytes

template <class Config, int kRows> struct GemmShape {
  static constexpr int kWarpgroups = Config::kTileFeatures / 64;
  static constexpr int kFeatureTiles = ceil_div(Config::kFeatures, Config::kTileFeatures);
  static constexpr int kSteps = ceil_div(Config::kDepth, kGemmDepth);
  static constexpr int kWeightBytes = Config::kTileFeatures * kGemmDepth * 2;
  static constexpr int kInputBytes = kRows * kGemmDepth * 2;
  static constexpr int kStageBytes = kWeightBytes + kInputBytes;
  // Each warp turns 16 features x 16 rows around in shared memory; rows of 20 floats keep both sides free of conflicts.
  static constexpr int kTurnFloats = 16 * 20;
};

// One work item.
struct GemmItem {
  int feature_tile, row_tile, split;
};
template <class Config> MILI_DEVICE GemmItem gemm_item(int index, int row_tiles) {
  GemmItem item;
  item.row_tile = index % row_tiles;
  index /= row_tiles;
  item.split = Config::kSplits > 1 ? index % Config::kSplits : 0;
  item.feature_tile = index / Config::kSplits;
  return item;
}
template <class Config> MILI_DEVICE int split_begin(int split) {
  return ceil_div(Config::kDepth, kGemmDepth) * split / Config::kSplits;
}

// Where a lane's unit of a 16 x 16 tile lies, and whether there is one.
template <class Config, class Epilogue> struct Unit16 {
  static constexpr int kUnit = Epilogue::kUnit;
  int row, feature;
  bool valid;
  // `rows` and `features` left from the tile's first on.
  MILI_MEMBER Unit16(int64_t rows, int features) {
    const int lane = lane_id();
    row = kUnit == 8 ? lane / 2 : lane;
    feature = kUnit == 8 ? lane % 2 * 8 : 0;
    valid = (kUnit == 8 || lane < 16) && row < rows && feature < features;
  }
};

// 16 features x 16 rows of a warp's accumulators (two fragments of 8 rows) through shared memory into the epilogue.
template <class Config, class Epilogue>
MILI_DEVICE void finish_16x16(float *turn, const float *low, const float *high, const Unit16<Config, Epilogue> &unit,
                              const typename Epilogue::Operands &operands, int64_t row, int feature,
                              const Epilogue &epilogue) {
  constexpr int kPitch = 20, kUnit = Epilogue::kUnit;
  const int lane = lane_id();
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int f = lane / 4 + 8 * (i / 2), r = 2 * (lane % 4) + i % 2;
    turn[r * kPitch + f] = low[i];
    turn[(r + 8) * kPitch + f] = high[i];
  }
  __syncwarp();
  if (unit.valid) {
    float v[kUnit];
#pragma unroll
    for (int i = 0; i < kUnit; i += 4)
      *reinterpret_cast<float4 *>(v + i) =
          *reinterpret_cast<const float4 *>(turn + unit.row * kPitch + unit.feature + i);
    epilogue(v, operands, row + unit.row, feature + unit.feature);
  }
}

// kTiles tiles of 16 rows, one after the other in `acc` (8 values of each lane). Operands of four are asked for at once:
// alone, each tile would wait for memory by itself.
template <class Config, int kTiles, class Epilogue>
MILI_DEVICE void finish_rows(float *turn, const float *acc, int64_t row, int feature, int64_t rows,
                             const Epilogue &epilogue) {
  constexpr int kAhead = min_of(kTiles, 4);
#pragma unroll
  for (int first = 0; first < kTiles; first += kAhead) {
    typename Epilogue::Operands operands[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int64_t at = row + (first + i) * 16;
      const Unit16<Config, Epilogue> unit(rows - at, Config::kFeatures - feature);
      if (first + i < kTiles && unit.valid)
        epilogue.fetch(operands[i], at + unit.row, feature + unit.feature);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int64_t at = row + (first + i) * 16;
      if (first + i < kTiles && at < rows)
        finish_16x16<Config>(turn, acc + (first + i) * 8, acc + (first + i) * 8 + 4,
                             Unit16<Config, Epilogue>(rows - at, Config::kFeatures - feature), operands[i], at, feature,
                             epilogue);
    }
  }
}

// Adds the parts of a split product; true in the warp that arrives last, which then holds the sum. The accumulators of a
// warp are kValues floats of each lane, in any order that all parts share.
template <class Config, int kValues>
MILI_DEVICE bool reduce_splits(float (&acc)[kValues], float *partials, unsigned *counters, int warp_tile, int split) {
  float *base = partials + static_cast<int64_t>(warp_tile) * Config::kSplits * kValues * 32 + lane_id();
  float *mine = base + static_cast<int64_t>(split) * kValues * 32;
#pragma unroll
  for (int i = 0; i < kValues; ++i)
    __stcg(mine + i * 32, acc[i]);
  __threadfence();
  __syncwarp();
  unsigned arrived = 0;
  if (lane_id() == 0)
    arrived = atomicAdd(counters + warp_tile, 1u);
  arrived = __shfl_sync(0xffffffffu, arrived, 0);
  if (arrived + 1 != Config::kSplits)
    return false;
  __threadfence();
  if (lane_id() == 0)
    counters[warp_tile] = 0;
#pragma unroll
  for (int i = 0; i < kValues; ++i)
    acc[i] = 0.0f;
  for (int s = 0; s < Config::kSplits; ++s)
#pragma unroll
    for (int i = 0; i < kValues; ++i)
      acc[i] += __ldcg(base + (static_cast<int64_t>(s) * kValues + i) * 32);
  return true;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Shared memory: ring of stages (1024-byte aligned), turning space of the consumer warps, barriers.
template <class Config, class Epilogue>
MILI_DEVICE void gemm_wgmma(const Batch *batch, const TensorMap &weight_map, const TensorMap &input_map,
                            const Epilogue &epilogue, float *partials, unsigned *counters) {
  using Shape = GemmShape<Config, Config::kTileRows>;
  constexpr int kStages = Config::kStages, kWarpgroups = Shape::kWarpgroups, kTileRows = Config::kTileRows;
  constexpr int kConsumers = kWarpgroups * 128;
  // 128 accumulators a thread need more than a third of the registers; the block must have the multiprocessor to itself
  // then, or it waits forever for registers that its neighbour holds.
  constexpr bool kMoveRegisters = kTileRows == 256;
  static_assert(!kMoveRegisters || (kWarpgroups == 2 && Config::kBlocks == 1));
  constexpr int kReleasedTo = 40, kClaimed = 232;  // of a thread's registers
  static_assert(!kMoveRegisters || registers_suffice(kConsumers + 128, 128, kReleasedTo, kConsumers, kClaimed));
  float *turn = reinterpret_cast<float *>(mili_shared_memory + kStages * Shape::kStageBytes);
  const uint32_t ring = shared_address(mili_shared_memory);
  const uint32_t full = shared_address(turn + kWarpgroups * 4 * Shape::kTurnFloats), empty = full + kStages * 8;

  const int64_t rows = row_count<Config::kWanted>(batch);
  const int row_tiles = static_cast<int>((rows + kTileRows - 1) / kTileRows);
  const int items = Shape::kFeatureTiles * Config::kSplits * row_tiles;
  start_dependents();
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      barrier_init(full + s * 8, 1);
      barrier_init(empty + s * 8, kWarpgroups * 4);
    }
    barrier_init_fence();
  }
  __syncthreads();

  // The producer's warps come last, so that consumer warpgroups begin at multiples of 4 warps.
  if (threadIdx.x >= kConsumers) {
    if constexpr (kMoveRegisters)
      release_registers<kReleasedTo>();
    if (threadIdx.x == kConsumers) {
      prefetch_map(weight_map);
      prefetch_map(input_map);
      const auto copy_weight = [&](const GemmItem &item, int step, int stage) {
        barrier_arrive_expect(full + stage * 8, Shape::kStageBytes);
        copy_box(ring + stage * Shape::kStageBytes, weight_map, step * kGemmDepth,
                 item.feature_tile * Config::kTileFeatures, full + stage * 8);
      };
      // The weights of the first stages do not depend on the kernel before this one.
      int ahead = 0;
      if (static_cast<int>(blockIdx.x) < items) {
        const GemmItem item = gemm_item<Config>(blockIdx.x, row_tiles);
        const int begin = split_begin<Config>(item.split);
        ahead = min(kStages, split_begin<Config>(item.split + 1) - begin);
        for (int s = 0; s < ahead; ++s)
          copy_weight(item, begin + s, s);
      }
      await_previous();
      int stage = 0;
      uint32_t parity = 1;  // a fresh ring is empty
      for (int index = blockIdx.x; index < items; index += gridDim.x) {
        const GemmItem item = gemm_item<Config>(index, row_tiles);
        const int end = split_begin<Config>(item.split + 1);
        for (int step = split_begin<Config>(item.split); step < end; ++step) {
          if (ahead > 0) {
            --ahead;
          } else {
            barrier_wait(empty + stage * 8, parity);
            copy_weight(item, step, stage);
          }
          copy_box(ring + stage * Shape::kStageBytes + Shape::kWeightBytes, input_map, step * kGemmDepth,
                   item.row_tile * kTileRows, full + stage * 8);
          if (++stage == kStages) {
            stage = 0;
            parity ^= 1;
          }
        }
      }
    }
    return;
  }

  if constexpr (kMoveRegisters)
    claim_registers<kClaimed>();
  await_previous();
  const int warpgroup = threadIdx.x / 128, warp = threadIdx.x / 32;
  float *my_turn = turn + warp * Shape::kTurnFloats;
  int stage = 0;
  uint32_t parity = 0;
  for (int index = blockIdx.x; index < items; index += gridDim.x) {
    const GemmItem item = gemm_item<Config>(index, row_tiles);
    const int begin = split_begin<Config>(item.split), end = split_begin<Config>(item.split + 1);
    float acc[kTileRows / 2];
    int previous = 0;
    for (int step = begin; step < end; ++step) {
      barrier_wait(full + stage * 8, parity);
      const uint32_t base = ring + stage * Shape::kStageBytes;
      const uint64_t a = matrix_descriptor(base + warpgroup * 64 * 128);
      const uint64_t b = matrix_descriptor(base + Shape::kWeightBytes);
      warpgroup_arrive();
#pragma unroll
      for (int k = 0; k < kGemmDepth / 16; ++k)
        wgmma<kTileRows>(acc, a + k * 2, b + k * 2, step > begin || k > 0);
      warpgroup_commit();
      // The step before this one is done with its stage.
      warpgroup_wait<1>();
      if (step > begin && lane_id() == 0)
        barrier_arrive(empty + previous * 8);
      previous = stage;
      if (++stage == kStages) {
        stage = 0;
        parity ^= 1;
      }
    }
    warpgroup_wait<0>();
    if (lane_id() == 0)
      barrier_arrive(empty + previous * 8);
    const int feature = item.feature_tile * Config::kTileFeatures + warp * 16;
    const int64_t row = static_cast<int64_t>(item.row_tile) * kTileRows;
    if constexpr (Config::kSplits > 1) {
      const int tile = (item.feature_tile * row_tiles + item.row_tile) * kWarpgroups * 4 + warp;
      if (!reduce_splits<Config>(acc, partials, counters, tile, item.split))
        continue;
    }
    finish_rows<Config, kTileRows / 16>(my_turn, acc, row, feature, rows, epilogue);
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

// 8 warps, of which kFeatureWarps lie side by side along the features.
template <class Config, class Epilogue>
MILI_DEVICE void gemm_mma(const Batch *batch, const bf16 *weight, const bf16 *input, const Epilogue &epilogue,
                          float *partials, unsigned *counters) {
  using Shape = GemmShape<Config, Config::kTileRowsMma>;
  constexpr int kStages = Config::kStagesMma, kTileRows = Config::kTileRowsMma, kTileFeatures = Config::kTileFeatures;
  constexpr int kThreads = 256;
  constexpr int kRowWarps = kTileRows == 16 && kTileFeatures == 128 ? 1 : 2, kFeatureWarps = 8 / kRowWarps;
  constexpr int kWarpFeatures = kTileFeatures / kFeatureWarps, kWarpRows = kTileRows / kRowWarps;
  constexpr int kM = kWarpFeatures / 16, kN = kWarpRows / 8;
  static_assert(kM >= 1 && kN >= 1, "each warp has a fragment");
  begin_kernel();
  const int warp = threadIdx.x / 32, lane = lane_id();
  float *turn = reinterpret_cast<float *>(mili_shared_memory + kStages * Shape::kStageBytes) + warp * Shape::kTurnFloats;
  const uint32_t ring = shared_address(mili_shared_memory);

  const int64_t rows = row_count<Config::kWanted>(batch);
  const int row_tiles = static_cast<int>((rows + kTileRows - 1) / kTileRows);
  const int items = Shape::kFeatureTiles * Config::kSplits * row_tiles;
  const int feature_warp = warp % kFeatureWarps, row_warp = warp / kFeatureWarps;

  for (int index = blockIdx.x; index < items; index += gridDim.x) {
    const GemmItem item = gemm_item<Config>(index, row_tiles);
    const int begin = split_begin<Config>(item.split), steps = split_begin<Config>(item.split + 1) - begin;
    const int first_feature = item.feature_tile * kTileFeatures;
    const int64_t first_row = static_cast<int64_t>(item.row_tile) * kTileRows;
    // 16-byte chunks of a stage, each row of 128 bytes swizzled by its index.
    auto fetch = [&](int step) {
      const uint32_t to = ring + step % kStages * Shape::kStageBytes;
      constexpr int kChunks = Shape::kStageBytes / 16;
#pragma unroll
      for (int i = 0; i < ceil_div(kChunks, kThreads); ++i) {
        const int chunk = i * kThreads + static_cast<int>(threadIdx.x), r = chunk / 8, c = chunk % 8;
        if (kChunks % kThreads != 0 && chunk >= kChunks)
          break;
        const int k = (begin + step) * kGemmDepth + c * 8;
        const bf16 *from = weight;
        bool valid = k < Config::kDepth;
        if (r < kTileFeatures) {
          valid = valid && first_feature + r < Config::kFeatures;
          from = weight + static_cast<int64_t>(first_feature + r) * Config::kDepth + k;
        } else {
          const int64_t row = first_row + r - kTileFeatures;
          valid = valid && row < rows;
          from = input + row * Config::kDepth + k;
        }
        copy_async16(to + r * 128 + ((c ^ (r & 7)) * 16), valid ? from : weight, valid);
      }
    };
    float acc[kM * kN * 4] = {};
    __syncthreads();  // the ring is free of the previous item
#pragma unroll
    for (int s = 0; s < kStages - 1; ++s) {
      if (s < steps)
        fetch(s);
      copy_async_commit();
    }
#pragma unroll 1  // a short depth unrolled as a whole takes all registers
    for (int step = 0; step < steps; ++step) {
      copy_async_wait<kStages - 2>();
      __syncthreads();
      if (step + kStages - 1 < steps)
        fetch(step + kStages - 1);
      copy_async_commit();
      const uint32_t base = ring + step % kStages * Shape::kStageBytes;
#pragma unroll
      for (int k = 0; k < kGemmDepth / 16; ++k) {
        uint32_t a[kM][4];
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          const int r = feature_warp * kWarpFeatures + m * 16 + lane % 16, c = k * 2 + lane / 16;
          load_matrix_x4(a[m], base + r * 128 + ((c ^ (r & 7)) * 16));
        }
#pragma unroll
        for (int n = 0; n < kN; n += 2) {
          uint32_t b[4];
          if constexpr (kN >= 2) {
            const int r = kTileFeatures + row_warp * kWarpRows + n * 8 + lane % 8 + lane / 16 * 8, c = k * 2 + lane / 8 % 2;
            load_matrix_x4(b, base + r * 128 + ((c ^ (r & 7)) * 16));
          } else {
            uint32_t half[2];
            const int r = kTileFeatures + row_warp * kWarpRows + lane % 8, c = k * 2 + lane / 8 % 2;
            load_matrix_x2(half, base + r * 128 + ((c ^ (r & 7)) * 16));
            b[0] = half[0], b[1] = half[1], b[2] = b[3] = 0;
          }
#pragma unroll
          for (int m = 0; m < kM; ++m)
#pragma unroll
            for (int j = 0; j < (kN >= 2 ? 2 : 1); ++j)
              mma_m16n8k16(reinterpret_cast<float(&)[4]>(acc[(m * kN + n + j) * 4]), a[m], b[2 * j], b[2 * j + 1]);
        }
      }
    }
    copy_async_wait<0>();
    if constexpr (Config::kSplits > 1) {
      const int tile = (item.feature_tile * row_tiles + item.row_tile) * 8 + warp;
      if (!reduce_splits<Config>(acc, partials, counters, tile, item.split))
        continue;
    }
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      const int feature = first_feature + feature_warp * kWarpFeatures + m * 16;
      const int64_t row = first_row + row_warp * kWarpRows;
      if constexpr (kN >= 2) {
        finish_rows<Config, kN / 2>(turn, acc + m * kN * 4, row, feature, rows, epilogue);
      } else {
        // 8 rows a warp: the upper half of the tile is nobody's.
        float pair[8];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          pair[i] = acc[m * 4 + i];
          pair[i + 4] = 0.0f;
        }
        finish_rows<Config, 1>(turn, pair, row, feature, min(rows, row + 8), epilogue);
      }
    }
  }
}

// For __launch_bounds__.
template <class Config> MILI_CONSTEXPR int gemm_threads() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  return Config::kTileFeatures == 128 ? 384 : 160;
#else
  return 256;
#endif
}
MILI_CONSTEXPR int gemm_blocks(int hopper) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  return hopper;
#else
  return 1;
#endif
}

template <class Config, class Epilogue>
MILI_DEVICE void gemm(const Batch *batch, const bf16 *weight, const bf16 *input, const TensorMap &weight_map,
                      const TensorMap &input_map, const Epilogue &epilogue, float *partials, unsigned *counters) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  gemm_wgmma<Config>(batch, weight_map, input_map, epilogue, partials, counters);
#else
  gemm_mma<Config>(batch, weight, input, epilogue, partials, counters);
#endif
}

}  // namespace mili
