// Operations on rows of f32 in shared memory, by a team: the threads of a block, or the lanes of a warp. Every function
// leaves the team synchronized and its result visible to it. Emitted kernels call them one after the other.
#pragma once

#include "mili/device/vector.cuh"

namespace mili {

struct WarpTeam {
  static constexpr int kThreads = 32;
  MILI_MEMBER int rank() const { return lane_id(); }
  MILI_MEMBER void sync() const { __syncwarp(); }
  MILI_MEMBER float sum(float v) const { return warp_sum(v); }
};

// All threads of a block; `scratch` is shared memory for a float of each warp.
template <int kBlockThreads> struct BlockTeam {
  static constexpr int kThreads = kBlockThreads;
  float *scratch;
  MILI_MEMBER int rank() const { return threadIdx.x; }
  MILI_MEMBER void sync() const { __syncthreads(); }
  MILI_MEMBER float sum(float v) const {
    v = warp_sum(v);
    if (lane_id() == 0)
      scratch[threadIdx.x / 32] = v;
    __syncthreads();
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < kThreads / 32; ++w)
      total += scratch[w];
    __syncthreads();
    return total;
  }
};

template <int kWidth, class Team, class T> MILI_DEVICE void load_row(const Team &team, float *to, const T *from) {
  if constexpr (kWidth % 8 == 0) {
    for (int i = team.rank() * 8; i < kWidth; i += Team::kThreads * 8) {
      float v[8];
      load8(v, from + i);
      store8(to + i, v);
    }
  } else {
    for (int i = team.rank(); i < kWidth; i += Team::kThreads)
      to[i] = to_float(from[i]);
  }
  team.sync();
}

template <int kWidth, class Team> MILI_DEVICE void store_row(const Team &team, bf16 *to, const float *from) {
  if constexpr (kWidth % 8 == 0) {
    for (int i = team.rank() * 8; i < kWidth; i += Team::kThreads * 8) {
      float v[8];
      load8(v, from + i);
      store8(to + i, v);
    }
  } else {
    for (int i = team.rank(); i < kWidth; i += Team::kThreads)
      to[i] = to_bf16(from[i]);
  }
  team.sync();
}
template <int kWidth, class Team> MILI_DEVICE void store_row(const Team &team, float *to, const float *from) {
  for (int i = team.rank(); i < kWidth; i += Team::kThreads)
    to[i] = from[i];
  team.sync();
}

// to[i] = f(i).
template <int kWidth, class Team, class F> MILI_DEVICE void map_row(const Team &team, float *to, const F &f) {
  for (int i = team.rank(); i < kWidth; i += Team::kThreads)
    to[i] = f(i);
  team.sync();
}

// Each segment of kSegment elements on its own: x / sqrt(mean(x^2) + eps) * gain (arXiv 1910.07467).
template <int kWidth, int kSegment, class Team, class G>
MILI_DEVICE void rms_norm(const Team &team, float *to, const float *from, const G *gain, float eps) {
  if constexpr (kSegment == kWidth) {
    float sum = 0.0f;
    for (int i = team.rank(); i < kWidth; i += Team::kThreads)
      sum += from[i] * from[i];
    const float scale = rsqrtf(team.sum(sum) / static_cast<float>(kWidth) + eps);
    for (int i = team.rank(); i < kWidth; i += Team::kThreads)
      to[i] = from[i] * scale * to_float(gain[i]);
  } else {
    for (int segment = team.rank() / 32; segment < kWidth / kSegment; segment += Team::kThreads / 32) {
      const float *x = from + segment * kSegment;
      float sum = 0.0f;
      for (int i = lane_id(); i < kSegment; i += 32)
        sum += x[i] * x[i];
      const float scale = rsqrtf(warp_sum(sum) / static_cast<float>(kSegment) + eps);
      for (int i = lane_id(); i < kSegment; i += 32)
        to[segment * kSegment + i] = x[i] * scale * to_float(gain[i]);
    }
  }
  team.sync();
}

// Sine and cosine of an angle in radians below 2^20, absolute error about 5e-7: reduced to [-pi, pi] in three parts.
MILI_DEVICE void sine_cosine(float angle, float &sine, float &cosine) {
  const float turns = rintf(angle * 0.15915494309189535f);
  float r = fmaf(turns, -6.28125f, angle);
  r = fmaf(turns, -1.9350051879882812e-3f, r);
  r = fmaf(turns, -3.0200073960e-7f, r);
  sine = __sinf(r);
  cosine = __cosf(r);
}

