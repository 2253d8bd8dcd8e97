// Attention of many query tokens over paged keys and values on wgmma (sm_90a): FlashAttention-3 (Shah et al. 2024, arXiv
// 2407.08608) over pages. One warpgroup copies queries, keys and values into shared memory; two others keep 64 query rows
// each. A warpgroup overlaps the product of queries and keys of one pair of pages with that of weights and values of the
// pair before it, and the two take turns, so that one multiplies while the other softens its scores. Blocks take tiles in
// turn; the copies of a tile, its queries among them, begin while the one before it is computed.

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
  /// Keys of a step: two pages.
  static constexpr int kKeys = 2 * kPageTokens;
  /// Queries, keys and values lie in shared memory as 128 rows of 64 columns, once or twice.
  static constexpr int kHalfBytes = 128 * 128;
  static constexpr int kSlotBytes = kDim / 64 * kHalfBytes;
  /// A step takes a slot for its keys and one for its values.
  static constexpr int kSlots = kDim == 128 ? 4 : 8;
  /// What a tile is, for those who compute it; see WgmmaPrefillFacts.
  static constexpr int kFactBytes = (8 + kRows) * 4;
  /// Dynamic shared memory: the ring; the queries of two tiles, whose place the results take on their way out; facts;
  /// barriers.
  static constexpr int kSharedBytes = (kSlots + 2) * kSlotBytes + 2 * kFactBytes + (2 * kSlots + 4) * 8;
  static_assert(kSharedBytes <= 227 * 1024, "fits a multiprocessor");

  /// Most query tiles of a step of `tokens` tokens in `sequences` sequences.
  static MILI_CONSTEXPR long query_tile_bound(long tokens, long sequences) {
    return tokens < tokens / kTileTokens + sequences ? tokens : tokens / kTileTokens + sequences;
  }
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// The blocks of a KeyWalk by twos. Pairs begin at even blocks, or at each query block's first of a sparse walk, whichever
/// tile reads them: what a row gets does not depend on the tile that it is in.
template <class Config>
struct PairWalk {
  KeyWalk<Config> walk;

  MILI_MEMBER PairWalk(int first_position, int last_position) : walk(first_position, last_position) {}

  MILI_MEMBER int count() const {
    if constexpr (Config::kSparse) {
      int total = 0;
      for (int block = walk.low; block <= walk.high; ++block)
        total += (Config::pattern().count(block) + 1) / 2;
      return total;
    }
    return walk.high / 2 - walk.low / 2 + 1;
  }
  /// The block of queries that pair number `n` is read for, where the mask is sparse; makes `n` a number of that block's.
  MILI_MEMBER int query_block(int &n) const {
    int block = walk.low;
    for (int pairs; block < walk.high && n >= (pairs = (Config::pattern().count(block) + 1) / 2); ++block)
      n -= pairs;
    return block;
  }
  /// One of the two blocks of pair number `n`; -1 where the walk has none there.
  MILI_MEMBER int block(int n, int half) const {
    if constexpr (Config::kSparse) {
      const int queries = query_block(n), number = 2 * n + half;
      return number < Config::pattern().count(queries) ? Config::pattern().nth(queries, number) : -1;
    }
    const int block = (walk.low / 2 + n) * 2 + half;
    return block >= walk.low && block <= walk.high ? block : -1;
  }
};

/// A tile as the producer announces it, beside its queries; tokens 0: there is none left.
struct WgmmaPrefillFacts {
  int first, tokens, kv_head, first_position, last_position, unused[3];
  int positions[128];  // of each row's token; rows beyond the tile repeat its last one's
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
  constexpr int kDim = Config::kHeadDim, kGroup = Tile::kGroup, kKeys = Tile::kKeys, kSlots = Tile::kSlots;
  constexpr int kChunks = kDim / 8, kCopying = Tile::kThreads - Tile::kConsumers;
  static_assert(sizeof(WgmmaPrefillFacts) == Tile::kFactBytes);
  constexpr int kReleasedTo = 72, kClaimed = 216;  // of a thread's registers
  static_assert(registers_suffice(Tile::kThreads, Tile::kThreads - Tile::kConsumers, kReleasedTo, Tile::kConsumers, kClaimed));

