// Attention of few query tokens per sequence over paged keys and values: bound by reading the cache once. A sequence's
// keys are split over blocks (split-KV, as in Flash-Decoding) and over a block's warps; each warp streams its own
// slices of 16 keys through a ring in shared memory without meeting the others, which keeps many loads under way and
// needs no barrier. Partial results meet in shared memory, then, where a query tile has several splits, in global
// memory: the last block to arrive adds them up in the splits' order, so that results do not depend on timing.

#ifndef MILI_DEVICE_ATTENTION_DECODE_CUH
#define MILI_DEVICE_ATTENTION_DECODE_CUH

#include "mili/device/attention_common.cuh"

namespace mili {

/// Tile sizes, launch shape and global scratch of attention_decode for a Config, which has besides the constants of
/// attention_common.cuh:
///
///   static constexpr int kSplits;     // most splits of a sequence
///   static constexpr int kFewSplits;  // most splits while a split has at most kShortKeys keys; at most kSplits
///
/// A split has a whole number of the blocks of the walk that the tile reads: as few as kFewSplits, or else kSplits, allow.
/// So a short context is split as far as a long one, and how depends on the sequence alone.
template <class Config>
struct DecodeTile {
  static constexpr int kDim = Config::kHeadDim;
  static_assert(kDim % 16 == 0 && kDim <= 256, "head_dim is a multiple of 16, at most 256");
  static_assert(Config::kHeads % Config::kKvHeads == 0, "query heads share KV heads evenly");
  static_assert(Config::kFewSplits >= 1 && Config::kSplits >= Config::kFewSplits, "a sequence has a split");
  /// Keys up to which a split is not worth another block beside it on a multiprocessor.
  static constexpr int kShortKeys = 256;
  static constexpr int kGroup = Config::kHeads / Config::kKvHeads;
  /// Rows of a tile: one mma row tile.
  static constexpr int kRows = 16;
  static constexpr int kTileTokens = kGroup < kRows ? kRows / kGroup : 1;
  /// Heads of a token in a tile; groups of more than 16 heads take several passes over the keys.
  static constexpr int kRowHeads = kGroup < kRows ? kGroup : kRows;
  static constexpr int kRowBlocks = ceil_div(kGroup, kRows);
  /// Wide heads keep their queries in shared memory, beside the rings, instead of in registers.
  static constexpr bool kQueryInRegisters = kDim <= 96;
  static constexpr int kWarps = kDim <= 128 ? 4 : 3;
  static constexpr int kThreads = kWarps * kWarpSize;
  /// Keys of a slice; a ring slot holds the keys or the values of one.
  static constexpr int kSliceKeys = 16;
  static constexpr int kSlotBytes = kSliceKeys * kDim * 2;
  /// Slots of a warp's ring, of which all but one are under way: about 16 KB; three of the wide heads' larger slots, so that
  /// four blocks share a multiprocessor and 64 sequences of 8 KV heads are one wave of an H100.
  static constexpr int kSlots = kDim <= 96 ? min_of(max_of(16384 / kSlotBytes, 3), 8) : 3;
  static constexpr int kRingBytes = kSlots * kSlotBytes;
  /// Dynamic shared memory.
  static constexpr int kSharedBytes = kWarps * kRingBytes + (kQueryInRegisters ? 0 : kSlotBytes);
  static_assert(kSharedBytes <= 98 * 1024, "fits every sm_80-class part");
  /// For __launch_bounds__: the registers leave room for this many blocks.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  static constexpr int kMinBlocks = kDim <= 96 ? 3 : kDim <= 128 ? (Config::kSplits == 1 && Config::kWindow == 0 ? 4 : 3) : 2;
#else
  static constexpr int kMinBlocks = kDim <= 96 ? 3 : 2;
#endif
  /// f32 of one split's partial result: accumulators [kRows][kDim], then maxima [kRows], then sums [kRows].
  static constexpr int kPartialFloats = kRows * (kDim + 2);

