// A golden model: the folder that a user would download, and what transformers computed from it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mili::testing {

struct Golden {
  std::string folder;
  int64_t sequences = 0, prompt_tokens = 0, greedy_tokens = 0, vocab = 0;
  std::vector<int32_t> input_ids;    // [sequences][prompt_tokens]
  std::vector<float> logits;         // [sequences][prompt_tokens][vocab]
  std::vector<int32_t> greedy;       // [sequences][greedy_tokens]
  std::vector<float> greedy_margin;  // [sequences][greedy_tokens]
  // Relative error of transformers' own bf16 run, over all rows and of the worst (tests/device/bf16_reference.py); 0:
  // unknown.
  double bf16_error = 0, bf16_worst_row = 0;

  std::vector<int32_t> prompt(int64_t sequence) const;
  std::vector<int32_t> continuation(int64_t sequence) const;
  const float *row(int64_t sequence, int64_t token) const;
  float margin(int64_t sequence, int64_t index) const { return greedy_margin[sequence * greedy_tokens + index]; }
};

// Reads golden.safetensors of a model's folder; aborts the test program when it is not what make_golden.py writes.
Golden load_golden(const std::string &folder);

int32_t arg_max(const float *row, int64_t count);
// |a - b| / |b|, Euclidean norms.
double relative_error(const float *a, const float *b, int64_t count);

}  // namespace mili::testing
