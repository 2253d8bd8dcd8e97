// mili-bench: prompt and generation rates of a plan, with the machine's ceiling measured in the same run.
#include "tool_support.h"

#include "mili/runtime/session.h"
#include "mili/schema/plan_generated.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cmath>
#include <memory>
#include <thread>

namespace {

using namespace mili;
constexpr const char *kTool = "mili-bench";

struct Row {
  std::string test;    // "pp512", "tg128"
  int64_t tokens = 0;  // a repetition's
  std::vector<double> seconds;
  double bytes_per_second = 0;  // generation: weights and state read, at the mean rate

  double mean_rate() const {
    double sum = 0;
    for (double s : seconds)
      sum += tokens / s;
    return sum / seconds.size();
  }
  double deviation() const {
    if (seconds.size() < 2)
      return 0;
    double mean = mean_rate(), sum = 0;
    for (double s : seconds)
      sum += (tokens / s - mean) * (tokens / s - mean);
    return std::sqrt(sum / (seconds.size() - 1));
  }
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Tokens that differ from each other, the same in every run.
std::vector<int32_t> make_tokens(int64_t count, int64_t vocab) {
  std::vector<int32_t> tokens(count);
  uint64_t x = 88172645463325252ull;
  for (int32_t &t : tokens) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    t = static_cast<int32_t>(x % static_cast<uint64_t>(vocab));
  }
  return tokens;
}

Status bench_prompt(SessionPool &pool, int64_t tokens, Row &row) {
  MILI_ASSIGN_OR_RETURN(auto session, pool.create_session());
  std::vector<int32_t> prompt = make_tokens(tokens, pool.engine().vocab());
  double start = now();
  MILI_RETURN_IF_ERROR(session->append(prompt));
  row.seconds.push_back(now() - start);
  return ok_status();
}

Status bench_generation(SessionPool &pool, int64_t depth, int64_t tokens, Row &row) {
  MILI_ASSIGN_OR_RETURN(auto session, pool.create_session());
  MILI_ASSIGN_OR_RETURN(Sampler sampler, Sampler::create(pool.engine().vocab(), {}));
  MILI_RETURN_IF_ERROR(session->append(make_tokens(std::max<int64_t>(depth, 1), pool.engine().vocab())));
  double start = now();
  for (int64_t i = 0; i < tokens; ++i) {
    MILI_ASSIGN_OR_RETURN(SampledToken next, session->sample(sampler));
    MILI_RETURN_IF_ERROR(session->append({&next.token, 1}));
  }
  row.seconds.push_back(now() - start);
  return ok_status();
}

// Bytes that generating one token must read at `context` tokens: the weights of every product (launches whose tiles do
// not grow with the tokens; an embedding reads a single row) and the state of the tokens before it.
double bytes_per_token(const Engine &engine, double context) {
  const plan::Plan &meta = engine.plan().meta();
  const plan::Function *function = meta.ranks()->Get(0)->functions()->Get(0);
  double bytes = 0;
  for (const plan::Launch *launch : *function->buckets()->Get(0)->launches())
    if (launch->tiles_per() == plan::RowCount::One)
      for (const plan::Arg *arg : *launch->args())
        if (arg->kind() == plan::ArgKind::Weight)
          bytes += static_cast<double>(arg->size());
  for (const plan::State *state : *meta.states())
    bytes += static_cast<double>(state->page_bytes()) / 64 * context;
  return bytes;
}

}  // namespace

