// mili-bench: prompt and generation rates of a plan, with the machine's ceiling measured in the same run.
#include "profile.h"
#include "tool_support.h"

#include "mili/runtime/session.h"
#include "mili/schema/plan_generated.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <thread>

namespace {

using namespace mili;
constexpr const char *kTool = "mili-bench";
constexpr int kSlower = 3;  // exit code of --compare

struct Row {
  std::string test;    // "pp512", "tg128"
  int64_t tokens = 0;  // a repetition's
  std::vector<double> seconds;
  int64_t steps = 1;
  bool prompt = false;
  ExpectedWork work;  // of a repetition

  double mean_seconds() const {
    double sum = 0;
    for (double s : seconds)
      sum += s;
    return sum / seconds.size();
  }

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

// `batch` sessions side by side, tokens fed back on the device where the plan does that.
Status bench_batch(SessionPool &pool, int64_t batch, int64_t depth, int64_t tokens, Row &row) {
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<Session *> pointers;
  std::vector<int32_t> prompt = make_tokens(std::max<int64_t>(depth, 1), pool.engine().vocab());
  for (int64_t i = 0; i < batch; ++i) {
    MILI_ASSIGN_OR_RETURN(auto session, pool.create_session());
    std::rotate(prompt.begin(), prompt.begin() + prompt.size() / 2, prompt.end());
    MILI_RETURN_IF_ERROR(session->append(prompt));
    pointers.push_back(session.get());
    sessions.push_back(std::move(session));
  }
  std::vector<int32_t> last = make_tokens(batch, pool.engine().vocab());
  // Steps once beforehand, so that clocks and caches are as in the middle of a text.
  auto ignore = [](int64_t, std::span<const int32_t>) { return true; };
  MILI_RETURN_IF_ERROR(pool.decode(pointers, last, 4, {}, ignore));
  for (Session *session : pointers)
    MILI_RETURN_IF_ERROR(session->truncate(std::max<int64_t>(depth, 1)));
  double start = now();
  MILI_RETURN_IF_ERROR(pool.decode(pointers, last, tokens, {}, ignore));
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

// The work of a prompt of `tokens` tokens whose last row alone is wanted, in the steps that Session::append makes of
// it.
StatusOr<ExpectedWork> prompt_work(const Engine &engine, int64_t tokens) {
  ExpectedWork sum;
  for (SequenceExtent part{0, 0}; part.position < tokens; part.position += part.tokens) {
    part.tokens = std::min(engine.largest().tokens, tokens - part.position);
    MILI_ASSIGN_OR_RETURN(ExpectedWork work,
                          engine.expected_work({{&part, 1}, part.position + part.tokens == tokens ? 1 : 0}));
    sum += work;
  }
  return sum;
}

// The work of a step that generates a token in each of `batch` sequences of `context` tokens.
StatusOr<ExpectedWork> generation_work(const Engine &engine, int64_t batch, int64_t context) {
  const std::vector<SequenceExtent> extents(static_cast<size_t>(batch), {context - 1, 1});
  return engine.expected_work({extents, batch});
}

// Says of each test how it went against the saved result. The exit code: kSlower where one is slower by more than
// `threshold` percent, kFailed where there was nothing to compare.
int compare_rows(const std::vector<Row> &rows, const nlohmann::json &before, const std::string &path,
                 double threshold) {
  int compared = 0, rc = 0;
  for (const Row &row : rows)
    for (const nlohmann::json &test : before["tests"]) {
      if (!test.is_object() || test.value("test", "") != row.test)
        continue;
      const double old = test.value("tokens_per_second", 0.0), change = 100 * (row.mean_rate() / old - 1);
      if (!(old > 0))
        continue;
      ++compared;
      const bool slower = change < -threshold;
      fmt::print(stderr, "{}: {:.2f} tokens/s, was {:.2f} ({:+.1f}%){}\n", row.test, row.mean_rate(), old, change,
                 slower ? ": slower" : "");
      if (slower)
        rc = kSlower;
    }
  if (compared == 0)
    return tools::fail(kTool, invalid_argument(path + ": has none of this run's tests; run it with the same -p, -n, -b "
                                                      "and -d as the saved one"));
  return rc;
}

}  // namespace

int main(int argc, char **argv) {
  std::string plan_path, format = "md", compare, trace_path;
  std::vector<int64_t> prompts, generations, batches, depths;
  uint32_t threads = 0;
  double threshold = 5;
  int repeats = 3;
  bool profile = false;
  CudaOptions cuda;
  bool no_cubins = false, no_graphs = false, no_dependent = false;
  CLI::App app{"mili-bench: prompt (pp) and generation (tg) rates of a plan"};
  app.footer("Examples:\n"
             "  mili-bench smollm2.mili -p 512 -n 128 -t 2\n"
             "  mili-bench llama.mili -p 512,2048 -n 128 -b 1,64 -d 512,1024 -o json > before.json\n"
             "  mili-bench llama.mili -n 128 -d 512 --compare before.json --threshold 5%\n\n"
             "'of ceiling': the time that a test needs at least, for reading weights and state at the machine's read "
             "bandwidth\n"
             "or for its operations at the rate of the bf16 matrix product, whichever is longer; both measured in the "
             "same run.");
  app.set_version_flag("--version", "mili-bench " MILI_VERSION);
  app.add_option("PLAN", plan_path, "a plan (.mili)")->required();
  app.add_option("-p", prompts, "prompt lengths to measure [512]")->delimiter(',')->check(CLI::Range(1, 1 << 24));
  app.add_option("-n", generations, "tokens to generate [128]")->delimiter(',')->check(CLI::Range(1, 1 << 24));
  app.add_option("-b", batches, "sequences that generate side by side [1]")->delimiter(',')->check(CLI::Range(1, 4096));
  app.add_option("-d", depths, "tokens of context before generation [0]")
      ->delimiter(',')
      ->check(CLI::Range(0, 1 << 24));
  app.add_option("-t,--threads", threads, "worker threads [physical cores]")->check(CLI::Range(1, 1024));
  app.add_option("-r", repeats, "repetitions, after one that is not counted")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("-o", format, "md, csv or json")->check(CLI::IsMember({"md", "csv", "json"}))->capture_default_str();
  app.add_option("--device", cuda.device, "which GPU, from 0")->capture_default_str();
  app.add_flag("--no-cubins", no_cubins, "compile the kernels although the plan has images");
  app.add_flag("--no-dependent-launch", no_dependent, "let each kernel end before the next one begins");
  app.add_flag("--no-graphs", no_graphs, "launch kernel by kernel");
  app.add_option("--kernel-cache", cuda.cache_dir, "folder of compiled kernels, or off");
  app.add_flag("--profile", profile, "after each test a table of its kernels");
  app.add_option("--trace", trace_path, "write a step of the last test's kernels in Chrome's trace format")
      ->type_name("FILE");
  auto *comparison =
      app.add_option("--compare", compare, "a saved -o json; exits with 3 where a test is slower than there")
          ->type_name("FILE");
  // 5% is 5.
  auto without_percent = [](std::string &text) {
    if (!text.empty() && text.back() == '%')
      text.pop_back();
    return std::string();
  };
  app.add_option("--threshold", threshold, "how much slower --compare allows, in percent")
      ->type_name("PERCENT")
      ->check(CLI::Range(0.0, 100.0))
      ->transform(CLI::Validator(without_percent, ""))
      ->needs(comparison)
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &e) {
    return app.exit(e) == 0 ? 0 : tools::kUsage;
  }
  if (prompts.empty() && generations.empty()) {
    prompts = {512};
    generations = {128};
  }
  if (batches.empty())
    batches = {1};
  if (depths.empty())
    depths = {0};
  cuda.use_cubins = !no_cubins;
  cuda.graphs = !no_graphs;
  cuda.dependent_launch = !no_dependent;

