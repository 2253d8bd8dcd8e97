#include "mili/runtime/generator.h"

#include <algorithm>
#include <chrono>

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
  while (static_cast<int64_t>(result.tokens.size()) < options.max_tokens) {
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
