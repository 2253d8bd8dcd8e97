// The CPU attention kernel under every mask, against a dense masked softmax in double.
#include "kernel_harness.h"

#include "mili/IR/BlockPattern.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

using namespace mlir::mili::testing;
using mili_attention::BlockPattern;

namespace {

constexpr int64_t kPage = 64;

struct Mask {
  std::string text;
  int64_t window = 0;
  std::optional<BlockPattern> blocks = {};

  bool sees(int64_t query, int64_t key) const {
    if (key > query || (window > 0 && key <= query - window))
      return false;
    return !blocks || blocks->rank(static_cast<int>(query / kPage), static_cast<int>(key / kPage)) >= 0;
  }
};

struct Sequence {
  int64_t before, tokens;  // in the pages already; of this step
};

struct Case {
  int64_t heads, kvHeads, width;
  std::vector<Sequence> sequences;
};

class Attention : public testing::TestWithParam<size_t> {
protected:
  void SetUp() override {
    seed = std::random_device{}();
    random.seed(seed);
  }
  void check(const Case &c, const Mask &mask);

  float value() { return normal(random); }

  unsigned seed = 0;
  std::mt19937 random;
  std::normal_distribution<float> normal;
};

void Attention::check(const Case &c, const Mask &mask) {
  SCOPED_TRACE(testing::Message() << mask.text << ", heads " << c.heads << "/" << c.kvHeads << " x " << c.width
                                  << ", seed " << seed);
  int64_t tokens = 0, columns = 0;
  for (const Sequence &s : c.sequences) {
    tokens += s.tokens;
    columns = std::max(columns, (s.before + s.tokens + kPage - 1) / kPage);
  }
  const auto count = static_cast<int64_t>(c.sequences.size());
  const std::string kv = "!mili.kv<heads = " + std::to_string(c.kvHeads) + ", k = " + std::to_string(c.width) +
                         ", v = " + std::to_string(c.width) + ", f32>";
  const std::string rows = "tensor<?x" + std::to_string(c.heads * c.width) + "xf32>";
  const std::string text = "func.func @f(%q: " + rows + ", %kv: " + kv + ", %b: !mili.batch) -> " + rows +
                           " attributes {mili.bucket = #mili.bucket<tokens = " + std::to_string(tokens) +
                           ", sequences = " + std::to_string(count) + ", logit_rows = 1>} {\n" +
                           "%r = mili.group \"g\" hero \"mili.attention\" ins(%q, %kv, %b : " + rows + ", " + kv +
                           ", !mili.batch) -> " + rows + " {\n^bb0(%x: " + rows + ", %s: " + kv +
                           ", %c: !mili.batch):\n%a = mili.attention %x, %s, %c mask(" + mask.text + ") heads " +
                           std::to_string(c.heads) + " scale 0.25 : " + rows + ", " + kv + " -> " + rows +
                           "\nmili.yield %a : " + rows + "\n}\nreturn %r : " + rows + "\n}\n";
  auto library = KernelLibrary::compile(text, GetParam());
  ASSERT_NE(library, nullptr);
  if (!isSupported(GetParam()))
    GTEST_SKIP() << "this machine lacks the variant's instructions";

  // Pages in a random order; what no position uses stays NaN.
  const int64_t pages = count * columns + 1, half = c.kvHeads * kPage * c.width;
  std::vector<int32_t> order(pages - 1);
  for (int64_t i = 0; i < pages - 1; ++i)
    order[i] = static_cast<int32_t>(i + 1);
  std::shuffle(order.begin(), order.end(), random);
  std::vector<float> pool(pages * 2 * half, std::numeric_limits<float>::quiet_NaN());
  std::vector<float> query(tokens * c.heads * c.width), out(query.size(), std::numeric_limits<float>::quiet_NaN());
  for (float &x : query)
    x = value();
  std::vector<int32_t> positions, segments, starts = {0}, lengths, table(count * columns, 0);
  for (int64_t s = 0; s < count; ++s) {
    const Sequence &sequence = c.sequences[s];
    const int64_t length = sequence.before + sequence.tokens;
    for (int64_t p = 0; p * kPage < length; ++p)
      table[s * columns + p] = order[s * columns + p];
    for (int64_t p = 0; p < length; ++p)
      for (int64_t part = 0; part < 2; ++part)
        for (int64_t h = 0; h < c.kvHeads; ++h)
          for (int64_t i = 0; i < c.width; ++i)
            pool[((table[s * columns + p / kPage] * 2 + part) * c.kvHeads + h) * kPage * c.width + p % kPage * c.width +
                 i] = value();
    for (int64_t t = 0; t < sequence.tokens; ++t) {
      positions.push_back(static_cast<int32_t>(sequence.before + t));
      segments.push_back(static_cast<int32_t>(s));
    }
    starts.push_back(static_cast<int32_t>(positions.size()));
    lengths.push_back(static_cast<int32_t>(length));
  }
  mili::Batch batch{};
  batch.tokens = tokens;
  batch.sequences = count;
  batch.pages_per_sequence = columns;
  batch.positions = positions.data();
  batch.segments = segments.data();
  batch.q_start = starts.data();
  batch.kv_len = lengths.data();
  batch.page_table = table.data();
  library->run("g", {query.data(), pool.data(), out.data()}, batch);

  double error = 0, norm = 0;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t h = 0; h < c.heads; ++h) {
      const int64_t kvHead = h / (c.heads / c.kvHeads);
      auto row = [&](int64_t p, int64_t part) {
        return &pool[((table[segments[t] * columns + p / kPage] * 2 + part) * c.kvHeads + kvHead) * kPage * c.width +
                     p % kPage * c.width];
      };
      std::vector<double> result(c.width);
      double sum = 0, top = -1e300;
      std::vector<double> scores(positions[t] + 1);
      for (int64_t p = 0; p <= positions[t]; ++p) {
        double dot = 0;
        for (int64_t i = 0; i < c.width; ++i)
          dot += static_cast<double>(query[(t * c.heads + h) * c.width + i]) * row(p, 0)[i];
        scores[p] = dot * 0.25;
        if (mask.sees(positions[t], p))
          top = std::max(top, scores[p]);
      }
      for (int64_t p = 0; p <= positions[t]; ++p) {
        if (!mask.sees(positions[t], p))
          continue;
        const double weight = std::exp(scores[p] - top);
        sum += weight;
        for (int64_t i = 0; i < c.width; ++i)
          result[i] += weight * row(p, 1)[i];
      }
      for (int64_t i = 0; i < c.width; ++i) {
        const double expected = result[i] / sum, found = out[(t * c.heads + h) * c.width + i];
        error += (found - expected) * (found - expected);
        norm += expected * expected;
      }
    }
  // f32 throughout: sums of up to 64 products and of a few hundred weights, each rounded at 6e-8, and exp at 2e-7.
  EXPECT_LE(std::sqrt(error / norm), 1e-6);
}

