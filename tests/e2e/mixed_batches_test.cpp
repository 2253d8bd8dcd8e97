// Deterministic plans: 32 sessions that join, leave and prefill in chunks while others decode give, bit by bit, the
// logits and the tokens that each gives alone. Built twice, as golden_test: for the CPU with the compiler, and for
// plans compiled elsewhere (MILI_MIXED_PLANS, paths of plans made with --deterministic --requests 32, separated by
// colons).
#include "golden.h"

#ifndef MILI_GOLDEN_PLANS_ONLY
#include "mili/Compiler/Compiler.h"
#endif
#include "mili/runtime/hash.h"
#include "mili/runtime/session.h"
#include "mili/schema/plan_generated.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <sstream>
#include <unistd.h>

namespace {

using namespace mili;

constexpr int64_t kSessions = 32;
constexpr int kGenerated = 24;

// One request: what it asks, and what came of it.
struct Request {
  std::vector<int32_t> prompt;
  std::vector<int32_t> tokens;
  std::vector<uint64_t> rows;  // hashes of the logits that gave each token

  void see(std::span<const float> logits) {
    RunningHash hash;
    hash.update(std::as_bytes(logits));
    rows.push_back(hash.digest());
    tokens.push_back(mili::testing::arg_max(logits.data(), static_cast<int64_t>(logits.size())));
  }
};

// A session of the mixed run.
struct Live {
  Request *request;
  std::unique_ptr<Session> session;
  size_t done = 0;  // tokens of the prompt
};

void expect_the_same_alone_and_together(Plan plan) {
  EngineOptions options;
  options.cpu.threads = 2;
  StatusOr<std::unique_ptr<Engine>> engine = Engine::load(std::move(plan), options);
  if (engine.status().code() == StatusCode::kUnavailable)
    GTEST_SKIP() << engine.status().to_string();
  ASSERT_TRUE(engine.ok()) << engine.status().to_string();
  ASSERT_TRUE((*engine)->plan().meta().deterministic());
  // As many as the plan serves, if it serves fewer.
  const int64_t sessions = std::min<int64_t>(kSessions, (*engine)->requests());
  StatusOr<std::unique_ptr<SessionPool>> pool = SessionPool::create(**engine);
  ASSERT_TRUE(pool.ok()) << pool.status().to_string();

  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  auto pick = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random); };
  std::vector<Request> alone(static_cast<size_t>(sessions));
  for (Request &request : alone)
    for (int64_t i = pick(1, 150); i > 0; --i)
      request.prompt.push_back(static_cast<int32_t>(pick(0, (*engine)->vocab() - 1)));
  std::vector<Request> together = alone;

  for (Request &request : alone) {
    auto session = (*pool)->create_session();
    ASSERT_TRUE(session.ok());
    ASSERT_TRUE((*session)->append(request.prompt).ok());
    for (int i = 0; i < kGenerated; ++i) {
      request.see((*session)->logits());
      ASSERT_TRUE((*session)->append({&request.tokens.back(), 1}).ok());
    }
  }

  std::vector<Live> live;
  size_t joined = 0;
  int64_t steps = 0, most = 0;
  while (joined < together.size() || !live.empty()) {
    for (int64_t n = pick(0, 3); n > 0 && joined < together.size(); --n) {
      auto session = (*pool)->create_session();
      ASSERT_TRUE(session.ok());
      live.push_back({&together[joined++], std::move(*session)});
    }
    // Any of the live sessions, in any order, under a budget of tokens.
    std::shuffle(live.begin(), live.end(), random);
    int64_t budget = pick(8, 120);
    std::vector<SessionStep> items;
    std::vector<Live *> of;
    for (Live &one : live) {
      if (budget == 0 || pick(0, 5) == 0)
        continue;
      const size_t left = one.request->prompt.size() - one.done;
      if (left > 0) {
        const auto count = std::min<size_t>(left, static_cast<size_t>(pick(1, std::min<int64_t>(budget, 40))));
        items.push_back({one.session.get(), std::span(one.request->prompt).subspan(one.done, count),
                         count == left ? LogitRows::kLast : LogitRows::kNone});
        one.done += count;
        budget -= static_cast<int64_t>(count);
      } else {
        items.push_back({one.session.get(), {&one.request->tokens.back(), 1}, LogitRows::kLast});
        --budget;
      }
      of.push_back(&one);
    }
    if (items.empty())
      continue;
    StatusOr<StepOutput> out = (*pool)->step(items);
    ASSERT_TRUE(out.ok()) << out.status().to_string();
    ++steps;
    most = std::max(most, static_cast<int64_t>(items.size()));
    for (size_t i = 0; i < items.size(); ++i)
      if (items[i].logits == LogitRows::kLast)
        of[i]->request->see(of[i]->session->logits());
    std::erase_if(live, [](const Live &one) { return one.request->tokens.size() == kGenerated; });
  }
  EXPECT_GT(most, 4) << "the schedule did not mix";

  int64_t rows = 0;
  for (size_t s = 0; s < alone.size(); ++s) {
    EXPECT_EQ(together[s].tokens, alone[s].tokens) << "session " << s;
    for (size_t i = 0; i < alone[s].rows.size(); ++i, ++rows)
      ASSERT_EQ(together[s].rows[i], alone[s].rows[i]) << "logits of session " << s << ", token " << i;
  }
  std::printf("%s: %lld sessions, %lld mixed steps of up to %lld sessions, %lld rows of logits equal bit by bit\n",
              (*engine)->plan().meta().model()->name()->c_str(), static_cast<long long>(sessions),
              static_cast<long long>(steps), static_cast<long long>(most), static_cast<long long>(rows));
}

#ifdef MILI_GOLDEN_PLANS_ONLY
TEST(MixedBatches, PlansCompiledElsewhere) {
  const char *paths = std::getenv("MILI_MIXED_PLANS");
  if (!paths)
    GTEST_SKIP() << "MILI_MIXED_PLANS names no plans";
  std::istringstream list(paths);
  for (std::string path; std::getline(list, path, ':');) {
    SCOPED_TRACE(path);
    StatusOr<Plan> plan = Plan::open(path);
    ASSERT_TRUE(plan.ok()) << plan.status().to_string();
    expect_the_same_alone_and_together(std::move(*plan));
  }
}
#else
class MixedBatches : public ::testing::TestWithParam<const char *> {};
TEST_P(MixedBatches, OnTheCpu) {
  CompileOptions options;
  options.model = std::string(MILI_GOLDEN_DIR) + "/" + GetParam();
  options.output = ::testing::TempDir() + "mixed-" + GetParam() + "-" + std::to_string(getpid()) + ".mili";
  options.requests = kSessions;
  options.context = 256;
  options.deterministic = true;
  StatusOr<CompileResult> compiled = compile_model(options, {});
  ASSERT_TRUE(compiled.ok()) << compiled.status().to_string();
  StatusOr<Plan> plan = Plan::open(options.output);
  std::filesystem::remove(options.output);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  expect_the_same_alone_and_together(std::move(*plan));
}
// Plain GQA; norms of heads; a window.
INSTANTIATE_TEST_SUITE_P(Families, MixedBatches, ::testing::Values("llama", "qwen3", "mistral-window"),
                         [](const auto &info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });
#endif

}  // namespace
