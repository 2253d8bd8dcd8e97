// mili-run: text from a plan (or a model, which it compiles first).
#include "profile.h"
#include "tool_support.h"

#include "mili/runtime/generator.h"
#include "mili/runtime/session.h"
#include "mili/schema/plan_generated.h"
#include "mili/text/chat_template.h"
#include "mili/text/tokenizer.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <csignal>
#include <iostream>
#include <memory>
#include <optional>
#include <unistd.h>

namespace {

using namespace mili;
constexpr const char *kTool = "mili-run";

struct Options {
  std::string model, prompt, system, logits_out, trace, target;
  bool has_prompt = false, chat = false, json = false, quiet = false, profile = false;
  std::vector<int32_t> tokens;
  int64_t max_tokens = -1;
  uint32_t threads = 0, device = 0;
  std::optional<float> temperature, top_p, min_p, repeat_penalty;
  std::optional<int32_t> top_k;
  uint64_t seed = 0;
  uint32_t requests = 0, context = 0;
  std::string activation_dtype;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Ctrl-C ends the text, not the program: what was complete is printed and reported.
volatile std::sig_atomic_t interrupted = 0;
void on_interrupt(int) {
  interrupted = 1;
}

class Runner {
public:
  explicit Runner(const Options &options) : options_(options) {}

  Status load();
  Status run_once();
  Status chat_loop();

private:
  StatusOr<std::vector<int32_t>> prompt_tokens();
  StatusOr<std::string> render(const Value::List &messages, bool generation_prompt);
  Status need_text(std::string_view flag) const;
  StatusOr<GenerateResult> generate_text(std::span<const int32_t> prompt, int64_t limit, bool stream);
  void print_timings(const GenerateTimings &t) const;
  Status print_profile();
  int64_t default_limit(size_t prompt) const {
    return options_.max_tokens >= 0 ? options_.max_tokens : engine_->context() - static_cast<int64_t>(prompt);
  }

