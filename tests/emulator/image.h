// A kernel's image as the emulated NVRTC makes it and the emulated driver loads it: this, then a shared object.
#pragma once

#include <cstdint>

namespace mili::emulator {

inline constexpr char kImageMagic[8] = {'M', 'I', 'L', 'I', 'E', 'M', 'U', '1'};

struct ImageHeader {
  char magic[8];
  uint64_t bytes;
};

}  // namespace mili::emulator
