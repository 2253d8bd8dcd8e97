#include "mili/runtime/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mili {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Status out_of_range(const char *name, double value, const char *expected) {
  return invalid_argument(std::string(name) + " is " + std::to_string(value) + ", expected " + expected);
}

// A total order, so that the choice does not depend on how a partition shuffles.
bool better(const Sampler::Candidate &a, const Sampler::Candidate &b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

}  // namespace

Status validate(const SamplingParams &params, int64_t vocab) {
  if (!(params.temperature >= 0) || !std::isfinite(params.temperature))
    return out_of_range("temperature", params.temperature, "0 (greedy) or a positive number");
  if (params.top_k < 0)
    return out_of_range("top_k", params.top_k, "0 (off) or a positive number");
  if (!(params.top_p > 0 && params.top_p <= 1))
    return out_of_range("top_p", params.top_p, "above 0 and at most 1 (off)");
  if (!(params.min_p >= 0 && params.min_p <= 1))
    return out_of_range("min_p", params.min_p, "0 (off) to 1");
  if (!(params.repetition_penalty > 0) || !std::isfinite(params.repetition_penalty))
    return out_of_range("repetition_penalty", params.repetition_penalty, "a positive number, 1 is off");
  if (!std::isfinite(params.presence_penalty))
    return out_of_range("presence_penalty", params.presence_penalty, "a number");
  if (!std::isfinite(params.frequency_penalty))
    return out_of_range("frequency_penalty", params.frequency_penalty, "a number");
  if (params.top_logprobs < 0 || params.top_logprobs > kMaxTopLogprobs)
    return out_of_range("top_logprobs", params.top_logprobs, "0 to 20");
  for (auto [token, bias] : params.logit_bias) {
    if (token < 0 || token >= vocab)
      return out_of_range("a token of logit_bias", token, ("0 to " + std::to_string(vocab - 1)).c_str());
    if (std::isnan(bias) || bias == kInfinity)
      return out_of_range("a logit_bias", bias, "a number or -infinity");
  }
  return ok_status();
}

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  // Multipliers and Weyl increments of table 2 of the paper.
  constexpr uint64_t kMultiply0 = 0xD2511F53, kMultiply1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = kMultiply0 * counter[0], b = kMultiply1 * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