  const Options &options_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<SessionPool> pool_;
  std::unique_ptr<Session> session_;
  std::optional<Sampler> sampler_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> template_;
  std::vector<int32_t> stop_;
  double load_seconds_ = 0;  // until a prompt can be taken
  double plan_seconds_ = 0;  // of them for opening and checking the plan
  std::string text_;         // of the last generate_text
};

Status Runner::load() {
  std::string path = options_.model;
  if (!tools::is_plan_file(path)) {
    tools::CompileRequest request;
    request.model = path;
    request.quiet = options_.quiet || options_.json;
    auto add = [&](const char *flag, const std::string &value) {
      request.options.push_back(flag);
      request.options.push_back(value);
    };
    if (options_.requests)
      add("--requests", std::to_string(options_.requests));
    if (options_.context)
      add("--context", std::to_string(options_.context));
    if (!options_.activation_dtype.empty())
      add("--activation-dtype", options_.activation_dtype);
    // The runtime compiles what the machine's own GPU needs.
    if (!options_.target.empty())
      add("--target", options_.target == "cuda" ? "cuda:source" : options_.target);
    MILI_ASSIGN_OR_RETURN(path, tools::compile_cached(request));
  } else if (options_.requests || options_.context || !options_.activation_dtype.empty() || !options_.target.empty()) {
    return invalid_argument(
        path + " is a plan: --target, --requests, --context and --activation-dtype were fixed when it was compiled");
  }
  const double start = now();
  MILI_ASSIGN_OR_RETURN(Plan plan, Plan::open(path));
  plan_seconds_ = now() - start;
  EngineOptions engine_options;
  engine_options.cpu.threads = options_.threads;
  engine_options.cuda.device = options_.device;
  MILI_ASSIGN_OR_RETURN(engine_, Engine::load(std::move(plan), engine_options));
  MILI_ASSIGN_OR_RETURN(pool_, SessionPool::create(*engine_));
  MILI_ASSIGN_OR_RETURN(session_, pool_->create_session());

  const Plan &loaded = engine_->plan();
  if (!loaded.tokenizer().empty()) {
    std::span<const std::byte> bytes = loaded.tokenizer();
    MILI_ASSIGN_OR_RETURN(tokenizer_,
                          Tokenizer::create({reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()}));
    if (options_.chat) {
      if (tokenizer_->chat_template().empty())
        return failed_precondition(path + ": the model has no chat template; use -p without --chat");
      MILI_ASSIGN_OR_RETURN(template_, ChatTemplate::parse(tokenizer_->chat_template()));
    }
  }
  SamplingParams sampling;
  if (const plan::Generation *defaults = loaded.meta().generation()) {
    sampling.temperature = defaults->temperature();
    sampling.top_k = defaults->top_k();
    sampling.top_p = defaults->top_p();
    sampling.min_p = defaults->min_p();
    sampling.repetition_penalty = defaults->repetition_penalty();
    if (defaults->eos())
      stop_.assign(defaults->eos()->begin(), defaults->eos()->end());
  }
  sampling.temperature = options_.temperature.value_or(sampling.temperature);
  sampling.top_k = options_.top_k.value_or(sampling.top_k);
  sampling.top_p = options_.top_p.value_or(sampling.top_p);
  sampling.min_p = options_.min_p.value_or(sampling.min_p);
  sampling.repetition_penalty = options_.repeat_penalty.value_or(sampling.repetition_penalty);
  sampling.seed = options_.seed;
  MILI_ASSIGN_OR_RETURN(sampler_, Sampler::create(engine_->vocab(), sampling));
  load_seconds_ = now() - start;
  if (options_.profile || !options_.trace.empty())
    engine_->set_profiling(true);
  return ok_status();
}

Status Runner::need_text(std::string_view flag) const {
  if (tokenizer_)
    return ok_status();
  return failed_precondition(fmt::format(
      "{}: the plan has no tokenizer, so {} cannot be used; give token ids with --tokens", options_.model, flag));
}

StatusOr<std::string> Runner::render(const Value::List &messages, bool generation_prompt) {
  ChatInput input;
  input.messages = messages;
  input.add_generation_prompt = generation_prompt;
  if (tokenizer_->bos() >= 0)
    input.bos_token = tokenizer_->token_text(tokenizer_->bos());
  if (tokenizer_->eos() >= 0)
    input.eos_token = tokenizer_->token_text(tokenizer_->eos());
  return template_->render(input);
}

StatusOr<std::vector<int32_t>> Runner::prompt_tokens() {
  if (!options_.tokens.empty())
    return options_.tokens;
  MILI_RETURN_IF_ERROR(need_text("-p"));
  std::vector<int32_t> ids;
  if (options_.chat) {
    Value::List messages;
    if (!options_.system.empty())
      messages.push_back(chat_message("system", options_.system));
    messages.push_back(chat_message("user", options_.prompt));
    MILI_ASSIGN_OR_RETURN(std::string text, render(messages, true));
    MILI_ASSIGN_OR_RETURN(ids, tokenizer_->encode(text, {.add_special = false, .parse_special = true}));
  } else {
    MILI_ASSIGN_OR_RETURN(ids, tokenizer_->encode(options_.prompt, {.add_special = true, .parse_special = true}));
  }
  if (ids.empty())
    return invalid_argument("the prompt has no tokens");
  return ids;
}

StatusOr<GenerateResult> Runner::generate_text(std::span<const int32_t> prompt, int64_t limit, bool stream) {
  text_.clear();
  std::optional<StreamDecoder> decoder;
  if (tokenizer_)
    decoder.emplace(*tokenizer_);
  auto emit = [&](const std::string &piece) {
    text_ += piece;
    if (stream) {
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      std::fflush(stdout);
    }
  };
  GenerateOptions options;
  options.max_tokens = limit;
  options.stop_tokens = stop_;
  options.on_token = [&](const SampledToken &token) {
    if (decoder)
      emit(decoder->put(token.token));
    else if (stream)
      fmt::print("{} ", token.token);
    return interrupted == 0;
  };
  std::optional<tools::SafetensorsWriter> writer;
  if (!options_.logits_out.empty()) {
    MILI_ASSIGN_OR_RETURN(tools::SafetensorsWriter created,
                          tools::SafetensorsWriter::create(options_.logits_out, "logits", prompt.size(),
                                                           static_cast<uint64_t>(engine_->vocab())));
    writer.emplace(std::move(created));
    options.prompt_logits = [&](int64_t, int64_t rows, const float *logits) {
      for (int64_t r = 0; r < rows; ++r)
        MILI_RETURN_IF_ERROR(writer->append_row(logits + r * engine_->vocab()));
      return ok_status();
    };
  }
  MILI_ASSIGN_OR_RETURN(GenerateResult result, generate(*session_, *sampler_, prompt, options));
  if (decoder)
    emit(decoder->finish());
  if (writer)
    MILI_RETURN_IF_ERROR(writer->finish());
  return result;
}

void Runner::print_timings(const GenerateTimings &t) const {
  if (options_.quiet)
    return;
  auto rate = [](int64_t count, double seconds) { return seconds > 0 ? static_cast<double>(count) / seconds : 0.0; };
  fmt::print(stderr, "\nload {:.2f} s; prompt {} tokens in {:.3f} s ({:.1f}/s); generated {} in {:.3f} s ({:.1f}/s)\n",
             load_seconds_, t.prompt_tokens, t.prefill_seconds, rate(t.prompt_tokens, t.prefill_seconds),
             t.generated_tokens, t.decode_seconds, rate(t.generated_tokens, t.decode_seconds));
  const LoadTimes &l = engine_->load_times();
  fmt::print(stderr,
             "first token after {:.3f} s: plan {:.3f}, device {:.3f}, kernels {:.3f}, memory {:.3f}, weights {:.3f}, "
             "buckets {:.3f}, text {:.3f}, prompt {:.3f}\n",
             load_seconds_ + t.prefill_seconds, plan_seconds_, l.device, l.kernels, l.memory, l.weights, l.buckets,
             load_seconds_ - plan_seconds_ - l.device - l.kernels - l.memory - l.weights - l.buckets,
             t.prefill_seconds);
}

Status Runner::print_profile() {
  if (options_.profile)
    fmt::print(stderr, "\n{}", tools::profile_table(*engine_, "profile", tools::measure_ceilings(*engine_)));
  return options_.trace.empty() ? ok_status() : tools::write_trace(*engine_, options_.trace);
}

Status Runner::run_once() {
  MILI_ASSIGN_OR_RETURN(std::vector<int32_t> prompt, prompt_tokens());
  MILI_ASSIGN_OR_RETURN(GenerateResult result, generate_text(prompt, default_limit(prompt.size()), !options_.json));
  const GenerateTimings &t = result.timings;
  if (options_.json) {
    const LoadTimes &load = engine_->load_times();
    nlohmann::json out = {{"tokens", result.tokens},
                          {"text", text_},
                          {"finish_reason", finish_reason_name(result.finish)},
                          {"prompt_tokens", prompt},
                          {"timings",
                           {{"load_seconds", load_seconds_},
                            {"first_token_seconds", load_seconds_ + t.prefill_seconds},
                            {"load",
                             {{"plan", plan_seconds_},
                              {"device", load.device},
                              {"kernels", load.kernels},
                              {"memory", load.memory},
                              {"weights", load.weights},
                              {"buckets", load.buckets}}},
                            {"prefill_seconds", t.prefill_seconds},
                            {"decode_seconds", t.decode_seconds},
                            {"prompt_tokens", t.prompt_tokens},
                            {"generated_tokens", t.generated_tokens}}},
                          {"memory",
                           {{"plan_bytes", engine_->plan().memory().total(engine_->device().workers())},
                            {"peak_resident_bytes", tools::peak_resident_bytes()}}}};
    fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("\n");
    print_timings(t);
  }
  return print_profile();
}

// A conversation: each turn renders all messages again and appends what is new, so the state of earlier turns is reused
// as far as the template leaves it alone.
Status Runner::chat_loop() {
  MILI_RETURN_IF_ERROR(need_text("--chat"));
  Value::List messages;
  if (!options_.system.empty())
    messages.push_back(chat_message("system", options_.system));
  const bool terminal = isatty(STDIN_FILENO);
  if (terminal && !options_.quiet)
    fmt::print(stderr, "Chat. An empty line or Ctrl-D ends it; Ctrl-C ends an answer.\n");
  for (std::string line;;) {
    if (terminal)
      fmt::print(stderr, "> ");
    if (!std::getline(std::cin, line) || line.empty())
      return ok_status();
    messages.push_back(chat_message("user", line));
    MILI_ASSIGN_OR_RETURN(std::string text, render(messages, true));
    MILI_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                          tokenizer_->encode(text, {.add_special = false, .parse_special = true}));
    std::span<const int32_t> known = session_->tokens();
    size_t same = 0;
    while (same < known.size() && same + 1 < ids.size() && known[same] == ids[same])
      ++same;
    MILI_RETURN_IF_ERROR(session_->truncate(static_cast<int64_t>(same)));
    interrupted = 0;
    MILI_ASSIGN_OR_RETURN(GenerateResult result,
                          generate_text(std::span(ids).subspan(same), default_limit(ids.size()), true));
    fmt::print("\n");
    print_timings(result.timings);
    messages.push_back(chat_message("assistant", text_));
    if (result.finish == FinishReason::kContext)
      return resource_exhausted("the conversation has filled the plan's context; compile with a larger --context");
  }
}

}  // namespace

