// Expected work against sums over single tokens.
#include "mili/runtime/work.h"

#include "toy_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace mili {
namespace {

// A plan with one launch that has this work.
class WorkTest : public testing::Test {
protected:
  ExpectedWork of(const plan::Work &work, std::span<const SequenceExtent> sequences, int64_t logit_rows) {
    toy::ToyPlan toy = toy::toy_plan();
    for (toy::ToyBucket &bucket : toy.buckets) {
      bucket.launches.resize(1);
      bucket.launches[0].work = work;
    }
    bytes = toy.meta();
    const plan::Bucket *bucket = plan::GetPlan(bytes.data())->ranks()->Get(0)->functions()->Get(0)->buckets()->Get(0);
    const ExpectedWork launch = expected_work(*bucket->launches()->Get(0), {sequences, logit_rows});
    EXPECT_EQ(expected_work(*bucket, {sequences, logit_rows}).bytes(), launch.bytes());
    return launch;
  }
  std::vector<std::byte> bytes;
};

TEST_F(WorkTest, RowsAreWhatTheyArePer) {
  const SequenceExtent sequences[] = {{0, 5}, {17, 1}, {3, 2}};
  auto per = [&](plan::RowCount rows, int64_t wanted) {
    return of(plan::Work(rows, 1000, 10, 0, 3, 0, 0, 0), sequences, wanted);
  };
  const ExpectedWork tokens = per(plan::RowCount::Tokens, 2);
  EXPECT_EQ(tokens.weight_bytes, 1000);
  EXPECT_EQ(tokens.activation_bytes, 80);
  EXPECT_EQ(tokens.state_bytes, 0);
  EXPECT_EQ(tokens.bytes(), 1080);
  EXPECT_EQ(tokens.flops, 24);
  EXPECT_EQ(per(plan::RowCount::LogitRows, 2).bytes(), 1020);
  EXPECT_EQ(per(plan::RowCount::Sequences, 2).flops, 9);
  // A head that nobody wants reads no weights.
  EXPECT_EQ(per(plan::RowCount::LogitRows, 0).bytes(), 0);
  // A launch that says nothing.
  EXPECT_EQ(of(plan::Work(), sequences, 2).bytes(), 0);
}

TEST_F(WorkTest, KeysAndPairsFollowTheMask) {
  struct Mask {
    uint64_t base, every;
  };
  for (Mask mask : {Mask{0, 1}, Mask{1, 0}, Mask{7, 0}, Mask{64, 0}, Mask{6, 4}, Mask{30, 2}})
    for (int64_t position : {0, 1, 5, 6, 7, 8, 40, 63, 64, 200})
      for (int64_t count : {1, 2, 7, 64, 100}) {
        const plan::Work work(plan::RowCount::Tokens, 0, 0, 1, 0, 1, mask.base, mask.every);
        double pairs = 0;
        for (int64_t n = position + 1; n <= position + count; ++n)
          pairs += std::min<double>(static_cast<double>(n),
                                    static_cast<double>(mask.base) +
                                        (mask.every ? static_cast<double>(n) / static_cast<double>(mask.every) : 0));
        const SequenceExtent sequence{position, count};
        const ExpectedWork got = of(work, {&sequence, 1}, 0);
        EXPECT_NEAR(got.flops, pairs, 1e-6 * pairs)
            << mask.base << " and one of " << mask.every << ", " << count << " tokens at " << position;
        // Masks whose keys are the last ones: positions that some token of the step sees.
        if (mask.every > 1)
          continue;
        std::set<int64_t> seen;
        for (int64_t n = position + 1; n <= position + count; ++n)
          for (int64_t key = mask.every ? 0 : std::max<int64_t>(0, n - static_cast<int64_t>(mask.base)); key < n; ++key)
            seen.insert(key);
        EXPECT_EQ(got.state_bytes, static_cast<double>(seen.size()))
            << mask.base << " and one of " << mask.every << ", " << count << " tokens at " << position;
      }
}

TEST_F(WorkTest, SequencesAddUp) {
  const plan::Work causal(plan::RowCount::Tokens, 100, 0, 8, 0, 2, 0, 1);
  const SequenceExtent sequences[] = {{0, 3}, {9, 1}};
  const ExpectedWork both = of(causal, sequences, 0);
  EXPECT_EQ(both.weight_bytes, 100);
  EXPECT_EQ(both.state_bytes, 8 * (3 + 10));
  EXPECT_EQ(both.flops, 2 * (1 + 2 + 3 + 10));
}

TEST_F(WorkTest, BoundsAreSpreadOverTheSequences) {
  bytes = toy::toy_plan().meta();
  const auto *buckets = plan::GetPlan(bytes.data())->ranks()->Get(0)->functions()->Get(0)->buckets();
  const std::vector<SequenceExtent> extents = extents_at_bounds(*buckets->Get(2), 200);  // 16 tokens, 3 sequences
  ASSERT_EQ(extents.size(), 3u);
  int64_t tokens = 0;
  for (const SequenceExtent &extent : extents) {
    EXPECT_EQ(extent.position + extent.tokens, 100);
    EXPECT_NEAR(static_cast<double>(extent.tokens), 16.0 / 3, 1);
    tokens += extent.tokens;
  }
  EXPECT_EQ(tokens, 16);
  EXPECT_EQ(extents_at_bounds(*buckets->Get(2), 4)[0].position, 0);
}

}  // namespace
}  // namespace mili
