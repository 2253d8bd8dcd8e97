// The shape of the toy model that the runtime's tests run.
#pragma once

#include <cstdint>

namespace mili::toy {

inline constexpr int kVocab = 37;
inline constexpr int kHeads = 2;
inline constexpr int kHeadWidth = 4;
inline constexpr int kWidth = kHeads * kHeadWidth;
inline constexpr int kToyWindow = 40;  // tokens, of the toy model with a window

// What a position adds to feature i; different for each position below 1000.
inline float position_term(int64_t position, int i) {
  return 0.001f * static_cast<float>(position) * static_cast<float>(1 + i % 3) - 0.1f * static_cast<float>(i % 2);
}

}  // namespace mili::toy