int main(int argc, char **argv) {
  Options options;
  CLI::App app{"mili-run: generates text from a plan, or from a model that it compiles once and caches"};
  app.footer("Examples:\n"
             "  mili-run smollm2.mili -p \"The capital of France is\" -n 16\n"
             "  mili-run smollm2.mili --chat -p \"What is the capital of France?\"   one question\n"
             "  mili-run smollm2.mili --chat                                       a conversation\n"
             "  mili-run model.gguf -p \"Hello\" --temperature 0.7 --top-p 0.9 --seed 1\n"
             "  mili-run smollm2.mili --tokens 1,2,3 -n 0 --logits-out logits.safetensors\n\n"
             "Sampling defaults come from the model; without any, the most probable token is taken.");
  app.set_version_flag("--version", "mili-run " MILI_VERSION);
  app.add_option("PLAN", options.model, "a plan (.mili), a .gguf file or a Hugging Face folder")->required();
  auto *prompt = app.add_option("-p,--prompt", options.prompt, "the prompt");
  app.add_flag("--chat", options.chat, "through the model's chat template; without -p a conversation");
  app.add_option("--system", options.system, "with --chat: the system message [the template's own]");
  app.add_option("--tokens", options.tokens, "the prompt as token ids: 1,2,3")->delimiter(',')->excludes(prompt);
  app.add_option("-n,--max-tokens", options.max_tokens, "most tokens to generate [until the context is full]")
      ->check(CLI::NonNegativeNumber);
  app.add_option("-t,--threads", options.threads, "worker threads [physical cores]")->check(CLI::Range(1, 1024));
  app.add_option("--device", options.device, "which GPU, from 0, for plans of target cuda")->capture_default_str();
  app.add_option("--temperature", options.temperature, "0: the most probable token")->check(CLI::Range(0.0, 100.0));
  app.add_option("--top-k", options.top_k, "choose among the k most probable; 0: off")->check(CLI::NonNegativeNumber);
  app.add_option("--top-p", options.top_p, "choose among the fewest that reach this probability; 1: off")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--min-p", options.min_p, "drop tokens below this share of the best; 0: off")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--repeat-penalty", options.repeat_penalty, "divide logits of tokens seen; 1: off")
      ->check(CLI::PositiveNumber);
  app.add_option("--seed", options.seed, "the same seed gives the same text")->capture_default_str();
  app.add_option("--logits-out", options.logits_out, "write the prompt's logits, f32 [tokens, vocab], as safetensors")
      ->type_name("FILE");
  app.add_flag("--json", options.json, "print one object: tokens, text, finish_reason, timings");
  app.add_flag("--profile", options.profile, "print a table per kernel at the end");
  app.add_option("--trace", options.trace, "write the kernels' times in Chrome's trace format")->type_name("FILE");
  app.add_flag("-q,--quiet", options.quiet, "text only");
  app.add_option("--target", options.target, "when compiling: cpu or cuda [cpu]");
  app.add_option("--requests", options.requests, "when compiling: sequences that can be live at once")
      ->check(CLI::Range(1, 1024));
  app.add_option("--context", options.context, "when compiling: tokens of context")->check(CLI::Range(1, 1 << 24));
  app.add_option("--activation-dtype", options.activation_dtype, "when compiling: f32 or bf16")
      ->check(CLI::IsMember({"f32", "bf16"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &e) {
    return app.exit(e) == 0 ? 0 : tools::kUsage;
  }
  options.has_prompt = prompt->count() > 0;
  if (!options.has_prompt && options.tokens.empty() && !options.chat) {
    fmt::print(stderr, "mili-run: nothing to do; give -p TEXT, --tokens IDS or --chat. See --help.\n");
    return tools::kUsage;
  }
  if (options.chat && (!options.tokens.empty() || (!options.has_prompt && options.json))) {
    fmt::print(stderr,
               "mili-run: --chat takes -p TEXT (with or without --json) or a conversation on standard input, not {}\n",
               options.tokens.empty() ? "--json alone" : "--tokens");
    return tools::kUsage;
  }
  std::signal(SIGINT, on_interrupt);
  Runner runner(options);
  Status status = runner.load();
  if (status.ok())
    status = options.chat && !options.has_prompt ? runner.chat_loop() : runner.run_once();
  if (!status.ok())
    return tools::fail(kTool, status);
  return interrupted ? 130 : 0;
}
