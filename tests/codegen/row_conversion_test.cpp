// What GPU plans hold of a weight: rows of bf16, vectors of f32, from every format of a model file.
#include "blocks.h"
#include "plan/RowConversion.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace mili {
namespace {

TEST(RowConversion, EveryFormatToFloats) {
  std::mt19937 random(std::random_device{}());
  for (TensorFormat format : testing::kAllFormats) {
    constexpr int64_t kColumns = 512;  // two blocks of the largest kind
    const auto rows = testing::random_rows(format, 5, kColumns, random);
    const uint64_t bytes = testing::stored_row_bytes(format, kColumns);
    for (int64_t r = 0; r < 5; ++r) {
      std::vector<float> values(kColumns);
      toFloats(format, rows.data() + r * bytes, kColumns, values.data());
      for (int64_t k = 0; k < kColumns; ++k) {
        const float expected = testing::stored_element(format, rows.data() + r * bytes, k);
        // A product of a scale and a small integer, in one rounding or two.
        ASSERT_NEAR(values[k], expected, std::abs(expected) * 3e-7f)
            << "format " << static_cast<int>(format) << ", row " << r << ", element " << k;
      }
    }
  }
}

TEST(RowConversion, Bf16RoundsToNearestEven) {
  for (uint32_t upper = 0; upper < 0x10000; ++upper) {
    const auto exact = std::bit_cast<float>(upper << 16);
    if (std::isnan(exact)) {
      EXPECT_TRUE(std::isnan(testing::from_bf16(toBf16(exact))));
      continue;
    }
    ASSERT_EQ(toBf16(exact), upper);
    if (std::isinf(exact))
      continue;
    // Just below, at and just above the middle to the next one.
    ASSERT_EQ(toBf16(std::bit_cast<float>((upper << 16) | 0x7fff)), upper);
    ASSERT_EQ(toBf16(std::bit_cast<float>((upper << 16) | 0x8000)), upper + (upper & 1));
    ASSERT_EQ(toBf16(std::bit_cast<float>((upper << 16) | 0x8001)), upper + 1);
  }
  // A NaN whose upper half alone would be an infinity.
  EXPECT_TRUE(std::isnan(testing::from_bf16(toBf16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(testing::from_bf16(toBf16(std::bit_cast<float>(0xff80ffffu)))));
}

}  // namespace
}  // namespace mili
