// Expected work: the coefficients that a plan has of each launch (Work in plan.fbs), evaluated for a step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mili {
namespace plan {
struct Bucket;
struct Launch;
}  // namespace plan

// The tokens of one sequence in a step.
struct SequenceExtent {
  int64_t position = 0;  // of the first
  int64_t tokens = 1;
};

// What a step holds, as far as its work depends on it.
struct StepExtent {
  std::span<const SequenceExtent> sequences;
  int64_t logit_rows = 0;

  int64_t tokens() const;
};

// Bytes that must move and operations that must be done.
struct ExpectedWork {
  double weight_bytes = 0;      // each weight once
  double activation_bytes = 0;  // in and out once, and rows of an embedding
  double state_bytes = 0;       // K and V of the positions that are read
  double flops = 0;

  double bytes() const { return weight_bytes + activation_bytes + state_bytes; }
  ExpectedWork &operator+=(const ExpectedWork &other);
};

// Of one launch, of all launches of a bucket. The plan has been verified.
ExpectedWork expected_work(const plan::Launch &launch, const StepExtent &step);
ExpectedWork expected_work(const plan::Bucket &bucket, const StepExtent &step);

// A step at a bucket's bounds: its tokens spread over its sequences, each of which is half way through `context` at its
// last token, or begins with the step where that has more tokens.
std::vector<SequenceExtent> extents_at_bounds(const plan::Bucket &bucket, int64_t context);

}  // namespace mili