// Rotates the first 2 * kPairs elements of each head by position * frequency; the rest pass through (arXiv 2104.09864).
// kAdjacent: elements 2i and 2i + 1 are a pair, else i and i + kPairs. `table` holds 2 * kPairs floats of shared memory.
template <int kHeads, int kHead, int kPairs, bool kAdjacent, class Team>
MILI_DEVICE void rope(const Team &team, float *to, const float *from, float *table, const float *frequencies,
                      float amplitude, int position) {
  for (int i = team.rank(); i < kPairs; i += Team::kThreads) {
    float sine, cosine;
    sine_cosine(static_cast<float>(position) * frequencies[i], sine, cosine);
    table[2 * i] = cosine * amplitude;
    table[2 * i + 1] = sine * amplitude;
  }
  team.sync();
  if constexpr (!kAdjacent && kPairs % 4 == 0 && kHead % 4 == 0) {
    // Four pairs at a time.
    for (int n = team.rank(); n < kHeads * (kPairs / 4); n += Team::kThreads) {
      const int i = n % (kPairs / 4) * 4, a = n / (kPairs / 4) * kHead + i, b = a + kPairs;
      const float4 c = *reinterpret_cast<const float4 *>(table + 2 * i), d = *reinterpret_cast<const float4 *>(table + 2 * i + 4);
      const float4 x = *reinterpret_cast<const float4 *>(from + a), y = *reinterpret_cast<const float4 *>(from + b);
      *reinterpret_cast<float4 *>(to + a) = make_float4(x.x * c.x - y.x * c.y, x.y * c.z - y.y * c.w,
                                                        x.z * d.x - y.z * d.y, x.w * d.z - y.w * d.w);
      *reinterpret_cast<float4 *>(to + b) = make_float4(y.x * c.x + x.x * c.y, y.y * c.z + x.y * c.w,
                                                        y.z * d.x + x.z * d.y, y.w * d.z + x.w * d.w);
    }
  } else {
    for (int n = team.rank(); n < kHeads * kPairs; n += Team::kThreads) {
      const int head = n / kPairs, i = n % kPairs;
      const int a = head * kHead + (kAdjacent ? 2 * i : i), b = head * kHead + (kAdjacent ? 2 * i + 1 : i + kPairs);
      const float cosine = table[2 * i], sine = table[2 * i + 1], x = from[a], y = from[b];
      to[a] = x * cosine - y * sine;
      to[b] = y * cosine + x * sine;
    }
  }
  if constexpr (2 * kPairs < kHead) {
    constexpr int kRest = kHead - 2 * kPairs;
    for (int n = team.rank(); n < kHeads * kRest; n += Team::kThreads) {
      const int i = n / kRest * kHead + 2 * kPairs + n % kRest;
      to[i] = from[i];
    }
  }
  team.sync();
}

// The same for one head, in place, without a table.
template <int kHead, int kPairs, bool kAdjacent, class Team>
MILI_DEVICE void rope_head(const Team &team, float *row, const float *frequencies, float amplitude, int position) {
  for (int i = team.rank(); i < kPairs; i += Team::kThreads) {
    float sine, cosine;
    sine_cosine(static_cast<float>(position) * frequencies[i], sine, cosine);
    const int a = kAdjacent ? 2 * i : i, b = kAdjacent ? 2 * i + 1 : i + kPairs;
    const float x = row[a], y = row[b];
    row[a] = (x * cosine - y * sine) * amplitude;
    row[b] = (y * cosine + x * sine) * amplitude;
  }
  team.sync();
}

// Where position `position` of sequence `segment` lies in a pool [page][K,V][head][64][width]: its row for head 0.
template <int kPageTable, int kHeads, int kKeyWidth, int kValueWidth, bool kValue>
MILI_DEVICE bf16 *pool_row(const Batch *batch, bf16 *pool, int64_t token) {
  const int position = batch->positions[token], segment = batch->segments[token];
  const int64_t page = pages_of(batch, kPageTable, segment)[position / kPageTokens];
  constexpr int64_t kPage = static_cast<int64_t>(kHeads) * kPageTokens * (kKeyWidth + kValueWidth);
  return pool + page * kPage + (kValue ? static_cast<int64_t>(kHeads) * kPageTokens * kKeyWidth : 0) +
         static_cast<int64_t>(position % kPageTokens) * (kValue ? kValueWidth : kKeyWidth);
}

// Appends a row of keys or values, all heads.
template <int kPageTable, int kHeads, int kKeyWidth, int kValueWidth, bool kValue, class Team>
MILI_DEVICE void append_row(const Team &team, const Batch *batch, bf16 *pool, int64_t token, const float *from) {
  constexpr int kWidth = kValue ? kValueWidth : kKeyWidth;
  bf16 *to = pool_row<kPageTable, kHeads, kKeyWidth, kValueWidth, kValue>(batch, pool, token);
  if constexpr (kWidth % 8 == 0) {
    for (int i = team.rank() * 8; i < kHeads * kWidth; i += Team::kThreads * 8) {
      float v[8];
      load8(v, from + i);
      store8(to + static_cast<int64_t>(i / kWidth) * kPageTokens * kWidth + i % kWidth, v);
    }
  } else {
    for (int i = team.rank(); i < kHeads * kWidth; i += Team::kThreads)
      to[static_cast<int64_t>(i / kWidth) * kPageTokens * kWidth + i % kWidth] = to_bf16(from[i]);
  }
  team.sync();
}

}  // namespace mili
