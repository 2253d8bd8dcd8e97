// Attention of many query tokens over paged keys and values on wgmma (sm_90a): FlashAttention-3 (Shah et al. 2024, arXiv
// 2407.08608) over pages. One warpgroup copies pages into a ring; two others keep 64 query rows each, in registers, and
// overlap the product of queries and keys of one page with that of weights and values of the page before it. Blocks take
// tiles in turn, so the copies of a tile begin while the one before it is finished.

#ifndef MILI_DEVICE_ATTENTION_PREFILL_WGMMA_CUH
#define MILI_DEVICE_ATTENTION_PREFILL_WGMMA_CUH

#include "mili/device/attention_common.cuh"
#include "mili/device/attention_prefill.cuh"
#include "mili/device/descriptor.cuh"
#include "mili/device/tma.cuh"
#include "mili/device/wgmma.cuh"

namespace mili {

/// Tile sizes and launch shape of attention_prefill_wgmma for a Config.
template <class Config>
struct WgmmaPrefillTile {
  static constexpr int kDim = Config::kHeadDim;
  static_assert(kDim == 64 || kDim == 128, "heads of 64 or 128");
  static_assert(Config::kHeads % Config::kKvHeads == 0, "query heads share KV heads evenly");
  static constexpr int kGroup = Config::kHeads / Config::kKvHeads;
  static constexpr int kRows = 128;
  static_assert(kGroup <= kRows, "a query token's heads fit one tile");
  /// Tokens of a query tile.
  static constexpr int kTileTokens = kRows / kGroup;
  /// Two warpgroups that compute, then one that copies.
  static constexpr int kConsumers = 256, kThreads = 384;
  /// Keys of a step: a page.
  static constexpr int kKeys = kPageTokens;
  static constexpr int kHalfBytes = kKeys * 128;  // 64 columns of a page's keys or values
  static constexpr int kPageBytes = kKeys * kDim * 2;
  static constexpr int kStageBytes = 2 * kPageBytes;
  static constexpr int kStages = kDim == 128 ? 4 : 6;
  /// Steps whose copies are under way while the next one is asked for. A consumer gives a stage back one step after it
  /// was filled, so at most kStages - 2.
  static constexpr int kAhead = 2;
  static_assert(kAhead <= kStages - 2, "the producer must not wait for what it holds back");
  static constexpr int kOutputBytes = kRows * kDim * 2;
  /// Dynamic shared memory: the ring, the tile on its way out, the barriers.
  static constexpr int kSharedBytes = kStages * kStageBytes + kOutputBytes + 2 * kStages * 8;
  static_assert(kSharedBytes <= 227 * 1024, "fits a multiprocessor");

  /// Most query tiles of a step of `tokens` tokens in `sequences` sequences.
  static MILI_CONSTEXPR long query_tile_bound(long tokens, long sequences) {
    return tokens < tokens / kTileTokens + sequences ? tokens : tokens / kTileTokens + sequences;
  }
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// A tile of the walk: its queries and the pages that they read.
template <class Config>
struct WgmmaPrefillItem {
  QueryTile queries;
  int kv_head;
  int first_position, last_position;

