// Sampling, stop tokens and feedback on the device, on a golden model's plan (MILI_GOLDEN_PLANS/llama.mili): against
// the host's own selection by sorting, and against the distribution that the logits give.
#include "mili/runtime/generator.h"
#include "mili/schema/plan_generated.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <random>

namespace {

using namespace mili;

// Probabilities after temperature, top-k, top-p and min-p, by sorting; ties go to the lower token.
std::vector<double> reference(std::span<const float> logits, const DecodeParams &params) {
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  std::vector<double> weight(logits.size());
  for (size_t i = 0; i < logits.size(); ++i)
    weight[i] = std::exp((static_cast<double>(logits[i]) - logits[order[0]]) / params.temperature);
  size_t left = order.size();
  if (params.top_k > 0)
    left = std::min<size_t>(left, params.top_k);
  double sum = 0;
  for (size_t i = 0; i < left; ++i)
    sum += weight[order[i]];
  if (params.top_p < 1) {
    double so_far = 0;
    for (size_t i = 0; i < left; ++i)
      if ((so_far += weight[order[i]]) >= params.top_p * sum) {
        left = i + 1;
        break;
      }
  }
  while (left > 1 && weight[order[left - 1]] < params.min_p)
    --left;
  std::vector<double> result(logits.size());
  sum = 0;
  for (size_t i = 0; i < left; ++i)
    sum += weight[order[i]];
  for (size_t i = 0; i < left; ++i)
    result[order[i]] = weight[order[i]] / sum;
  return result;
}

class DeviceSampling : public ::testing::Test {
protected:
  void SetUp() override {
    const char *plans = std::getenv("MILI_GOLDEN_PLANS");
    if (!plans)
      GTEST_SKIP() << "MILI_GOLDEN_PLANS names no folder of plans";
    StatusOr<Plan> plan = Plan::open(std::string(plans) + "/llama.mili");
    ASSERT_TRUE(plan.ok()) << plan.status().to_string();
    StatusOr<std::unique_ptr<Engine>> loaded = Engine::load(std::move(*plan));
    if (loaded.status().code() == StatusCode::kUnavailable)
      GTEST_SKIP() << loaded.status().to_string();
    ASSERT_TRUE(loaded.ok()) << loaded.status().to_string();
    engine = std::move(*loaded);
    if (!engine->can_decode())
      GTEST_SKIP() << "the plan does not sample on its device";
    pool = std::move(*SessionPool::create(*engine));
    seed = std::random_device{}();
    std::mt19937 random(static_cast<unsigned>(seed));
    for (int i = 0; i < 20; ++i)
      prompt.push_back(static_cast<int32_t>(random() % engine->vocab()));
    session = std::move(*pool->create_session());
    ASSERT_TRUE(session->append(std::span(prompt).first(19)).ok());
  }

  // The next token after the prompt, drawn `count` times with different seeds.
  std::map<int32_t, int> draw(DecodeParams params, int count) {
    std::map<int32_t, int> seen;
    for (int i = 0; i < count; ++i) {
      params.seed = seed * 1000003u + static_cast<uint64_t>(i);
      EXPECT_TRUE(session
                      ->decode(prompt.back(), 1, params,
                               [&](int64_t, std::span<const int32_t> tokens) {
                                 ++seen[tokens[0]];
                                 return true;
                               })
                      .ok());
      EXPECT_TRUE(session->truncate(19).ok());
    }
    return seen;
  }

