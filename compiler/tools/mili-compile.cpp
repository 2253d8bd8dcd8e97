// mili-compile: a model file in, a plan out.
#include "mili/Compiler/Fit.h"
#include "mili/runtime/device.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>
#include <unistd.h>

namespace {

constexpr int kFailed = 1, kUsage = 2, kDoesNotFit = 3;

// One line that is redrawn, only where a person watches.
class ProgressLine {
public:
  ProgressLine(bool wanted) : on_(wanted && isatty(STDERR_FILENO)) {}
  void show(const mili::CompileProgress &p) {
    if (!on_)
      return;
    auto now = std::chrono::steady_clock::now();
    bool last = p.total != 0 && p.done == p.total;
    if (p.phase == phase_ && !last && now - drawn_ < std::chrono::milliseconds(80))
      return;
    phase_ = p.phase;
    drawn_ = now;
    std::string text;
    if (p.total) {
      constexpr int kWidth = 30;
      int filled = static_cast<int>(kWidth * p.done / p.total);
      text = fmt::format("{:<12} [{}{}] {:3}%  {:.0f}/{:.0f} MB", mili::phase_name(p.phase), std::string(filled, '#'),
                         std::string(kWidth - filled, '.'), 100 * p.done / p.total, p.done / 1e6, p.total / 1e6);
    } else {
      text = fmt::format("{:<12} {}", mili::phase_name(p.phase), mili::phase_summary(p.phase));
    }
    fmt::print(stderr, "\r\033[K{}", text);
    std::fflush(stderr);
    drawn_any_ = true;
  }
  ~ProgressLine() {
    if (drawn_any_)
      fmt::print(stderr, "\r\033[K");
  }

private:
  bool on_;
  bool drawn_any_ = false;
  mili::Phase phase_{};
  std::chrono::steady_clock::time_point drawn_{};
};

constexpr const char *kFooter = R"(Examples:
  mili-compile SmolLM2-135M-Instruct.gguf -o smollm2.mili
  mili-compile ./Qwen3-0.6B -o qwen3.mili --requests 4 --context 8192
  mili-compile model.gguf --compile-to fuse            print the IR with its fused groups
  mili-compile model.gguf -o m.mili --dump-phases ir/  write the IR after every phase
  mili-compile model.gguf --explain                    why each op was fused, or not
  mili-compile model.gguf -o m.mili --plugin my.so --pass-at after-import:my-pass{x=1}

The plan states the memory it needs, exactly: weights + arena + KV for --requests sequences of --context tokens.
Run it with mili-run, look into it with `mili-plan show`.)";

std::string phase_help() {
  std::string text = "stop after PHASE and print its IR: ";
  for (int i = 0; i < mili::kPhaseCount - 1; ++i)
    text += fmt::format("{}{}", i ? ", " : "", mili::phase_name(static_cast<mili::Phase>(i)));
  return text;
}

