// The next token of each wanted row, and the batch advanced by it, so that a step can follow without the host.
//
// Greedy where the row's temperature is 0; else a draw from softmax(logits / temperature), after top-k, top-p and min-p, as
// the arg-max of logits with Gumbel noise (Gumbel 1954; Maddison et al., arXiv 1411.0030), its uniforms from Philox4x32-10
// (Salmon et al., SC 2011) by (seed, position, token). Equal values: the smaller token wins. A row is cut into kParts
// blocks; the last to arrive decides, and finds alone what a filter leaves.
//
// With feedback a sequence ends with a stop token or when its state is full; it stands still from then on and samples -1.
#pragma once

#include "mili/device/vector.cuh"

namespace mili {

struct Best {
  float value;
  int32_t token;
};
MILI_DEVICE Best better(Best a, Best b) {
  return b.value > a.value || (b.value == a.value && b.token < a.token) ? b : a;
}

// One word of Philox4x32-10.
MILI_DEVICE uint32_t philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
    const uint32_t h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
    c0 = h1 ^ c1 ^ k0;
    c1 = l1;
    c2 = h0 ^ c3 ^ k1;
    c3 = l0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c0;
}
// In (0, 1].
MILI_DEVICE float open_uniform(uint32_t bits) {
  return (static_cast<float>(bits >> 8) + 0.5f) * (1.0f / 16777216.0f);
}
// An exponential variate, -log(1 - v) of a uniform v in (0, 1]: positive, and exact to rounding where it is small. The
// smallest decide which token wins: a uniform number that could round to 1 where log(1) is taken would let any token win.
MILI_DEVICE float exponential(uint32_t bits) {
  const float v = (static_cast<float>(bits) + 0.5f) * (1.0f / 4294967296.0f);
  return v < 0.00390625f ? v + v * v * (0.5f + v * (1.0f / 3.0f)) : -__logf(1.0f - v);
}

// A float's bits in an order that unsigned comparison follows; NaN counts as the lowest.
MILI_DEVICE uint32_t ordered_bits(float x) {
  const uint32_t bits = __float_as_uint(x);
  return x != x ? 0 : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
MILI_DEVICE float from_ordered_bits(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// The tokens that may be drawn: those with a key above `key`, and of those that have it the ones up to token `last`.
struct Nucleus {
  uint32_t key;
  int32_t last;
};

// The least n with n * each >= wanted, each > 0, n below 2^24. (The division of 64 bits is a call, which would make every
// thread save registers.)
MILI_DEVICE uint64_t ceil_quotient(uint64_t wanted, uint64_t each) {
  uint64_t n = static_cast<uint64_t>(__fdividef(static_cast<float>(wanted), static_cast<float>(each)));
  while (n * each < wanted)
    ++n;
  while (n > 0 && (n - 1) * each >= wanted)
    --n;
  return n;
}

// Goes down by 8 bits at a time to the key at which the sum of `weight(key, value)` over the row, from the highest key on,
// reaches `want`. `wanted` is then what keys equal to it must contribute. A whole block.
template <int kVocab, int kThreads, class Weight>
MILI_DEVICE uint32_t descend(const float *x, float scale, uint64_t want, const Weight &weight, uint64_t &wanted) {
  __shared__ unsigned long long bins[256];
  __shared__ uint64_t left;
  __shared__ uint32_t prefix;
  __syncthreads();
  if (threadIdx.x == 0) {
    left = want;
    prefix = 0;
  }
#pragma unroll 1
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < 256; i += kThreads)
      bins[i] = 0;
    __syncthreads();
    const uint32_t above = prefix, mask = shift == 24 ? 0 : ~0u << (shift + 8);
    for (int i = threadIdx.x; i < kVocab; i += kThreads) {
      const float value = x[i] * scale;
      const uint32_t key = ordered_bits(value);
      if ((key & mask) == above)
        if (const uint64_t w = weight(key, value))
          atomicAdd(bins + (key >> shift & 255), static_cast<unsigned long long>(w));
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int bin = 255;
      while (bin > 0 && bins[bin] < left)
        left -= bins[bin--];
      prefix |= static_cast<uint32_t>(bin) << shift;
    }
    __syncthreads();
  }
  wanted = left;
  return prefix;
}

