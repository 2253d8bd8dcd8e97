// Engine, sessions and generation on the toy model, against its plain reference.
#include "mili/runtime/session.h"

#include "counting_allocator.h"
#include "mili/runtime/generator.h"
#include "toy_model.h"
#include "toy_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <unistd.h>

namespace mili {
namespace {

using testing::HasSubstr;

int64_t all_pages(const Engine &engine) {
  int64_t pages = 0;
  for (const PageTable &table : engine.page_tables())
    pages += static_cast<int64_t>(table.pages) - 1;
  return pages;
}

class SessionTest : public testing::TestWithParam<uint32_t> {
protected:
  explicit SessionTest(toy::ToyPlan plan = toy::toy_plan()) : toy(std::move(plan)) {}

  void SetUp() override {
    const std::string path = toy::temporary_path("plan.mili");
    ASSERT_TRUE(toy.write(path).ok());
    auto plan = Plan::open(path);
    ASSERT_TRUE(plan.ok()) << plan.status().to_string();
    unlink(path.c_str());  // the map stays; the length does not change
    EngineOptions options;
    options.cpu.threads = GetParam();
    auto loaded = Engine::load(std::move(*plan), options);
    ASSERT_TRUE(loaded.ok()) << loaded.status().to_string();
    engine = std::move(*loaded);
    pool = *SessionPool::create(*engine);
  }

  std::unique_ptr<Session> make() {
    auto session = pool->create_session();
    EXPECT_TRUE(session.ok()) << session.status().to_string();
    return std::move(*session);
  }
  static std::vector<int32_t> some_tokens(int count, int salt) {
    std::vector<int32_t> tokens;
    for (int i = 0; i < count; ++i)
      tokens.push_back((i * 7 + salt * 11 + i * i % 5) % toy::kVocab);
    return tokens;
  }
  void expect_last(const Session &session) {
    std::vector<float> reference = toy::reference_logits(toy, session.tokens());
    ASSERT_EQ(session.logits().size(), size_t{toy::kVocab});
    for (size_t v = 0; v < toy::kVocab; ++v)
      EXPECT_NEAR(session.logits()[v], reference[reference.size() - toy::kVocab + v], 1e-4) << "token " << v;
  }

