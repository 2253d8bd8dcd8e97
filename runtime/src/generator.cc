#include "mili/runtime/generator.h"

#include <algorithm>
#include <chrono>
#include <optional>

namespace mili {

const char *finish_reason_name(FinishReason reason) {
  switch (reason) {
  case FinishReason::kStop: return "stop";
  case FinishReason::kLength: return "length";
  case FinishReason::kContext: return "context";
  case FinishReason::kCancelled: return "cancelled";
  }
  return "unknown";
}

namespace {

// What the device needs to sample in the sampler's place, where it can: greedy, temperature, top-k, top-p and min-p.
std::optional<DecodeParams> on_device(Session &session, const SamplingParams &params,
                                      std::span<const int32_t> stop_tokens) {
  if (!session.pool().engine().can_decode() || params.repetition_penalty != 1 || params.presence_penalty != 0 ||
      params.frequency_penalty != 0 || !params.logit_bias.empty() || params.top_logprobs != 0 ||
      stop_tokens.size() > DecodeParams::kMaxStopTokens)
    return std::nullopt;
  return DecodeParams{params.temperature, params.top_k, params.top_p,
                      params.min_p,       params.seed,  {stop_tokens.begin(), stop_tokens.end()}};
}

}  // namespace

StatusOr<GenerateResult> generate(Session &session, Sampler &sampler, std::span<const int32_t> prompt,
                                  const GenerateOptions &options) {
  using Clock = std::chrono::steady_clock;
  auto seconds = [](Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
  };
  GenerateResult result;
  result.timings.prompt_tokens = static_cast<int64_t>(prompt.size());
  const Clock::time_point begin = Clock::now();
  MILI_RETURN_IF_ERROR(session.append(prompt, options.prompt_logits));
  session.set_prompt_tokens(static_cast<size_t>(session.length()));
  const Clock::time_point prefilled = Clock::now();
  result.timings.prefill_seconds = seconds(begin, prefilled);

  const int64_t room = session.context() - session.length() + 1;  // the last token needs no place in the state
  result.tokens.reserve(static_cast<size_t>(std::clamp<int64_t>(options.max_tokens, 0, room)));
  const std::optional<DecodeParams> device = on_device(session, sampler.params(), options.stop_tokens);
  while (static_cast<int64_t>(result.tokens.size()) < options.max_tokens) {
    if (device && !result.tokens.empty()) {
      // The first token came from the prompt's logits; the device goes on by itself.
      const int64_t wanted = options.max_tokens - static_cast<int64_t>(result.tokens.size());
      const int64_t steps = std::min(wanted, session.context() - session.length());
      if (steps < wanted)
        result.finish = FinishReason::kContext;
      if (steps > 0)
        MILI_RETURN_IF_ERROR(
            session.decode(result.tokens.back(), steps, *device, [&](int64_t, std::span<const int32_t> sampled) {
              SampledToken next;
              next.token = sampled[0];
              if (std::find(device->stop_tokens.begin(), device->stop_tokens.end(), next.token) !=
                  device->stop_tokens.end()) {
                result.finish = FinishReason::kStop;
                return false;
              }
              result.tokens.push_back(next.token);
              if (options.on_token && !options.on_token(next)) {
                result.finish = FinishReason::kCancelled;
                return false;
              }
              return true;
            }));
      break;
    }
    if (!result.tokens.empty()) {
      if (session.length() == session.context()) {
        result.finish = FinishReason::kContext;
        break;
      }
      MILI_RETURN_IF_ERROR(session.append({&result.tokens.back(), 1}));
    }
    MILI_ASSIGN_OR_RETURN(SampledToken next, session.sample(sampler));
    if (std::find(options.stop_tokens.begin(), options.stop_tokens.end(), next.token) != options.stop_tokens.end()) {
      result.finish = FinishReason::kStop;
      break;
    }
    result.tokens.push_back(next.token);
    if (options.on_token && !options.on_token(next)) {
      result.finish = FinishReason::kCancelled;
      break;
    }
  }
  result.timings.decode_seconds = seconds(prefilled, Clock::now());
  result.timings.generated_tokens = static_cast<int64_t>(result.tokens.size());
  return result;
}

}  // namespace mili