  nlohmann::json before;
  if (!compare.empty()) {
    std::ifstream file(compare);
    if (!file)
      return tools::fail(kTool, not_found(compare + ": cannot be read"));
    before = nlohmann::json::parse(file, nullptr, false);
    if (!before.is_object() || !before.contains("tests") || !before["tests"].is_array())
      return tools::fail(kTool, invalid_argument(compare + ": not a result of mili-bench -o json"));
  }

  double start = now();
  StatusOr<Plan> plan = Plan::open(plan_path);
  if (!plan.ok())
    return tools::fail(kTool, plan.status());
  const double plan_seconds = now() - start;
  EngineOptions options;
  options.cpu.threads = threads;
  options.cuda = cuda;
  StatusOr<std::unique_ptr<Engine>> engine = Engine::load(std::move(*plan), options);
  if (!engine.ok())
    return tools::fail(kTool, engine.status());
  double load_seconds = now() - start;
  // What the driver took beside MILI's own allocations, for its context, modules and graphs.
  const uint64_t allocated = (*engine)->device().allocated_bytes(), free_after = (*engine)->device().free_memory();
  for (int64_t p : prompts)
    if (p > (*engine)->context())
      return tools::fail(
          kTool, invalid_argument(fmt::format("-p {}: the plan's context is {} tokens; compile with --context {}", p,
                                              (*engine)->context(), p)));
  for (int64_t n : generations)
    for (int64_t d : depths)
      if (std::max<int64_t>(d, 1) + n > (*engine)->context())
        return tools::fail(kTool, invalid_argument(fmt::format("-d {} -n {}: the plan's context is {} tokens", d, n,
                                                               (*engine)->context())));
  StatusOr<std::unique_ptr<SessionPool>> pool = SessionPool::create(**engine);
  if (!pool.ok())
    return tools::fail(kTool, pool.status());

