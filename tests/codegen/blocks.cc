#include "blocks.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace mili::testing {
namespace {

uint8_t u8(const std::byte *p) {
  return static_cast<uint8_t>(*p);
}
uint16_t u16(const std::byte *p) {
  return static_cast<uint16_t>(u8(p) | u8(p + 1) << 8);
}
void put16(std::byte *p, uint16_t v) {
  std::memcpy(p, &v, 2);
}
// Nearest f16 is not needed of random data: truncation of a normal number is.
uint16_t truncated_f16(float v) {
  uint32_t bits = std::bit_cast<uint32_t>(v);
  int exponent = static_cast<int>(bits >> 23 & 255) - 127 + 15;
  uint16_t sign = bits >> 16 & 0x8000;
  return exponent <= 0 ? sign : static_cast<uint16_t>(sign | exponent << 10 | (bits >> 13 & 1023));
}

}  // namespace

float from_f16(uint16_t bits) {
  int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  float magnitude = exponent ? std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25)
                             : std::ldexp(static_cast<float>(mantissa), -24);
  return bits & 0x8000 ? -magnitude : magnitude;
}
float from_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
uint16_t to_bf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint64_t stored_row_bytes(TensorFormat format, int64_t columns) {
  const TensorFormatInfo &info = tensor_format_info(format);
  return columns / info.block_elements * info.block_bytes;
}

float stored_element(TensorFormat format, const std::byte *row, int64_t k) {
  const TensorFormatInfo &info = tensor_format_info(format);
  const std::byte *block = row + k / info.block_elements * info.block_bytes;
  const int64_t i = k % info.block_elements;
  auto nibble = [&](const std::byte *quants) { return i < 16 ? u8(quants + i) & 15 : u8(quants + i - 16) >> 4; };
  switch (format) {
  case TensorFormat::kF32: {
    float v;
    std::memcpy(&v, block, 4);
    return v;
  }
  case TensorFormat::kF16: return from_f16(u16(block));
  case TensorFormat::kBF16: return from_bf16(u16(block));
  case TensorFormat::kQ4_0: return from_f16(u16(block)) * static_cast<float>(nibble(block + 2) - 8);
  case TensorFormat::kQ4_1:
    return from_f16(u16(block)) * static_cast<float>(nibble(block + 4)) + from_f16(u16(block + 2));
  case TensorFormat::kQ8_0: return from_f16(u16(block)) * static_cast<float>(static_cast<int8_t>(u8(block + 2 + i)));
  case TensorFormat::kQ6_K: {
    // 256 elements: lower 4 bits (128 bytes), upper 2 bits (64 bytes), 16 signed scales, one f16 scale.
    const std::byte *low = block + i / 128 * 64, *high = block + 128 + i / 128 * 32;
    const int64_t at = i % 128;
    int four = u8(low + at % 64) >> (at / 64 * 4) & 15;
    int two = u8(high + at % 32) >> (at / 32 * 2) & 3;
    auto scale = static_cast<int8_t>(u8(block + 192 + i / 16));
    return from_f16(u16(block + 208)) * static_cast<float>(scale) * static_cast<float>((four | two << 4) - 32);
  }
  }
  return 0;
}

std::vector<std::byte> random_rows(TensorFormat format, int64_t rows, int64_t columns, std::mt19937 &random) {
  const TensorFormatInfo &info = tensor_format_info(format);
  std::vector<std::byte> out(rows * stored_row_bytes(format, columns));
  std::uniform_real_distribution<float> uniform(-2, 2);
  for (std::byte &b : out)
    b = static_cast<std::byte>(random());
  for (uint64_t at = 0; at < out.size(); at += info.block_bytes) {
    float value = uniform(random);
    switch (format) {
    case TensorFormat::kF32: std::memcpy(&out[at], &value, 4); break;
    case TensorFormat::kF16: put16(&out[at], truncated_f16(value)); break;
    case TensorFormat::kBF16: put16(&out[at], to_bf16(value)); break;
    case TensorFormat::kQ4_0: put16(&out[at], truncated_f16(value / 8)); break;
    case TensorFormat::kQ4_1:
      put16(&out[at], truncated_f16(value / 8));
      put16(&out[at + 2], truncated_f16(uniform(random)));
      break;
    case TensorFormat::kQ8_0: put16(&out[at], truncated_f16(value / 128)); break;
    case TensorFormat::kQ6_K: put16(&out[at + 208], truncated_f16(value / 4096)); break;
    }
  }
  return out;
}

}  // namespace mili::testing
