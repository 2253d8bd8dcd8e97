// What a plan needs in memory, to the byte. The compiler states these figures in META, the loader recomputes them with
// the same functions and refuses a plan that disagrees, the engine allocates exactly them at load and nothing after.
#pragma once

#include "mili/runtime/status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace mili {

// One module state of a plan.
struct StateSize {
  bool paged = true;        // false: recurrent, slot_bytes for each sequence
  uint64_t heads = 0;       // paged: KV heads
  uint64_t k = 0;           // paged: elements of a K row of one head
  uint64_t v = 0;           // paged: elements of a V row of one head
  uint64_t elem_bytes = 0;  // paged: bytes of an element
  uint64_t slot_bytes = 0;  // recurrent
};

// Bounds of one bucket.
struct BucketSize {
  uint64_t tokens = 0;
  uint64_t sequences = 0;
  uint64_t logit_rows = 0;
  uint64_t arena_bytes = 0;
};

// What to leave a GPU's driver for its context, a plan's modules and graphs, beside the plan's own bytes.
inline constexpr uint64_t kDriverReserve = uint64_t{1} << 30;

struct MemoryInputs {
  uint64_t requests = 0;      // sequences that can be live at once
  uint64_t context = 0;       // tokens of each
  uint64_t weight_bytes = 0;  // size of the WEIGHTS section
  std::vector<StateSize> states;
  std::vector<BucketSize> buckets;       // of every function
  std::vector<uint64_t> kernel_scratch;  // scratch_bytes of every kernel
  uint64_t counter_bytes = 0;            // of the counter block
};

// Bytes, but for kv_pages and pages_per_sequence.
struct MemoryFigures {
  uint64_t weights = 0;
  uint64_t arena = 0;           // of the largest bucket, a multiple of kArenaAlign
  uint64_t kv = 0;              // all state pools
  uint64_t tables = 0;          // the batch's tables, see BatchLayout
  uint64_t worker_scratch = 0;  // of each worker thread
  uint64_t counters = 0;        // what launches synchronize with, see plan.fbs
  uint64_t kv_pages = 0;        // pages of every paged state, page 0 (scratch) included
  uint64_t pages_per_sequence = 0;

  // weights + arena + kv + tables + counters + workers * worker_scratch.
  uint64_t total(uint64_t workers) const { return weights + arena + kv + tables + counters + workers * worker_scratch; }
};

// Byte offsets of the batch's tables (batch_fields.def) in their one allocation; each begins at a multiple of 64. A
// copy of the Batch comes first, for kernels that read it from device memory.
struct BatchLayout {
  uint64_t token_ids = 0, positions = 0, segments = 0, q_start = 0, kv_len = 0, page_table = 0, logit_tokens = 0;
  uint64_t sampling = 0;
  uint64_t total = 0;
};

// Pages that hold `tokens` positions.
constexpr uint64_t pages_for(uint64_t tokens) {
  return tokens / 64 + (tokens % 64 != 0);
}

// Bytes of one page of a paged state: 64 * heads * (k + v) * elem_bytes. InvalidArgument where it overflows.
StatusOr<uint64_t> page_bytes(const StateSize &state);

// Tables for the largest step: T = max tokens, S = max sequences, R = max logit_rows over `buckets`.
StatusOr<BatchLayout> batch_layout(const std::vector<BucketSize> &buckets, uint64_t pages_per_sequence);

// All figures. kv_pages = 1 + requests * pages_for(context): every request can reach its whole context, so an accepted
// request never runs out of pages. InvalidArgument where a figure exceeds 2^62 or a bound is zero.
StatusOr<MemoryFigures> plan_memory(const MemoryInputs &inputs);

// "1.50 GiB", "95.1 MiB", "512 bytes".
std::string format_bytes(uint64_t bytes);

}  // namespace mili