Mask sparse(int64_t local, int64_t global, int64_t stride, int64_t random, unsigned seed) {
  auto number = [](const char *name, int64_t value) {
    return value ? std::string(", ") + name + " = " + std::to_string(value) : std::string();
  };
  return {"#mili.block_sparse<local = " + std::to_string(local * kPage) + number("global", global * kPage) +
              number("stride", stride * kPage) + number("random", random) + number("seed", seed) + ">",
          0,
          BlockPattern{static_cast<int>(local), static_cast<int>(global), static_cast<int>(stride),
                       static_cast<int>(random), seed}};
}

TEST_P(Attention, EveryMaskOnRandomShapes) {
  auto any = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random); };
  const std::vector<Mask> masks = {{"#mili.causal"},      {"#mili.window<100>", 100},
                                   sparse(1, 0, 0, 0, 0), sparse(2, 0, 2, 0, 0),
                                   sparse(1, 1, 3, 0, 0), sparse(2, 0, 0, 3, static_cast<unsigned>(any(0, 1 << 30))),
                                   sparse(3, 2, 0, 3, 1)};
  const std::pair<int64_t, int64_t> heads[] = {{4, 4}, {6, 2}, {4, 1}, {9, 1}};
  for (const Mask &mask : masks) {
    const auto [query, kv] = heads[any(0, 3)];
    // A chunk in the middle of a context, one token of a long one, a prompt, and lengths around a page's edge.
    check({query,
           kv,
           16 * any(1, 4),
           {{any(300, 1200), any(1, 70)}, {any(1000, 2000), 1}, {0, any(1, 200)}, {any(62, 65), any(1, 3)}}},
          mask);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, Attention, testing::Range<size_t>(0, 2));

}  // namespace