  std::unique_ptr<Engine> engine;
  std::unique_ptr<SessionPool> pool;
  std::unique_ptr<Session> session;
  std::vector<int32_t> prompt;
  uint64_t seed = 0;
};

TEST_F(DeviceSampling, FollowsTheDistributionThatTheFiltersLeave) {
  // A step of one token runs the same kernels as decoding: the same logits, bit by bit.
  StatusOr<std::unique_ptr<Session>> forked = session->fork();
  ASSERT_TRUE(forked.ok());
  Session *other = forked->get();
  ASSERT_TRUE(other->append(std::span(prompt).subspan(19)).ok());
  const std::vector<float> logits(other->logits().begin(), other->logits().end());
  const std::vector<DecodeParams> cases = {
      {1.0f, 0, 1, 0, 0, {}},     {0.7f, 5, 1, 0, 0, {}},     {1.0f, 0, 0.5f, 0, 0, {}},
      {1.3f, 40, 0.8f, 0, 0, {}}, {1.0f, 0, 1, 0.2f, 0, {}},  {2.0f, 30, 0.9f, 0.1f, 0, {}},
      {1.0f, 1, 1, 0, 0, {}},     {1.0f, 0, 0.01f, 0, 0, {}}, {0.05f, 3, 0.99f, 0, 0, {}}};
  // Fewer where a step takes long (tests/emulator).
  const char *chosen = std::getenv("MILI_SAMPLING_DRAWS");
  const int draws = chosen ? std::atoi(chosen) : 1500;
  for (const DecodeParams &params : cases) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed << ", temperature " << params.temperature << " top_k "
                                      << params.top_k << " top_p " << params.top_p << " min_p " << params.min_p);
    const std::vector<double> expected = reference(logits, params);
    const std::map<int32_t, int> seen = draw(params, draws);
    int outside = 0;
    double statistic = 0, rest_expected = 0;
    int degrees = -1, rest_seen = 0;
    for (const auto &[token, count] : seen)
      if (expected[token] == 0)
        outside += count;
    EXPECT_EQ(outside, 0);
    for (size_t token = 0; token < expected.size(); ++token) {
      const double mean = expected[token] * draws;
      const auto found = seen.find(static_cast<int32_t>(token));
      const int count = found == seen.end() || expected[token] == 0 ? 0 : found->second;
      if (mean < 10) {
        rest_expected += mean;
        rest_seen += count;
        continue;
      }
      statistic += (count - mean) * (count - mean) / mean;
      ++degrees;
    }
    if (rest_expected >= 10) {
      statistic += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
      ++degrees;
    }
    // Chi-square: its mean and six deviations.
    const double bound = degrees + 6 * std::sqrt(2.0 * std::max(degrees, 1));
    EXPECT_LE(statistic, bound) << degrees << " degrees of freedom";
    if (params.top_k == 1)
      EXPECT_EQ(seen.size(), 1u);
  }
}

TEST_F(DeviceSampling, TheSameSeedGivesTheSameTokensAndAnotherOnePerhapsOthers) {
  auto run = [&](uint64_t with) {
    std::vector<int32_t> tokens;
    EXPECT_TRUE(session
                    ->decode(prompt.back(), 30, {1.0f, 50, 0.95f, 0, with, {}},
                             [&](int64_t, std::span<const int32_t> sampled) {
                               tokens.push_back(sampled[0]);
                               return true;
                             })
                    .ok());
    EXPECT_TRUE(session->truncate(19).ok());
    return tokens;
  };
  const auto first = run(1);
  EXPECT_EQ(first.size(), 30u);
  EXPECT_EQ(run(1), first);
  EXPECT_NE(run(2), first);
}

TEST_F(DeviceSampling, AStopTokenEndsItsSequenceAlone) {
  std::vector<std::vector<int32_t>> free_run(2), stopped(2);
  auto other = std::move(*pool->create_session());
  std::vector<int32_t> reversed(prompt.rbegin(), prompt.rend());
  ASSERT_TRUE(other->append(std::span(reversed).first(19)).ok());
  Session *sessions[] = {session.get(), other.get()};
  const int32_t last[] = {prompt.back(), reversed.back()};
  auto run = [&](std::vector<std::vector<int32_t>> &tokens, std::span<const DecodeParams> params) {
    ASSERT_TRUE(pool->decode(sessions, last, 40, params,
                             [&](int64_t, std::span<const int32_t> sampled) {
                               for (int i = 0; i < 2; ++i)
                                 if (sampled[i] >= 0)
                                   tokens[i].push_back(sampled[i]);
                               return true;
                             })
                    .ok());
  };
  run(free_run, {});
  ASSERT_EQ(free_run[0].size(), 40u);
  for (Session *one : sessions)
    ASSERT_TRUE(one->truncate(19).ok());
  const int32_t stop = free_run[0][5];
  const auto first = std::find(free_run[0].begin(), free_run[0].end(), stop) - free_run[0].begin();
  const auto in_other = std::find(free_run[1].begin(), free_run[1].end(), stop) - free_run[1].begin();
  std::vector<DecodeParams> params(2);
  params[0].stop_tokens = {-1, 7, stop};
  std::replace(params[0].stop_tokens.begin(), params[0].stop_tokens.end(), 7, stop);
  run(stopped, params);
  EXPECT_EQ(stopped[0], std::vector<int32_t>(free_run[0].begin(), free_run[0].begin() + first + 1));
  EXPECT_EQ(stopped[1], free_run[1]) << "the other one goes on";
  EXPECT_EQ(session->length(), 19 + first + 1) << "the prompt's last token and all but the stop token";
  EXPECT_EQ(other->length(), 19 + 40);
  (void)in_other;
  // Both ended: the decoding ends early.
  for (Session *one : sessions)
    ASSERT_TRUE(one->truncate(19).ok());
  params[1].stop_tokens = {free_run[1][0]};
  int64_t steps = 0;
  ASSERT_TRUE(pool->decode(sessions, last, 40, params, [&](int64_t, auto) { return ++steps, true; }).ok());
  EXPECT_LE(steps, first + 1);
}