// Top-k, top-p on what is left (Holtzman et al., arXiv 1904.09751), min-p (arXiv 2407.01082) over the whole row, without a
// sort: descents through histograms of counts, then of probability. Probabilities are counted in units of 2^-40 of the
// highest, in integers, so that the order of additions does not matter. A whole block; `highest` is the row's largest
// value, values are multiplied by `scale` first.
template <int kVocab, int kThreads>
MILI_DEVICE Nucleus find_nucleus(const float *x, float scale, float highest, const SequenceSampling &params) {
  using Sum = uint64_t;
  __shared__ unsigned long long total;
  __shared__ int last_equal;
  __shared__ int counts[kThreads / 32];
  const int thread = threadIdx.x;
  const auto mass = [&](float value) { return static_cast<Sum>(exp2_fast((value - highest) * kLog2E) * 1099511627776.0f); };

  // Keys above `floor_key` are left, and of those equal to it `floor_count`.
  uint32_t floor_key = 0;
  Sum floor_count = ~Sum{0};
  if (params.top_k > 0 && params.top_k < kVocab) {
    floor_key = descend<kVocab, kThreads>(x, scale, params.top_k, [](uint32_t, float) { return Sum{1}; }, floor_count);
  }
  if (params.top_p < 1.0f) {
    if (thread == 0)
      total = 0;
    __syncthreads();
    Sum sum = 0;
    for (int i = thread; i < kVocab; i += kThreads) {
      const float value = x[i] * scale;
      if (ordered_bits(value) > floor_key)
        sum += mass(value);
    }
    atomicAdd(&total, static_cast<unsigned long long>(sum));
    __syncthreads();
    const Sum above = total, each = floor_key == 0 ? 0 : mass(from_ordered_bits(floor_key));
    const Sum all = above + (each == 0 ? 0 : floor_count * each);
    const Sum share = static_cast<Sum>(static_cast<double>(params.top_p) * static_cast<double>(all));
    const Sum want = share > 0 ? share : 1;
    if (want > above && floor_key != 0) {
      // Reached only among those with the lowest key that top-k left.
      const Sum needed = each == 0 ? floor_count : ceil_quotient(want - above, each);
      floor_count = needed < floor_count ? needed : floor_count;
    } else {
      const uint32_t cut = floor_key;
      Sum wanted;
      floor_key = descend<kVocab, kThreads>(
          x, scale, want, [&](uint32_t key, float value) { return key > cut ? mass(value) : Sum{0}; }, wanted);
      const Sum of_one = mass(from_ordered_bits(floor_key));
      floor_count = of_one == 0 ? ~Sum{0} : ceil_quotient(wanted, of_one);
    }
  }
  if (params.min_p > 0.0f) {
    const uint32_t least = ordered_bits(highest + __logf(params.min_p));
    if (least > floor_key) {
      floor_key = least - 1;  // keys equal to `least` stay
      floor_count = 0;
    }
  }
  // Of equal keys the lower tokens stay: the last one of them.
  if (thread == 0)
    last_equal = floor_count == 0 ? -1 : 0x7fffffff;
  __syncthreads();
  if (floor_count != 0 && floor_count < kVocab) {
    Sum before = 0;
    for (int base = 0; base < kVocab && before < floor_count; base += kThreads) {
      const int i = base + thread;
      const bool equal = i < kVocab && ordered_bits(x[i] * scale) == floor_key;
      const unsigned votes = __ballot_sync(kAllLanes, equal);
      __syncthreads();
      if (lane_id() == 0)
        counts[thread / 32] = __popc(votes);
      __syncthreads();
      Sum rank = before + __popc(votes & ((1u << lane_id()) - 1));
      for (int w = 0; w < kThreads / 32; ++w) {
        if (w < thread / 32)
          rank += counts[w];
        before += counts[w];
      }
      if (equal && rank + 1 == floor_count)
        last_equal = i;
    }
  }
  __syncthreads();
  return Nucleus{floor_key, last_equal};
}

