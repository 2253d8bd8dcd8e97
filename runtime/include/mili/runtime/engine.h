// Engine: executes steps of a plan on a device. Everything is allocated in load(); step() allocates nothing.
//
//   MILI_ASSIGN_OR_RETURN(Plan plan, Plan::open(path));
//   MILI_ASSIGN_OR_RETURN(auto engine, Engine::load(std::move(plan), {}));
//   int32_t page = 1;
//   StepSequence sequence{.tokens = prompt, .position = 0, .pages = {&page, 1}};
//   MILI_ASSIGN_OR_RETURN(StepOutput out, engine->step({&sequence, 1}));
//
// The engine knows pages, not sequences: who owns which page is the caller's business (session.h does it).
// An engine is used by one thread at a time.
#pragma once

#include "mili/runtime/device.h"
#include "mili/runtime/plan.h"
#include "mili/runtime/status.h"
#include "mili/runtime/work.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mili {

struct EngineOptions {
  CpuOptions cpu;    // for plans of target "cpu"
  CudaOptions cuda;  // for plans of target "cuda"
  std::string function = "forward";
  Progress progress;
};

enum class LogitRows : uint8_t {
  kNone = 0,  // the state grows, no head is computed
  kLast,      // the row after the sequence's last token of the step
  kAll,       // one row per token of the step
};

// How the device samples one sequence (Engine::decode); fields as those of SamplingParams.
struct DecodeParams {
  static constexpr size_t kMaxStopTokens = 8;
  float temperature = 0;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  uint64_t seed = 0;
  // The sequence ends with any of these, which is its last token then.
  std::vector<int32_t> stop_tokens = {};
};

// A sequence's pages in one page table, in order; of a ring, the page of block b is entry b % ring.
using PageList = std::vector<int32_t>;

// What one sequence contributes to a step.
struct StepSequence {
  std::span<const int32_t> tokens;  // at least one
  int64_t position = 0;             // of tokens[0] in its sequence; positions before it are in the pages
  // For each of the plan's page tables: min(ring, pages_for(position + tokens.size())) of them or more, entries in
  // 1..pages-1 (see PageTable).
  std::span<const PageList> pages;
  LogitRows logits = LogitRows::kLast;
  DecodeParams sampling = {};  // for Engine::decode
};

// Receives the tokens of step `step`, one for each sequence, -1 for one that has ended; false ends the decoding.
using TokenSink = std::function<bool(int64_t step, std::span<const int32_t> tokens)>;

struct StepOutput {
  // f32 [rows][vocab]: for each sequence in order, its rows in order. In host memory, valid until the next step.
  const float *logits = nullptr;
  int64_t rows = 0;
  int64_t vocab = 0;
  uint32_t bucket = 0;  // which bucket ran

  std::span<const float> row(int64_t index) const { return {logits + index * vocab, static_cast<size_t>(vocab)}; }
};

// Bounds of one bucket of the engine's function.
struct BucketBounds {
  std::string name;
  int64_t tokens = 0;
  int64_t sequences = 0;
  int64_t logit_rows = 0;
};

// Time and work of a launch, summed over the steps since profiling began.
struct LaunchProfile {
  std::string name;    // the group's name in the model
  std::string kernel;  // the symbol
  std::string bucket;
  uint64_t calls = 0;
  double seconds = 0;
  ExpectedWork work;  // of what the steps held, by the plan
};

// Where the seconds of Engine::load went, in the order of the stages.
struct LoadTimes {
  double device = 0;   // opening it: of a GPU, driver and context
  double kernels = 0;  // loading code, or compiling it
  double memory = 0;   // arena, KV pools, tables
  double weights = 0;  // on the device, or mapped
  double buckets = 0;  // launch lists; of a GPU, graphs
};

class Engine {
public:
  // The plan moves in: weights are used where it maps them.
  static StatusOr<std::unique_ptr<Engine>> load(Plan plan, const EngineOptions &options = {});
  // The same on a device of the caller's.
  static StatusOr<std::unique_ptr<Engine>> load(Plan plan, std::unique_ptr<Device> device,
                                                const EngineOptions &options = {});
  ~Engine();
  Engine(const Engine &) = delete;
  Engine &operator=(const Engine &) = delete;

  const Plan &plan() const;
  Device &device();
  const Module &module() const;
  const LoadTimes &load_times() const;
  int64_t vocab() const;
  int64_t context() const;   // tokens a sequence can have
  int64_t requests() const;  // sequences that can be live at once
  std::span<const PageTable> page_tables() const;
  std::span<const BucketBounds> buckets() const;
  // Largest bounds over the buckets: no step can have more of each.
  const BucketBounds &largest() const;

  // Index of the smallest bucket (fewest tokens, then sequences, then logit rows) that fits; InvalidArgument where
  // none.
  StatusOr<uint32_t> pick_bucket(int64_t tokens, int64_t sequences, int64_t logit_rows) const;

  // What a step must move and do in the bucket that it would take, by the plan. Errors as pick_bucket().
  StatusOr<ExpectedWork> expected_work(const StepExtent &step) const;

  // Runs one step. InvalidArgument for a token outside the vocabulary, a position beyond the context, a page that is
  // missing or out of range, or a step larger than every bucket; nothing has changed then.
  StatusOr<StepOutput> step(std::span<const StepSequence> sequences);

  // Whether the plan's buckets sample on the device.
  bool can_decode() const;
  // `steps` steps of one token for each sequence: the token given, then what the device sampled, fed back there. The
  // host only reads along, at most kDecodeLag steps behind; so many surplus steps may have run when the sink ends the
  // decoding, or when all sequences have met a stop token, which ends it too. `pages` must hold all the positions.
  // Errors as step(); Unimplemented where !can_decode().
  static constexpr int64_t kDecodeLag = 8;
  Status decode(std::span<const StepSequence> sequences, int64_t steps, const TokenSink &sink);

  // For state pools: the same page in every paged state.
  // Of page table `table`, in all its states.
  Status copy_page(size_t table, int32_t to, int32_t from);
  Status clear_page(size_t table, int32_t page);

  // Times every launch of the following steps (which makes them a little slower) and adds up their work; false ends it
  // and forgets.
  void set_profiling(bool on);
  std::vector<LaunchProfile> profile() const;
  // Device allocations since load() returned: 0.
  uint64_t allocations_after_load() const;

private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mili