int main(int argc, char **argv) {
  std::string plan_path, format = "md";
  std::vector<int64_t> prompts, generations;
  int64_t depth = 0;
  uint32_t threads = 0;
  int repeats = 3;
  CLI::App app{"mili-bench: prompt (pp) and generation (tg) rates of a plan"};
  app.footer("Examples:\n"
             "  mili-bench smollm2.mili -p 512 -n 128 -t 2\n"
             "  mili-bench smollm2.mili -p 64,512 -n 128 -d 1024 -o csv\n\n"
             "'of ceiling' holds the bytes that a generated token must read against the machine's read bandwidth,\n"
             "measured in the same run with the same number of threads.");
  app.set_version_flag("--version", "mili-bench " MILI_VERSION);
  app.add_option("PLAN", plan_path, "a plan (.mili)")->required();
  app.add_option("-p", prompts, "prompt lengths to measure [512]")->delimiter(',')->check(CLI::Range(1, 1 << 24));
  app.add_option("-n", generations, "tokens to generate [128]")->delimiter(',')->check(CLI::Range(1, 1 << 24));
  app.add_option("-d", depth, "tokens of context before generation")->check(CLI::Range(0, 1 << 24));
  app.add_option("-t,--threads", threads, "worker threads [physical cores]")->check(CLI::Range(1, 1024));
  app.add_option("-r", repeats, "repetitions, after one that is not counted")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("-o", format, "md, csv or json")->check(CLI::IsMember({"md", "csv", "json"}))->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &e) {
    return app.exit(e) == 0 ? 0 : tools::kUsage;
  }
  if (prompts.empty() && generations.empty()) {
    prompts = {512};
    generations = {128};
  }

  double start = now();
  StatusOr<Plan> plan = Plan::open(plan_path);
  if (!plan.ok())
    return tools::fail(kTool, plan.status());
  EngineOptions options;
  options.cpu.threads = threads;
  StatusOr<std::unique_ptr<Engine>> engine = Engine::load(std::move(*plan), options);
  if (!engine.ok())
    return tools::fail(kTool, engine.status());
  double load_seconds = now() - start;
  for (int64_t p : prompts)
    if (p > (*engine)->context())
      return tools::fail(
          kTool, invalid_argument(fmt::format("-p {}: the plan's context is {} tokens; compile with --context {}", p,
                                              (*engine)->context(), p)));
  for (int64_t n : generations)
    if (std::max<int64_t>(depth, 1) + n > (*engine)->context())
      return tools::fail(kTool, invalid_argument(fmt::format("-d {} -n {}: the plan's context is {} tokens", depth, n,
                                                             (*engine)->context())));
  StatusOr<std::unique_ptr<SessionPool>> pool = SessionPool::create(**engine);
  if (!pool.ok())
    return tools::fail(kTool, pool.status());

  const unsigned workers = (*engine)->device().workers();
  double ceiling = tools::measure_read_bandwidth(workers);
  std::vector<Row> rows;
  auto measure = [&](std::string name, int64_t tokens, auto &&run) -> Status {
    Row row{std::move(name), tokens, {}, 0};
    for (int i = 0; i <= repeats; ++i)
      MILI_RETURN_IF_ERROR(run(row));
    row.seconds.erase(row.seconds.begin());
    rows.push_back(std::move(row));
    return ok_status();
  };
  for (int64_t p : prompts) {
    Status status = measure(fmt::format("pp{}", p), p, [&](Row &row) { return bench_prompt(**pool, p, row); });
    if (!status.ok())
      return tools::fail(kTool, status);
  }
  for (int64_t n : generations) {
    std::string name = depth ? fmt::format("tg{} @ d{}", n, depth) : fmt::format("tg{}", n);
    Status status = measure(name, n, [&](Row &row) { return bench_generation(**pool, depth, n, row); });
    if (!status.ok())
      return tools::fail(kTool, status);
    rows.back().bytes_per_second =
        rows.back().mean_rate() * bytes_per_token(**engine, static_cast<double>(std::max<int64_t>(depth, 1)) + n / 2.0);
  }
  ceiling = std::max(ceiling, tools::measure_read_bandwidth(workers));

  const plan::Plan &meta = (*engine)->plan().meta();
  std::string model = meta.model()->name()->str();
  std::string device = (*engine)->device().description();
  if (format == "json") {
    nlohmann::json out = {{"model", model},
                          {"device", device},
                          {"variant", (*engine)->module().variant()},
                          {"threads", workers},
                          {"load_seconds", load_seconds},
                          {"read_bandwidth_bytes_per_second", ceiling},
                          {"plan_bytes", (*engine)->plan().memory().total(workers)},
                          {"tests", nlohmann::json::array()}};
    for (const Row &row : rows) {
      nlohmann::json test = {{"test", row.test},
                             {"tokens", row.tokens},
                             {"tokens_per_second", row.mean_rate()},
                             {"deviation", row.deviation()},
                             {"seconds", row.seconds}};
      if (row.bytes_per_second > 0)
        test["share_of_ceiling"] = row.bytes_per_second / ceiling;
      out["tests"].push_back(std::move(test));
    }
    fmt::print("{}\n", out.dump(2));
  } else if (format == "csv") {
    fmt::print("model,device,variant,threads,test,tokens_per_second,deviation,share_of_ceiling\n");
    for (const Row &row : rows)
      fmt::print("\"{}\",\"{}\",{},{},{},{:.2f},{:.2f},{}\n", model, device, (*engine)->module().variant(), workers,
                 row.test, row.mean_rate(), row.deviation(),
                 row.bytes_per_second > 0 ? fmt::format("{:.3f}", row.bytes_per_second / ceiling) : "");
  } else {
    fmt::print("{} on {} ({}), read bandwidth {:.1f} GB/s, loaded in {:.2f} s\n\n", model, device,
               (*engine)->module().variant(), ceiling / 1e9, load_seconds);
    fmt::print("| test | tokens/s | ± | of ceiling |\n|---|---:|---:|---:|\n");
    for (const Row &row : rows)
      fmt::print("| {} | {:.2f} | {:.2f} | {} |\n", row.test, row.mean_rate(), row.deviation(),
                 row.bytes_per_second > 0 ? fmt::format("{:.0f}%", 100 * row.bytes_per_second / ceiling) : "");
  }
  return 0;
}