// --fit: prints the answer; the exit code says it too.
int answer_fit(const mili::FitRequest &request, bool json) {
  mili::CompileHooks hooks;
  hooks.warning = [](std::string_view text) { fmt::print(stderr, "mili-compile: warning: {}\n", text); };
  const mili::StatusOr<mili::FitReport> answer = mili::fit(request, hooks);
  if (!answer.ok()) {
    fmt::print(stderr, "mili-compile: {}\n", answer.status().message());
    return kFailed;
  }
  const mili::MemoryFigures &m = answer->figures;
  const uint64_t scratch = m.worker_scratch * request.workers;
  if (json) {
    nlohmann::json out = {{"fits", answer->fits},
                          {"budget", request.budget},
                          {"total", answer->total},
                          {"requests", answer->requests},
                          {"context", answer->context},
                          {"weights", m.weights},
                          {"kv", m.kv},
                          {"arena", m.arena},
                          {"tables", m.tables},
                          {"counters", m.counters},
                          {"worker_scratch", scratch},
                          {"workers", request.workers},
                          {"driver_reserve", answer->reserve},
                          {"changes", nlohmann::json::array()}};
    if (answer->largest_context)
      out["largest_context"] = *answer->largest_context;
    if (answer->most_requests)
      out["most_requests"] = *answer->most_requests;
    for (const mili::FitChange &change : answer->changes)
      out["changes"].push_back({{"what", change.what},
                                {"option", change.option},
                                {"available", !change.option.empty()},
                                {"estimate", change.estimate},
                                {"total", change.total},
                                {"fits", change.fits}});
    fmt::print("{}\n", out.dump(2));
    return answer->fits ? 0 : kDoesNotFit;
  }
  auto line = [](std::string_view name, uint64_t bytes, std::string_view note = "") {
    fmt::print("  {:<16}{:>16}  {:>9}{}{}\n", name, bytes, mili::format_bytes(bytes), note.empty() ? "" : "  ", note);
  };
  fmt::print("{}, {}: {} request{} of {} tokens\n", request.options.model, request.options.target, answer->requests,
             answer->requests == 1 ? "" : "s", answer->context);
  line("weights", m.weights);
  line("KV cache", m.kv);
  line("arena", m.arena);
  line("tables", m.tables + m.counters);
  if (scratch)
    line("worker scratch", scratch, fmt::format("{} threads", request.workers));
  if (answer->reserve)
    line("driver", answer->reserve, "reserve for context, modules and graphs, which no plan states");
  line("total", answer->total);
  const uint64_t difference = answer->fits ? request.budget - answer->total : answer->total - request.budget;
  fmt::print("{} in {}: {} {}\n", answer->fits ? "fits" : "does not fit", mili::format_bytes(request.budget),
             mili::format_bytes(difference), answer->fits ? "left" : "short");
  fmt::print("\n{} in {}:\n", answer->fits ? "most that fits" : "what would fit", mili::format_bytes(request.budget));
  if (answer->largest_context)
    fmt::print("  --context {:<10} with {} request{}\n", *answer->largest_context, answer->requests,
               answer->requests == 1 ? "" : "s");
  else
    fmt::print("  no context, with {} requests\n", answer->requests);
  if (answer->most_requests)
    fmt::print("  --requests {:<9} with {} tokens each\n", *answer->most_requests, answer->context);
  else
    fmt::print("  no request, with {} tokens each\n", answer->context);
  for (const mili::FitChange &change : answer->changes)
    fmt::print("  {:<34} {:>16}  {:>9}  {}{}\n", change.what, change.total, mili::format_bytes(change.total),
               change.fits ? "fits" : "does not fit",
               change.option.empty() ? "; an estimate, MILI cannot do it yet"
               : change.estimate     ? "; an estimate: " + change.option
                                     : ": " + change.option);
  return answer->fits ? 0 : kDoesNotFit;
}

}  // namespace