  const unsigned ring = shared_address(mili_shared_memory);
  unsigned char *const query_tiles = mili_shared_memory + kSlots * Tile::kSlotBytes;
  WgmmaPrefillFacts *const facts = reinterpret_cast<WgmmaPrefillFacts *>(query_tiles + 2 * Tile::kSlotBytes);
  const unsigned full = shared_address(facts + 2), empty = full + kSlots * 8, finished = empty + kSlots * 8,
                 turn = finished + 2 * 8;
  start_dependents();
  if (threadIdx.x == 0) {
    for (int s = 0; s < kSlots; ++s) {
      barrier_init(full + s * 8, kCopying + kCopying / kWarpSize);  // threads whose copies are in, and their warps
      barrier_init(empty + s * 8, 8);                               // the warps that compute
    }
    for (int i = 0; i < 2; ++i) {
      barrier_init(finished + i * 8, 8);
      barrier_init(turn + i * 8, 4);  // the warps of the other warpgroup
    }
    barrier_init_fence();
  }
  __syncthreads();
  await_previous();

  const unsigned lane = threadIdx.x % kWarpSize;
  int slot = 0;
  unsigned parity = 0;
  const auto advance = [&] {
    if (++slot == kSlots) {
      slot = 0;
      parity ^= 1;
    }
  };
  // Where chunk `chunk` of row `row` lies in a slot or a tile of queries: 128-byte swizzle.
  const auto place = [](int row, int chunk) {
    return static_cast<unsigned>(chunk / 8 * Tile::kHalfBytes + row * 128 + ((chunk ^ row) & 7) * 16);
  };

