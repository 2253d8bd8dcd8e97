// Sampling: from a row of logits to a token.
//
// Order, as in the transformers library: logit bias, repetition penalty (Keskar et al. 2019, arXiv 1909.05858),
// presence and frequency penalties, temperature, top-k, top-p (Holtzman et al. 2019, arXiv 1904.09751) on what top-k
// left, min-p (arXiv 2407.01082). The random number is Philox4x32-10(key = seed, counter = position): the same seed,
// logits and position give the same token whatever was sampled before. Selection is by repeated partition of the
// vocabulary; only the tokens that can be chosen are sorted. Ties go to the lower token id.
#pragma once

#include "mili/runtime/status.h"

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace mili {

inline constexpr int kMaxTopLogprobs = 20;

struct SamplingParams {
  float temperature = 0;         // 0: greedy, the arg-max after bias and penalties; otherwise > 0
  int32_t top_k = 0;             // 0: off; otherwise the k most probable stay
  float top_p = 1;               // in (0, 1]; 1: off. The fewest most probable tokens whose sum reaches it stay
  float min_p = 0;               // in [0, 1]; 0: off. Tokens below min_p times the highest probability leave
  float repetition_penalty = 1;  // > 0; 1: off. Logits of tokens seen are divided (positive) or multiplied by it
  float presence_penalty = 0;    // subtracted once from tokens generated before
  float frequency_penalty = 0;   // subtracted for each time a token was generated before
  std::vector<std::pair<int32_t, float>> logit_bias = {};  // added; -infinity bans a token
  uint64_t seed = 0;
  int32_t top_logprobs = 0;  // 0..kMaxTopLogprobs most probable tokens to report
};

// InvalidArgument names the parameter, its value and its range.
Status validate(const SamplingParams &params, int64_t vocab);

struct TokenLogprob {
  int32_t token = -1;
  float logprob = 0;
};

struct SampledToken {
  int32_t token = -1;
  // Natural logarithm of the model's own probability: logits as they came, before bias, penalties, temperature.
  // Filled where top_logprobs > 0, else 0.
  float logprob = 0;
  int32_t top_count = 0;
  std::array<TokenLogprob, kMaxTopLogprobs> top;  // descending
};

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);
// In [0, 1), 53 bits, from the first two words of philox4x32({position lo, hi, stream, 0}, {seed lo, hi}).
double philox_uniform(uint64_t seed, uint64_t position, uint32_t stream = 0);

class Sampler {
public:
  // Allocates its work space; sample() allocates nothing.
  static StatusOr<Sampler> create(int64_t vocab, SamplingParams params);

  // history: tokens of the sequence so far, of which the first `prompt_tokens` were given, not generated. The position
  // of the new token is history.size(). InvalidArgument where a logit is NaN or none is finite.
  StatusOr<SampledToken> sample(std::span<const float> logits, std::span<const int32_t> history, size_t prompt_tokens);

  const SamplingParams &params() const { return params_; }

  struct Candidate {
    float logit;
    int32_t token;
  };

private:
  Sampler(int64_t vocab, SamplingParams params);
  void report_logprobs(std::span<const float> logits, SampledToken &result);
  void penalize(std::span<const int32_t> history, size_t prompt_tokens);
  size_t partition_top(size_t wanted, size_t already);

  SamplingParams params_;
  std::vector<float> work_;            // [vocab] logits after bias and penalties
  std::vector<Candidate> candidates_;  // [vocab]
  std::vector<uint32_t> counts_;       // [vocab] zero between calls
};

}  // namespace mili
