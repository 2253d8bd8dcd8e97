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
  uint64_t window = 0;      // paged: positions after which a row is never read again; 0: all are kept
};

// Paged states that keep the same positions share a page table: one for those that keep all, one for each window. A
// sequence's block b of 64 positions is in entry b of a table that keeps all. Of a window it needs `ring` pages,
// however long it is: block b is in the page of block b - ring, whose rows no query sees any more.
struct PageTable {
  uint64_t window = 0;
  uint64_t ring = 0;   // pages of a sequence
  uint64_t pages = 0;  // of every state of this table: those of all requests, and page 0 (scratch)
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

// Bytes, but for pages and tokens.
struct MemoryFigures {
  uint64_t weights = 0;
  uint64_t arena = 0;           // of the largest bucket, a multiple of kArenaAlign
  uint64_t kv = 0;              // all state pools
  uint64_t tables = 0;          // the batch's tables, see BatchLayout
  uint64_t worker_scratch = 0;  // of each worker thread
  uint64_t counters = 0;        // what launches synchronize with, see plan.fbs
  uint64_t kv_pages = 0;        // pages of all page tables, page 0 (scratch) of each included
  uint64_t context = 0;         // tokens of a sequence
  uint64_t pages_per_sequence = 0;
  std::vector<PageTable> page_tables;  // in ascending order of windows; empty without paged states

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

// The place of a state with this window among the plan's page tables (`windows`: those of all its paged states).
uint64_t page_table_index(const std::vector<uint64_t> &windows, uint64_t window);

// Tables for the largest step: T = max tokens, S = max sequences, R = max logit_rows over `buckets`.
StatusOr<BatchLayout> batch_layout(const std::vector<BucketSize> &buckets, uint64_t pages_per_sequence,
                                   uint64_t page_tables);

// All figures. A page table that keeps all has 1 + requests * pages_for(context) pages: every request can reach its
// whole context, so an accepted request never runs out of pages. A window takes, of each request, the pages that it and
// the tokens of the largest step can touch: pages_for(window + tokens - 1) + 1, if that is less. InvalidArgument where
// a figure exceeds 2^62 or a bound is zero.
StatusOr<MemoryFigures> plan_memory(const MemoryInputs &inputs);

// "1.50 GiB", "95.1 MiB", "512 bytes".
std::string format_bytes(uint64_t bytes);

}  // namespace mili