  /// Most query tiles of a step of `tokens` tokens in `sequences` sequences.
  static MILI_CONSTEXPR long query_tile_bound(long tokens, long sequences) {
    return tokens < tokens / kTileTokens + sequences ? tokens : tokens / kTileTokens + sequences;
  }
  /// Tiles to launch for that many query tiles.
  static MILI_CONSTEXPR long tiles(long query_tiles) { return query_tiles * Config::kKvHeads * Config::kSplits; }
  /// f32 elements of `partials`; their content does not matter.
  static MILI_CONSTEXPR long partial_floats(long query_tiles) {
    return Config::kSplits == 1 ? 0 : tiles(query_tiles) * kRowBlocks * kPartialFloats;
  }
  /// Elements of `counters`, zero before the first launch; every launch leaves them zero.
  static MILI_CONSTEXPR long counter_count(long query_tiles) {
    return Config::kSplits == 1 ? 0 : query_tiles * Config::kKvHeads * kRowBlocks;
  }
};

/// Writes the keys and values of those of the step's tokens of one sequence that lie in [begin, end) of the walk to their
/// pages, one warp a token. Blocks of other query tiles of the sequence may write the same bytes to the same places at the same time.
template <class Config, int kWarps, class Source>
MILI_DEVICE void append_keys_values(const Batch *batch, const Source &source, bf16 *pool, const int32_t *pages,
                                    int sequence, int kv_head, const KeyWalk<Config> &walk, int begin, int end,
                                    float *scratch) {
  constexpr int kDim = Config::kHeadDim;
  const int lane = threadIdx.x % kWarpSize;
  const int last = batch->q_start[sequence + 1];
  for (int token = batch->q_start[sequence] + threadIdx.x / kWarpSize; token < last; token += kWarps) {
    const int position = batch->positions[token];
    if (!walk.reads(position, begin, end))
      continue;
    bf16 *to = pool + pages[position / kPageTokens] * kv_page_elements<Config>() +
               (static_cast<long>(kv_head) * kPageTokens + position % kPageTokens) * kDim;
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      if (part == 0)
        source.key(scratch, token, kv_head, lane);
      else
        source.value(scratch, token, kv_head, lane);
      __syncwarp();
      for (int chunk = lane; chunk < kDim / 8; chunk += kWarpSize)
        store16(to + chunk * 8, pack8(scratch + chunk * 8));
      __syncwarp();
      to += static_cast<long>(Config::kKvHeads) * kPageTokens * kDim;
    }
  }
}

/// Writes four normalized results; row is a row of the tile.
template <class Config>
MILI_DEVICE void store_decode_output(bf16 *out, int first_token, int first_head, int row, int column,
                                     const float (&values)[4], float scale) {
  constexpr int kRowHeads = DecodeTile<Config>::kRowHeads;
  const long at = static_cast<long>(first_token + row / kRowHeads) * Config::kHeads + first_head + row % kRowHeads;
  uint2 packed;
  packed.x = pack_bf16(values[0] * scale, values[1] * scale);
  packed.y = pack_bf16(values[2] * scale, values[3] * scale);
  *reinterpret_cast<uint2 *>(out + at * Config::kHeadDim + column) = packed;
}

/// What a row's results are multiplied by: 1 / its denominator. `top` is the row's largest exponent (base 2), `sum` the
/// sum of its weights relative to that.
template <class Config>
MILI_DEVICE float decode_scale(const float *sinks, int first_head, int row, float top, float sum) {
  if constexpr (Config::kSinks) {
    const float sink = sinks[first_head + row % DecodeTile<Config>::kRowHeads] * kLog2E;
    const float higher = fmaxf(top, sink);
    const float fade = exp2_fast(top - higher);
    return fade / (sum * fade + exp2_fast(sink - higher));
  }
  return 1.0f / sum;
}

