// Sampling: Philox against published vectors, choices against exact distributions.
#include "mili/runtime/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace mili {
namespace {

using testing::HasSubstr;

// The known-answer vectors for philox4x32-10 that the authors publish with Random123.
TEST(Philox, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformIsInRangeAndEven) {
  std::vector<int> bins(16);
  for (uint64_t i = 0; i < 32000; ++i) {
    const double u = philox_uniform(7, i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++bins[static_cast<size_t>(u * 16)];
  }
  double chi = 0;
  for (int count : bins)
    chi += (count - 2000.0) * (count - 2000.0) / 2000.0;
  EXPECT_LT(chi, 37.7);  // 15 degrees of freedom, p = 0.001
  EXPECT_NE(philox_uniform(7, 0), philox_uniform(8, 0));
  EXPECT_NE(philox_uniform(7, 0, 0), philox_uniform(7, 0, 1));
}

class Distribution : public testing::Test {
protected:
  // Draws at many positions and compares with `expected` probabilities; tokens of probability 0 must never come.
  void expect(SamplingParams params, std::vector<double> expected) {
    constexpr int kDraws = 20000;
    params.seed = 12345;
    auto sampler = Sampler::create(static_cast<int64_t>(logits.size()), params);
    ASSERT_TRUE(sampler.ok()) << sampler.status().to_string();
    std::vector<int> counts(logits.size());
    std::vector<int32_t> history;
    for (int i = 0; i < kDraws; ++i) {
      history.push_back(0);
      auto token = sampler->sample(logits, history, history.size());
      ASSERT_TRUE(token.ok());
      ++counts[static_cast<size_t>(token->token)];
    }
    const double sum = std::accumulate(expected.begin(), expected.end(), 0.0);
    double chi = 0;
    int freedom = -1;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double mean = expected[i] / sum * kDraws;
      if (mean == 0) {
        EXPECT_EQ(counts[i], 0) << "token " << i;
        continue;
      }
      chi += (counts[i] - mean) * (counts[i] - mean) / mean;
      ++freedom;
    }
    // Wilson and Hilferty's approximation of the quantile at p = 0.001.
    const double k = std::max(freedom, 1);
    EXPECT_LT(chi, k * std::pow(1 - 2 / (9 * k) + 3.09 * std::sqrt(2 / (9 * k)), 3));
  }
  static std::vector<double> softmax(const std::vector<float> &logits, double temperature = 1) {
    std::vector<double> result;
    for (float logit : logits)
      result.push_back(std::exp(logit / temperature));
    const double sum = std::accumulate(result.begin(), result.end(), 0.0);
    for (double &p : result)
      p /= sum;
    return result;
  }

  std::vector<float> logits{1.0f, 0.2f, -0.5f, 2.0f, 0.0f, 1.5f, -1.0f, 0.7f};
};

TEST_F(Distribution, Temperature) {
  expect({.temperature = 1}, softmax(logits));
  expect({.temperature = 0.5f}, softmax(logits, 0.5));
  expect({.temperature = 2}, softmax(logits, 2));
}

TEST_F(Distribution, TopK) {
  std::vector<double> p = softmax(logits);
  for (size_t i : {1, 2, 4, 6, 7})
    p[i] = 0;
  expect({.temperature = 1, .top_k = 3}, p);
}

TEST_F(Distribution, TopPKeepsTheFewestThatReachIt) {
  std::vector<double> p = softmax(logits);  // descending: 3 (.363), 5 (.220), 0 (.134), 7, ...
  for (size_t i : {1, 2, 4, 6, 7})
    p[i] = 0;
  expect({.temperature = 1, .top_p = 0.7f}, p);
  p[0] = 0;
  expect({.temperature = 1, .top_p = 0.5f}, p);
}

TEST_F(Distribution, TopPIsOfWhatTopKLeaves) {
  std::vector<double> p(8);
  p[3] = 1;  // of tokens 3 and 5 alone, 3 has 0.62
  expect({.temperature = 1, .top_k = 2, .top_p = 0.6f}, p);
}

TEST_F(Distribution, MinP) {
  std::vector<double> p = softmax(logits);
  for (double &q : p)
    q = q < 0.3 * softmax(logits)[3] ? 0 : q;
  expect({.temperature = 1, .min_p = 0.3f}, p);
}

TEST_F(Distribution, BiasBans) {
  std::vector<float> biased = logits;
  biased[1] += 1.5f;
  std::vector<double> p = softmax(biased);
  p[3] = 0;
  expect({.temperature = 1, .logit_bias = {{1, 1.5f}, {3, -std::numeric_limits<float>::infinity()}}}, p);
}

TEST(Sampler, TopPOverALargeVocabularyAgreesWithASort) {
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = static_cast<float>(philox_uniform(1, i)) * 2;  // flat: thousands of tokens stay
  auto sampler = Sampler::create(5000, {.temperature = 1, .top_p = 0.5f, .seed = 3});
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  double sum = 0, mass = 0;
  for (float logit : logits)
    sum += std::exp(logit);
  size_t kept = 0;
  for (; mass < 0.5 * sum; ++kept)
    mass += std::exp(logits[order[kept]]);
  std::vector<int32_t> history;
  size_t deepest = 0;
  for (int i = 0; i < 2000; ++i) {
    history.push_back(0);
    const auto token = static_cast<size_t>(sampler->sample(logits, history, 0)->token);
    const size_t rank = static_cast<size_t>(std::find(order.begin(), order.end(), token) - order.begin());
    ASSERT_LT(rank, kept);
    deepest = std::max(deepest, rank);
  }
  EXPECT_GT(deepest, kept * 9 / 10);
}

// The whole chain on random logits, tied ones among them, against a full sort in double.
TEST(Sampler, EveryChainAgreesWithAPlainSort) {
  constexpr int kTokens = 300;
  std::mt19937 random(5);
  auto uniform = [&](double low, double high) {
    return static_cast<float>(std::uniform_real_distribution<double>(low, high)(random));
  };
  auto below = [&](uint32_t bound) { return random() % bound; };
  int wide = 0;
  for (int round = 0; round < 1500; ++round) {
    std::vector<float> logits(kTokens);
    for (float &logit : logits)
      logit = below(4) ? uniform(-4, 4) : static_cast<float>(below(3));
    SamplingParams params;
    params.temperature = uniform(0.2, 2);
    params.top_k = below(2) ? static_cast<int32_t>(below(400)) : 0;
    params.top_p = below(2) ? uniform(0.05, 1) : 1;
    params.min_p = below(2) ? uniform(0, 0.3) : 0;
    params.repetition_penalty = below(2) ? uniform(0.7, 1.5) : 1;
    params.presence_penalty = below(2) ? uniform(-1, 1) : 0;
    params.frequency_penalty = below(2) ? uniform(-0.5, 0.5) : 0;
    params.seed = random();
    for (uint32_t i = below(4); i > 0; --i)
      params.logit_bias.emplace_back(static_cast<int32_t>(below(kTokens)),
                                     below(2) ? uniform(-3, 3) : -std::numeric_limits<float>::infinity());
    std::vector<int32_t> history(below(50));
    for (int32_t &token : history)
      token = static_cast<int32_t>(below(60));
    const size_t prompt = below(60);

    struct Choice {
      float logit;
      int32_t token;
      double weight;
    };
    std::vector<Choice> all;
    for (int32_t t = 0; t < kTokens; ++t) {
      float logit = logits[static_cast<size_t>(t)];
      for (auto [token, bias] : params.logit_bias)
        logit += token == t ? bias : 0;
      if (std::ranges::find(history, t) != history.end())
        logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
      bool generated = false;
      for (size_t i = prompt; i < history.size(); ++i) {
        if (history[i] != t)
          continue;
        if (!generated)
          logit -= params.presence_penalty;
        generated = true;
        logit -= params.frequency_penalty;
      }
      all.push_back({logit, t, 0});
    }
    const bool cut = params.top_k > 0 || params.top_p < 1 || params.min_p > 0;
    std::ranges::stable_sort(all, [](const Choice &a, const Choice &b) { return a.logit > b.logit; });
    for (Choice &choice : all)
      choice.weight = std::exp((static_cast<double>(choice.logit) - all[0].logit) / params.temperature);
    if (params.top_k > 0)
      all.resize(std::min<size_t>(all.size(), static_cast<size_t>(params.top_k)));
    auto total = [&] {
      return std::accumulate(all.begin(), all.end(), 0.0, [](double sum, const Choice &c) { return sum + c.weight; });
    };
    if (params.top_p < 1) {
      const double wanted = params.top_p * total();
      double sum = 0;
      size_t kept = 0;
      while (kept < all.size() && sum < wanted)
        sum += all[kept++].weight;
      all.resize(kept);
    }
    std::erase_if(all, [&](const Choice &c) { return c.weight < params.min_p; });
    if (!cut)  // without a cut the sampler goes through the vocabulary as it is
      std::ranges::sort(all, {}, &Choice::token);
    double target = philox_uniform(params.seed, history.size()) * total();
    size_t expected = 0;
    while (expected + 1 < all.size() && target >= all[expected].weight)
      target -= all[expected++].weight;
    wide += all.size() > 64;

    auto sampler = Sampler::create(kTokens, params);
    ASSERT_TRUE(sampler.ok()) << sampler.status().to_string();
    auto token = sampler->sample(logits, history, prompt);
    ASSERT_TRUE(token.ok()) << token.status().to_string();
    ASSERT_EQ(token->token, all[expected].token) << "round " << round;
    params.temperature = 0;
    auto greedy = Sampler::create(kTokens, params)->sample(logits, history, prompt);
    ASSERT_TRUE(greedy.ok());
    ASSERT_EQ(greedy->token, std::ranges::max_element(all,
                                                      [](const Choice &a, const Choice &b) {
                                                        return a.logit != b.logit ? a.logit < b.logit
                                                                                  : a.token > b.token;
                                                      })
                                 ->token)
        << "round " << round;
  }
  EXPECT_GT(wide, 100);  // enough of them reached beyond the first partition
}

TEST(Sampler, GreedyPenaltiesAndTies) {
  const std::vector<float> logits{1, 4, 4, -2};
  auto choose = [&](SamplingParams params, std::vector<int32_t> history, size_t prompt) {
    return Sampler::create(4, params)->sample(logits, history, prompt)->token;
  };
  EXPECT_EQ(choose({}, {}, 0), 1);                                      // the lower of equals
  EXPECT_EQ(choose({.repetition_penalty = 1.5f}, {1}, 1), 2);           // prompts count
  EXPECT_EQ(choose({.repetition_penalty = 1.5f}, {1, 2, 1, 1}, 0), 1);  // once each
  EXPECT_EQ(choose({.presence_penalty = 1}, {1}, 1), 1);                // prompts do not
  EXPECT_EQ(choose({.presence_penalty = 1}, {1}, 0), 2);
  EXPECT_EQ(choose({.presence_penalty = 1}, {1, 1, 1, 2}, 0), 1);
  EXPECT_EQ(choose({.frequency_penalty = 1}, {1, 1, 2}, 0), 2);
  EXPECT_EQ(choose({.frequency_penalty = 2}, {1, 1, 2, 2}, 0), 0);
  EXPECT_EQ(choose({.logit_bias = {{3, 7}}}, {}, 0), 3);
}

TEST(Sampler, LogprobsAreTheModelsOwn) {
  const std::vector<float> logits{1, 3, 2, 0};
  auto sampler = Sampler::create(4, {.logit_bias = {{0, 100}}, .top_logprobs = 2});
  auto token = sampler->sample(logits, {}, 0);
  ASSERT_TRUE(token.ok());
  const double norm = std::log(std::exp(1) + std::exp(3) + std::exp(2) + 1);
  EXPECT_EQ(token->token, 0);
  EXPECT_NEAR(token->logprob, 1 - norm, 1e-6);
  ASSERT_EQ(token->top_count, 2);
  EXPECT_EQ(token->top[0].token, 1);
  EXPECT_EQ(token->top[1].token, 2);
  EXPECT_NEAR(token->top[0].logprob, 3 - norm, 1e-6);
}

TEST(Sampler, SameSeedSameToken) {
  std::vector<float> logits(100, 0.5f);
  auto a = Sampler::create(100, {.temperature = 1, .seed = 9}), b = Sampler::create(100, {.temperature = 1, .seed = 9});
  auto c = Sampler::create(100, {.temperature = 1, .seed = 10});
  std::vector<int32_t> history(5, 1);
  const int32_t first = a->sample(logits, history, 0)->token;
  EXPECT_EQ(a->sample(logits, history, 0)->token, first);  // whatever came before
  EXPECT_EQ(b->sample(logits, history, 0)->token, first);
  int differ = 0;
  for (int i = 0; i < 20; ++i) {
    history.push_back(1);
    differ += a->sample(logits, history, 0)->token != c->sample(logits, history, 0)->token;
  }
  EXPECT_GT(differ, 10);
}

TEST(Sampler, Refusals) {
  const struct {
    SamplingParams params;
    const char *says;
  } rows[] = {
      {{.temperature = -1}, "temperature"},
      {{.temperature = std::nanf("")}, "temperature"},
      {{.top_k = -1}, "top_k"},
      {{.top_p = 0}, "top_p"},
      {{.top_p = 1.5f}, "top_p"},
      {{.min_p = 2}, "min_p"},
      {{.repetition_penalty = 0}, "repetition_penalty"},
      {{.presence_penalty = std::numeric_limits<float>::infinity()}, "presence_penalty"},
      {{.logit_bias = {{4, 1}}}, "logit_bias"},
      {{.logit_bias = {{-1, 1}}}, "logit_bias"},
      {{.logit_bias = {{1, std::nanf("")}}}, "logit_bias"},
      {{.top_logprobs = 21}, "top_logprobs"},
  };
  for (const auto &row : rows)
    EXPECT_THAT(Sampler::create(4, row.params).status().message(), HasSubstr(row.says));
  auto sampler = Sampler::create(4, {});
  const std::vector<float> nan{0, std::nanf(""), 0, 0}, nothing(4, -std::numeric_limits<float>::infinity()),
      fine(4, 0.0f);
  EXPECT_THAT(sampler->sample(nan, {}, 0).status().message(), HasSubstr("token 1 is not a number"));
  EXPECT_FALSE(sampler->sample(nothing, {}, 0).ok());
  const int32_t outside[] = {4};
  EXPECT_FALSE(sampler->sample(fine, outside, 0).ok());
  EXPECT_FALSE(sampler->sample(std::span(fine).first(3), {}, 0).ok());
}

}  // namespace
}  // namespace mili
