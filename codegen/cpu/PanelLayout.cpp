//===- PanelLayout.cpp -------------------------------------------------------===//
#include "PanelLayout.h"

#include <cstring>

namespace mili::panel {
namespace {

// ggml's blocks (https://github.com/ggml-org/ggml): where the parts of one row's block lie in the file.
constexpr int64_t kQ4_0Quants = 2, kQ4_1Quants = 4, kQ8_0Quants = 2;
constexpr int64_t kQ6_KHigh = 128, kQ6_KScales = 192, kQ6_KScale = 208;

constexpr FormatInfo kInfo[] = {
    {1, 4, 0, 64},
    {1, 2, 0, 32},
    {1, 2, 0, 32},
    {32, 18, 32, 32 + 256},
    {32, 20, 64, 64 + 256},
    {32, 34, 32, 32 + 512},
    {256, 210, 288, 288 + 2048 + 1024},
};

uint8_t byteAt(const std::byte *p) {
  return static_cast<uint8_t>(*p);
}

void packPlain(int64_t bytes, int64_t columns, std::span<const std::byte *const, 16> rows, std::byte *panel) {
  for (int64_t k = 0; k < columns; ++k)
    for (int64_t r = 0; r < kRows; ++r, panel += bytes) {
      if (rows[r])
        std::memcpy(panel, rows[r] + k * bytes, bytes);
      else
        std::memset(panel, 0, bytes);
    }
}

// Q4 in the file: byte i holds element i low, element i + 16 high: word j is bytes 4j..4j+3 as they are.
void packNibbles(const std::byte *quants, int64_t row, std::byte *vectors) {
  for (int64_t j = 0; j < 4; ++j)
    std::memcpy(vectors + j * 64 + row * 4, quants + j * 4, 4);
}

// Q6_K in the file: two halves of 128 elements. In each, elements l, l + 32, l + 64, l + 96 (l < 32) take the low and
// high nibbles of ql[l] and ql[l + 32], and bits 0-1, 2-3, 4-5, 6-7 of qh[l].
uint8_t q6Element(const std::byte *block, int64_t k) {
  int64_t half = k / 128, within = k % 128, quarter = within / 32, l = within % 32;
  uint8_t low = byteAt(block + half * 64 + (quarter % 2) * 32 + l);
  low = quarter / 2 ? low >> 4 : low & 15;
  uint8_t high = (byteAt(block + kQ6_KHigh + half * 32 + l) >> (2 * quarter)) & 3;
  return low | static_cast<uint8_t>(high << 4);
}

void packQ6(const std::byte *block, int64_t row, std::byte *out) {
  std::memcpy(out + row * 2, block + kQ6_KScale, 2);
  for (int64_t s = 0; s < 16; ++s)
    out[32 + s * 16 + row] = block[kQ6_KScales + s];
  std::byte *low = out + kInfo[6].scaleBytes, *high = low + 2048;
  for (int64_t b = 0; b < 8; ++b)
    for (int64_t group = 0; group < 8; ++group)
      for (int64_t i = 0; i < 4; ++i) {
        uint8_t q = q6Element(block, b * 32 + group * 4 + i);
        std::byte &nibble = low[(b * 4 + group % 4) * 64 + row * 4 + i];
        nibble |= static_cast<std::byte>((q & 15) << (group / 4 * 4));
        std::byte &pair = high[(b * 2 + group / 4) * 64 + row * 4 + i];
        pair |= static_cast<std::byte>((q >> 4) << (group % 4 * 2));
      }
}

}  // namespace

const FormatInfo &info(Format format) {
  return kInfo[static_cast<int>(format)];
}

int64_t panelBytes(Format format, int64_t columns) {
  return columns / info(format).blockElements * info(format).blockBytes;
}
int64_t matrixBytes(Format format, int64_t rows, int64_t columns) {
  return (rows + kRows - 1) / kRows * panelBytes(format, columns);
}

void packPanel(Format format, int64_t columns, std::span<const std::byte *const, 16> rows, std::byte *panel) {
  const FormatInfo &f = info(format);
  if (f.blockElements == 1)
    return packPlain(f.fileBytes, columns, rows, panel);
  for (int64_t b = 0; b < columns / f.blockElements; ++b) {
    std::byte *out = panel + b * f.blockBytes;
    std::memset(out, 0, f.blockBytes);
    for (int64_t r = 0; r < kRows; ++r) {
      if (!rows[r])
        continue;
      const std::byte *block = rows[r] + b * f.fileBytes;
      switch (format) {
      case Format::kQ4_0:
        std::memcpy(out + r * 2, block, 2);
        packNibbles(block + kQ4_0Quants, r, out + f.scaleBytes);
        break;
      case Format::kQ4_1:
        std::memcpy(out + r * 2, block, 2);
        std::memcpy(out + 32 + r * 2, block + 2, 2);
        packNibbles(block + kQ4_1Quants, r, out + f.scaleBytes);
        break;
      case Format::kQ8_0:
        std::memcpy(out + r * 2, block, 2);
        for (int64_t k = 0; k < 32; ++k)
          out[f.scaleBytes + k / 4 * 64 + r * 4 + k % 4] =
              static_cast<std::byte>(byteAt(block + kQ8_0Quants + k) ^ 0x80);
        break;
      case Format::kQ6_K: packQ6(block, r, out); break;
      default: break;
      }
    }
  }
}

}  // namespace mili::panel