  toy::ToyPlan toy;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<SessionPool> pool;
};

TEST_P(SessionTest, PicksTheSmallestBucket) {
  EXPECT_EQ(*engine->pick_bucket(1, 1, 1), 0u);
  EXPECT_EQ(*engine->pick_bucket(2, 1, 1), 1u);
  EXPECT_EQ(*engine->pick_bucket(1, 1, 0), 0u);
  EXPECT_EQ(*engine->pick_bucket(5, 3, 4), 2u);
  EXPECT_THAT(engine->pick_bucket(17, 1, 1).status().message(), HasSubstr("largest of each are 16, 3 and 4"));
  EXPECT_FALSE(engine->pick_bucket(4, 4, 4).ok());
}

TEST_P(SessionTest, PrefillInChunksAcrossPages) {
  auto session = make();
  for (int count : {1, 3, 16, 17, 64, 33}) {
    ASSERT_TRUE(session->append(some_tokens(count, count)).ok());
    expect_last(*session);
  }
  EXPECT_EQ(session->length(), 134);
}

TEST_P(SessionTest, EveryRowOfThePrompt) {
  auto session = make();
  const std::vector<int32_t> tokens = some_tokens(70, 1);
  std::vector<float> rows;
  int64_t next = 0;
  ASSERT_TRUE(session
                  ->append(tokens,
                           [&](int64_t first, int64_t count, const float *logits) {
                             EXPECT_EQ(first, next);
                             next += count;
                             rows.insert(rows.end(), logits, logits + count * toy::kVocab);
                             return ok_status();
                           })
                  .ok());
  const std::vector<float> reference = toy::reference_logits(toy, tokens);
  ASSERT_EQ(rows.size(), reference.size());
  for (size_t i = 0; i < rows.size(); ++i)
    ASSERT_NEAR(rows[i], reference[i], 1e-4) << i;
}

TEST_P(SessionTest, ManySessionsInOneStepAreEachAlone) {
  auto a = make(), b = make(), c = make();
  ASSERT_TRUE(a->append(some_tokens(63, 1)).ok());
  ASSERT_TRUE(b->append(some_tokens(5, 2)).ok());
  const std::vector<int32_t> ta = some_tokens(3, 4), tb = some_tokens(1, 5), tc = some_tokens(9, 6);
  const SessionStep items[] = {
      {a.get(), ta, LogitRows::kLast}, {b.get(), tb, LogitRows::kLast}, {c.get(), tc, LogitRows::kLast}};
  auto output = pool->step(items);
  ASSERT_TRUE(output.ok()) << output.status().to_string();
  EXPECT_EQ(output->rows, 3);
  for (Session *session : {a.get(), b.get(), c.get()})
    expect_last(*session);
  // Another's step does not take the logits away.
  ASSERT_TRUE(a->append(some_tokens(20, 7)).ok());
  expect_last(*b);
  expect_last(*c);
}

TEST_P(SessionTest, ForkSharesPagesAndCopiesTheOneItWrites) {
  auto a = make();
  ASSERT_TRUE(a->append(some_tokens(100, 1)).ok());
  const int64_t free_before = pool->free_pages();
  a->set_prompt_tokens(90);
  auto forked = a->fork();
  ASSERT_TRUE(forked.ok());
  EXPECT_EQ((*forked)->prompt_tokens(), 90u);
  auto &b = *forked;
  EXPECT_EQ(pool->free_pages(), free_before);
  expect_last(*b);
  ASSERT_TRUE(b->append(some_tokens(1, 2)).ok());
  EXPECT_EQ(pool->free_pages(), free_before - 1);
  ASSERT_TRUE(a->append(some_tokens(2, 3)).ok());
  EXPECT_EQ(pool->free_pages(), free_before - 1);  // the page is a's alone now
  expect_last(*a);
  expect_last(*b);
  a.reset();
  ASSERT_TRUE(b->append(some_tokens(30, 4)).ok());
  expect_last(*b);
  b.reset();
  EXPECT_EQ(pool->free_pages(), all_pages(*engine));
}

TEST_P(SessionTest, TruncateForgets) {
  auto a = make();
  ASSERT_TRUE(a->append(some_tokens(130, 1)).ok());
  auto b = std::move(*a->fork());
  for (int64_t length : {129, 128, 70, 64, 10, 0}) {
    ASSERT_TRUE(a->truncate(length).ok());
    EXPECT_TRUE(a->logits().empty());
    ASSERT_TRUE(a->append(some_tokens(2, static_cast<int>(length))).ok());
    expect_last(*a);
    ASSERT_TRUE(a->truncate(length).ok());
  }
  EXPECT_EQ(a->truncate(1).code(), StatusCode::kInvalidArgument);
  ASSERT_TRUE(b->append(some_tokens(1, 9)).ok());
  expect_last(*b);  // what a wrote after truncating never reached b's pages
}

// A token's logits are the same bits however the sequence was cut into steps and whoever shared them.
TEST_P(SessionTest, ChunksAndNeighboursChangeNothing) {
  const std::vector<int32_t> tokens = some_tokens(75, 1);
  auto whole = make(), single = make();
  ASSERT_TRUE(whole->append(tokens).ok());
  for (int32_t token : tokens)
    ASSERT_TRUE(single->append({&token, 1}).ok());
  const std::vector<float> expected(whole->logits().begin(), whole->logits().end());
  EXPECT_TRUE(std::ranges::equal(single->logits(), expected));
  whole.reset();
  auto batched = make(), other = make();
  for (size_t at = 0; at < tokens.size(); at += 3) {
    const std::vector<int32_t> noise = some_tokens(1 + static_cast<int>(at) % 4, static_cast<int>(at));
    const SessionStep items[] = {{other.get(), noise, LogitRows::kLast},
                                 {batched.get(), std::span(tokens).subspan(at, 3), LogitRows::kLast}};
    ASSERT_TRUE(pool->step(items).ok());
  }
  EXPECT_TRUE(std::ranges::equal(batched->logits(), expected));
}

// Sessions made, ended, forked, truncated and stepped at random, beside plain vectors of what each should hold.
TEST_P(SessionTest, RandomUseAgreesWithPlainVectors) {
  struct Pair {
    std::unique_ptr<Session> session;
    std::vector<int32_t> tokens;
    bool has_logits = false;
  };
  std::mt19937 random(GetParam());
  auto below = [&](size_t bound) { return static_cast<size_t>(random() % bound); };
  auto random_tokens = [&](size_t count) {
    std::vector<int32_t> tokens(count);
    for (int32_t &token : tokens)
      token = static_cast<int32_t>(below(toy::kVocab));
    return tokens;
  };
  std::vector<Pair> live;
  for (int round = 0; round < 400; ++round) {
    const size_t what = live.empty() ? 0 : below(8);
    const size_t i = live.empty() ? 0 : below(live.size());
    if (what <= 1) {
      const bool forking = what == 1;
      auto made = forking ? live[i].session->fork() : pool->create_session();
      ASSERT_EQ(made.ok(), live.size() < 3);
      if (made.ok())
        live.push_back(
            {std::move(*made), forking ? live[i].tokens : std::vector<int32_t>(), forking && live[i].has_logits});
    } else if (what == 2 && below(3) == 0) {
      live.erase(live.begin() + static_cast<ptrdiff_t>(i));
    } else if (what == 3) {
      const size_t length = below(live[i].tokens.size() + 1);
      ASSERT_TRUE(live[i].session->truncate(static_cast<int64_t>(length)).ok());
      live[i].has_logits &= length == live[i].tokens.size();
      live[i].tokens.resize(length);
    } else if (what == 4) {
      const std::vector<int32_t> tokens = random_tokens(1 + below(60));
      const bool fits = live[i].tokens.size() + tokens.size() <= 200;
      ASSERT_EQ(live[i].session->append(tokens).ok(), fits);
      if (fits) {
        live[i].tokens.insert(live[i].tokens.end(), tokens.begin(), tokens.end());
        live[i].has_logits = true;
      }
    } else {
      std::vector<SessionStep> items;
      std::vector<std::vector<int32_t>> tokens;
      bool fits = true;
      for (Pair &pair : live) {
        tokens.push_back(random_tokens(1 + below(5)));
        fits &= pair.tokens.size() + tokens.back().size() <= 200;
      }
      for (size_t s = 0; s < live.size(); ++s)
        items.push_back({live[s].session.get(), tokens[s], s % 2 ? LogitRows::kNone : LogitRows::kLast});
      ASSERT_EQ(pool->step(items).ok(), fits);
      for (size_t s = 0; fits && s < live.size(); ++s) {
        live[s].tokens.insert(live[s].tokens.end(), tokens[s].begin(), tokens[s].end());
        live[s].has_logits = s % 2 == 0;
      }
    }
    // Sharing can only save pages; whatever failed gave back what it took.
    int64_t most = 0, longest = 0;
    for (Pair &pair : live) {
      ASSERT_TRUE(std::ranges::equal(pair.session->tokens(), pair.tokens));
      ASSERT_EQ(!pair.session->logits().empty(), pair.has_logits);
      const auto pages = static_cast<int64_t>(pages_for(pair.tokens.size()));
      most += pages;
      longest = std::max(longest, pages);
      if (pair.has_logits && round % 4 == 0)
        expect_last(*pair.session);
    }
    const int64_t used = all_pages(*engine) - pool->free_pages();
    ASSERT_LE(used, most);
    ASSERT_GE(used, longest);
    if (HasFailure())
      return;
  }
  live.clear();
  EXPECT_EQ(pool->free_pages(), all_pages(*engine));
  EXPECT_EQ(pool->live_sessions(), 0);
}

TEST_P(SessionTest, RefusesWithoutChangingAnything) {
  auto a = make();
  ASSERT_TRUE(a->append(some_tokens(190, 1)).ok());
  Status status = a->append(some_tokens(11, 1));
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("--context"));
  const int32_t bad[] = {1, toy::kVocab}, negative[] = {-1};
  EXPECT_THAT(a->append(bad).message(), HasSubstr("token 37 is not in the vocabulary of 37"));
  EXPECT_FALSE(a->append(negative).ok());
  EXPECT_EQ(a->length(), 190);
  EXPECT_EQ(pool->free_pages(), all_pages(*engine) - 3);
  expect_last(*a);
  const int32_t token = 1;
  const SessionStep twice[] = {{a.get(), {&token, 1}, LogitRows::kLast}, {a.get(), {&token, 1}, LogitRows::kLast}};
  EXPECT_THAT(pool->step(twice).status().message(), HasSubstr("same session"));
  auto b = make(), c = make();
  Status full = pool->create_session().status();
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(full.message(), HasSubstr("--requests"));
  auto sampler = Sampler::create(toy::kVocab, {});
  EXPECT_EQ(b->sample(*sampler).status().code(), StatusCode::kFailedPrecondition);
}

TEST_P(SessionTest, EngineChecksItsInput) {
  const int32_t token = 1;
  const PageList pages{1}, pages0{0}, pages13{13}, many(5, 1);
  StepSequence good{{&token, 1}, 0, {&pages, 1}, LogitRows::kLast};
  auto refused = [&](StepSequence sequence) { return engine->step({&sequence, 1}).status().message(); };
  EXPECT_THAT(refused({{}, 0, {&pages, 1}}), HasSubstr("no tokens"));
  EXPECT_THAT(refused({{&token, 1}, -1, {&pages, 1}}), HasSubstr("position -1"));
  EXPECT_THAT(refused({{&token, 1}, 200, {&pages, 1}}), HasSubstr("context of 200"));
  EXPECT_THAT(refused({{&token, 1}, 64, {&pages, 1}}), HasSubstr("need 2"));
  EXPECT_THAT(refused({{&token, 1}, 0, {&pages0, 1}}), HasSubstr("page 0"));
  EXPECT_THAT(refused({{&token, 1}, 0, {&pages13, 1}}), HasSubstr("page 13"));
  EXPECT_THAT(refused({{&token, 1}, 0, {&many, 1}}), HasSubstr("5 pages, its positions need 1 to 4"));
  EXPECT_THAT(refused({{&token, 1}, 0, {}}), HasSubstr("pages of 0 page tables, the plan has 1"));
  EXPECT_TRUE(engine->step({&good, 1}).ok());
  EXPECT_FALSE(engine->step({}).ok());
}

TEST_P(SessionTest, NothingIsAllocatedAfterLoad) {
  auto a = make(), b = make();
  auto sampler = Sampler::create(
      toy::kVocab, {.temperature = 0.8f, .top_k = 10, .top_p = 0.9f, .repetition_penalty = 1.1f, .top_logprobs = 5});
  ASSERT_TRUE(sampler.ok());
  const std::vector<int32_t> prompt = some_tokens(40, 1);
  // Every worker has started once a step is done; a sanitizer allocates when a thread starts.
  ASSERT_TRUE(a->append({prompt.data(), 1}).ok());
  ASSERT_TRUE(a->truncate(0).ok());
  const uint64_t before = toy::heap_allocations();
  EXPECT_GT(before, 0u);  // the counter counts
  ASSERT_TRUE(a->append(prompt).ok());
  ASSERT_TRUE(b->append(prompt).ok());
  for (int i = 0; i < 100; ++i) {
    auto next = a->sample(*sampler);
    ASSERT_TRUE(next.ok());
    const SessionStep items[] = {{a.get(), {&next->token, 1}, LogitRows::kLast},
                                 {b.get(), {&next->token, 1}, LogitRows::kLast}};
    ASSERT_TRUE(pool->step(items).ok());
    if (i == 50) {
      ASSERT_TRUE(b->truncate(10).ok());
    }
  }
  EXPECT_EQ(toy::heap_allocations() - before, 0u);
  EXPECT_EQ(engine->allocations_after_load(), 0u);
}

TEST_P(SessionTest, GenerateStopsForEachReason) {
  auto sampler = Sampler::create(toy::kVocab, {});
  const std::vector<int32_t> prompt = some_tokens(10, 3);
  auto run = [&](GenerateOptions options, std::span<const int32_t> tokens) {
    auto session = make();
    auto result = generate(*session, *sampler, tokens, options);
    EXPECT_TRUE(result.ok()) << result.status().to_string();
    return std::move(*result);
  };
  GenerateResult all = run({.max_tokens = 20}, prompt);
  EXPECT_EQ(all.finish, FinishReason::kLength);
  ASSERT_EQ(all.tokens.size(), 20u);
  // Greedy by the reference, token by token.
  std::vector<int32_t> sequence = prompt;
  for (int32_t token : all.tokens) {
    std::vector<float> logits = toy::reference_logits(toy, sequence);
    auto last = logits.end() - toy::kVocab;
    EXPECT_EQ(token, std::max_element(last, logits.end()) - last);
    sequence.push_back(token);
  }
  GenerateResult stopped = run({.max_tokens = 20, .stop_tokens = {&all.tokens[0], 1}}, prompt);
  EXPECT_EQ(stopped.finish, FinishReason::kStop);
  EXPECT_TRUE(stopped.tokens.empty());
  int seen = 0;
  GenerateResult cancelled =
      run({.max_tokens = 20, .on_token = [&](const SampledToken &) { return ++seen < 3; }}, prompt);
  EXPECT_EQ(cancelled.finish, FinishReason::kCancelled);
  EXPECT_EQ(cancelled.tokens.size(), 3u);
  GenerateResult full = run({.max_tokens = 20}, some_tokens(195, 3));
  EXPECT_EQ(full.finish, FinishReason::kContext);
  EXPECT_EQ(full.tokens.size(), 6u);
}

// Prompts in chunks beside sessions that generate, under a budget: each session's logits are those that it has alone.
TEST_P(SessionTest, StepsUnderABudgetGiveWhatEachGivesAlone) {
  struct Live {
    std::unique_ptr<Session> session;
    std::vector<int32_t> pending;
    int generated = 0;
  };
  for (int64_t budget : {1, 2, 5, 16, 1000}) {
    std::vector<Live> live(3);
    for (int i = 0; i < 3; ++i)
      live[static_cast<size_t>(i)] = {make(), some_tokens(3 + 20 * i, i)};
    bool mixed = false;
    auto busy = [](const Live &one) { return !one.pending.empty(); };
    for (int steps = 0; std::any_of(live.begin(), live.end(), busy); ++steps) {
      ASSERT_LT(steps, 200);
      std::vector<SessionStep> pending;
      for (Live &one : live)
        pending.push_back({one.session.get(), one.pending, LogitRows::kLast});
      auto items = pool->take_step(pending, budget);
      ASSERT_TRUE(items.ok());
      ASSERT_FALSE(items->empty());
      size_t tokens = 0, generating = 0;
      for (const SessionStep &item : *items) {
        tokens += item.tokens.size();
        generating += item.session->length() > 0 && item.tokens.size() == 1 && item.logits == LogitRows::kLast;
      }
      EXPECT_LE(tokens, static_cast<size_t>(std::min<int64_t>(budget, 16)));
      mixed |= generating > 0 && tokens > items->size();
      // As much as fits: there is work left only where the budget or the bucket is full.
      size_t left = 0;
      for (const Live &one : live)
        left += one.pending.size();
      EXPECT_EQ(tokens, std::min<size_t>(left, static_cast<size_t>(std::min<int64_t>(budget, 16))));
      ASSERT_TRUE(pool->step(*items).ok());
      for (const SessionStep &item : *items) {
        Live &one = *std::find_if(live.begin(), live.end(), [&](Live &l) { return l.session.get() == item.session; });
        one.pending.erase(one.pending.begin(), one.pending.begin() + static_cast<ptrdiff_t>(item.tokens.size()));
        EXPECT_EQ(item.session->logits().empty(), !one.pending.empty());
        if (!one.pending.empty())
          continue;
        expect_last(*one.session);
        if (++one.generated < 8) {
          auto sampler = Sampler::create(toy::kVocab, {});
          one.pending.push_back(one.session->sample(*sampler)->token);
        }
      }
    }
    EXPECT_TRUE(mixed || budget != 5);
    for (const Live &one : live)
      EXPECT_EQ(one.generated, 8);
  }
}

// Bounds of buckets: sequences, rows, and all rows of a session.
TEST_P(SessionTest, StepsUnderABudgetFitABucket) {
  auto a = make(), b = make();
  const std::vector<int32_t> tokens = some_tokens(40, 1);
  auto take = [&](std::vector<SessionStep> pending, int64_t budget) { return *pool->take_step(pending, budget); };
  // Every row of up to 4 wanted rows.
  auto all = take({{a.get(), tokens, LogitRows::kAll}}, 100);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].tokens.size(), 4u);
  EXPECT_EQ(all[0].logits, LogitRows::kAll);
  // One that generates comes first, wherever it stands; the rows it leaves bound the others.
  auto both = take({{a.get(), tokens, LogitRows::kAll}, {b.get(), std::span(tokens).first(1), LogitRows::kLast}}, 100);
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0].session, b.get());
  EXPECT_EQ(both[1].tokens.size(), 3u);
  // No row is left for a last token: it waits.
  auto full = take(
      {{a.get(), std::span(tokens).first(4), LogitRows::kAll}, {b.get(), std::span(tokens).first(6), LogitRows::kLast}},
      100);
  ASSERT_EQ(full.size(), 2u);
  EXPECT_EQ(full[1].tokens.size(), 5u);
  EXPECT_EQ(full[1].logits, LogitRows::kNone);
  EXPECT_TRUE(pool->step(full).ok());
  // A chunk that asks for nothing stays so.
  auto none = take({{a.get(), tokens, LogitRows::kNone}}, 7);
  ASSERT_EQ(none.size(), 1u);
  EXPECT_EQ(none[0].tokens.size(), 7u);
  EXPECT_EQ(none[0].logits, LogitRows::kNone);
  EXPECT_TRUE(take({}, 5).empty());
  EXPECT_TRUE(take({{a.get(), {}, LogitRows::kLast}}, 5).empty());
  EXPECT_EQ(pool->take_step({}, 0).status().code(), StatusCode::kInvalidArgument);
}

