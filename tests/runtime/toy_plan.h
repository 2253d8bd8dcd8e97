// Plans for tests: the toy model's, as a structure that a test can bend before it is written.
#pragma once

#include "mili/runtime/plan.h"
#include "mili/schema/plan_generated.h"

#include <functional>
#include <string>
#include <vector>

namespace mili::toy {

struct ToyWeight {
  std::string name;
  uint32_t rank;
  uint64_t offset, size;
  std::vector<uint64_t> shape;
  std::string format, layout;
};
struct ToyState {
  std::string name;
  plan::StateKind kind;
  uint32_t heads, k, v;
  plan::Dtype elem;
  uint64_t page_bytes, slot_bytes;
  uint32_t window = 0;
};
struct ToyLaunch {
  uint32_t kernel;
  std::vector<plan::Arg> args;
  uint64_t tiles_fixed;
  plan::RowCount per;
  uint32_t rows_per_tile;
  plan::Work work = {};  // none where it is per One
};
struct ToyBucket {
  uint32_t tokens, sequences, logit_rows;
  uint64_t arena_bytes, logits_offset;
  std::vector<ToyLaunch> launches;
};
struct ToyKernel {
  std::string symbol;
  uint64_t scratch;
};
struct ToyVariant {
  std::string name;
  std::vector<std::string> features;
  uint32_t section;
};

struct ToyPlan {
  uint32_t vocab = 37, requests = 3, context = 200, kv_pages = 13, ranks = 1;
  uint32_t window = 0;  // what the model attends to; 0: everything before
  int32_t bos = 1;
  std::vector<int32_t> eos{2};
  float top_p = 1;
  std::string target = "cpu", function = "forward";
  // Of target "cuda": units of CUDA source, name and text; images of them, by architecture, each unit and bytes.
  std::vector<std::pair<std::string, std::string>> cuda_units;
  struct Images {
    std::string arch;
    std::vector<std::pair<std::string, std::string>> units;
  };
  std::vector<Images> cuda_images;
  // Bends the bytes of a CUDA section before they are written under their own, matching hash.
  std::function<void(SectionKind, std::vector<std::byte> &)> bend;
  std::vector<ToyWeight> weights;
  std::vector<ToyState> states;
  std::vector<ToyKernel> kernels;
  std::vector<ToyBucket> buckets;
  std::vector<ToyVariant> variants;
  MemoryFigures memory;
  std::vector<float> table;  // the weight's data

  std::vector<std::byte> meta() const;
  Status write(const std::string &path) const;
};

// The same shape with the device suite's kernels as CUDA source; no model runs on it.
ToyPlan toy_cuda_plan();

// A valid plan. Buckets (tokens, sequences, rows): (1,1,1), (4,3,4), (16,3,4). Each launch but the first says its work.
// With `windowed` the model attends to kToyWindow tokens; its state is the second then, after one without a window.
ToyPlan toy_plan(bool windowed = false);

// A path in the test's own temporary folder.
std::string temporary_path(const std::string &name);
std::vector<std::byte> read_file(const std::string &path);
void write_file(const std::string &path, std::span<const std::byte> bytes);

// Logits f32 [tokens][vocab] of the toy model, computed from the whole sequence at once in double.
std::vector<float> reference_logits(const ToyPlan &plan, std::span<const int32_t> tokens);

}  // namespace mili::toy
