// Norms and rotations of the heads of a token's queries and keys in registers, from rows in memory to rows or pages. A
// thread holds eight elements of the first half of a head and the eight of the second half that rotate with them, of the
// same place in each of its heads; nothing meets in shared memory.
#pragma once

#include "mili/device/rows.cuh"

namespace mili {

// Sines and cosines, times `amplitude`, of the pairs that a thread holds: of elements i and i + kHead / 2, or with
// kAdjacent of 2i and 2i + 1. All elements of a head rotate (arXiv 2104.09864).
template <int kHead, bool kAdjacent>
struct HeadAngles {
  float sine[8], cosine[8];

  MILI_MEMBER HeadAngles(const float *frequencies, float amplitude, int position) {
    const int unit = threadIdx.x % (kHead / 16);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int pair = kAdjacent ? (i < 4 ? 0 : kHead / 4 - 4) + unit * 4 + i : unit * 8 + i;
      sine_cosine(static_cast<float>(position) * frequencies[pair], sine[i], cosine[i]);
      sine[i] *= amplitude;
      cosine[i] *= amplitude;
    }
  }
  MILI_MEMBER void rotate(float (&low)[8], float (&high)[8]) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float &x = kAdjacent ? (i < 4 ? low : high)[2 * (i % 4)] : low[i];
      float &y = kAdjacent ? (i < 4 ? low : high)[2 * (i % 4) + 1] : high[i];
      const float before = x;
      x = x * cosine[i] - y * sine[i];
      y = y * cosine[i] + before * sine[i];
    }
  }
};

// x / sqrt(mean(x^2) + eps) * weight over a head, kHead a power of two; weight f32 [kHead].
template <int kHead>
MILI_DEVICE void norm_head(float (&low)[8], float (&high)[8], const float *weight, float eps) {
  static_assert((kHead & (kHead - 1)) == 0, "a head's threads exchange their sums");
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i)
    sum += low[i] * low[i] + high[i] * high[i];
#pragma unroll
  for (int lanes = kHead / 32; lanes > 0; lanes /= 2)
    sum += __shfl_xor_sync(kAllLanes, sum, lanes);
  const float factor = rsqrtf(sum * (1.0f / kHead) + eps);
  const int at = threadIdx.x % (kHead / 16) * 8;
  float w[8];
  load8(w, weight + at);
#pragma unroll
  for (int i = 0; i < 8; ++i)
    low[i] *= factor * w[i];
  load8(w, weight + kHead / 2 + at);
#pragma unroll
  for (int i = 0; i < 8; ++i)
    high[i] *= factor * w[i];
}

// The elements of a token's kHeads heads that a thread of kThreads holds.
template <int kHeads, int kHead, int kThreads>
struct HeadUnits {
  static constexpr int kLanes = kHead / 16;            // threads of a head
  static constexpr int kSideBySide = kThreads / kLanes;  // heads at a time
  static constexpr int kTurns = (kHeads + kSideBySide - 1) / kSideBySide;
  Vector16 low[kTurns], high[kTurns];

  static MILI_MEMBER int head(int turn) { return turn * kSideBySide + static_cast<int>(threadIdx.x) / kLanes; }
  static MILI_MEMBER bool holds(int turn) {
    return static_cast<int>(threadIdx.x) < kSideBySide * kLanes && head(turn) < kHeads;
  }
  static MILI_MEMBER int place() { return static_cast<int>(threadIdx.x) % kLanes * 8; }

  // From the token's row of all heads, aligned to 16 bytes.
  MILI_MEMBER void fetch(const bf16 *row) {
#pragma unroll
    for (int t = 0; t < kTurns; ++t) {
      low[t] = high[t] = Vector16{};
      if (holds(t)) {
        low[t] = load16(row + head(t) * kHead + place());
        high[t] = load16(row + head(t) * kHead + kHead / 2 + place());
      }
    }
  }
  // finish(low, high) on every head (all threads together), then to the row of it that target(head) points to.
  template <class Finish, class Target>
  MILI_MEMBER void store(const Finish &finish, const Target &target) const {
#pragma unroll
    for (int t = 0; t < kTurns; ++t) {
      float a[8], b[8];
      unpack8(low[t], a);
      unpack8(high[t], b);
      finish(a, b);
      if (holds(t)) {
        bf16 *to = target(head(t)) + place();
        store8(to, a);
        store8(to + kHead / 2, b);
      }
    }
  }
};

}  // namespace mili