TEST_P(SessionTest, ProfileNamesEveryLaunch) {
  auto a = make();
  engine->set_profiling(true);
  ASSERT_TRUE(a->append(some_tokens(20, 1)).ok());
  auto rows = engine->profile();
  ASSERT_EQ(rows.size(), 8u);  // 16 tokens in one bucket, 4 in another
  EXPECT_EQ(rows[0].kernel, "toy_embed");
  EXPECT_EQ(rows[0].calls, 1u);
  EXPECT_GT(rows[2].seconds, 0);
  // What the steps held, not the buckets' bounds: 16 tokens, then 4 after them, of which the last one is wanted.
  EXPECT_EQ(rows[0].bucket, "t4");
  EXPECT_EQ(rows[0].work.bytes(), 0);
  EXPECT_EQ(rows[1].work.activation_bytes, 4 * 2 * toy::kWidth * 4);
  EXPECT_EQ(rows[2].work.state_bytes, 64 * 20);
  EXPECT_EQ(rows[2].work.flops, 10 * (17 + 18 + 19 + 20));
  EXPECT_EQ(rows[3].work.flops, 2 * toy::kVocab * toy::kWidth);
  EXPECT_EQ(rows[6].work.state_bytes, 64 * 16);
  EXPECT_EQ(rows[6].work.flops, 10 * 16 * 17 / 2);
  EXPECT_EQ(rows[7].work.bytes(), 0);  // no row was wanted
  // Steps add up, each at its own position.
  ASSERT_TRUE(a->append(some_tokens(1, 1)).ok());
  ASSERT_TRUE(a->append(some_tokens(1, 2)).ok());
  rows = engine->profile();
  ASSERT_EQ(rows.size(), 12u);
  EXPECT_EQ(rows[2].bucket, "t1");
  EXPECT_EQ(rows[2].calls, 2u);
  EXPECT_EQ(rows[2].work.state_bytes, 64 * (21 + 22));
  // The same beforehand; a step that no bucket takes has none.
  const SequenceExtent next{22, 1}, much{0, 17};
  EXPECT_EQ(engine->expected_work({{&next, 1}, 1})->state_bytes, 64 * 23);
  EXPECT_EQ(engine->expected_work({{&much, 1}, 0}).status().code(), StatusCode::kInvalidArgument);
  engine->set_profiling(false);
  EXPECT_TRUE(engine->profile().empty());
}

