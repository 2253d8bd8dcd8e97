// generate(): the loop of a command line: a prompt in, tokens out one by one, with the times that people ask for.
#pragma once

#include "mili/runtime/session.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace mili {

enum class FinishReason : uint8_t {
  kStop,       // a stop token; it is not among the tokens
  kLength,     // max_tokens reached
  kContext,    // the session is full
  kCancelled,  // the callback said so
};
const char *finish_reason_name(FinishReason reason);  // "stop", "length", "context", "cancelled"

struct GenerateOptions {
  int64_t max_tokens = 0;  // at most; 0 evaluates the prompt alone
  std::span<const int32_t> stop_tokens = {};
  // Called with every token as it is chosen; false ends the text after it.
  std::function<bool(const SampledToken &)> on_token = {};
  LogitSink prompt_logits = {};  // with it, logits of every prompt token are computed and handed over
};

struct GenerateTimings {
  double prefill_seconds = 0;  // until the prompt's logits are there
  double decode_seconds = 0;   // from then on, sampling included
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
};

struct GenerateResult {
  std::vector<int32_t> tokens;  // generated, without the stop token
  FinishReason finish = FinishReason::kLength;
  GenerateTimings timings;
};

// Where the plan samples on the device, and the sampler asks for no more than temperature, top-k, top-p, min-p and a
// seed, all tokens but the first are drawn there (from other random numbers than the host's).
//
// Appends `prompt` to the session (which may hold earlier turns) and samples until something ends it. Every token
// returned but the last is in the session's state afterwards; append the last one before going on with another turn.
StatusOr<GenerateResult> generate(Session &session, Sampler &sampler, std::span<const int32_t> prompt,
                                  const GenerateOptions &options);

}  // namespace mili