  MILI_MEMBER WgmmaPrefillItem(const Batch *batch, int tile)
      : queries(find_query_tile<WgmmaPrefillTile<Config>::kTileTokens>(batch, tile / Config::kKvHeads)),
        kv_head(tile % Config::kKvHeads) {
    if (queries.tokens > 0) {
      first_position = batch->positions[queries.first];
      last_position = batch->positions[queries.first + queries.tokens - 1];
    }
  }
};

/// out [T][kHeads * kHeadDim] bf16 = softmax(q k' * scale) v for the tiles first, first + step, ... below `tiles`: the
/// query tile `tile / kKvHeads` (numbered as find_query_tile does) and the KV head `tile % kKvHeads`. `queries` is
/// [T][kHeads * kHeadDim], final; the step's keys and values are in the pages already. `sinks` [kHeads] f32 is read if
/// Config::kSinks. Called by a whole block of WgmmaPrefillTile<Config>::kThreads threads with kSharedBytes of dynamic
/// shared memory, one block on a multiprocessor.
template <class Config>
MILI_DEVICE void attention_prefill_wgmma(const Batch *batch, const bf16 *queries, const bf16 *pool, const float *sinks,
                                         bf16 *out, int tiles, int first, int step) {
  using Tile = WgmmaPrefillTile<Config>;
  using Logit = Logits<Config>;
  constexpr int kDim = Config::kHeadDim, kGroup = Tile::kGroup, kKeys = Tile::kKeys, kStages = Tile::kStages;
  constexpr int kChunks = kDim / 8;

  const unsigned ring = shared_address(mili_shared_memory);
  unsigned char *const out_tile = mili_shared_memory + kStages * Tile::kStageBytes;
  const unsigned full = shared_address(out_tile + Tile::kOutputBytes), empty = full + kStages * 8;
  start_dependents();
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      barrier_init(full + s * 8, 4);   // the warps that copy
      barrier_init(empty + s * 8, 8);  // the warps that compute
    }
    barrier_init_fence();
  }
  __syncthreads();
  await_previous();

  const unsigned lane = threadIdx.x % kWarpSize;
  int stage = 0;
  unsigned parity = 0;
  const auto advance = [&] {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  };

  if (threadIdx.x >= Tile::kConsumers) {
    release_registers<40>();
    const int thread = static_cast<int>(threadIdx.x) - Tile::kConsumers;
    // The oldest stage whose copies are not announced yet, and how many of them there are.
    int oldest = 0, pending = 0;
    const auto announce = [&] {
      shared_fence();
      __syncwarp();
      if (lane == 0)
        barrier_arrive(full + oldest * 8);
      oldest = oldest + 1 == kStages ? 0 : oldest + 1;
      --pending;
    };
    for (int tile = first; tile < tiles; tile += step) {
      const WgmmaPrefillItem<Config> item(batch, tile);
      if (item.queries.tokens == 0)
        continue;
      const KeyWalk<Config> walk(item.first_position, item.last_position);
      const int32_t *pages = pages_of(batch, Config::kPageTable, item.queries.sequence);
      const bf16 *pool_head = pool + static_cast<long>(item.kv_head) * kKeys * kDim + thread * 8;
      const int count = walk.count();
      int block = walk.block(0), page = pages[block];
      for (int n = 0; n < count; ++n) {
        const int next_block = walk.block(min(n + 1, count - 1)), next_page = pages[next_block];
        barrier_wait(empty + stage * 8, parity ^ 1);  // a fresh ring is empty
        // Rows past the last visible key become zeros: their weight is 0, but what an unwritten part of a page holds may
        // be a NaN, which a weight of 0 does not silence.
        const int valid = item.last_position + 1 - block * kKeys;
        const bf16 *keys = pool_head + page * kv_page_elements<Config>();
        const bf16 *values = keys + static_cast<long>(Config::kKvHeads) * kKeys * kDim;
        const unsigned to = ring + stage * Tile::kStageBytes;
#pragma unroll
        for (int i = 0; i < kKeys * kChunks / 128; ++i) {
          const int index = i * 128 + thread, row = index / kChunks, chunk = index % kChunks;
          const unsigned offset = chunk / 8 * Tile::kHalfBytes + row * 128 + ((chunk ^ row) & 7) * 16;
          copy_async16(to + offset, keys + i * 128 * 8, row < valid);
          copy_async16(to + Tile::kPageBytes + offset, values + i * 128 * 8, row < valid);
        }
        copy_async_commit();
        if (++pending > Tile::kAhead) {
          copy_async_wait<Tile::kAhead>();
          announce();
        }
        advance();
        block = next_block;
        page = next_page;
      }
    }
    copy_async_wait<0>();
    while (pending > 0)
      announce();
    return;
  }

