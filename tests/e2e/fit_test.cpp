// What --fit says before anything is built, beside what the runtime then allocates.
#include "mili/Compiler/Fit.h"
#include "mili/runtime/session.h"
#include "mili/schema/plan_generated.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <filesystem>
#include <regex>
#include <unistd.h>

namespace {

using namespace mili;
using testing::HasSubstr;

CompileOptions golden(const std::string &model) {
  CompileOptions options;
  options.model = std::string(MILI_GOLDEN_DIR) + "/" + model;
  options.output = testing::TempDir() + "fit-" + std::to_string(getpid()) + ".mili";
  return options;
}

struct Shape {
  std::string model;
  uint32_t requests, context;
  std::string dtype, target = "cpu";
};

std::ostream &operator<<(std::ostream &os, const Shape &shape) {
  return os << shape.model << " " << shape.requests << " x " << shape.context << " " << shape.dtype << " "
            << shape.target;
}

class Sweep : public testing::TestWithParam<Shape> {};

TEST_P(Sweep, EqualsWhatTheRuntimeAllocates) {
  const auto &[model, requests, context, dtype, target] = GetParam();
  CompileOptions options = golden(model);
  options.target = target;
  options.requests = requests;
  options.context = context;
  options.activation_dtype = dtype;
  auto figures = plan_figures(options, {});
  ASSERT_TRUE(figures.ok()) << figures.status().to_string();
  ASSERT_TRUE(compile_model(options, {}).ok());
  auto plan = Plan::open(options.output);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  std::filesystem::remove(options.output);
  EXPECT_EQ(plan->weights().size(), figures->weights);
  EngineOptions engine_options;
  engine_options.cpu.threads = 2;
  auto engine = Engine::load(std::move(*plan), engine_options);
  if (engine.status().code() == StatusCode::kUnavailable)
    GTEST_SKIP() << engine.status().message();
  ASSERT_TRUE(engine.ok()) << engine.status().to_string();
  // A CPU runs weights and scratch where they are mapped, beside what it allocates.
  EXPECT_EQ((*engine)->device().allocated_bytes(),
            (*engine)->device().host_visible() ? figures->arena + figures->kv + figures->tables + figures->counters
                                               : figures->total(0));
  EXPECT_EQ((*engine)->plan().memory().total(2), figures->total(2));

  // Use does not add to it: every request to the end of its context, and one token or one request more refused.
  auto pool = *SessionPool::create(**engine);
  std::vector<std::unique_ptr<Session>> sessions;
  for (uint32_t r = 0; r < requests; ++r)
    sessions.push_back(*pool->create_session());
  EXPECT_EQ(pool->create_session().status().code(), StatusCode::kResourceExhausted);
  if (context <= 500)
    for (auto &session : sessions) {
      ASSERT_TRUE(session->append(std::vector<int32_t>(context, 7)).ok());
      EXPECT_EQ(session->append({{7}}).code(), StatusCode::kResourceExhausted);
    }
  EXPECT_EQ((*engine)->allocations_after_load(), 0u);
}

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const char *model : {"llama", "mistral-window", "qwen3"})
    for (uint32_t requests : {1, 2, 5})
      for (uint32_t context : {64, 500, 4096})
        for (const char *dtype : {"f32", "bf16"})
          all.push_back({model, requests, context, dtype});
  return all;
}
std::string name(const testing::TestParamInfo<Shape> &info) {
  std::string text = testing::PrintToString(info.param);
  for (char &c : text)
    c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return text;
}

INSTANTIATE_TEST_SUITE_P(Cpu, Sweep, testing::ValuesIn(shapes()), name);
// Few, as every shape has kernels of its own to compile.
INSTANTIATE_TEST_SUITE_P(Cuda, Sweep,
                         testing::Values(Shape{"llama", 1, 64, "bf16", "cuda:source"},
                                         Shape{"llama", 3, 500, "bf16", "cuda:source"},
                                         Shape{"mistral-window", 2, 4096, "bf16", "cuda:source"}),
                         name);

