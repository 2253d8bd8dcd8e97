// BlockPattern's numbering against its description, block by block.
#include "mili/IR/BlockPattern.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace mili_attention {
namespace {

// What the description says of blocks that need no draw; random ones are checked by their count.
bool sees(const BlockPattern &p, int i, int j) {
  return j <= i && (i - j < p.local || j < p.global || (p.stride > 0 && (i - j) % p.stride == 0));
}

void check(const BlockPattern &p, int blocks) {
  for (int i = 0; i < blocks; ++i) {
    std::vector<int> seen;
    for (int n = 0; n < p.count(i); ++n)
      seen.push_back(p.nth(i, n));
    ASSERT_TRUE(std::is_sorted(seen.begin(), seen.end(), std::less_equal<>())) << "block " << i;
    int drawn = 0;
    for (int j = -1; j <= i + 1; ++j) {
      const auto at = std::find(seen.begin(), seen.end(), j);
      ASSERT_EQ(p.rank(i, j), at == seen.end() ? -1 : at - seen.begin()) << "block " << i << " of " << j;
      if (at == seen.end())
        ASSERT_FALSE(j >= 0 && sees(p, i, j)) << "block " << i << " misses " << j;
      else
        drawn += !sees(p, i, j);
    }
    const int between = std::max(0, i - p.local + 1 - p.global);
    ASSERT_EQ(drawn, p.stride ? 0 : std::min(between, p.random)) << "block " << i;
  }
}

TEST(BlockPattern, NumbersExactlyWhatIsSeen) {
  check({1, 0, 0, 0, 0}, 40);
  check({16, 0, 16, 0, 0}, 300);
  check({8, 0, 0, 8, 3}, 300);
  check({3, 2, 0, 3, 1}, 300);
  std::mt19937 random(std::random_device{}());
  auto any = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  for (int round = 0; round < 60; ++round) {
    const bool strided = any(0, 1);
    BlockPattern p = {any(1, 20), any(0, 6), strided ? any(1, 24) : 0, strided ? 0 : any(0, 12),
                      static_cast<unsigned>(random())};
    SCOPED_TRACE(::testing::Message() << p.local << " " << p.global << " " << p.stride << " " << p.random << " "
                                      << p.seed);
    check(p, 150);
  }
}

TEST(BlockPattern, LargestContext) {
  // 2^24 tokens: the arithmetic stays within an int.
  const BlockPattern p = {8, 4, 0, 64, 0xffffffffu};
  const int i = (1 << 18) - 1;
  ASSERT_EQ(p.count(i), 8 + 4 + 64);
  for (int n = 0; n < p.count(i); ++n)
    ASSERT_EQ(p.rank(i, p.nth(i, n)), n);
}

TEST(BlockPattern, DrawsDependOnSeedAndBlock) {
  const BlockPattern a = {2, 0, 0, 4, 1}, b = {2, 0, 0, 4, 2};
  int equal = 0, same = 0;
  for (int i = 100; i < 200; ++i)
    for (int n = 0; n < 4; ++n) {
      equal += a.nth(i, n) == b.nth(i, n);
      same += a.nth(i, n) == a.nth(100, n);
    }
  EXPECT_LT(equal, 60);  // of 400; ranges of 24 to 49 blocks make about 11
  EXPECT_LT(same, 60);
}

}  // namespace
}  // namespace mili_attention