  claim_registers<232>();
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int own_row = warp * 16 + static_cast<int>(lane) / 4;  // the first of this lane's two rows, 8 apart
  for (int tile = first; tile < tiles; tile += step) {
    const WgmmaPrefillItem<Config> item(batch, tile);
    if (item.queries.tokens == 0)
      continue;
    const KeyWalk<Config> walk(item.first_position, item.last_position);
    const int count = walk.count();
    const int first_head = item.kv_head * kGroup, valid_rows = item.queries.tokens * kGroup;
    const int32_t *positions = batch->positions + item.queries.first;
    const auto position_of = [&](int row) { return positions[min(row / kGroup, item.queries.tokens - 1)]; };
    const int position[2] = {position_of(own_row), position_of(own_row + 8)};
    // The positions of the warpgroup's rows lie between these.
    const int group_first = position_of(warp / 4 * 64), group_last = position_of(warp / 4 * 64 + 63);

    // The queries, as operands of a product: rows beyond the tile repeat its last token's.
    unsigned query[kDim / 16][4];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = min(own_row + 8 * h, valid_rows - 1);
      const long at = static_cast<long>(item.queries.first + row / kGroup) * Config::kHeads + first_head + row % kGroup;
      const unsigned *from = reinterpret_cast<const unsigned *>(queries + at * kDim) + lane % 4;
#pragma unroll
      for (int k = 0; k < kDim / 16; ++k) {
        query[k][h] = from[k * 8];
        query[k][2 + h] = from[k * 8 + 4];
      }
    }

    float output[kDim / 2];
    float best[2] = {minus_infinity(), minus_infinity()}, sum[2] = {0, 0}, fade[2];
    unsigned weights[kKeys / 16][4];
    float scores[kKeys / 2];

    const auto multiply_keys = [&](int at) {
      const unsigned keys = ring + at * Tile::kStageBytes;
#pragma unroll
      for (int k = 0; k < kDim / 16; ++k)
        wgmma<kKeys, false>(scores, query[k], matrix_descriptor(keys + k / 4 * Tile::kHalfBytes + k % 4 * 32), k > 0);
      warpgroup_commit();
    };
    const auto multiply_values = [&](int at, bool accumulate) {
      const unsigned values = ring + at * Tile::kStageBytes + Tile::kPageBytes;
#pragma unroll
      for (int k = 0; k < kKeys / 16; ++k)
        wgmma<kDim, true>(output, weights[k], transposed_descriptor(values + k * 16 * 128, Tile::kHalfBytes),
                          accumulate || k > 0);
      warpgroup_commit();
    };
    // Scores of walk step n to weights, their sums and what earlier results fade by.
    const auto soften = [&](int n) {
      int query_block = 0;
      if constexpr (Config::kSparse) {
        int number = n;
        query_block = walk.query_block(number);
      }
      const int key0 = walk.block(n) * kKeys;
      bool masked = key0 + kKeys - 1 > group_first;
      if constexpr (Config::kWindow > 0)
        masked |= key0 <= group_last - Config::kWindow;
      if constexpr (Config::kSparse)
        masked |= walk.low != walk.high;
      if constexpr (Logit::kCapped) {
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i)
          scores[i] = Logit::shape(scores[i]);
      }
      if (masked) {
        const int key = key0 + static_cast<int>(lane % 4) * 2;
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i)
          if (!sees<Config>(position[i / 2 % 2], key + i / 4 * 8 + i % 2, query_block))
            scores[i] = minus_infinity();
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float top = minus_infinity();
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j)
          top = fmaxf(top, fmaxf(scores[4 * j + 2 * h], scores[4 * j + 2 * h + 1]));
        top = fmaxf(best[h], quad_max(top));
        // A row whose window starts in a later step, or whose own walk does, has seen nothing yet.
        const float base = top == minus_infinity() ? 0.0f : top;
        // Exactly 1 where the maximum stays: what a row gets must not depend on steps in which it sees nothing.
        fade[h] = exp2_fast((best[h] - base) * Logit::kFactor);
        best[h] = top;
        float added = 0;
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            float &score = scores[4 * j + 2 * h + i];
            score = exp2_fast(fmaf(score, Logit::kFactor, -base * Logit::kFactor));
            added += score;
          }
        sum[h] = sum[h] * fade[h] + added;
      }
    };
    const auto pack_weights = [&] {
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
        weights[j / 2][j % 2 * 2] = pack_bf16(scores[4 * j], scores[4 * j + 1]);
        weights[j / 2][j % 2 * 2 + 1] = pack_bf16(scores[4 * j + 2], scores[4 * j + 3]);
      }
    };

    int previous = stage;
    barrier_wait(full + stage * 8, parity);
    warpgroup_arrive();
    multiply_keys(stage);
    advance();
    warpgroup_wait<0>();
    soften(0);
    pack_weights();
    for (int n = 1; n < count; ++n) {
      barrier_wait(full + stage * 8, parity);
      warpgroup_arrive();
      multiply_keys(stage);
      multiply_values(previous, n > 1);
      warpgroup_wait<1>();
      soften(n);
      warpgroup_wait<0>();
      if (lane == 0)
        barrier_arrive(empty + previous * 8);
      previous = stage;
      advance();
      if (__any_sync(kAllLanes, fade[0] != 1.0f || fade[1] != 1.0f)) {
#pragma unroll
        for (int i = 0; i < kDim / 2; ++i)
          output[i] *= fade[i / 2 % 2];
      }
      pack_weights();
    }
    warpgroup_arrive();
    multiply_values(previous, count > 1);
    warpgroup_wait<0>();
    if (lane == 0)
      barrier_arrive(empty + previous * 8);

    // Results pass through shared memory, each warp's 16 rows by themselves, so that they leave in whole 16-byte chunks.
    using Swizzled = Swizzle<kChunks>;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = own_row + 8 * h;
      float total = quad_sum(sum[h]), scale = 1;
      if constexpr (Config::kSinks) {
        const float highest = best[h] * Logit::kFactor;
        const float sink = sinks[first_head + row % kGroup] * kLog2E;
        const float top = fmaxf(highest, sink);
        scale = exp2_fast(highest - top);
        total = total * scale + exp2_fast(sink - top);
      }
      scale /= total;