TEST(Fit, AnswersAreExactToThePageAndTheRequest) {
  FitRequest request;
  request.options = golden("llama");
  request.options.requests = 2;
  request.options.context = 1024;
  request.workers = 3;
  request.budget = 1;
  auto nothing = fit(request, {});
  ASSERT_TRUE(nothing.ok()) << nothing.status().to_string();
  EXPECT_FALSE(nothing->fits);
  EXPECT_FALSE(nothing->largest_context || nothing->most_requests);
  auto total = [&](uint32_t requests, uint32_t context) {
    CompileOptions options = request.options;
    options.requests = requests;
    options.context = context;
    return plan_figures(options, {})->total(3);
  };
  EXPECT_EQ(nothing->total, total(2, 1024));

  request.budget = nothing->total;
  EXPECT_TRUE(fit(request, {})->fits);
  --request.budget;
  EXPECT_FALSE(fit(request, {})->fits);
  for (uint64_t budget : {nothing->total + 5, nothing->total * 3, nothing->total - (nothing->figures.kv / 3)}) {
    request.budget = budget;
    auto report = fit(request, {});
    ASSERT_TRUE(report.ok() && report->largest_context && report->most_requests);
    EXPECT_LE(total(2, *report->largest_context), budget);
    EXPECT_GT(total(2, *report->largest_context + 64), budget);
    EXPECT_LE(total(*report->most_requests, 1024), budget);
    EXPECT_GT(total(*report->most_requests + 1, 1024), budget);
    for (const FitChange &change : report->changes)
      EXPECT_EQ(change.fits, change.total <= budget) << change.what;
    // What needs no estimate is what the compiler then plans.
    ASSERT_EQ(report->changes.front().option, "--activation-dtype bf16");
    CompileOptions changed = request.options;
    changed.activation_dtype = "bf16";
    EXPECT_FALSE(report->changes.front().estimate);
    EXPECT_EQ(report->changes.front().total, plan_figures(changed, {})->total(3));
  }
  request.budget = 0;
  EXPECT_THAT(fit(request, {}).status().message(), HasSubstr("budget of 0"));
}

// Peaks of the arena beside their lower bound, the bytes live at the worst launch.
void expectTight(CompileOptions options) {
  options.compile_to = Phase::kPlanMemory;
  auto result = compile_model(options, {});
  ASSERT_TRUE(result.ok()) << result.status().to_string();
  const std::regex bucket(R"(mili_plan\.bucket @(\S+) <[^>]*> arena (\d+) lower_bound (\d+) naive (\d+))");
  int buckets = 0;
  for (std::sregex_iterator it(result->ir.begin(), result->ir.end(), bucket), end; it != end; ++it, ++buckets) {
    const double peak = std::stod((*it)[2]), bound = std::stod((*it)[3]), naive = std::stod((*it)[4]);
    EXPECT_LE(peak, 1.02 * bound) << options.model << " " << (*it)[1];
    EXPECT_LE(bound, naive);
  }
  EXPECT_GE(buckets, 3) << options.model;
}

TEST(Fit, PeaksAreWithinTwoPercentOfTheBound) {
  for (const auto &model : std::filesystem::directory_iterator(MILI_GOLDEN_DIR))
    for (const char *target : {"cpu", "cuda:source"}) {
      CompileOptions options;
      options.model = model.path();
      options.target = target;
      options.requests = 4;
      expectTight(options);
    }
  for (const char *shape : {"llama-3.1-8b", "llama-3.2-1b", "qwen3-0.6b", "smollm2-135m"}) {
    CompileOptions options;
    options.model = std::string(MILI_SHAPES_DIR) + "/" + shape;
    options.target = "cuda:source";
    options.synthetic_weights = 1;
    options.requests = 64;
    options.context = 8192;
    expectTight(options);
  }
}

}  // namespace
