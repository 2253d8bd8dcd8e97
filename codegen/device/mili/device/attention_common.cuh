// What the prefill and decode attention kernels share: the walk from a tile number to the query tokens of one sequence,
// loading queries into shared memory, and the logits' transformations.
//
// A Config of either kernel has these constants (head_dim D is a multiple of 16, at most 256):
//
//   static constexpr int kHeads, kKvHeads, kHeadDim;  // query head h reads KV head h / (kHeads / kKvHeads)
//   static constexpr int kPageTable;                  // which of the batch's page tables the pool goes by
//   static constexpr int kWindow;                     // keys that a token sees, itself included; 0: all before it
//   static constexpr bool kSparse;                    // it sees the blocks of pattern() only, with kWindow 0
//   static MILI_CONSTEXPR mili_attention::BlockPattern pattern();  // kSparse only
//   static constexpr float kScale;                    // > 0, multiplies q.k
//   static constexpr float kSoftCap;                  // c > 0: logits become c * tanh(logit / c); 0: none
//   static constexpr bool kSinks;                     // an f32 logit per query head joins the softmax denominator only
//
// A Source says where the step's queries come from (and, for decode with kAppends, the new keys and values). One warp
// calls each function with all lanes; the caller synchronizes the warp before it reads `row`, kHeadDim floats of shared
// memory:
//
//   static constexpr bool kAppends;   // this step's keys and values are not in the pages yet
//   __device__ void query(float *row, int token, int head, int lane) const;   // after norm and RoPE, not scaled
//   __device__ void key(float *row, int token, int kv_head, int lane) const;    // kAppends only
//   __device__ void value(float *row, int token, int kv_head, int lane) const;  // kAppends only
//
// or, for queries that lie final in memory: `static constexpr bool kRaw = true; const bf16 *raw;`,
// [T][kHeads][kHeadDim].
//
// The pool is [page][K, V][kv_head][64 tokens][kHeadDim] bf16. Rows of an attention tile are (token, head of the group)
// pairs of one KV head, tokens outermost, so keys and values are read once for all heads that share them.

#ifndef MILI_DEVICE_ATTENTION_COMMON_CUH
#define MILI_DEVICE_ATTENTION_COMMON_CUH

#include "mili/device/batch.cuh"
#include "mili/device/common.cuh"

#include "mili/IR/BlockPattern.h"  // last: it takes MILI_CONSTEXPR from common.cuh

namespace mili {

template <class Source>
MILI_CONSTEXPR auto source_is_raw(int) -> decltype(Source::kRaw, true) {
  return Source::kRaw;
}
template <class Source>
MILI_CONSTEXPR bool source_is_raw(long) {
  return false;
}

/// Query tokens [first, first + tokens) of the flattened step, all of one sequence; tokens 0: the tile does not exist.
struct QueryTile {
  int sequence;
  int first;
  int tokens;
};

/// The query tile `index` of a step whose sequences are cut into tiles of kTileTokens tokens. Tiles are numbered from
/// the last tile of the last sequence backwards: under a causal mask a sequence's later tiles have more keys, so the
/// long ones start first and the short ones fill the tail of the grid. Each warp finds the tile by itself, 128
/// sequences at a time. Every sequence of the step has at least one token.
template <int kTileTokens>
MILI_DEVICE QueryTile find_query_tile(const Batch *batch, long index) {
  const int sequences = static_cast<int>(batch->sequences);
  const int32_t *q_start = batch->q_start;
  // A step of one token per sequence (decode) needs no walk.
  if (batch->tokens == batch->sequences) {
    const int sequence = static_cast<int>(index);
    return {sequence, sequence, index < sequences ? 1 : 0};
  }
  constexpr int kPerLane = 4;
  const int lane = threadIdx.x % kWarpSize;
  int before = 0;
  for (int base = 0; base < sequences; base += kWarpSize * kPerLane) {
    const int rank = base + lane * kPerLane;
    int counts[kPerLane];
    int own = 0;
    int end = rank < sequences ? q_start[sequences - rank] : 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int start = rank + i < sequences ? q_start[sequences - 1 - rank - i] : end;
      counts[i] = (end - start + kTileTokens - 1) / kTileTokens;
      own += counts[i];
      end = start;
    }
    int through = own;
#pragma unroll
    for (int step = 1; step < kWarpSize; step <<= 1) {
      const int other = __shfl_up_sync(kAllLanes, through, step);
      through += lane >= step ? other : 0;
    }
    const unsigned reached = __ballot_sync(kAllLanes, index < before + through);
    if (reached) {
      const int owner = __ffs(reached) - 1;
      int rest = static_cast<int>(index) - before - (through - own);
      int found = rank;
#pragma unroll
      for (int i = 0; i < kPerLane - 1; ++i)
        if (found == rank + i && rest >= counts[i]) {
          rest -= counts[i];
          ++found;
        }
      const int sequence = sequences - 1 - __shfl_sync(kAllLanes, found, owner);
      rest = __shfl_sync(kAllLanes, rest, owner);
      const int start = q_start[sequence];
      const int tokens = q_start[sequence + 1] - start;
      const int first = ((tokens + kTileTokens - 1) / kTileTokens - 1 - rest) * kTileTokens;
      return {sequence, start + first, min(kTileTokens, tokens - first)};
    }
    before += __shfl_sync(kAllLanes, through, kWarpSize - 1);
  }
  return {0, 0, 0};
}

