// The next token of each wanted row, and the batch advanced by it, so that a step can follow without the host.
//
// Greedy where the row's temperature is 0; else a draw from softmax(logits / temperature) as the arg-max of logits with
// Gumbel noise (Gumbel 1954; Maddison et al., arXiv 1411.0030), its uniforms from Philox4x32-10 (Salmon et al., SC 2011) by
// (seed, position, token). Equal values: the smaller token wins. A row is cut into kParts blocks; the last to arrive
// decides.
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
// In (0, 1).
MILI_DEVICE float open_uniform(uint32_t bits) {
  return (static_cast<float>(bits >> 8) + 0.5f) * (1.0f / 16777216.0f);
}

template <int kVocab, int kParts, int kThreads>
MILI_DEVICE void sample(const Batch *batch, const float *logits, int32_t *sampled, Best *partials, unsigned *counters) {
  __shared__ Best warp_best[kThreads / 32];
  __shared__ bool last;
  begin_kernel();
  const int row = blockIdx.x / kParts, part = blockIdx.x % kParts;
  if (row >= batch->logit_rows)
    return;
  const int32_t token = batch->logit_tokens[row], segment = batch->segments[token];
  const float temperature = batch->temperature[segment];
  const float scale = temperature > 0.0f ? 1.0f / temperature : 1.0f;
  const uint64_t seed = batch->seed[segment];
  const uint32_t position = static_cast<uint32_t>(batch->positions[token]) + 1;
  constexpr int kPart = (kVocab + kParts - 1) / kParts;
  const int begin = part * kPart, end = min(begin + kPart, kVocab);
  const float *x = logits + static_cast<int64_t>(row) * kVocab;
  Best best{__int_as_float(0xff800000), 0x7fffffff};
  for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += kThreads) {
    float value = x[i] * scale;
    if (temperature > 0.0f) {
      const uint32_t bits = philox(position, i, 1, 0, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
      value -= __logf(-__logf(open_uniform(bits)));
    }
    best = better(best, Best{value, i});
  }
  auto reduce = [&](Best b) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1)
      b = better(b, Best{__shfl_xor_sync(0xffffffffu, b.value, offset), __shfl_xor_sync(0xffffffffu, b.token, offset)});
    return b;
  };
  best = reduce(best);
  if (lane_id() == 0)
    warp_best[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < kThreads / 32; ++w)
      best = better(best, warp_best[w]);
    partials[row * kParts + part] = best;
    __threadfence();
    last = atomicAdd(counters + row, 1u) + 1 == kParts;
  }
  __syncthreads();
  if (!last || threadIdx.x >= 32)
    return;
  __threadfence();
  Best all{__int_as_float(0xff800000), 0x7fffffff};
  for (int p = lane_id(); p < kParts; p += 32) {
    const volatile Best *from = partials + row * kParts + p;
    all = better(all, Best{from->value, from->token});
  }
  all = reduce(all);
  if (lane_id() != 0)
    return;
  counters[row] = 0;
  // Only NaN everywhere leaves no token.
  const int32_t chosen = all.token == 0x7fffffff ? 0 : all.token;
  sampled[row] = chosen;
  if (batch->feedback) {
    // One token a sequence: the sampled token is the next step's, one position further.
    const_cast<int32_t *>(batch->token_ids)[token] = chosen;
    const_cast<int32_t *>(batch->positions)[token] += 1;
    const_cast<int32_t *>(batch->kv_len)[segment] += 1;
  }
}

}  // namespace mili