double philox_uniform(uint64_t seed, uint64_t position, uint32_t stream) {
  const auto words = philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), stream, 0},
                                {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = (uint64_t{words[0]} << 32 | words[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

Sampler::Sampler(int64_t vocab, SamplingParams params)
    : params_(std::move(params)), work_(static_cast<size_t>(vocab)), candidates_(static_cast<size_t>(vocab)),
      counts_(static_cast<size_t>(vocab)) {}

StatusOr<Sampler> Sampler::create(int64_t vocab, SamplingParams params) {
  if (vocab < 1 || vocab > std::numeric_limits<int32_t>::max())
    return invalid_argument("a vocabulary of " + std::to_string(vocab) + " tokens");
  MILI_RETURN_IF_ERROR(validate(params, vocab));
  return Sampler(vocab, std::move(params));
}

void Sampler::report_logprobs(std::span<const float> logits, SampledToken &result) {
  for (size_t i = 0; i < logits.size(); ++i)
    candidates_[i] = {logits[i], static_cast<int32_t>(i)};
  const size_t count = std::min<size_t>(static_cast<size_t>(params_.top_logprobs), logits.size());
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(count), candidates_.end(),
                    better);
  const double highest = candidates_[0].logit;
  double sum = 0;
  for (float logit : logits)
    sum += std::exp(logit - highest);
  const double log_sum = highest + std::log(sum);
  for (size_t i = 0; i < count; ++i)
    result.top[i] = {candidates_[i].token, static_cast<float>(candidates_[i].logit - log_sum)};
  result.top_count = static_cast<int32_t>(count);
  result.logprob = static_cast<float>(logits[static_cast<size_t>(result.token)] - log_sum);
}

void Sampler::penalize(std::span<const int32_t> history, size_t prompt_tokens) {
  for (auto [token, bias] : params_.logit_bias)
    work_[static_cast<size_t>(token)] += bias;
  if (params_.repetition_penalty != 1) {
    for (int32_t token : history) {
      if (counts_[static_cast<size_t>(token)]++ != 0)
        continue;
      float &logit = work_[static_cast<size_t>(token)];
      logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    }
    for (int32_t token : history)
      counts_[static_cast<size_t>(token)] = 0;
  }
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0) {
    auto generated = history.subspan(std::min(prompt_tokens, history.size()));
    for (int32_t token : generated) {
      if (counts_[static_cast<size_t>(token)]++ == 0)
        work_[static_cast<size_t>(token)] -= params_.presence_penalty;
      work_[static_cast<size_t>(token)] -= params_.frequency_penalty;
    }
    for (int32_t token : generated)
      counts_[static_cast<size_t>(token)] = 0;
  }
}

// Moves the `wanted` best candidates to the front, of which the first `already` are there; sorts those that are new.
size_t Sampler::partition_top(size_t wanted, size_t already) {
  wanted = std::min(wanted, candidates_.size());
  auto from = candidates_.begin() + static_cast<ptrdiff_t>(already);
  auto to = candidates_.begin() + static_cast<ptrdiff_t>(wanted);
  if (to != candidates_.end())
    std::nth_element(from, to, candidates_.end(), better);
  std::sort(from, to, better);
  return wanted;
}

StatusOr<SampledToken> Sampler::sample(std::span<const float> logits, std::span<const int32_t> history,
                                       size_t prompt_tokens) {
  if (logits.size() != work_.size())
    return invalid_argument(std::to_string(logits.size()) + " logits for a vocabulary of " +
                            std::to_string(work_.size()));
  for (int32_t token : history)
    if (token < 0 || static_cast<size_t>(token) >= work_.size())
      return invalid_argument("token " + std::to_string(token) + " of the history is not in the vocabulary of " +
                              std::to_string(work_.size()));
  std::copy(logits.begin(), logits.end(), work_.begin());
  penalize(history, prompt_tokens);

  int32_t best = -1;
  float highest = -kInfinity;
  for (size_t i = 0; i < work_.size(); ++i) {
    if (std::isnan(work_[i]))
      return invalid_argument("the logit of token " + std::to_string(i) + " is not a number");
    if (work_[i] > highest) {
      highest = work_[i];
      best = static_cast<int32_t>(i);
    }
  }
  if (best < 0 || highest == kInfinity)
    return invalid_argument("no token can be chosen: the highest logit is not finite");

  SampledToken result;
  result.token = best;
  if (params_.temperature > 0) {
    const double scale = 1.0 / params_.temperature;
    const double uniform = philox_uniform(params_.seed, history.size());
    auto weight = [&](float logit) { return std::exp((static_cast<double>(logit) - highest) * scale); };
    if (params_.top_k == 0 && params_.top_p >= 1 && params_.min_p == 0) {
      double sum = 0;
      for (float logit : work_)
        sum += weight(logit);
      const double target = uniform * sum;
      double seen = 0;
      for (size_t i = 0; i < work_.size(); ++i) {
        const double w = weight(work_[i]);
        seen += w;
        if (w > 0)
          result.token = static_cast<int32_t>(i);
        if (seen > target)
          break;
      }
    } else {
      candidates_.resize(work_.size());
      for (size_t i = 0; i < work_.size(); ++i)
        candidates_[i] = {work_[i], static_cast<int32_t>(i)};
      const size_t limit =
          params_.top_k > 0 ? std::min<size_t>(static_cast<size_t>(params_.top_k), work_.size()) : work_.size();
      // Mass that top-p is a share of: of what top-k leaves.
      size_t sorted = 0, kept = 0;
      double sum = 0;
      if (params_.top_k > 0) {
        sorted = partition_top(limit, 0);
        for (size_t i = 0; i < limit; ++i)
          sum += weight(candidates_[i].logit);
      } else {
        for (float logit : work_)
          sum += weight(logit);
      }
      double mass = 0;
      while (kept < limit) {
        if (kept == sorted)
          sorted = partition_top(std::min(limit, std::max<size_t>(64, sorted * 4)), sorted);
        const double w = weight(candidates_[kept].logit);
        if (kept > 0 && (w == 0 || w < params_.min_p || (params_.top_p < 1 && mass >= params_.top_p * sum)))
          break;
        mass += w;
        ++kept;
      }
      const double target = uniform * mass;
      double seen = 0;
      for (size_t i = 0; i < kept; ++i) {
        seen += weight(candidates_[i].logit);
        result.token = candidates_[i].token;
        if (seen > target)
          break;
      }
    }
  }
  if (params_.top_logprobs > 0)
    report_logprobs(logits, result);
  return result;
}

}  // namespace mili
