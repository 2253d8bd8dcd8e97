// Panels hold the values of the file's rows: decoded here from the layout's description in PanelLayout.h, compared with
// blocks.h, which is itself compared with values from the reference implementation.
#include "blocks.h"
#include "cpu/PanelLayout.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <fstream>
#include <iterator>

namespace mili {
namespace {

using testing::from_bf16;
using testing::from_f16;
using testing::kAllFormats;

panel::Format panel_format(TensorFormat format) {
  return static_cast<panel::Format>(format);
}
static_assert(static_cast<int>(panel::Format::kF32) == static_cast<int>(TensorFormat::kF32) &&
              static_cast<int>(panel::Format::kQ4_0) == static_cast<int>(TensorFormat::kQ4_0) &&
              static_cast<int>(panel::Format::kQ6_K) == static_cast<int>(TensorFormat::kQ6_K));

// Element (r, k) of a panel.
float panel_element(TensorFormat format, const std::byte *panel, int64_t r, int64_t k) {
  auto u8 = [](const std::byte *p) { return static_cast<int>(*p); };
  auto u16 = [](const std::byte *p) {
    uint16_t v;
    std::memcpy(&v, p, 2);
    return v;
  };
  const int64_t within = k % 32, group = within / 4, byte = r * 4 + within % 4;
  auto nibble = [&](const std::byte *vectors) {
    return u8(vectors + group % 4 * 64 + byte) >> (group < 4 ? 0 : 4) & 15;
  };
  switch (format) {
  case TensorFormat::kF32: {
    float v;
    std::memcpy(&v, panel + (k * 16 + r) * 4, 4);
    return v;
  }
  case TensorFormat::kF16: return from_f16(u16(panel + (k * 16 + r) * 2));
  case TensorFormat::kBF16: return from_bf16(u16(panel + (k * 16 + r) * 2));
  case TensorFormat::kQ4_0: {
    const std::byte *block = panel + k / 32 * 288;
    return from_f16(u16(block + r * 2)) * static_cast<float>(nibble(block + 32) - 8);
  }
  case TensorFormat::kQ4_1: {
    const std::byte *block = panel + k / 32 * 320;
    return from_f16(u16(block + r * 2)) * static_cast<float>(nibble(block + 64)) + from_f16(u16(block + 32 + r * 2));
  }
  case TensorFormat::kQ8_0: {
    const std::byte *block = panel + k / 32 * 544;
    return from_f16(u16(block + r * 2)) * static_cast<float>(u8(block + 32 + group * 64 + byte) - 128);
  }
  case TensorFormat::kQ6_K: {
    const std::byte *block = panel + k / 256 * 3360, *low = block + 288 + k % 256 / 32 * 256;
    const std::byte *high = block + 288 + 2048 + k % 256 / 32 * 128;
    int two = u8(high + group / 4 * 64 + byte) >> (group % 4 * 2) & 3;
    auto scale = static_cast<int8_t>(u8(block + 32 + k % 256 / 16 * 16 + r));
    return from_f16(u16(block + r * 2)) * static_cast<float>(scale) * static_cast<float>((nibble(low) | two << 4) - 32);
  }
  }
  return 0;
}

TEST(Blocks, AgreeWithTheReferenceImplementation) {
  std::ifstream file(MILI_TEST_DATA "/codegen/blocks.bin", std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
  const auto *at = reinterpret_cast<const std::byte *>(bytes.data());
  const auto *end = at + bytes.size();
  for (TensorFormat format : {TensorFormat::kQ4_0, TensorFormat::kQ4_1, TensorFormat::kQ8_0, TensorFormat::kQ6_K}) {
    SCOPED_TRACE(tensor_format_info(format).name);
    const uint64_t row = testing::stored_row_bytes(format, 512);
    ASSERT_GE(static_cast<uint64_t>(end - at), 2 * row + 4096);
    for (int64_t i = 0; i < 1024; ++i) {
      float expected;
      std::memcpy(&expected, at + 2 * row + i * 4, 4);
      ASSERT_EQ(testing::stored_element(format, at + i / 512 * row, i % 512), expected) << "element " << i;
    }
    at += 2 * row + 4096;
  }
  EXPECT_EQ(at, end);
}

TEST(PanelLayout, HoldsEveryElementOfEveryFormat) {
  std::mt19937 random(1);
  for (TensorFormat format : kAllFormats) {
    const int64_t block = tensor_format_info(format).block_elements;
    for (int64_t columns : {block, 3 * block, block == 1 ? 37 : 6 * block}) {
      for (int64_t rows : {16, 11, 1}) {
        SCOPED_TRACE(::testing::Message() << tensor_format_info(format).name << " " << rows << " x " << columns);
        std::vector<std::byte> stored = testing::random_rows(format, rows, columns, random);
        const uint64_t rowBytes = testing::stored_row_bytes(format, columns);
        std::array<const std::byte *, 16> pointers{};
        for (int64_t r = 0; r < rows; ++r)
          pointers[r] = stored.data() + r * rowBytes;
        const int64_t bytes = panel::panelBytes(panel_format(format), columns);
        std::vector<std::byte> packed(bytes + 64, std::byte{0xa5});
        panel::packPanel(panel_format(format), columns, pointers, packed.data());
        for (int64_t r = 0; r < 16; ++r)
          for (int64_t k = 0; k < columns; ++k) {
            float expected = r < rows ? testing::stored_element(format, pointers[r], k) : 0.0f;
            ASSERT_EQ(panel_element(format, packed.data(), r, k), expected) << "row " << r << " k " << k;
          }
        for (int64_t i = 0; i < 64; ++i)
          ASSERT_EQ(packed[bytes + i], std::byte{0xa5}) << "written past the panel";
      }
    }
  }
}

TEST(PanelLayout, TakesTheFilesBytesAndNoMore) {
  for (TensorFormat format : kAllFormats)
    for (int64_t rows : {16, 64, 65})
      EXPECT_EQ(static_cast<uint64_t>(panel::matrixBytes(panel_format(format), rows, 512)),
                (rows + 15) / 16 * 16 * testing::stored_row_bytes(format, 512))
          << tensor_format_info(format).name;
}

}  // namespace
}  // namespace mili