TEST_F(DeviceSampling, ASequenceEndsWithItsContext) {
  const int64_t room = session->context() - session->length();
  int64_t tokens = 0;
  ASSERT_TRUE(session->decode(prompt.back(), room, {}, [&](int64_t, auto) { return ++tokens, true; }).ok());
  EXPECT_EQ(tokens, room);
  EXPECT_EQ(session->length(), session->context());
  EXPECT_EQ(session->decode(1, 1, {}, [](int64_t, auto) { return true; }).code(), StatusCode::kResourceExhausted);
}

TEST_F(DeviceSampling, GenerateUsesItAndAgreesWithTheHost) {
  auto other = std::move(*pool->create_session());
  SamplingParams greedy, host = greedy;
  host.top_logprobs = 1;  // only the host reports them
  auto a = Sampler::create(engine->vocab(), greedy), b = Sampler::create(engine->vocab(), host);
  GenerateOptions options;
  options.max_tokens = 24;
  ASSERT_TRUE(session->truncate(0).ok());
  auto device = generate(*session, *a, prompt, options), by_host = generate(*other, *b, prompt, options);
  ASSERT_TRUE(device.ok() && by_host.ok());
  EXPECT_EQ(device->tokens, by_host->tokens);
  EXPECT_EQ(device->finish, by_host->finish);
  EXPECT_EQ(session->length(), other->length());
}

// The device advances positions by itself; the profile's work follows them.
TEST_F(DeviceSampling, TheProfileCountsEachStepAtItsPosition) {
  engine->set_profiling(true);
  ASSERT_TRUE(session->decode(prompt.back(), 5, {}, [](int64_t, auto) { return true; }).ok());
  ExpectedWork sum, expected;
  uint64_t calls = 0;
  for (const LaunchProfile &launch : engine->profile()) {
    sum += launch.work;
    calls = launch.calls;
  }
  engine->set_profiling(false);
  EXPECT_EQ(calls, 5u);
  double key_bytes = 0;
  for (const plan::State *state : *engine->plan().meta().states())
    key_bytes += static_cast<double>(state->page_bytes()) / kPageTokens;
  for (int64_t step = 0; step < 5; ++step) {
    const SequenceExtent at{19 + step, 1};
    expected += *engine->expected_work({{&at, 1}, 1});
  }
  EXPECT_EQ(sum.state_bytes, key_bytes * (20 + 21 + 22 + 23 + 24));
  EXPECT_EQ(sum.bytes(), expected.bytes());
  EXPECT_EQ(sum.flops, expected.flops);
}

TEST_F(DeviceSampling, RefusesWhatItCannotDo) {
  auto status = [&](const DecodeParams &params) {
    return session->decode(prompt.back(), 1, params, [](int64_t, auto) { return true; }).code();
  };
  EXPECT_EQ(status({-1.0f}), StatusCode::kInvalidArgument);
  EXPECT_EQ(status({1.0f, -2}), StatusCode::kInvalidArgument);
  EXPECT_EQ(status({1.0f, 0, 0.0f}), StatusCode::kInvalidArgument);
  EXPECT_EQ(status({1.0f, 0, 1.0f, 2.0f}), StatusCode::kInvalidArgument);
  EXPECT_EQ(status({0, 0, 1, 0, 0, std::vector<int32_t>(9, 3)}), StatusCode::kInvalidArgument);
  EXPECT_EQ(session->length(), 19);
}

}  // namespace