/// out [T][kHeads * kHeadDim] bf16 = softmax(q k' * scale) v for the query tile `tile / (kKvHeads * kSplits)` (numbered
/// as find_query_tile does), the KV head `tile / kSplits % kKvHeads` and the split `tile % kSplits`; tiles and splits
/// that do not exist return at once. With Source::kAppends the step's keys and values are written to the pages first.
/// `sinks` [kHeads] f32 is read if Config::kSinks; `partials` and `counters` (DecodeTile's sizes) are used if kSplits
/// > 1. Called by a whole block of DecodeTile<Config>::kThreads threads with kSharedBytes of dynamic shared memory.
template <class Config, class Source>
MILI_DEVICE void attention_decode(const Batch *batch, const Source &source, bf16 *pool, const float *sinks, bf16 *out,
                                  float *partials, unsigned *counters, long tile) {
  using Tile = DecodeTile<Config>;
  using Logit = Logits<Config>;
  constexpr int kDim = Config::kHeadDim;
  constexpr int kChunks = kDim / 8;
  constexpr int kGroup = Tile::kGroup, kRowHeads = Tile::kRowHeads, kRows = Tile::kRows;
  constexpr int kWarps = Tile::kWarps, kSlots = Tile::kSlots, kSliceKeys = Tile::kSliceKeys;
  using Swizzled = Swizzle<kChunks>;

  start_dependents();
  const unsigned number = static_cast<unsigned>(tile);  // a grid's blocks fit 31 bits
  const int split = number % Config::kSplits;
  const int kv_head = number / Config::kSplits % Config::kKvHeads;
  const unsigned query_tile = number / (Config::kSplits * Config::kKvHeads);
  const QueryTile queries = find_query_tile<Tile::kTileTokens>(batch, query_tile);
  if (queries.tokens == 0) {
    await_previous();
    return;
  }
  const int32_t *positions = batch->positions + queries.first;
  const int first_position = positions[0], last_position = positions[queries.tokens - 1];
  // Keys are counted along the walk; its first block may begin before the window.
  const KeyWalk<Config> walk(first_position, last_position);
  const int first_key = Config::kWindow > 0 ? max(0, first_position - Config::kWindow + 1) % kPageTokens : 0;
  const int key_end = (walk.count() - 1) * kPageTokens + last_position % kPageTokens + 1;
  int chunk = key_end;
  if constexpr (Config::kSplits > 1) {
    chunk = ceil_div(walk.count(), Config::kFewSplits) * kPageTokens;
    if (chunk > Tile::kShortKeys)
      chunk = ceil_div(walk.count(), Config::kSplits) * kPageTokens;
  }
  const int last_split = Config::kSplits > 1 ? (key_end - 1) / chunk : 0;
  if (split > last_split) {
    await_previous();
    return;
  }
  // In shared memory, since it is needed at the end alone and registers are few.
  __shared__ int split_count;
  if (threadIdx.x == 0)
    split_count = last_split + 1;

  // This block's keys [begin, end), and its warp's slices of 16: first_slice, first_slice + kWarps, ...
  const int begin = split == 0 ? first_key : split * chunk;
  const int end = split == last_split ? key_end : (split + 1) * chunk;
  const unsigned thread = threadIdx.x, lane = thread % kWarpSize;
  const int warp = static_cast<int>(thread / kWarpSize);
  const int32_t *pages = pages_of(batch, Config::kPageTable, queries.sequence);
  const int first_slice = begin / kSliceKeys + warp;
  const int slices = max(0, ((end + kSliceKeys - 1) / kSliceKeys - first_slice + kWarps - 1) / kWarps);

  unsigned char *const shared = mili_shared_memory;
  unsigned char *const ring = shared + warp * Tile::kRingBytes;
  const unsigned ring_address = shared_address(ring);
  // While the first loads are under way the last slots are still free: queries that move on to registers are put into
  // the last warp's, computed ones out of f32 rows in warp 0's.
  unsigned char *const query_rows = shared + Tile::kSharedBytes - Tile::kSlotBytes;
  float *const scratch = reinterpret_cast<float *>(shared + Tile::kRingBytes - Tile::kSlotBytes) + warp * kDim;

  const bf16 *pool_head = pool + static_cast<long>(kv_head) * kPageTokens * kDim;
  __shared__ unsigned arrival;
  // The position of a slice's first key.
  const auto key_of = [&](int slice) {
    return walk.block(slice * kSliceKeys / kPageTokens) * kPageTokens + slice * kSliceKeys % kPageTokens;
  };

  // Item n of a warp is the keys (n even) or values (n odd) of its slice n / 2, copied to slot n % kSlots.
  int page = slices > 0 ? pages[walk.block(first_slice * kSliceKeys / kPageTokens)] : 0;
  const auto copy_item = [&](int item, int slot) {
    const int slice = first_slice + item / 2 * kWarps;
    if (item < 2 * slices) {
      const bf16 *from = pool_head + page * kv_page_elements<Config>() + (slice * kSliceKeys % kPageTokens) * kDim +
                         (item % 2) * (static_cast<long>(Config::kKvHeads) * kPageTokens * kDim) + lane * 8;
      const unsigned to = ring_address + slot * Tile::kSlotBytes;
      // Zeros past the last visible key: a page's unwritten part may hold NaN, which a weight of 0 does not silence.
      const int valid = end - slice * kSliceKeys;
      // Likewise before the window: other blocks may be about to append there.
      const int hidden = Config::kWindow > 0 ? begin - slice * kSliceKeys : 0;
#pragma unroll
      for (int i = 0; i < kSliceKeys * kChunks / kWarpSize; ++i) {
        const unsigned index = i * kWarpSize + lane;
        const int row = index / kChunks;
        copy_async16(to + Swizzled::offset(row, index % kChunks), from + i * kWarpSize * 8, row >= hidden && row < valid);
      }
      // The next slice's page number, early enough to be there when its keys' addresses need it.
      if (item % 2 == 1)
        page = pages[walk.block(min(slice + kWarps, (end - 1) / kSliceKeys) * kSliceKeys / kPageTokens)];
    }
    copy_async_commit();
  };
  const auto copy_first_items = [&] {
#pragma unroll
    for (int item = 0; item < kSlots - 1; ++item)
      copy_item(item, item);
  };

  // Keys and values of earlier steps do not depend on the kernel before this one.
  const int early_slice = min(first_slice + (kSlots / 2 - 1) * kWarps, (end - 1) / kSliceKeys);
  const bool early = Source::kAppends && !source_is_raw<Source>(0) && Tile::kRowBlocks == 1 &&
                     (!Config::kSparse || walk.low == walk.high) &&
                     key_of(early_slice) + kSliceKeys <= batch->positions[batch->q_start[queries.sequence]];
  if constexpr (source_is_raw<Source>(0)) {
    await_previous();
    if constexpr (Source::kAppends) {
      append_keys_values<Config, kWarps>(batch, source, pool, pages, queries.sequence, kv_head, walk, begin, end, scratch);
      __syncthreads();
    }
  } else {
    // Written once, since registers are few: the copies come before the wait or after the append.
#pragma unroll 1
    for (int after = 0; after < 2; ++after) {
      if (early == (after == 0))
        copy_first_items();
      if (after == 0) {
        await_previous();
        if constexpr (Source::kAppends) {
          append_keys_values<Config, kWarps>(batch, source, pool, pages, queries.sequence, kv_head, walk, begin, end, scratch);
          __syncthreads();
        }
      }
    }
  }

  for (int row_block = 0; row_block < Tile::kRowBlocks; ++row_block) {
    const int first_head = kv_head * kGroup + row_block * kRowHeads;
    const int valid_rows = Tile::kRowBlocks == 1 ? queries.tokens * kGroup : min(kRows, kGroup - row_block * kRows);

    if (row_block > 0)
      page = slices > 0 ? pages[walk.block(first_slice * kSliceKeys / kPageTokens)] : 0;
    if constexpr (source_is_raw<Source>(0)) {
      load_query_rows<Config, kRows, kRowHeads, Tile::kThreads>(source, queries.first, first_head, valid_rows,
                                                                query_rows, scratch);
      copy_async_commit();
    }
    if (source_is_raw<Source>(0) || row_block > 0)
      copy_first_items();
    if constexpr (source_is_raw<Source>(0))
      copy_async_wait<kSlots - 1>();
    else
      load_query_rows<Config, kRows, kRowHeads, Tile::kThreads>(source, queries.first, first_head, valid_rows,
                                                                query_rows, scratch);
    __syncthreads();

    const unsigned low_row = lane % 16, low_chunk = lane / 16;
    const unsigned key_row = lane / 16 * 8 + lane % 8, key_chunk = lane / 8 % 2;
    unsigned low_pattern = Swizzled::pattern(low_row), key_pattern = Swizzled::pattern(key_row);
    const auto load_query = [&](unsigned (&a)[4], int k) {
      load_matrix_x4(a, shared_address(query_rows) + low_row * kChunks * 16 + ((2 * k + low_chunk) ^ low_pattern) * 16);
    };
    unsigned query[Tile::kQueryInRegisters ? kDim / 16 : 1][4];
    if constexpr (Tile::kQueryInRegisters) {
#pragma unroll
      for (int k = 0; k < kDim / 16; ++k)
        load_query(query[k], k);
    }
    const int row_position[2] = {positions[min(static_cast<int>(lane / 4) / kRowHeads, queries.tokens - 1)],
                                 positions[min(static_cast<int>(lane / 4 + 8) / kRowHeads, queries.tokens - 1)]};
    __syncthreads();

    float output[kDim / 8][4] = {};
    float row_max[2] = {minus_infinity(), minus_infinity()};
    float row_sum[2] = {0, 0};
    // The slot of the next item to use; the one before it is free.
    int slot = 0;
    const auto advance = [&](int item) {
      copy_async_wait<kSlots - 2>();
      __syncwarp();  // the item is in for all lanes, and none reads the slot before it any more
      copy_item(item + kSlots - 1, slot == 0 ? kSlots - 1 : slot - 1);
      const unsigned at = ring_address + slot * Tile::kSlotBytes;
      slot = slot == kSlots - 1 ? 0 : slot + 1;
      return at;
    };

    for (int i = 0; i < slices; ++i) {
      // Keeps the swizzled columns, one exclusive-or each, from being held in registers across slices.
      forget_values(low_pattern, key_pattern);
      const int key0 = key_of(first_slice + i * kWarps);
      const unsigned keys = advance(2 * i) + key_row * kChunks * 16;
      float scores[2][4] = {};
#pragma unroll
      for (int k = 0; k < kDim / 16; ++k) {
        unsigned b[4];
        load_matrix_x4(b, keys + ((2 * k + key_chunk) ^ key_pattern) * 16);
        if constexpr (!Tile::kQueryInRegisters)
          load_query(query[0], k);
        const auto &a = query[Tile::kQueryInRegisters ? k : 0];
        mma_m16n8k16(scores[0], a, b[0], b[1]);
        mma_m16n8k16(scores[1], a, b[2], b[3]);
      }
      if constexpr (Logit::kCapped) {
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int j = 0; j < 4; ++j)
            scores[n][j] = Logit::shape(scores[n][j]);
      }
      bool masked = key0 + kSliceKeys - 1 > first_position;
      if constexpr (Config::kWindow > 0)
        masked |= key0 <= last_position - Config::kWindow;
      int query_block = 0;
      if constexpr (Config::kSparse) {
        int number = (first_slice + i * kWarps) * kSliceKeys / kPageTokens;
        query_block = walk.query_block(number);
        masked |= walk.low != walk.high;
      }
      if (masked) {
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int j = 0; j < 4; ++j)
            if (!sees<Config>(row_position[j / 2], key0 + n * 8 + static_cast<int>(lane % 4) * 2 + j % 2,
                              query_block))
              scores[n][j] = minus_infinity();
      }
      float offset[2], fade[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float best =
            fmaxf(fmaxf(scores[0][2 * h], scores[0][2 * h + 1]), fmaxf(scores[1][2 * h], scores[1][2 * h + 1]));
        best = fmaxf(row_max[h], quad_max(best));
        // A row may see none of the keys so far: those of its tile's later tokens, or before its window.
        offset[h] = best == minus_infinity() ? 0.0f : best * Logit::kFactor;
        fade[h] = exp2_fast((row_max[h] - (best == minus_infinity() ? 0.0f : best)) * Logit::kFactor);
        row_max[h] = best;
        row_sum[h] *= fade[h];
      }
      if (__any_sync(kAllLanes, fade[0] != 1.0f || fade[1] != 1.0f)) {
#pragma unroll
        for (int n = 0; n < kDim / 8; ++n)
#pragma unroll
          for (int j = 0; j < 4; ++j)
            output[n][j] *= fade[j / 2];
      }
      unsigned weights[4];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        float p[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          p[j] = exp2_fast(fmaf(scores[n][j], Logit::kFactor, -offset[j / 2]));
          row_sum[j / 2] += p[j];
        }
        weights[2 * n] = pack_bf16(p[0], p[1]);
        weights[2 * n + 1] = pack_bf16(p[2], p[3]);
      }

      const unsigned values = advance(2 * i + 1) + low_row * kChunks * 16;