// The largest logit of tokens [begin, end), or with noise the largest with Gumbel noise, among those of `nucleus`.
template <int kThreads>
MILI_DEVICE Best best_of(const float *x, int begin, int end, float scale, bool noisy, uint64_t seed, uint32_t position,
                         Nucleus nucleus) {
  Best best{minus_infinity(), 0x7fffffff};
  for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += kThreads) {
    float value = x[i] * scale;
    const uint32_t key = ordered_bits(value);
    if (key < nucleus.key || (key == nucleus.key && i > nucleus.last))
      continue;
    if (noisy) {
      const uint32_t bits = philox(position, i, 1, 0, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
      value -= __logf(exponential(bits));  // plus Gumbel noise
    }
    best = better(best, Best{value, i});
  }
  return best;
}

// Of all threads, in all of them.
template <int kThreads> MILI_DEVICE Best best_of_block(Best best) {
  __shared__ Best warp_best[kThreads / 32];
  const auto reduce = [](Best b) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1)
      b = better(b, Best{__shfl_xor_sync(kAllLanes, b.value, offset), __shfl_xor_sync(kAllLanes, b.token, offset)});
    return b;
  };
  best = reduce(best);
  __syncthreads();
  if (lane_id() == 0)
    warp_best[threadIdx.x / 32] = best;
  __syncthreads();
  return reduce(lane_id() < kThreads / 32 ? warp_best[lane_id()] : Best{minus_infinity(), 0x7fffffff});
}

template <int kVocab, int kParts, int kThreads>
MILI_DEVICE void sample(const Batch *batch, const float *logits, int32_t *sampled, Best *partials, unsigned *counters) {
  __shared__ bool last;
  begin_kernel();
  const int row = blockIdx.x / kParts, part = blockIdx.x % kParts;
  if (row >= batch->logit_rows)
    return;
  const int32_t token = batch->logit_tokens[row], segment = batch->segments[token];
  const SequenceSampling &params = batch->sampling[segment];
  if (batch->feedback && params.done) {
    if (part == 0 && threadIdx.x == 0)
      sampled[row] = -1;
    return;
  }
  const bool noisy = params.temperature > 0.0f;
  const bool filtered =
      noisy && ((params.top_k > 0 && params.top_k < kVocab) || params.top_p < 1.0f || params.min_p > 0.0f);
  const float scale = noisy ? 1.0f / params.temperature : 1.0f;
  const uint32_t position = static_cast<uint32_t>(batch->positions[token]) + 1;
  constexpr int kPart = (kVocab + kParts - 1) / kParts;
  const int begin = part * kPart, end = min(begin + kPart, kVocab);
  const float *x = logits + static_cast<int64_t>(row) * kVocab;
  // A filter needs the row's largest value first.
  const Best best = best_of_block<kThreads>(best_of<kThreads>(x, begin, end, scale, noisy && !filtered, params.seed,
                                                              position, Nucleus{0, 0x7fffffff}));
  if (threadIdx.x == 0) {
    partials[row * kParts + part] = best;
    __threadfence();
    last = atomicAdd(counters + row, 1u) + 1 == kParts;
  }
  __syncthreads();
  if (!last)
    return;
  __threadfence();
  Best all{minus_infinity(), 0x7fffffff};
  for (int p = threadIdx.x; p < kParts; p += kThreads) {
    const volatile Best *from = partials + row * kParts + p;
    all = better(all, Best{from->value, from->token});
  }
  all = best_of_block<kThreads>(all);
  if (filtered && all.token != 0x7fffffff) {
    const Nucleus nucleus = find_nucleus<kVocab, kThreads>(x, scale, all.value, params);
    all = best_of_block<kThreads>(best_of<kThreads>(x, 0, kVocab, scale, true, params.seed, position, nucleus));
  }
  if (threadIdx.x != 0)
    return;
  counters[row] = 0;
  // Only NaN everywhere leaves no token.
  const int32_t chosen = all.token == 0x7fffffff ? 0 : all.token;
  sampled[row] = chosen;
  if (batch->feedback) {
    bool done = batch->kv_len[segment] >= params.end;
#pragma unroll
    for (int i = 0; i < 8; ++i)
      done = done || chosen == params.stop[i];
    if (done) {
      const_cast<SequenceSampling *>(batch->sampling)[segment].done = 1;
      return;
    }
    // One token a sequence: the sampled token is the next step's, one position further.
    const_cast<int32_t *>(batch->token_ids)[token] = chosen;
    const_cast<int32_t *>(batch->positions)[token] += 1;
    const_cast<int32_t *>(batch->kv_len)[segment] += 1;
  }
}

}  // namespace mili