  const bool on_device = (*engine)->can_decode();
  const unsigned workers = (*engine)->device().workers();
  DeviceCeilings ceilings;
  auto measure_ceilings = [&] {
    const DeviceCeilings again = tools::measure_ceilings(**engine);
    ceilings.read_bytes_per_second = std::max(ceilings.read_bytes_per_second, again.read_bytes_per_second);
    ceilings.bf16_flops_per_second = std::max(ceilings.bf16_flops_per_second, again.bf16_flops_per_second);
    ceilings.fp8_flops_per_second = std::max(ceilings.fp8_flops_per_second, again.fp8_flops_per_second);
  };
  measure_ceilings();
  std::vector<Row> rows;
  std::string profiles;
  auto measure = [&](std::string name, int64_t tokens, auto &&run) -> Status {
    Row row;
    row.test = std::move(name);
    row.tokens = tokens;
    for (int i = 0; i <= repeats; ++i)
      MILI_RETURN_IF_ERROR(run(row));
    row.seconds.erase(row.seconds.begin());
    if (profile || !trace_path.empty()) {
      (*engine)->set_profiling(true);
      Row timed;
      MILI_RETURN_IF_ERROR(run(timed));
      if (!trace_path.empty())
        MILI_RETURN_IF_ERROR(tools::write_trace(**engine, trace_path));
      profiles += tools::profile_table(**engine, row.test, ceilings);
      (*engine)->set_profiling(false);
    }
    rows.push_back(std::move(row));
    return ok_status();
  };
  for (int64_t p : prompts) {
    Status status = measure(fmt::format("pp{}", p), p, [&](Row &row) { return bench_prompt(**pool, p, row); });
    if (!status.ok())
      return tools::fail(kTool, status);
    StatusOr<ExpectedWork> work = prompt_work(**engine, p);
    if (!work.ok())
      return tools::fail(kTool, work.status());
    rows.back().work = *work;
    rows.back().prompt = true;
  }
  for (int64_t n : generations)
    for (int64_t b : batches)
      for (int64_t d : depths) {
        std::string name = fmt::format("tg{}", n);
        if (b > 1)
          name += fmt::format(" x {}", b);
        if (d)
          name += fmt::format(" @ d{}", d);
        Status status = measure(name, n * b, [&](Row &row) {
          return on_device ? bench_batch(**pool, b, d, n, row)
                 : b == 1  ? bench_generation(**pool, d, n, row)
                           : unimplemented("-b on a device that does not sample itself");
        });
        if (!status.ok())
          return tools::fail(kTool, status);
        // The mean context stands for all: what a token sees is a line between few bends.
        StatusOr<ExpectedWork> work = generation_work(**engine, b, std::max<int64_t>(d, 1) + (n + 1) / 2);
        if (!work.ok())
          return tools::fail(kTool, work.status());
        for (int64_t step = 0; step < n; ++step)
          rows.back().work += *work;
        rows.back().steps = n;
      }
  measure_ceilings();

