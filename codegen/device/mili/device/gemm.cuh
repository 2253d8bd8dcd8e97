// Products for more rows on tensor cores: Y = X W^T with X [rows][kDepth], W [kFeatures][kDepth], both bf16.
//
// Operands are swapped: features of W are the m side of the matrix instruction, rows of X the n side, so that 16 rows
// waste nothing and W, the large operand, is read in tiles of its own. A work item is a tile of kTileFeatures x kTileRows and
// one of kSplits parts of the depth; blocks take items in turn, all tiles of rows for one tile of features first, so that
// W comes from memory once. With several splits the parts add up through memory in a fixed order: the block that arrives
// last sums them (no float atomics, so results do not depend on timing). For many rows the last rounds of tiles are dealt
// out by steps of the depth instead, where that leaves fewer blocks idle (GemmWalk).
//
// sm_90a: one producer thread copies boxes of 64 elements of depth (TMA, 128-byte swizzle) into a ring of kStages; one or
// two warpgroups of consumers issue wgmma. The producer runs ahead into the next item during the epilogue.
// Others: cp.async into the same ring with the same swizzle, mma.sync on 8 warps.
//
//   Config: kFeatures, kDepth (a multiple of 8), kTileFeatures (64, 128), kSplits, kWanted;
//           kTileRows (16..256), kStages and kBlocks (of a multiprocessor) on sm_90a, kTileRowsMma (16..128) and kStagesMma on others;
//           kDealtBlocks: most blocks among which the last tiles' steps are dealt out, 0: never; only where kSplits is 1
//
// `partials`: kSplits * tiles * kTileFeatures * kTileRows floats, `counters`: a word for each 16 features x tile of rows,
// both only where kSplits > 1; where kDealtBlocks > 0, kTileFeatures * kTileRows floats and kTileFeatures / 16 words for
// each of kDealtBlocks.
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

// What a block computes at one time: steps [begin, end) of a tile's depth.
struct GemmPart {
  int feature_tile, row_tile, split;
  int begin, end;
  int seam;  // not negative: the tile's other steps are another block's, and the two meet at this seam
};

// A block's parts, one after the other. Items (tiles times splits) are taken in turn, a round of the grid at a time. Where
// the last round would leave many blocks idle, it and the round before are dealt out by steps, an equal run of steps to
// each block ("stream-K" with a data-parallel first part, Osama et al., arXiv 2301.03598). A run is at least as long as a
// tile's depth, so a tile is one block's or two neighbours', whose sums add up in any order to the same.
template <class Config, int kTileRows> struct GemmWalk {
  static constexpr int kSteps = ceil_div(Config::kDepth, kGemmDepth);
  // A seam costs about as much as this many steps: the sums of a tile through memory, and one more start.
  static constexpr int kSeamSteps = 12;
  // Runs do not end closer than this to the edge of a tile.
  static constexpr int kShortest = 4;
  static constexpr bool kDeals = Config::kDealtBlocks > 0 && Config::kSplits == 1 && kSteps > kSeamSteps;

  int row_tiles;
  int item, dealt;   // the next item taken in turn; the first that is dealt out by steps
  int at = 0, end = 0;  // steps of those, counted from there

  MILI_MEMBER explicit GemmWalk(int row_tiles)
      : row_tiles(row_tiles), item(blockIdx.x),
        dealt(ceil_div(Config::kFeatures, Config::kTileFeatures) * Config::kSplits * row_tiles) {
    if constexpr (kDeals) {
      const int grid = gridDim.x, rest = dealt % grid;
      if (dealt > grid && grid <= Config::kDealtBlocks && rest > 0 && (grid - rest) * kSteps > grid * kSeamSteps) {
        dealt -= rest + grid;
        at = run_begin(blockIdx.x, rest + grid);
        end = run_begin(blockIdx.x + 1, rest + grid);
      }
    }
  }
  // The next part; false after the last.
  MILI_MEMBER bool next(GemmPart &part) {
    if (item < dealt) {
      part.row_tile = item % row_tiles;
      part.split = item / row_tiles % Config::kSplits;
      part.feature_tile = item / row_tiles / Config::kSplits;
      part.begin = kSteps * part.split / Config::kSplits;
      part.end = kSteps * (part.split + 1) / Config::kSplits;
      part.seam = -1;
      item += gridDim.x;
      return true;
    }
    if (!kDeals || at >= end)
      return false;
    const int tile = dealt + at / kSteps;
    part.row_tile = tile % row_tiles;
    part.feature_tile = tile / row_tiles;
    part.split = 0;
    part.begin = at % kSteps;
    part.end = min(kSteps, part.begin + end - at);
    part.seam = part.begin > 0 ? static_cast<int>(blockIdx.x) : part.end < kSteps ? static_cast<int>(blockIdx.x) + 1 : -1;
    at += part.end - part.begin;
    return true;
  }

private:
  static MILI_MEMBER int run_begin(int block, int tiles) {
    const int step = static_cast<int>(static_cast<int64_t>(tiles) * kSteps * block / gridDim.x), inside = step % kSteps;
    return inside < kShortest ? step - inside : kSteps - inside < kShortest ? step + kSteps - inside : step;
  }
};

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

