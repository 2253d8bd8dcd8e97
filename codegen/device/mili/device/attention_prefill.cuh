// Attention of many query tokens over paged keys and values: FlashAttention-2 (Dao 2023, arXiv 2307.08691) on mma.sync.
// A block keeps a tile of queries and streams keys and values past it; the softmax is online, in registers, in base 2;
// probabilities go from the first product's accumulators to the second one's A operand without leaving the registers.

#ifndef MILI_DEVICE_ATTENTION_PREFILL_CUH
#define MILI_DEVICE_ATTENTION_PREFILL_CUH

#include "mili/device/attention_common.cuh"

namespace mili {

/// Tile sizes and launch shape of attention_prefill for a Config.
template <class Config>
struct PrefillTile {
  static constexpr int kDim = Config::kHeadDim;
  static_assert(kDim % 16 == 0 && kDim <= 256, "head_dim is a multiple of 16, at most 256");
  static_assert(Config::kHeads % Config::kKvHeads == 0, "query heads share KV heads evenly");
  static constexpr int kGroup = Config::kHeads / Config::kKvHeads;
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarpSize;
  /// 16-row mma tiles of a warp. Two make each fragment of K and V serve two products, which halves the reads of shared
  /// memory that otherwise bound the kernel; beyond 128 wide heads the accumulators of two do not fit the registers.
  static constexpr int kRowTiles = kDim <= 128 ? 2 : 1;
  static constexpr int kWarpRows = 16 * kRowTiles;
  static constexpr int kRows = kWarps * kWarpRows;
  static_assert(kGroup <= kRows, "a query token's heads fit one tile");
  /// Tokens of a query tile.
  static constexpr int kTileTokens = kRows / kGroup;
  /// Keys of a step: a page, or half of one for wide heads: with whole pages the scores and accumulators of two row
  /// tiles leave too few registers from 96 on, and two buffers of them pass 99 KB at 256.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  static constexpr int kKeys = kDim <= 128 ? kPageTokens : kPageTokens / 2;
#else  // where whole pages of 96 and wider spill
  static constexpr int kKeys = kDim <= 80 ? kPageTokens : kPageTokens / 2;
#endif
  static constexpr int kBufferBytes = kKeys * kDim * 2;
  static constexpr int kQueryBytes = kRows * kDim * 2;
  /// Dynamic shared memory: queries, two buffers of K and V each, each row's position, the query tile's
  /// first token, row count and first head, and each row's maximum, once for each of the four lanes that share a row.
  /// (All but the first are in shared memory because every register counts in the loop.)
  static constexpr int kSharedBytes = kQueryBytes + 4 * kBufferBytes + (5 * kRows + 4) * 4;
  static_assert(kSharedBytes <= 99 * 1024, "fits every sm_80-class part");
  /// For __launch_bounds__: the registers leave room for this many blocks.
  static constexpr int kMinBlocks = 2;

