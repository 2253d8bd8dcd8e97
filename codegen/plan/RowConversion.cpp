//===- RowConversion.cpp -----------------------------------------------------===//
#include "RowConversion.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace mili {
namespace {

template <typename T>
T read(const std::byte *from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

float fromF16(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 1023;
  if (exponent == 0)
    return std::copysign(std::ldexp(static_cast<float>(mantissa), -24), std::bit_cast<float>(sign | 0x3f800000));
  const uint32_t bits = exponent == 31 ? 0x7f800000u | mantissa << 13 : (exponent + 112) << 23 | mantissa << 13;
  return std::bit_cast<float>(sign | bits);
}
float f16At(const std::byte *from) {
  return fromF16(read<uint16_t>(from));
}
int byteAt(const std::byte *from) {
  return std::to_integer<int>(*from);
}

// 32 elements each: element i < 16 in the low half of byte i, element i + 16 in the high half.
void q4(const std::byte *quants, float scale, float offset, float *to) {
  for (int i = 0; i < 16; ++i) {
    const int byte = byteAt(quants + i);
    to[i] = static_cast<float>(byte & 15) * scale + offset;
    to[i + 16] = static_cast<float>(byte >> 4) * scale + offset;
  }
}

// 256 elements: low 4 bits [128], high 2 bits [64], 16 scales, one f16.
void q6k(const std::byte *block, float *to) {
  const float d = f16At(block + 208);
  for (int half = 0; half < 2; ++half) {
    const std::byte *low = block + 64 * half, *high = block + 128 + 32 * half, *scales = block + 192 + 8 * half;
    for (int i = 0; i < 32; ++i)
      for (int quarter = 0; quarter < 4; ++quarter) {
        const int l = byteAt(low + i + 32 * (quarter & 1));
        const int q = (quarter < 2 ? l & 15 : l >> 4) | (byteAt(high + i) >> (2 * quarter) & 3) << 4;
        const auto scale = static_cast<float>(read<int8_t>(scales + i / 16 + 2 * quarter));
        to[128 * half + 32 * quarter + i] = d * scale * static_cast<float>(q - 32);
      }
  }
}

}  // namespace

void toFloats(TensorFormat format, const std::byte *from, int64_t count, float *to) {
  switch (format) {
  case TensorFormat::kF32: std::memcpy(to, from, static_cast<size_t>(count) * 4); break;
  case TensorFormat::kF16:
    for (int64_t i = 0; i < count; ++i)
      to[i] = f16At(from + 2 * i);
    break;
  case TensorFormat::kBF16:
    for (int64_t i = 0; i < count; ++i)
      to[i] = std::bit_cast<float>(static_cast<uint32_t>(read<uint16_t>(from + 2 * i)) << 16);
    break;
  case TensorFormat::kQ4_0:
    for (int64_t b = 0; b < count / 32; ++b, from += 18) {
      const float d = f16At(from);
      q4(from + 2, d, -8 * d, to + 32 * b);
    }
    break;
  case TensorFormat::kQ4_1:
    for (int64_t b = 0; b < count / 32; ++b, from += 20)
      q4(from + 4, f16At(from), f16At(from + 2), to + 32 * b);
    break;
  case TensorFormat::kQ8_0:
    for (int64_t b = 0; b < count / 32; ++b, from += 34)
      for (int i = 0; i < 32; ++i)
        to[32 * b + i] = f16At(from) * static_cast<float>(read<int8_t>(from + 2 + i));
    break;
  case TensorFormat::kQ6_K:
    for (int64_t b = 0; b < count / 256; ++b, from += 210)
      q6k(from, to + 256 * b);
    break;
  }
}

uint16_t toBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000)
    return static_cast<uint16_t>(bits >> 16 | 64);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace mili