int main(int argc, char **argv) {
  mili::CompileOptions options;
  std::string compile_to, explain;
  bool quiet = false, no_merge = false, no_reuse = false, json = false;
  uint64_t budget = 0;
  uint32_t threads = 0;

  CLI::App app{"mili-compile: compiles a transformer model (GGUF file or Hugging Face folder) to a MILI plan"};
  app.footer(kFooter);
  app.set_version_flag("--version", "mili-compile " MILI_VERSION);
  app.add_option("MODEL", options.model, "a .gguf file, or a folder with config.json and safetensors")->required();
  app.add_option("-o,--output", options.output, "the plan to write (.mili)");
  app.add_option(
         "--target", options.target,
         "what the plan runs on: cpu, cuda (source, and images for sm_80, sm_90a, sm_100a), cuda:ARCH,... (images "
         "for these) or cuda:source")
      ->capture_default_str();
  app.add_option("--activation-dtype", options.activation_dtype,
                 "element type of activations and of the KV cache [f32 on cpu, bf16 on cuda]")
      ->check(CLI::IsMember({"f32", "bf16"}));
  app.add_option("--requests", options.requests, "sequences that can be live at once")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--context", options.context, "tokens per sequence, e.g. 32k [the model's own, at most 4096]")
      ->check(CLI::Range(1, 16777216))
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--prefill-tokens", options.prefill_tokens, "tokens of the largest step [512 on cpu, 2048 on cuda]")
      ->check(CLI::Range(1, 65536));
  app.add_option("--compile-to", compile_to, phase_help())->type_name("PHASE");
  app.add_option("--dump-phases", options.dump_dir, "write the IR after each phase into this folder")->type_name("DIR");
  app.add_option("--explain", explain, "print, for every fusion candidate, the decision and why (table or json)")
      ->expected(0, 1)
      ->default_str("table")
      ->check(CLI::IsMember({"table", "json"}));
  app.add_option("--disable-fusion", options.disabled_fusions,
                 "leave out fusions of these kinds (names: see --explain)")
      ->delimiter(',')
      ->type_name("KIND,...");
  app.add_option(
         "--attention", options.attention_patterns,
         "attend by this pattern instead of the model's own: causal, window=N, strided=N, local[=N]+random[=K], "
         "bigbird[=K] (K random blocks), also with +global=N, +seed=N; N in tokens, 4k is 4096; @LAYERS for "
         "some layers (window=4096@0-15:20); may be repeated, the last one for a layer holds")
      ->type_name("PATTERN");
  app.add_option("--kernel", options.kernels,
                 "where the target has several kernels for a stage, take this one (prefill=mma); may be repeated")
      ->type_name("STAGE=NAME");
  app.add_option("--emit-cuda", options.cuda_dir, "write the CUDA sources into this folder")->type_name("DIR");
  app.add_option("--cuda-headers", options.cuda_headers,
                 "take the device headers from this folder (as --emit-cuda writes them), to try changes")
      ->type_name("DIR");
  app.add_option("--synthetic-weights", options.synthetic_weights,
                 "no weights are read (MODEL needs only its config.json): the device fills them from this seed")
      ->type_name("SEED");
  app.add_option("--plugin", options.plugins, "load this plugin (a shared library; may be given more than once)")
      ->type_name("FILE")
      ->expected(1)
      ->take_all();
  app.add_option("--pass-at", options.pass_at,
                 "run passes at a point of the pipeline, before-PHASE or after-PHASE (or PHASE for that): "
                 "after-fuse:my-pass{x=1} (may be given more than once)")
      ->type_name("POINT:PASSES")
      ->expected(1)
      ->take_all();
  app.add_flag("--no-merge-projections", no_merge, "keep Q, K, V and gate, up as separate products");
  app.add_flag("--no-arena-reuse", no_reuse, "give every intermediate value memory of its own");
  app.add_flag("--deterministic", options.deterministic,
               "a sequence's tokens do not depend on what else runs with it (slower)");
  app.add_option(
         "--fit", budget,
         "build nothing: does the plan fit in BYTES (24G is 24 * 2^30), and if not, what would? Exit code 3: no")
      ->transform(CLI::AsSizeValue(false))
      ->type_name("BYTES");
  app.add_option("--threads", threads, "with --fit for cpu: worker threads of the runtime [as many as it takes here]")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--json", json, "with --fit: the answer as a JSON object");
  app.add_flag("-q,--quiet", quiet, "no progress and no summary");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &e) {
    return app.exit(e) == 0 ? 0 : kUsage;
  }
  options.merge_projections = !no_merge;
  options.arena_reuse = !no_reuse;
  if (app.count("--fit"))
    return answer_fit({options, budget, threads ? threads : mili::default_cpu_threads()}, json);
  if (json || threads) {
    fmt::print(stderr, "mili-compile: {} belongs to --fit\n", json ? "--json" : "--threads");
    return kUsage;
  }
  if (app.count("--explain"))
    options.explain = explain == "json" ? mili::ExplainFormat::kJson : mili::ExplainFormat::kTable;
  if (!compile_to.empty()) {
    std::optional<mili::Phase> phase = mili::phase_from_name(compile_to);
    if (!phase) {
      fmt::print(stderr, "mili-compile: --compile-to: unknown phase '{}'; expected one of", compile_to);
      for (int i = 0; i < mili::kPhaseCount; ++i)
        fmt::print(stderr, "{}{}", i ? ", " : " ", mili::phase_name(static_cast<mili::Phase>(i)));
      fmt::print(stderr, "\n");
      return kUsage;
    }
    options.compile_to = *phase;
  } else if (options.output.empty()) {
    // Asking only for the report needs no plan.
    if (options.explain != mili::ExplainFormat::kNone || !options.dump_dir.empty()) {
      options.compile_to = mili::Phase::kPlanMemory;
    } else {
      fmt::print(stderr, "mili-compile: where to? Give -o PLAN (or --compile-to PHASE to print the IR). See --help.\n");
      return kUsage;
    }
  }
  if (options.compile_to == mili::Phase::kPack && options.output.empty()) {
    fmt::print(stderr, "mili-compile: --compile-to pack needs -o PLAN\n");
    return kUsage;
  }

  auto start = std::chrono::steady_clock::now();
  mili::StatusOr<mili::CompileResult> result = [&] {
    ProgressLine line(!quiet);
    mili::CompileHooks hooks;
    hooks.progress = [&](const mili::CompileProgress &p) { line.show(p); };
    hooks.warning = [](std::string_view text) { fmt::print(stderr, "mili-compile: warning: {}\n", text); };
    return mili::compile_model(options, hooks);
  }();
  if (!result.ok()) {
    fmt::print(stderr, "mili-compile: {}\n", result.status().message());
    return kFailed;
  }
  if (!result->explain.empty())
    fmt::print("{}", result->explain);
  else if (options.compile_to != mili::Phase::kPack && !compile_to.empty())
    fmt::print("{}", result->ir);
  if (options.compile_to == mili::Phase::kPack && !quiet) {
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fmt::print(stderr, "{}: {:.1f} MB in {:.1f} s\n", options.output, result->plan_bytes / 1e6, seconds);
  }
  return 0;
}