  const plan::Plan &meta = (*engine)->plan().meta();
  std::string model = meta.model()->name()->str();
  std::string device = (*engine)->device().description();
  const ModuleLoadReport kernels = (*engine)->module().load_report();
  // The roofline: the time that weights and state or the operations need at least, whichever is longer. A prompt's is
  // that of its operations, and unknown where the machine's rate for them is.
  auto share = [&](const Row &row) {
    const double read = ceilings.read_bytes_per_second, product = ceilings.bf16_flops_per_second;
    const double reading = read > 0 ? (row.work.weight_bytes + row.work.state_bytes) / read : 0;
    const double computing = product > 0 ? row.work.flops / product : 0;
    return row.prompt && product <= 0 ? 0 : std::max(reading, computing) / row.mean_seconds();
  };
  const uint64_t total_memory = (*engine)->device().total_memory();
  const uint64_t driver_bytes = total_memory > free_after + allocated ? total_memory - free_after - allocated : 0;
  const LoadTimes &load = (*engine)->load_times();
  if (format == "json") {
    nlohmann::json out = {{"model", model},
                          {"device", device},
                          {"variant", (*engine)->module().variant()},
                          {"threads", workers},
                          {"load_seconds", load_seconds},
                          {"load",
                           {{"plan", plan_seconds},
                            {"device", load.device},
                            {"kernels", load.kernels},
                            {"memory", load.memory},
                            {"weights", load.weights},
                            {"buckets", load.buckets}}},
                          {"kernels",
                           {{"units", kernels.kernels},
                            {"from_plan", kernels.from_plan},
                            {"from_cache", kernels.from_cache},
                            {"compiled", kernels.compiled},
                            {"wall_seconds", kernels.wall_seconds},
                            {"cpu_seconds", kernels.cpu_seconds}}},
                          {"read_bandwidth_bytes_per_second", ceilings.read_bytes_per_second},
                          {"bf16_flops_per_second", ceilings.bf16_flops_per_second},
                          {"fp8_flops_per_second", ceilings.fp8_flops_per_second},
                          {"plan_bytes", (*engine)->plan().memory().total(workers)},
                          {"allocated_bytes", allocated},
                          {"driver_bytes", driver_bytes},
                          {"tests", nlohmann::json::array()}};
    for (const Row &row : rows)
      out["tests"].push_back({{"test", row.test},
                              {"tokens", row.tokens},
                              {"tokens_per_second", row.mean_rate()},
                              {"deviation", row.deviation()},
                              {"step_milliseconds", 1e3 * row.mean_seconds() / row.steps},
                              {"seconds", row.seconds},
                              {"share_of_ceiling", share(row)}});
    fmt::print("{}\n", out.dump(2));
  } else if (format == "csv") {
    fmt::print("model,device,variant,threads,test,tokens_per_second,deviation,step_ms,share_of_ceiling,"
               "read_bytes_per_second,bf16_flops_per_second,fp8_flops_per_second\n");
    for (const Row &row : rows)
      fmt::print("\"{}\",\"{}\",{},{},{},{:.2f},{:.2f},{:.4f},{:.3f},{:.4g},{:.4g},{:.4g}\n", model, device,
                 (*engine)->module().variant(), workers, row.test, row.mean_rate(), row.deviation(),
                 1e3 * row.mean_seconds() / row.steps, share(row), ceilings.read_bytes_per_second,
                 ceilings.bf16_flops_per_second, ceilings.fp8_flops_per_second);
  } else {
    fmt::print("{} on {} ({}), read bandwidth {:.1f} GB/s", model, device, (*engine)->module().variant(),
               ceilings.read_bytes_per_second / 1e9);
    if (ceilings.bf16_flops_per_second > 0)
      fmt::print(", products bf16 {:.0f}, fp8 {:.0f} TFLOP/s", ceilings.bf16_flops_per_second / 1e12,
                 ceilings.fp8_flops_per_second / 1e12);
    fmt::print(", loaded in {:.2f} s: plan {:.3f}, device {:.3f}, kernels {:.3f}, memory {:.3f}, weights {:.3f}, "
               "buckets {:.3f}",
               load_seconds, plan_seconds, load.device, load.kernels, load.memory, load.weights, load.buckets);
    if (kernels.kernels)
      fmt::print(" ({} kernels: {} from the plan, {} from the cache, {} compiled, in {:.2f} s, {:.1f} CPU s)",
                 kernels.kernels, kernels.from_plan, kernels.from_cache, kernels.compiled, kernels.wall_seconds,
                 kernels.cpu_seconds);
    if (total_memory > 0)
      fmt::print("; {} bytes allocated, the plan says {}; {} beside them for context, modules and graphs", allocated,
                 (*engine)->plan().memory().total(workers), tools::human_bytes(driver_bytes));
    fmt::print("\n\n| test | ms a step | tokens/s | ± | of ceiling |\n|---|---:|---:|---:|---:|\n");
    for (const Row &row : rows)
      fmt::print("| {} | {:.4f} | {:.2f} | {:.2f} | {} |\n", row.test, 1e3 * row.mean_seconds() / row.steps,
                 row.mean_rate(), row.deviation(), share(row) > 0 ? fmt::format("{:.1f}%", 100 * share(row)) : "");
  }
  // Beside a result that programs read, the tables are for people.
  if (profile)
    fmt::print(format == "md" ? stdout : stderr, "{}{}", format == "md" ? "\n" : "", profiles);
  return before.is_null() ? 0 : compare_rows(rows, before, compare, threshold);
}