// kTiles tiles of 16 rows, one after the other in `acc` (8 values of each lane). The operands of four are under way at any
// time: alone, each tile would wait for memory by itself.
template <class Config, int kTiles, class Epilogue>
MILI_DEVICE void finish_rows(float *turn, const float *acc, int64_t row, int feature, int64_t rows,
                             const Epilogue &epilogue) {
  constexpr int kAhead = min_of(kTiles, 4);
  typename Epilogue::Operands operands[kAhead];
  const auto unit_of = [&](int tile) {
    return Unit16<Config, Epilogue>(rows - (row + tile * 16), Config::kFeatures - feature);
  };
  const auto fetch = [&](int tile) {
    const Unit16<Config, Epilogue> unit = unit_of(tile);
    if (unit.valid)
      epilogue.fetch(operands[tile % kAhead], row + tile * 16 + unit.row, feature + unit.feature);
  };
#pragma unroll
  for (int tile = 0; tile < kAhead; ++tile)
    fetch(tile);
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    if (row + tile * 16 < rows)
      finish_16x16<Config>(turn, acc + tile * 8, acc + tile * 8 + 4, unit_of(tile), operands[tile % kAhead],
                           row + tile * 16, feature, epilogue);
    if (tile + kAhead < kTiles)
      fetch(tile + kAhead);
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

// Adds up the two parts of a tile that meet at a seam; true in the warp that comes second, which then holds the sum. The
// counter is 0 before the first comes, 1 while it writes its part, 2 once that is there, and 0 again in the end.
template <int kValues>
MILI_DEVICE bool join_parts(float (&acc)[kValues], float *partials, unsigned *counters, int warp_seam) {
  float *other = partials + static_cast<int64_t>(warp_seam) * kValues * 32 + lane_id();
  unsigned *counter = counters + warp_seam;
  unsigned state = 0;
  if (lane_id() == 0) {
    state = atomicCAS(counter, 0u, 1u);
    while (state == 1)
      state = atomicAdd(counter, 0u);
  }
  state = __shfl_sync(0xffffffffu, state, 0);
  if (state == 0) {
#pragma unroll
    for (int i = 0; i < kValues; ++i)
      __stcg(other + i * 32, acc[i]);
    __threadfence();
    __syncwarp();
    if (lane_id() == 0)
      atomicExch(counter, 2u);
    return false;
  }
  __threadfence();
  __syncwarp();
  if (lane_id() == 0)
    atomicExch(counter, 0u);
#pragma unroll
  for (int i = 0; i < kValues; ++i)
    acc[i] += __ldcg(other + i * 32);
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
  float *turn = reinterpret_cast<float *>(mili_shared_memory + kStages * Shape::kStageBytes);
  const uint32_t ring = shared_address(mili_shared_memory);
  const uint32_t full = shared_address(turn + kWarpgroups * 4 * Shape::kTurnFloats), empty = full + kStages * 8;

  const int64_t rows = row_count<Config::kWanted>(batch);
  const int row_tiles = static_cast<int>((rows + kTileRows - 1) / kTileRows);
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
      release_registers<40>();
    if (threadIdx.x == kConsumers) {
      prefetch_map(weight_map);
      prefetch_map(input_map);
      const auto copy_weight = [&](const GemmPart &part, int step, int stage) {
        barrier_arrive_expect(full + stage * 8, Shape::kStageBytes);
        copy_box(ring + stage * Shape::kStageBytes, weight_map, step * kGemmDepth,
                 part.feature_tile * Config::kTileFeatures, full + stage * 8);
      };
      GemmWalk<Config, kTileRows> walk(row_tiles);
      GemmPart part;
      bool more = walk.next(part);
      // The weights of the first stages do not depend on the kernel before this one.
      int ahead = more ? min(kStages, part.end - part.begin) : 0;
      for (int s = 0; s < ahead; ++s)
        copy_weight(part, part.begin + s, s);
      await_previous();
      int stage = 0;
      uint32_t parity = 1;  // a fresh ring is empty
      for (; more; more = walk.next(part))
        for (int step = part.begin; step < part.end; ++step) {
          if (ahead > 0) {
            --ahead;
          } else {
            barrier_wait(empty + stage * 8, parity);
            copy_weight(part, step, stage);
          }
          copy_box(ring + stage * Shape::kStageBytes + Shape::kWeightBytes, input_map, step * kGemmDepth,
                   part.row_tile * kTileRows, full + stage * 8);
          if (++stage == kStages) {
            stage = 0;
            parity ^= 1;
          }
        }
    }
    return;
  }

  if constexpr (kMoveRegisters)
    claim_registers<232>();
  await_previous();
  const int warpgroup = threadIdx.x / 128, warp = threadIdx.x / 32;
  float *my_turn = turn + warp * Shape::kTurnFloats;
  int stage = 0;
  uint32_t parity = 0;
  GemmWalk<Config, kTileRows> walk(row_tiles);
  for (GemmPart part; walk.next(part);) {
    float acc[kTileRows / 2];
    int previous = 0;
    for (int step = part.begin; step < part.end; ++step) {
      barrier_wait(full + stage * 8, parity);
      const uint32_t base = ring + stage * Shape::kStageBytes;
      const uint64_t a = matrix_descriptor(base + warpgroup * 64 * 128);
      const uint64_t b = matrix_descriptor(base + Shape::kWeightBytes);
      warpgroup_arrive();
#pragma unroll
      for (int k = 0; k < kGemmDepth / 16; ++k)
        wgmma<kTileRows>(acc, a + k * 2, b + k * 2, step > part.begin || k > 0);
      warpgroup_commit();
      // The step before this one is done with its stage.
      warpgroup_wait<1>();
      if (step > part.begin && lane_id() == 0)
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
    const int feature = part.feature_tile * Config::kTileFeatures + warp * 16;
    const int64_t row = static_cast<int64_t>(part.row_tile) * kTileRows;
    if constexpr (Config::kSplits > 1) {
      const int tile = (part.feature_tile * row_tiles + part.row_tile) * kWarpgroups * 4 + warp;
      if (!reduce_splits<Config>(acc, partials, counters, tile, part.split))
        continue;
    }
    if constexpr (GemmWalk<Config, kTileRows>::kDeals)
      if (part.seam >= 0 && !join_parts(acc, partials, counters, (part.seam - 1) * kWarpgroups * 4 + warp))
        continue;
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
  const int feature_warp = warp % kFeatureWarps, row_warp = warp / kFeatureWarps;

  GemmWalk<Config, kTileRows> walk(row_tiles);
  for (GemmPart part; walk.next(part);) {
    const int begin = part.begin, steps = part.end - part.begin;
    const int first_feature = part.feature_tile * kTileFeatures;
    const int64_t first_row = static_cast<int64_t>(part.row_tile) * kTileRows;
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
      const int tile = (part.feature_tile * row_tiles + part.row_tile) * 8 + warp;
      if (!reduce_splits<Config>(acc, partials, counters, tile, part.split))
        continue;
    }
    if constexpr (GemmWalk<Config, kTileRows>::kDeals)
      if (part.seam >= 0 && !join_parts(acc, partials, counters, (part.seam - 1) * 8 + warp))
        continue;
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