  /// Most query tiles of a step of `tokens` tokens in `sequences` sequences; the grid is this times kKvHeads.
  static MILI_CONSTEXPR long query_tile_bound(long tokens, long sequences) {
    return tokens < tokens / kTileTokens + sequences ? tokens : tokens / kTileTokens + sequences;
  }
};

/// out [T][kHeads * kHeadDim] bf16 = softmax(q k' * scale) v for the query tile `tile / kKvHeads` (numbered as
/// find_query_tile does; past the last one nothing happens) and the KV head `tile % kKvHeads`. The step's keys and
/// values are in the pages already. `sinks` [kHeads] f32 is read if Config::kSinks. Called by a whole block of
/// PrefillTile<Config>::kThreads threads with kSharedBytes of dynamic shared memory.
template <class Config, class Source>
MILI_DEVICE void attention_prefill(const Batch *batch, const Source &source, const bf16 *pool, const float *sinks,
                                   bf16 *out, long tile) {
  using Tile = PrefillTile<Config>;
  using Logit = Logits<Config>;
  static_assert(!Source::kAppends, "prefill reads keys and values from the pages");
  constexpr int kDim = Config::kHeadDim;
  constexpr int kChunks = kDim / 8;
  using Swizzled = Swizzle<kChunks>;
  constexpr int kGroup = Tile::kGroup;
  constexpr int kKeys = Tile::kKeys;
  constexpr int kRowTiles = Tile::kRowTiles;

  begin_kernel();
  const unsigned number = static_cast<unsigned>(tile);  // a grid's blocks fit 31 bits
  const int kv_head = number % Config::kKvHeads;
  const QueryTile queries = find_query_tile<Tile::kTileTokens>(batch, number / Config::kKvHeads);
  if (queries.tokens == 0)
    return;
  const unsigned thread = threadIdx.x, lane = thread % kWarpSize, warp = thread / kWarpSize;
  const int32_t *positions = batch->positions + queries.first;
  const int first_position = positions[0], last_position = positions[queries.tokens - 1];
  const int32_t *pages = pages_of(batch, Config::kPageTable, queries.sequence);

  // Key steps [begin, end): all that any row of the tile sees. Of a sparse mask, steps of the walk over its blocks.
  constexpr int kSteps = kPageTokens / kKeys;
  int begin = 0, end = last_position / kKeys + 1;
  if constexpr (Config::kWindow > 0)
    begin = max(0, first_position - Config::kWindow + 1) / kKeys;
  if constexpr (Config::kSparse)
    end = KeyWalk<Config>(first_position, last_position).count() * kSteps;

  unsigned char *query_tile = mili_shared_memory;
  unsigned char *buffers = mili_shared_memory + Tile::kQueryBytes;
  const unsigned query_address = shared_address(query_tile);
  const unsigned buffer_address = shared_address(buffers);

  const bf16 *pool_head = pool + static_cast<long>(kv_head) * kPageTokens * kDim;
  int *row_positions = reinterpret_cast<int *>(buffers + 4 * Tile::kBufferBytes);
  int *tile_facts = row_positions + Tile::kRows;
  // The step's place among all keys' steps.
  const auto key_step = [&](int step) {
    if constexpr (Config::kSparse)
      return KeyWalk<Config>(row_positions[0], row_positions[Tile::kRows - 1]).block(step / kSteps) * kSteps +
             step % kSteps;
    else
      return step;
  };
  const auto page_of = [&](int step) { return pages[key_step(step) * kKeys / kPageTokens]; };
  const auto copy_step = [&](int number, int page, int buffer, int last_position) {
    const int step = key_step(number);
    const unsigned thread = thread_index_again();
    const int copy_row = thread / kChunks;
    const unsigned copy_offset = Swizzled::offset(copy_row, thread % kChunks);
    const bf16 *keys = pool_head + thread * 8 + page * kv_page_elements<Config>() + (step * kKeys % kPageTokens) * kDim;
    const bf16 *values = keys + static_cast<long>(Config::kKvHeads) * kPageTokens * kDim;
    const unsigned to = buffer_address + buffer * 2 * Tile::kBufferBytes;
    // Rows past the last visible key become zeros: their weight is 0, but what an unwritten part of a page holds may be
    // a NaN, which a weight of 0 does not silence.
    const int valid = last_position + 1 - step * kKeys;
    constexpr int kCopies = ceil_div(kKeys * kChunks, Tile::kThreads);
    constexpr bool kSamePattern = Tile::kThreads % (8 * kChunks) == 0;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const unsigned index = i * Tile::kThreads + thread;
      if (kKeys * kChunks % Tile::kThreads != 0 && index >= kKeys * kChunks)
        break;
      // Where a round of the block's copies spans whole swizzle periods, one offset serves all rounds.
      const unsigned offset =
          kSamePattern ? copy_offset + i * Tile::kThreads * 16 : Swizzled::offset(index / kChunks, index % kChunks);
      const int row = kSamePattern ? copy_row + i * (Tile::kThreads / kChunks) : static_cast<int>(index / kChunks);
      copy_async16(to + offset, keys + i * Tile::kThreads * 8, row < valid);
      copy_async16(to + Tile::kBufferBytes + offset, values + i * Tile::kThreads * 8, row < valid);
    }
  };

  // A lane's maxima are those of its rows; the three other lanes that hold parts of them have the same values in places of
  // their own.
  float *maxima = reinterpret_cast<float *>(tile_facts + 4) + warp * Tile::kWarpRows * 4 + lane;
  for (int row = static_cast<int>(thread); row < Tile::kRows; row += Tile::kThreads)
    row_positions[row] = positions[min(row / kGroup, queries.tokens - 1)];
  if (thread == 0) {
    tile_facts[0] = queries.first;
    tile_facts[1] = queries.tokens * kGroup;
    tile_facts[2] = kv_head * kGroup;
    tile_facts[3] = queries.sequence;
  }
  if constexpr (Config::kSparse)
    __syncthreads();  // the walk reads row_positions