TEST(PageAllocator, CountsUsersAndRunsOut) {
  PageAllocator pages(4);
  bool recycled = true;
  EXPECT_EQ(pages.free_pages(), 3);
  for (int32_t expected : {1, 2, 3}) {  // page 0 is never given out
    EXPECT_EQ(pages.allocate(&recycled), expected);
    EXPECT_FALSE(recycled);
  }
  EXPECT_EQ(pages.allocate(&recycled), -1);
  pages.share(2);
  EXPECT_EQ(pages.users(2), 2);
  pages.release(2);
  EXPECT_EQ(pages.allocate(&recycled), -1);  // one user is left
  pages.release(2);
  EXPECT_EQ(pages.free_pages(), 1);
  EXPECT_EQ(pages.allocate(&recycled), 2);
  EXPECT_TRUE(recycled);
}

INSTANTIATE_TEST_SUITE_P(Threads, SessionTest, testing::Values(1u, 2u, 3u, 5u));

// Layers with a window keep a ring of pages.
class WindowTest : public SessionTest {
protected:
  WindowTest() : SessionTest(toy::toy_plan(true)) {}
};

TEST_P(WindowTest, TakesTheSamePagesAtAnyLength) {
  ASSERT_EQ(engine->page_tables().size(), 2u);
  EXPECT_EQ(engine->page_tables()[0].ring, 4u);
  EXPECT_EQ(engine->page_tables()[1].ring, 2u);
  EXPECT_EQ(engine->page_tables()[1].pages, 7u);
  auto session = make();
  for (int count : {1, 3, 16, 17, 64, 33, 66}) {
    ASSERT_TRUE(session->append(some_tokens(count, count)).ok());
    expect_last(*session);
  }
  EXPECT_EQ(all_pages(*engine) - pool->free_pages(), 4 + 2);
  auto fork = std::move(*session->fork()), other = make();
  ASSERT_TRUE(session->truncate(190).ok());
  for (Session *each : {session.get(), fork.get(), other.get()}) {
    ASSERT_TRUE(each->append({{1, 2}}).ok() || each == fork.get());
    if (each != fork.get())
      expect_last(*each);
  }
}

