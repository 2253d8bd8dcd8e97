#include "mili/runtime/work.h"

#include "mili/schema/plan_generated.h"

#include <algorithm>
#include <cmath>

namespace mili {
namespace {

// Keys that a query sees at the end of n tokens.
double visible(const plan::Work &work, double n) {
  const double every = work.visible_every() ? n / static_cast<double>(work.visible_every()) : 0;
  return std::min(n, static_cast<double>(work.visible_base()) + every);
}

// Keys seen, summed over a sequence's tokens: 1 + 2 + ... up to where the mask begins to hide some, a line from there.
double pairs(const plan::Work &work, const SequenceExtent &sequence) {
  const auto base = static_cast<double>(work.visible_base()), every = static_cast<double>(work.visible_every());
  const auto position = static_cast<double>(sequence.position), tokens = static_cast<double>(sequence.tokens);
  double all = tokens;  // tokens that see everything
  if (every != 1)
    all = std::clamp(std::floor(every > 0 ? base * every / (every - 1) : base) - position, 0.0, tokens);
  const double rest = tokens - all, first = position + all + 1;
  return all * (2 * position + 1 + all) / 2 + rest * base + (every > 0 ? rest * (2 * first + rest - 1) / 2 / every : 0);
}

double keys(const plan::Work &work, const SequenceExtent &sequence) {
  const auto end = static_cast<double>(sequence.position + sequence.tokens);
  return std::min(end, visible(work, end) + static_cast<double>(sequence.tokens) - 1);
}

double rows_of(plan::RowCount per, const StepExtent &step) {
  switch (per) {
  case plan::RowCount::One: return 1;
  case plan::RowCount::Tokens: return static_cast<double>(step.tokens());
  case plan::RowCount::LogitRows: return static_cast<double>(step.logit_rows);
  case plan::RowCount::Sequences: return static_cast<double>(step.sequences.size());
  }
  return 0;
}

}  // namespace

int64_t StepExtent::tokens() const {
  int64_t sum = 0;
  for (const SequenceExtent &sequence : sequences)
    sum += sequence.tokens;
  return sum;
}

ExpectedWork &ExpectedWork::operator+=(const ExpectedWork &other) {
  weight_bytes += other.weight_bytes;
  activation_bytes += other.activation_bytes;
  state_bytes += other.state_bytes;
  flops += other.flops;
  return *this;
}

ExpectedWork expected_work(const plan::Launch &launch, const StepExtent &step) {
  ExpectedWork result;
  const plan::Work *work = launch.work();
  const double rows = work ? rows_of(work->per(), step) : 0;
  if (rows == 0)
    return result;
  result.weight_bytes = static_cast<double>(work->bytes_fixed());
  result.activation_bytes = static_cast<double>(work->bytes_row()) * rows;
  result.flops = static_cast<double>(work->flops_row()) * rows;
  if (work->bytes_key() == 0 && work->flops_pair() == 0)
    return result;
  for (const SequenceExtent &sequence : step.sequences) {
    result.state_bytes += static_cast<double>(work->bytes_key()) * keys(*work, sequence);
    result.flops += static_cast<double>(work->flops_pair()) * pairs(*work, sequence);
  }
  return result;
}

ExpectedWork expected_work(const plan::Bucket &bucket, const StepExtent &step) {
  ExpectedWork sum;
  for (const plan::Launch *launch : *bucket.launches())
    sum += expected_work(*launch, step);
  return sum;
}

std::vector<SequenceExtent> extents_at_bounds(const plan::Bucket &bucket, int64_t context) {
  std::vector<SequenceExtent> extents;
  int64_t tokens = bucket.tokens();
  for (int64_t left = bucket.sequences(); left > 0; --left) {
    const int64_t count = (tokens + left - 1) / left;
    extents.push_back({std::max<int64_t>(context / 2 - count, 0), count});
    tokens -= count;
  }
  return extents;
}

}  // namespace mili