  copy_step(begin, page_of(begin), begin & 1, last_position);
  // Queries that must be computed pass through the other buffer, which is not loaded yet.
  load_query_rows<Config, Tile::kRows, kGroup, Tile::kThreads>(
      source, queries.first, kv_head * kGroup, queries.tokens * kGroup, query_tile,
      reinterpret_cast<float *>(buffers + (~begin & 1) * 2 * Tile::kBufferBytes) + warp * kDim);
  copy_async_commit();

  // Row tile m, half h of a lane is row 16 m + 8 h + lane / 4 of the warp.
  const int warp_row = static_cast<int>(warp) * Tile::kWarpRows;

  float output[kRowTiles][kDim / 8][4] = {};
  float row_sum[kRowTiles][2];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      maxima[(m * 16 + h * 8) * 4] = minus_infinity();
      row_sum[m][h] = 0;
    }

  int next_page = page_of(min(begin + 1, end - 1));
  // Even steps are in the first buffer, odd ones in the second.
#pragma unroll 1
  for (int step = begin; step < end; ++step) {
    const int buffer = step & 1;
    copy_async_wait<0>();
    __syncthreads();  // this step's keys and values are in for all; the other buffer is read by none
    if (step + 1 < end) {
      copy_step(step + 1, next_page, buffer ^ 1, row_positions[Tile::kRows - 1]);
      next_page = pages_of(batch, Config::kPageTable, tile_facts[3])[key_step(min(step + 2, end - 1)) * kKeys / kPageTokens];
    }
    copy_async_commit();

    const int key0 = key_step(step) * kKeys;
    const int warp_first = row_positions[warp_row], warp_last = row_positions[warp_row + Tile::kWarpRows - 1];
    bool skip = key0 > warp_last;
    bool masked = key0 + kKeys - 1 > warp_first;
    if constexpr (Config::kWindow > 0) {
      skip |= key0 + kKeys - 1 <= warp_first - Config::kWindow;
      masked |= key0 <= warp_last - Config::kWindow;
    }
    int query_block = 0;
    if constexpr (Config::kSparse) {
      int number = step / kSteps;
      query_block = KeyWalk<Config>(row_positions[0], row_positions[Tile::kRows - 1]).query_block(number);
      skip |= warp_last / kPageTokens < query_block || warp_first / kPageTokens > query_block;
      masked |= warp_first / kPageTokens != warp_last / kPageTokens;
    }
    if (skip)
      continue;

    // What a lane adds to an ldmatrix address: A operands and V take rows 0-15 from lanes 0-15 and the next 8 columns
    // from lanes 16-31; K takes 8 columns more from odd groups of 8 lanes and 8 rows more from the upper two.
    const unsigned lane = thread_index_again() % kWarpSize;
    const unsigned low_row = lane % 16, low_chunk = lane / 16;
    const unsigned key_row = lane / 16 * 8 + lane % 8, key_chunk = lane / 8 % 2;
    const unsigned low_pattern = Swizzled::pattern(low_row), key_pattern = Swizzled::pattern(key_row);
    const unsigned query_row = query_address + (warp_row + low_row) * kChunks * 16;
    const unsigned keys = buffer_address + buffer * 2 * Tile::kBufferBytes + key_row * kChunks * 16;
    float scores[kRowTiles][kKeys / 8][4] = {};
    // Fully unrolled it needs a few registers more than there are.
#pragma unroll 2
    for (int k = 0; k < kDim / 16; ++k) {
      unsigned a[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m)
        load_matrix_x4(a[m], query_row + m * 16 * kChunks * 16 + ((2 * k + low_chunk) ^ low_pattern) * 16);
      const unsigned column = keys + ((2 * k + key_chunk) ^ key_pattern) * 16;
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        unsigned b[4];
        load_matrix_x4(b, column + n * 16 * kChunks * 16);
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          mma_m16n8k16(scores[m][2 * n], a[m], b[0], b[1]);
          mma_m16n8k16(scores[m][2 * n + 1], a[m], b[2], b[3]);
        }
      }
    }

    unsigned weights[kRowTiles][kKeys / 16][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      if constexpr (Logit::kCapped) {
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i)
            scores[m][n][i] = Logit::shape(scores[m][n][i]);
      }
      if (masked) {
        const int key = key0 + static_cast<int>(lane % 4) * 2;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int position = row_positions[warp_row + m * 16 + h * 8 + static_cast<int>(lane / 4)];
#pragma unroll
          for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i)
              if (!sees<Config>(position, key + n * 8 + i, query_block))
                scores[m][n][2 * h + i] = minus_infinity();
        }
      }
      float offset[2], fade[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float best = fmaxf(scores[m][0][2 * h], scores[m][0][2 * h + 1]);
#pragma unroll
        for (int n = 1; n < kKeys / 8; ++n)
          best = fmaxf(best, fmaxf(scores[m][n][2 * h], scores[m][n][2 * h + 1]));
        const float before = maxima[(m * 16 + h * 8) * 4];
        best = fmaxf(before, quad_max(best));
        offset[h] = best * Logit::kFactor;
        // A row whose window starts in a later step, or whose own walk does, has seen nothing yet.
        if ((Config::kWindow > 0 || Config::kSparse) && best == minus_infinity())
          offset[h] = 0;
        // Exactly 1 where the maximum stays: what a row gets must not depend on steps in which it sees nothing.
        fade[h] = exp2_fast((before - (best == minus_infinity() ? 0.0f : best)) * Logit::kFactor);
        maxima[(m * 16 + h * 8) * 4] = best;
        row_sum[m][h] *= fade[h];
      }
      // The maxima settle after a few steps; from there on nothing needs rescaling.
      if (__any_sync(kAllLanes, fade[0] != 1.0f || fade[1] != 1.0f)) {
#pragma unroll
        for (int n = 0; n < kDim / 8; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i)
            output[m][n][i] *= fade[i / 2];
      }
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
        float p[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
          p[i] = exp2_fast(fmaf(scores[m][n][i], Logit::kFactor, -offset[i / 2]));
        row_sum[m][0] += p[0] + p[1];
        row_sum[m][1] += p[2] + p[3];
        // Accumulators of two neighbouring 8-key tiles are the A operand of one 16-key product.
        weights[m][n / 2][n % 2 * 2] = pack_bf16(p[0], p[1]);
        weights[m][n / 2][n % 2 * 2 + 1] = pack_bf16(p[2], p[3]);
      }
    }

    const unsigned values = buffer_address + (buffer * 2 + 1) * Tile::kBufferBytes + low_row * kChunks * 16;
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k)
#pragma unroll
      for (int n = 0; n < kDim / 16; ++n) {
        unsigned b[4];
        load_matrix_x4_trans(b, values + k * 16 * kChunks * 16 + ((2 * n + low_chunk) ^ low_pattern) * 16);
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          mma_m16n8k16(output[m][2 * n], weights[m][k], b[0], b[1]);
          mma_m16n8k16(output[m][2 * n + 1], weights[m][k], b[2], b[3]);
        }
      }
  }

  // Results pass through the warp's own rows of the query tile, so that they leave in whole 16-byte chunks.
  __syncwarp();
  const int first_token = tile_facts[0], valid_rows = tile_facts[1], first_head = tile_facts[2];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = warp_row + m * 16 + h * 8 + lane / 4;
      float sum = quad_sum(row_sum[m][h]);
      float scale = 1;
      if constexpr (Config::kSinks) {
        const float best = maxima[(m * 16 + h * 8) * 4] * Logit::kFactor;
        const float sink = sinks[first_head + row % kGroup] * kLog2E;
        const float top = fmaxf(best, sink);
        scale = exp2_fast(best - top);
        sum = sum * scale + exp2_fast(sink - top);
      }
      scale /= sum;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n)
        *reinterpret_cast<unsigned *>(query_tile + Swizzled::offset(row, n) + lane % 4 * 4) =
            pack_bf16(output[m][n][2 * h] * scale, output[m][n][2 * h + 1] * scale);
    }
  __syncwarp();
  for (int index = lane; index < Tile::kWarpRows * kChunks; index += kWarpSize) {
    const int row = warp_row + index / kChunks, chunk = index % kChunks;
    if (row >= valid_rows)
      break;
    const long at = static_cast<long>(first_token + row / kGroup) * Config::kHeads + first_head + row % kGroup;
    store16(out + at * kDim + chunk * 8, load16(query_tile + Swizzled::offset(row, chunk)));
  }
}

}  // namespace mili

#endif  // MILI_DEVICE_ATTENTION_PREFILL_CUH