TEST_P(WindowTest, TruncatesAsFarAsItsWindowIsKept) {
  auto session = make();
  ASSERT_TRUE(session->append(some_tokens(170, 1)).ok());
  // Blocks 1 and 2 are in the ring; a window of 40 at 103 begins at 64.
  Status status = session->truncate(102);
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("103 tokens or more, or none, can stay"));
  EXPECT_EQ(session->length(), 170);
  ASSERT_TRUE(session->truncate(103).ok());
  ASSERT_TRUE(session->append(some_tokens(1, 5)).ok());
  expect_last(*session);
  // What was written beyond still counts.
  EXPECT_FALSE(session->truncate(80).ok());
  ASSERT_TRUE(session->truncate(0).ok());
  ASSERT_TRUE(session->append(some_tokens(90, 5)).ok());
  ASSERT_TRUE(session->truncate(20).ok());
  ASSERT_TRUE(session->append(some_tokens(1, 6)).ok());
  expect_last(*session);
}

TEST_P(WindowTest, RandomUseAgreesWithPlainVectors) {
  struct Pair {
    std::unique_ptr<Session> session;
    std::vector<int32_t> tokens;
    size_t longest = 0;
  };
  std::mt19937 random(GetParam() + std::random_device{}());
  auto below = [&](size_t bound) { return static_cast<size_t>(random() % bound); };
  std::vector<Pair> live;
  int truncated = 0;
  for (int round = 0; round < 600; ++round) {
    const size_t what = live.empty() ? 0 : below(8), i = live.empty() ? 0 : below(live.size());
    if (what <= 1) {
      const bool forking = what == 1;
      auto made = forking ? live[i].session->fork() : pool->create_session();
      ASSERT_EQ(made.ok(), live.size() < 3);
      if (made.ok())
        live.push_back(
            {std::move(*made), forking ? live[i].tokens : std::vector<int32_t>(), forking ? live[i].longest : 0});
    } else if (what == 2 && below(3) == 0) {
      live.erase(live.begin() + static_cast<ptrdiff_t>(i));
    } else if (what == 3) {
      Pair &pair = live[i];
      const size_t length = pair.tokens.size() - std::min(pair.tokens.size(), below(40));
      const bool done = pair.session->truncate(static_cast<int64_t>(length)).ok();
      ASSERT_TRUE(done || length + 16 < pair.longest) << length << " of " << pair.longest;
      if (done)
        pair.tokens.resize(length);
      if (length == 0)
        pair.longest = 0;
      truncated += done;
    } else {
      std::vector<int32_t> tokens(1 + below(what == 4 ? 60 : 4));
      for (int32_t &token : tokens)
        token = static_cast<int32_t>(below(toy::kVocab));
      Pair &pair = live[i];
      const bool fits = pair.tokens.size() + tokens.size() <= 200;
      ASSERT_EQ(pair.session->append(tokens).ok(), fits);
      if (fits)
        pair.tokens.insert(pair.tokens.end(), tokens.begin(), tokens.end());
      pair.longest = std::max(pair.longest, pair.tokens.size());
      if (!pair.session->logits().empty())
        expect_last(*pair.session);
    }
    if (HasFailure())
      return;
  }
  EXPECT_GT(truncated, 5);
  live.clear();
  EXPECT_EQ(pool->free_pages(), all_pages(*engine));
}

INSTANTIATE_TEST_SUITE_P(Threads, WindowTest, testing::Values(1u, 3u));

}  // namespace
}  // namespace mili