#pragma unroll
      for (int j = 0; j < kDim / 8; ++j)
        *reinterpret_cast<unsigned *>(out_tile + Swizzled::offset(row, j) + lane % 4 * 4) =
            pack_bf16(output[4 * j + 2 * h] * scale, output[4 * j + 2 * h + 1] * scale);
    }
    __syncwarp();
    for (int index = static_cast<int>(lane); index < 16 * kChunks; index += kWarpSize) {
      const int row = warp * 16 + index / kChunks, chunk = index % kChunks;
      if (row >= valid_rows)
        break;
      const long at = static_cast<long>(item.queries.first + row / kGroup) * Config::kHeads + first_head + row % kGroup;
      store16(out + at * kDim + chunk * 8, load16(out_tile + Swizzled::offset(row, chunk)));
    }
    __syncwarp();  // the rows are read before the next tile's are written
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

/// How a kernel that takes whichever of the two there is for its architecture is launched, and does: `tiles` tiles in turn
/// on wgmma, else a tile for each block. Source is raw.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
template <class Config>
struct PrefillLaunch {
  static constexpr int kThreads = WgmmaPrefillTile<Config>::kThreads, kMinBlocks = 1;
};
template <class Config, class Source>
MILI_DEVICE void attention_prefill_on_either(const Batch *batch, const Source &source, const bf16 *pool,
                                             const float *sinks, bf16 *out, int tiles) {
  attention_prefill_wgmma<Config>(batch, source.raw, pool, sinks, out, tiles, blockIdx.x, gridDim.x);
}
#else
template <class Config>
using PrefillLaunch = PrefillTile<Config>;
template <class Config, class Source>
MILI_DEVICE void attention_prefill_on_either(const Batch *batch, const Source &source, const bf16 *pool,
                                             const float *sinks, bf16 *out, int) {
  attention_prefill<Config>(batch, source, pool, sinks, out, blockIdx.x);
}
#endif

}  // namespace mili

#endif  // MILI_DEVICE_ATTENTION_PREFILL_WGMMA_CUH