  if (threadIdx.x >= Tile::kConsumers) {
    release_registers<kReleasedTo>();
    const int thread = static_cast<int>(threadIdx.x) - Tile::kConsumers;
    // The slot is full once the copies of all threads have arrived, and with it what a warp wrote before.
    const auto announce = [&] {
      copies_arrive(full + slot * 8);
      __syncwarp();
      if (lane == 0)
        barrier_arrive(full + slot * 8);
      advance();
    };
    int buffer = 0;
    unsigned buffer_parity = 1;  // fresh buffers are free
    for (int tile = first;; tile += step) {
      QueryTile query_tile = {0, 0, 0};
      if (tile < tiles)
        query_tile = find_query_tile<Tile::kTileTokens>(batch, tile / Config::kKvHeads);
      const int kv_head = tile % Config::kKvHeads;
      barrier_wait(finished + buffer * 8, buffer_parity);
      WgmmaPrefillFacts &own = facts[buffer];
      if (query_tile.tokens == 0) {
        barrier_wait(empty + slot * 8, parity ^ 1);
        if (thread == 0)
          own.tokens = 0;
        announce();
        break;
      }
      const int32_t *positions = batch->positions + query_tile.first;
      const int first_position = positions[0], last_position = positions[query_tile.tokens - 1];
      own.positions[thread] = positions[min(thread / kGroup, query_tile.tokens - 1)];
      if (thread == 0) {
        own.first = query_tile.first;
        own.tokens = query_tile.tokens;
        own.kv_head = kv_head;
        own.first_position = first_position;
        own.last_position = last_position;
      }
      const PairWalk<Config> walk(first_position, last_position);
      const int32_t *pages = pages_of(batch, Config::kPageTable, query_tile.sequence);
      const int count = walk.count();
      int block[2], page[2];
      const auto look_up = [&](int n) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          block[h] = walk.block(n, h);
          page[h] = block[h] < 0 ? 0 : pages[block[h]];
        }
      };
      look_up(0);
      // The queries come with the first keys.
      {
        const unsigned to = shared_address(query_tiles) + buffer * Tile::kSlotBytes;
        const bf16 *from = queries + (static_cast<long>(query_tile.first) * Config::kHeads + kv_head * kGroup) * kDim;
#pragma unroll 4
        for (int i = 0; i < kChunks; ++i) {
          const int index = i * 128 + thread, row = index / kChunks, chunk = index % kChunks;
          const bool valid = row < query_tile.tokens * kGroup;
          const int safe = valid ? row : 0;
          copy_async16(to + place(row, chunk),
                       from + (static_cast<long>(safe / kGroup) * Config::kHeads + safe % kGroup) * kDim + chunk * 8, valid);
        }
      }
      buffer ^= 1;
      buffer_parity ^= buffer == 0;
      for (int n = 0; n < count; ++n) {
#pragma unroll 1
        for (int part = 0; part < 2; ++part) {
          barrier_wait(empty + slot * 8, parity ^ 1);  // a fresh ring is empty
          const unsigned to = ring + slot * Tile::kSlotBytes;
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            // Rows past the last visible key become zeros: their weight is 0, but what an unwritten part of a page holds
            // may be a NaN, which a weight of 0 does not silence.
            const int valid = block[h] < 0 ? 0 : last_position + 1 - block[h] * kPageTokens;
            const bf16 *from = pool + page[h] * kv_page_elements<Config>() +
                               static_cast<long>(part * Config::kKvHeads + kv_head) * kPageTokens * kDim + thread * 8;
#pragma unroll
            for (int i = 0; i < kChunks / 2; ++i) {
              const int index = i * 128 + thread, row = index / kChunks, chunk = index % kChunks;
              copy_async16(to + place(h * kPageTokens + row, chunk), from + i * 128 * 8, row < valid);
            }
          }
          announce();
        }
        if (n + 1 < count)
          look_up(n + 1);
      }
    }
    copy_async_commit();
    copy_async_wait<0>();
    return;
  }

  claim_registers<kClaimed>();
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize, group = warp / 4;
  const int own_row = warp * 16 + static_cast<int>(lane) / 4;  // the first of this lane's two rows, 8 apart
  // The two warpgroups hand the tensor cores to each other: while one multiplies, the other softens its scores.
  unsigned turn_parity = group == 0 ? 1 : 0;
  const auto take_turn = [&] {
    barrier_wait(turn + group * 8, turn_parity);
    turn_parity ^= 1;
  };
  const auto give_turn = [&] {
    if (lane == 0)
      barrier_arrive(turn + (group ^ 1) * 8);
  };
  // Waits for the current slot, and lets wgmma see what was copied.
  const auto await_slot = [&] {
    barrier_wait(full + slot * 8, parity);
    shared_fence();
  };
  int buffer = 0;
  for (;; buffer ^= 1) {
    await_slot();
    const WgmmaPrefillFacts &own = facts[buffer];
    if (own.tokens == 0)
      break;
    const PairWalk<Config> walk(own.first_position, own.last_position);
    const int count = walk.count();
    const int position[2] = {own.positions[own_row], own.positions[own_row + 8]};
    // The positions of the warpgroup's rows lie between these.
    const int group_first = own.positions[group * 64], group_last = own.positions[group * 64 + 63];
    unsigned char *const query_tile = query_tiles + buffer * Tile::kSlotBytes;

    float output[kDim / 2];
    float best[2] = {minus_infinity(), minus_infinity()}, sum[2] = {0, 0}, fade[2];
    unsigned weights[kKeys / 16][4];
    float scores[kKeys / 2];

    const auto multiply_keys = [&](int at) {
      const unsigned keys = ring + at * Tile::kSlotBytes, rows = shared_address(query_tile) + group * 64 * 128;
#pragma unroll
      for (int k = 0; k < kDim / 16; ++k) {
        const unsigned column = k / 4 * Tile::kHalfBytes + k % 4 * 32;
        wgmma<kKeys>(scores, matrix_descriptor(rows + column), matrix_descriptor(keys + column), k > 0);
      }
      warpgroup_commit();
    };
    const auto multiply_values = [&](int at, bool accumulate) {
      const unsigned values = ring + at * Tile::kSlotBytes;
#pragma unroll
      for (int k = 0; k < kKeys / 16; ++k)
        wgmma<kDim, true>(output, weights[k], transposed_descriptor(values + k * 16 * 128, Tile::kHalfBytes),
                          accumulate || k > 0);
      warpgroup_commit();
    };
    const auto release = [&](int at) {
      if (lane == 0)
        barrier_arrive(empty + at * 8);
    };
    // Scores of pair n to weights, their sums and what earlier results fade by.
    const auto soften = [&](int n) {
      if constexpr (Logit::kCapped) {
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i)
          scores[i] = Logit::shape(scores[i]);
      }
      int query_block = 0;
      bool masked;
      if constexpr (Config::kSparse) {
        // Only a query block's last pair holds keys after some of its queries, or one block alone.
        int number = n;
        query_block = walk.query_block(number);
        masked = walk.walk.low != walk.walk.high || 2 * number + 2 >= Config::pattern().count(query_block);
      } else {
        const int key0 = (walk.walk.low / 2 + n) * kKeys;
        masked = key0 + kKeys - 1 > group_first;
        if constexpr (Config::kWindow > 0)
          masked |= key0 <= group_last - Config::kWindow;
      }
      if (masked) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          // Of a walk without gaps, blocks that it does not have are before the window or after the last query.
          const int block = Config::kSparse ? walk.block(n, half) : (walk.walk.low / 2 + n) * 2 + half;
          const int key = block * kPageTokens + static_cast<int>(lane % 4) * 2;
#pragma unroll
          for (int i = 0; i < kKeys / 4; ++i)
            if ((Config::kSparse && block < 0) || !sees<Config>(position[i / 2 % 2], key + i / 4 * 8 + i % 2, query_block))
              scores[half * (kKeys / 4) + i] = minus_infinity();
        }
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
        float added[2] = {};
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            float &score = scores[4 * j + 2 * h + i];
            score = exp2_fast(fmaf(score, Logit::kFactor, -base * Logit::kFactor));
            added[i] += score;
          }
        sum[h] = sum[h] * fade[h] + (added[0] + added[1]);
      }
    };
    const auto pack_weights = [&] {
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
        weights[j / 2][j % 2 * 2] = pack_bf16(scores[4 * j], scores[4 * j + 1]);
        weights[j / 2][j % 2 * 2 + 1] = pack_bf16(scores[4 * j + 2], scores[4 * j + 3]);
      }
    };

    // Keys and values alternate in the ring.
    take_turn();
    warpgroup_arrive();
    multiply_keys(slot);
    give_turn();
    int key_slot = slot;
    advance();
    warpgroup_wait<0>();
    release(key_slot);
    soften(0);
    pack_weights();
    for (int n = 1; n < count; ++n) {
      const int value_slot = slot;
      await_slot();
      advance();
      key_slot = slot;
      await_slot();
      advance();
      take_turn();
      warpgroup_arrive();
      multiply_keys(key_slot);
      multiply_values(value_slot, n > 1);
      give_turn();
      warpgroup_wait<1>();
      release(key_slot);
      soften(n);
      warpgroup_wait<0>();
      release(value_slot);
      if (__any_sync(kAllLanes, fade[0] != 1.0f || fade[1] != 1.0f)) {
#pragma unroll
        for (int i = 0; i < kDim / 2; ++i)
          output[i] *= fade[i / 2 % 2];
      }
      pack_weights();
    }
    await_slot();
    take_turn();
    warpgroup_arrive();
    multiply_values(slot, count > 1);
    give_turn();
    warpgroup_wait<0>();
    release(slot);
    advance();

    // Results pass through shared memory, each warp's 16 rows in the place of their queries, so that they leave in whole
    // 16-byte chunks.
    const int first_head = own.kv_head * kGroup, valid_rows = own.tokens * kGroup;
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
        *reinterpret_cast<unsigned *>(query_tile + place(row, j) + lane % 4 * 4) =
            pack_bf16(output[4 * j + 2 * h] * scale, output[4 * j + 2 * h + 1] * scale);
    }
    __syncwarp();
    for (int index = static_cast<int>(lane); index < 16 * kChunks; index += kWarpSize) {
      const int row = warp * 16 + index / kChunks, chunk = index % kChunks;
      if (row >= valid_rows)
        break;
      const long at = static_cast<long>(own.first + row / kGroup) * Config::kHeads + first_head + row % kGroup;
      store16(out + at * kDim + chunk * 8, load16(query_tile + place(row, chunk)));
    }
    __syncwarp();  // the queries of another tile come here
    if (lane == 0)
      barrier_arrive(finished + buffer * 8);
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