#pragma unroll
      for (int n = 0; n < kDim / 16; ++n) {
        unsigned b[4];
        load_matrix_x4_trans(b, values + ((2 * n + low_chunk) ^ low_pattern) * 16);
        mma_m16n8k16(output[2 * n], weights, b[0], b[1]);
        mma_m16n8k16(output[2 * n + 1], weights, b[2], b[3]);
      }
    }

    // The warps' results meet in shared memory, each in its own ring: accumulators (rows padded against bank
    // conflicts), then the rows' maxima (exponents of base 2) and sums.
    constexpr int kPitch = kDim + 8;
    static_assert((kRows * kPitch + 2 * kRows) * 4 <= Tile::kRingBytes, "a warp's result fits its ring");
    copy_async_wait<0>();
    __syncwarp();
    float *const own = reinterpret_cast<float *>(ring);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = static_cast<int>(lane / 4) + 8 * h;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n)
        *reinterpret_cast<float2 *>(own + row * kPitch + n * 8 + lane % 4 * 2) =
            make_float2(output[n][2 * h], output[n][2 * h + 1]);
      const float sum = quad_sum(row_sum[h]);
      if (lane % 4 == 0) {
        own[kRows * kPitch + row] = row_max[h] * Logit::kFactor;
        own[kRows * kPitch + kRows + row] = sum;
      }
    }
    __syncthreads();

    const int active_splits = split_count;
    const long unit = (static_cast<long>(query_tile) * Config::kKvHeads + kv_head) * Tile::kRowBlocks + row_block;
    float *const unit_partials = partials + unit * Config::kSplits * Tile::kPartialFloats;
    for (int index = thread; index < valid_rows * (kDim / 4); index += Tile::kThreads) {
      const int row = index / (kDim / 4), column = index % (kDim / 4) * 4;
      float top = minus_infinity();
#pragma unroll
      for (int w = 0; w < kWarps; ++w)
        top = fmaxf(top, reinterpret_cast<float *>(shared + w * Tile::kRingBytes)[kRows * kPitch + row]);
      const float base = top == minus_infinity() ? 0.0f : top;
      float total[4] = {};
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const float *other = reinterpret_cast<float *>(shared + w * Tile::kRingBytes);
        const float fade = exp2_fast(other[kRows * kPitch + row] - base);
        const float4 part = *reinterpret_cast<const float4 *>(other + row * kPitch + column);
        sum += fade * other[kRows * kPitch + kRows + row];
        total[0] += fade * part.x;
        total[1] += fade * part.y;
        total[2] += fade * part.z;
        total[3] += fade * part.w;
      }
      if (Config::kSplits == 1 || active_splits == 1) {
        store_decode_output<Config>(out, queries.first, first_head, row, column, total,
                                    decode_scale<Config>(sinks, first_head, row, top, sum));
      } else {
        float *to = unit_partials + static_cast<long>(split) * Tile::kPartialFloats;
        *reinterpret_cast<float4 *>(to + row * kDim + column) = make_float4(total[0], total[1], total[2], total[3]);
        if (column == 0) {
          to[kRows * kDim + row] = top;
          to[kRows * kDim + kRows + row] = sum;
        }
      }
    }

    if (Config::kSplits > 1 && active_splits > 1) {
      __threadfence();
      __syncthreads();  // every thread's partial results are visible before the block counts as arrived
      if (thread == 0)
        arrival = atomicInc(counters + unit, active_splits - 1);  // the last one sets the counter back to 0
      __syncthreads();
      if (arrival == static_cast<unsigned>(active_splits - 1)) {
        __threadfence();
        const float *from = unit_partials;
        // Reads of 8 splits at a time are under way together; the splits past the last one repeat it with weight 0.
        constexpr int kBatch = 8;
        for (int index = thread; index < valid_rows * (kDim / 4); index += Tile::kThreads) {
          const int row = index / (kDim / 4), column = index % (kDim / 4) * 4;
          float top = minus_infinity();
          for (int i = 0; i < active_splits; i += kBatch) {
            float maxima[kBatch];
#pragma unroll
            for (int j = 0; j < kBatch; ++j)
              maxima[j] = load_l2(from + static_cast<long>(min(i + j, active_splits - 1)) * Tile::kPartialFloats +
                                  kRows * kDim + row);
#pragma unroll
            for (int j = 0; j < kBatch; ++j)
              top = fmaxf(top, maxima[j]);
          }
          float total[4] = {};
          float sum = 0;
          for (int i = 0; i < active_splits; i += kBatch) {
            float maxima[kBatch], sums[kBatch];
            Vector16 parts[kBatch];
#pragma unroll
            for (int j = 0; j < kBatch; ++j) {
              const float *part = from + static_cast<long>(min(i + j, active_splits - 1)) * Tile::kPartialFloats;
              maxima[j] = load_l2(part + kRows * kDim + row);
              sums[j] = load_l2(part + kRows * kDim + kRows + row);
              parts[j] = load16_l2(part + row * kDim + column);
            }
#pragma unroll
            for (int j = 0; j < kBatch; ++j) {
              const float fade = i + j < active_splits ? exp2_fast(maxima[j] - top) : 0.0f;
              sum += fade * sums[j];
#pragma unroll
              for (int v = 0; v < 4; ++v)
                total[v] += fade * __uint_as_float(parts[j].words[v]);
            }
          }
          store_decode_output<Config>(out, queries.first, first_head, row, column, total,
                                      decode_scale<Config>(sinks, first_head, row, top, sum));
        }
      }
    }
    if (Tile::kRowBlocks > 1)
      __syncthreads();  // the next pass overwrites the rings
  }
}

}  // namespace mili

#endif  // MILI_DEVICE_ATTENTION_DECODE_CUH