/// Loads a block's kRows query rows into the swizzled tile at `to`: row r is token first + r / kRowHeads, head
/// first_head + r % kRowHeads; rows from valid_rows on become zeros. Raw queries come by cp.async (the caller commits
/// and waits); others go through `scratch`, this warp's kHeadDim floats. The caller synchronizes the block.
template <class Config, int kRows, int kRowHeads, int kThreads, class Source>
MILI_DEVICE void load_query_rows(const Source &source, int first, int first_head, int valid_rows, unsigned char *to,
                                 float *scratch) {
  constexpr int kChunks = Config::kHeadDim / 8;
  const int thread = threadIdx.x;
  if constexpr (source_is_raw<Source>(0)) {
    const unsigned base = shared_address(to);
#pragma unroll
    for (int i = 0; i < ceil_div(kRows * kChunks, kThreads); ++i) {
      const int index = i * kThreads + thread;
      if (kRows * kChunks % kThreads != 0 && index >= kRows * kChunks)
        break;
      const int row = index / kChunks, chunk = index % kChunks;
      const int safe = row < valid_rows ? row : 0;
      const long at = static_cast<long>(first + safe / kRowHeads) * Config::kHeads + first_head + safe % kRowHeads;
      copy_async16(base + Swizzle<kChunks>::offset(row, chunk), source.raw + at * Config::kHeadDim + chunk * 8,
                   row < valid_rows);
    }
  } else {
    const int lane = thread % kWarpSize;
    for (int row = thread / kWarpSize; row < kRows; row += kThreads / kWarpSize) {
      if (row < valid_rows)
        source.query(scratch, first + row / kRowHeads, first_head + row % kRowHeads, lane);
      __syncwarp();
      for (int chunk = lane; chunk < kChunks; chunk += kWarpSize) {
        Vector16 packed = {};
        if (row < valid_rows)
          packed = pack8(scratch + chunk * 8);
        store16(to + Swizzle<kChunks>::offset(row, chunk), packed);
      }
      __syncwarp();
    }
  }
}

/// Scores q.k become softmax exponents of base 2: exponent = shape(score) * kFactor. The factor is applied together
/// with the subtraction of the maximum, in one multiply-add.
template <class Config>
struct Logits {
  static constexpr bool kCapped = Config::kSoftCap > 0;
  static constexpr float kFactor = kCapped ? 1.0f : Config::kScale * kLog2E;

  /// c * tanh(x / c) = c - 2c / (exp(2x / c) + 1): its absolute error stays below c * 2^-21, unlike tanh.approx's c *
  /// 2^-11.
  static MILI_MEMBER float shape(float score) {
    if constexpr (kCapped) {
      constexpr float kCap = Config::kSoftCap * kLog2E;
      constexpr float kInner = 2.0f * kLog2E * Config::kScale / Config::kSoftCap;
      return kCap - 2.0f * kCap * reciprocal(exp2_fast(score * kInner) + 1.0f);
    } else {
      return score;
    }
  }
};

/// The blocks of 64 keys that a tile of queries reads, numbered from 0 in the order in which it reads them. Under a
/// block-sparse mask each block of queries has blocks of its own; a tile that lies in two of them walks one's after the
/// other's, and a row takes part in its own block's walk only.
template <class Config>
struct KeyWalk {
  int low, high;  // sparse: the first and the last block of queries; else the first and the last block of keys

  MILI_MEMBER KeyWalk(int first_position, int last_position)
      : low((Config::kWindow > 0 ? max(0, first_position - Config::kWindow + 1) : Config::kSparse ? first_position : 0) /
            kPageTokens),
        high(last_position / kPageTokens) {}

  MILI_MEMBER int count() const {
    if constexpr (Config::kSparse) {
      int total = 0;
      for (int block = low; block <= high; ++block)
        total += Config::pattern().count(block);
      return total;
    }
    return high - low + 1;
  }
  /// The block of keys number `n`.
  MILI_MEMBER int block(int n) const {
    if constexpr (Config::kSparse) {
      const int queries = query_block(n);
      return Config::pattern().nth(queries, n);
    }
    return low + n;
  }
  /// The block of queries that number `n` is read for, where the mask is sparse; makes `n` a number of that block's.
  MILI_MEMBER int query_block(int &n) const {
    int block = low;
    for (int count; block < high && n >= (count = Config::pattern().count(block)); ++block)
      n -= count;
    return block;
  }
  /// Whether the tile reads the key at `position`, from `begin` to `end` in keys of this walk.
  MILI_MEMBER bool reads(int position, int begin, int end) const {
    if constexpr (Config::kSparse) {
      int before = 0;
      for (int block = low; block <= high; ++block) {
        const int rank = Config::pattern().rank(block, position / kPageTokens);
        const int at = (before + rank) * kPageTokens + position % kPageTokens;
        if (rank >= 0 && at >= begin && at < end)
          return true;
        before += Config::pattern().count(block);
      }
      return false;
    }
    const int at = position - low * kPageTokens;
    return at >= begin && at < end;
  }
};

/// Keys outside a row's view get weight 0. `query_block`: whose walk the key is read in, where the mask is sparse.
template <class Config>
MILI_DEVICE bool sees(int position, int key, int query_block) {
  if constexpr (Config::kSparse)
    return key <= position && position / kPageTokens == query_block;
  else if constexpr (Config::kWindow > 0)
    return key <= position && key > position - Config::kWindow;
  else
    return key <= position;
}

/// Elements from one page of the pool to the next.
template <class Config>
MILI_CONSTEXPR long kv_page_elements() {
  return 2l * Config::kKvHeads * kPageTokens * Config::kHeadDim;
}

}  // namespace mili

#endif  // MILI_DEVICE_ATTENTION_COMMON_CUH
