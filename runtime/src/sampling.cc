#include "mili/runtime/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace mili {
namespace {

// Best first; ties go to the lower id, so that equal logits never depend on the order of a partition.
bool better(const Sampler::Candidate &a, const Sampler::Candidate &b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

Status out_of_range(const char *name, double value, const char *range) {
  return invalid_argument(std::string(name) + ": found " + std::to_string(value) + ", expected " + range);
}

}  // namespace

Status validate(const SamplingParams &p, int64_t vocab) {
  if (!(p.temperature >= 0) || std::isinf(p.temperature))
    return out_of_range("temperature", p.temperature, "0 (greedy) or more");
  if (p.top_k < 0)
    return out_of_range("top-k", p.top_k, "0 (off) or more");
  if (!(p.top_p > 0 && p.top_p <= 1))
    return out_of_range("top-p", p.top_p, "more than 0, at most 1 (off)");
  if (!(p.min_p >= 0 && p.min_p <= 1))
    return out_of_range("min-p", p.min_p, "0 (off) to 1");
  if (!(p.repetition_penalty > 0) || std::isinf(p.repetition_penalty))
    return out_of_range("repetition penalty", p.repetition_penalty, "more than 0 (1: off)");
  if (!std::isfinite(p.presence_penalty))
    return out_of_range("presence penalty", p.presence_penalty, "a finite number");
  if (!std::isfinite(p.frequency_penalty))
    return out_of_range("frequency penalty", p.frequency_penalty, "a finite number");
  if (p.top_logprobs < 0 || p.top_logprobs > kMaxTopLogprobs)
    return out_of_range("top log-probabilities", p.top_logprobs, "0 to 20");
  for (const auto &[token, bias] : p.logit_bias) {
    if (token < 0 || token >= vocab)
      return out_of_range("logit bias: token", token, ("0 to " + std::to_string(vocab - 1)).c_str());
    if (std::isnan(bias) || bias == std::numeric_limits<float>::infinity())
      return out_of_range("logit bias", bias, "a finite number or minus infinity");
  }
  return ok_status();
}

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c[0], b = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(a)};
    k[0] += 0x9E3779B9;
    k[1] += 0xBB67AE85;
  }
  return c;
}

double philox_uniform(uint64_t seed, uint64_t position, uint32_t stream) {
  const auto words = philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), stream, 0},
                                {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = (uint64_t{words[0]} << 32 | words[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

StatusOr<Sampler> Sampler::create(int64_t vocab, SamplingParams params) {
  if (vocab <= 0)
    return out_of_range("vocabulary", static_cast<double>(vocab), "at least one token");
  MILI_RETURN_IF_ERROR(validate(params, vocab));
  return Sampler(vocab, std::move(params));
}

Sampler::Sampler(int64_t vocab, SamplingParams params)
    : params_(std::move(params)), work_(static_cast<size_t>(vocab)), candidates_(static_cast<size_t>(vocab)),
      counts_(static_cast<size_t>(vocab), 0) {}

void Sampler::report_logprobs(std::span<const float> logits, SampledToken &result) {
  const float top = *std::ranges::max_element(logits);
  double sum = 0;
  for (float logit : logits)
    sum += std::exp(static_cast<double>(logit) - top);
  const double log_sum = top + std::log(sum);
  for (size_t i = 0; i < logits.size(); ++i)
    candidates_[i] = {logits[i], static_cast<int32_t>(i)};
  const auto count = std::min<size_t>(static_cast<size_t>(params_.top_logprobs), logits.size());
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(count), candidates_.end(),
                    better);
  result.top_count = static_cast<int32_t>(count);
  for (size_t i = 0; i < count; ++i)
    result.top[i] = {candidates_[i].token, static_cast<float>(candidates_[i].logit - log_sum)};
  result.logprob = static_cast<float>(logits[static_cast<size_t>(result.token)] - log_sum);
}

void Sampler::penalize(std::span<const int32_t> history, size_t prompt_tokens) {
  const bool counted = params_.presence_penalty != 0 || params_.frequency_penalty != 0;
  if (params_.repetition_penalty == 1 && !counted)
    return;
  // counts_: 1 for seen, plus 2 for each time that it was generated; zeroed again below.
  for (size_t i = 0; i < history.size(); ++i) {
    uint32_t &count = counts_[static_cast<size_t>(history[i])];
    count |= 1;
    if (i >= prompt_tokens)
      count += 2;
  }
  for (int32_t token : history) {
    uint32_t &count = counts_[static_cast<size_t>(token)];
    if (count == 0)
      continue;
    float &logit = work_[static_cast<size_t>(token)];
    if (params_.repetition_penalty != 1)
      logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    if (const uint32_t generated = count >> 1; generated > 0)
      logit -= params_.presence_penalty + params_.frequency_penalty * static_cast<float>(generated);
    count = 0;
  }
}

// Moves the best `wanted` candidates to the front, sorted, given that the first `already` are there.
size_t Sampler::partition_top(size_t wanted, size_t already) {
  wanted = std::min(wanted, candidates_.size());
  if (wanted <= already)
    return already;
  auto first = candidates_.begin() + static_cast<ptrdiff_t>(already);
  auto middle = candidates_.begin() + static_cast<ptrdiff_t>(wanted);
  if (middle != candidates_.end())
    std::nth_element(first, middle, candidates_.end(), better);
  std::sort(first, middle, better);
  return wanted;
}

StatusOr<SampledToken> Sampler::sample(std::span<const float> logits, std::span<const int32_t> history,
                                       size_t prompt_tokens) {
  if (logits.size() != work_.size())
    return invalid_argument("the sampler is for " + std::to_string(work_.size()) + " logits, found " +
                            std::to_string(logits.size()));
  for (int32_t token : history)
    if (token < 0 || static_cast<size_t>(token) >= work_.size())
      return invalid_argument("token " + std::to_string(token) + " of the history is outside the vocabulary");
  std::ranges::copy(logits, work_.begin());
  for (const auto &[token, bias] : params_.logit_bias)
    work_[static_cast<size_t>(token)] += bias;
  penalize(history, prompt_tokens);

  int32_t best = -1;
  for (size_t i = 0; i < work_.size(); ++i) {
    if (std::isnan(work_[i]) || work_[i] == std::numeric_limits<float>::infinity())
      return invalid_argument("the logit of token " + std::to_string(i) + " is not a number or infinite");
    if (std::isfinite(work_[i]) && (best < 0 || work_[i] > work_[static_cast<size_t>(best)]))
      best = static_cast<int32_t>(i);
  }
  if (best < 0)
    return invalid_argument("no token has a finite logit");

  SampledToken result;
  result.token = best;
  if (params_.temperature > 0) {
    const float top = work_[static_cast<size_t>(best)];
    const double scale = 1.0 / params_.temperature;
    for (size_t i = 0; i < work_.size(); ++i)
      candidates_[i] = {work_[i], static_cast<int32_t>(i)};
    auto weight = [&](const Candidate &c) { return std::exp((static_cast<double>(c.logit) - top) * scale); };

    size_t kept = candidates_.size(), sorted = 0;
    if (params_.top_k > 0 && static_cast<size_t>(params_.top_k) < kept)
      kept = sorted = partition_top(static_cast<size_t>(params_.top_k), 0);
    if (params_.top_p < 1) {
      double total = 0;
      for (size_t i = 0; i < kept; ++i)
        total += weight(candidates_[i]);
      // Sort ever more of the front until its sum reaches top-p.
      double sum = 0;
      size_t taken = 0;
      for (size_t step = 64; taken < kept && sum < params_.top_p * total; ++taken) {
        if (taken == sorted) {
          sorted = std::min(kept, partition_top(sorted + step, sorted));
          step *= 4;
        }
        sum += weight(candidates_[taken]);
      }
      kept = std::max<size_t>(taken, 1);
    }
    if (params_.min_p > 0) {
      // Relative to the best, whose weight is 1.
      auto end = std::remove_if(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(kept),
                                [&](const Candidate &c) { return weight(c) < params_.min_p; });
      kept = static_cast<size_t>(end - candidates_.begin());
    }
    double total = 0;
    for (size_t i = 0; i < kept; ++i)
      total += weight(candidates_[i]);
    const double target = philox_uniform(params_.seed, history.size()) * total;
    double sum = 0;
    for (size_t i = 0; i < kept; ++i) {
      const double w = weight(candidates_[i]);
      if (w == 0)
        continue;
      result.token = candidates_[i].token;
      sum += w;
      if (sum > target)
        break;
    }
  }
  if (params_.top_logprobs > 0)
    report_logprobs(logits, result);
  return result;
}

}  // namespace mili
