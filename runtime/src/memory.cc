#include "mili/runtime/memory.h"

#include "mili/runtime/batch.h"
#include "mili/runtime/plan_format.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <set>

namespace mili {
namespace {

static_assert(kPageTokens == 64, "pages_for() and page_bytes() say 64");

// Sums and products that remember having overflowed. 2^62 leaves room for a caller's own additions.
class Checked {
public:
  constexpr Checked(uint64_t value) : value_(value), ok_(value <= kLimit) {}

  Checked operator+(Checked other) const { return combine(other, __builtin_add_overflow(value_, other.value_, &tmp_)); }
  Checked operator*(Checked other) const { return combine(other, __builtin_mul_overflow(value_, other.value_, &tmp_)); }
  bool ok() const { return ok_; }
  uint64_t value() const { return value_; }

private:
  static constexpr uint64_t kLimit = uint64_t{1} << 62;

  Checked combine(Checked other, bool overflow) const {
    Checked result(overflow ? 0 : tmp_);
    result.ok_ = result.ok_ && ok_ && other.ok_ && !overflow;
    return result;
  }

  uint64_t value_;
  mutable uint64_t tmp_ = 0;
  bool ok_;
};

constexpr uint64_t kTableAlign = 64;

uint64_t round_up(uint64_t value, uint64_t align) {
  return (value + align - 1) / align * align;
}

Status too_large(const char *what) {
  return invalid_argument(std::string(what) + " is larger than 2^62 bytes; the plan's bounds are not sensible");
}

}  // namespace

StatusOr<uint64_t> page_bytes(const StateSize &state) {
  Checked bytes = (Checked(state.k) + Checked(state.v)) * state.heads * kPageTokens * state.elem_bytes;
  if (!bytes.ok())
    return too_large("a page of the state");
  return bytes.value();
}

uint64_t page_table_index(const std::vector<uint64_t> &windows, uint64_t window) {
  const std::set<uint64_t> distinct(windows.begin(), windows.end());
  return static_cast<uint64_t>(std::distance(distinct.begin(), distinct.lower_bound(window)));
}

StatusOr<BatchLayout> batch_layout(const std::vector<BucketSize> &buckets, uint64_t pages_per_sequence,
                                   uint64_t page_tables) {
  uint64_t tokens = 0, sequences = 0, rows = 0;
  for (const BucketSize &bucket : buckets) {
    tokens = std::max(tokens, bucket.tokens);
    sequences = std::max(sequences, bucket.sequences);
    rows = std::max(rows, bucket.logit_rows);
  }
  BatchLayout layout;
  Checked at = round_up(sizeof(Batch), kTableAlign);
  auto place = [&](uint64_t &offset, Checked entries, uint64_t bytes = sizeof(int32_t)) {
    offset = at.value();
    Checked end = at + entries * bytes + (kTableAlign - 1);
    at = Checked(end.value() / kTableAlign * kTableAlign) + Checked(end.ok() && at.ok() ? 0 : ~uint64_t{0});
  };
  place(layout.token_ids, tokens);
  place(layout.positions, tokens);
  place(layout.segments, tokens);
  place(layout.q_start, Checked(sequences) + 1);
  place(layout.kv_len, sequences);
  place(layout.page_table, Checked(page_tables) * sequences * pages_per_sequence);
  place(layout.logit_tokens, rows);
  place(layout.sampling, sequences, sizeof(SequenceSampling));
  if (!at.ok())
    return too_large("the batch's tables");
  layout.total = at.value();
  return layout;
}

StatusOr<MemoryFigures> plan_memory(const MemoryInputs &inputs) {
  if (inputs.requests == 0 || inputs.context == 0)
    return invalid_argument("a plan serves at least one request of at least one token; found requests = " +
                            std::to_string(inputs.requests) + ", context = " + std::to_string(inputs.context));
  MemoryFigures figures;
  figures.weights = inputs.weight_bytes;
  if (!Checked(inputs.weight_bytes).ok())
    return too_large("the weights");

  figures.context = inputs.context;
  figures.pages_per_sequence = pages_for(inputs.context);
  uint64_t step_tokens = 1;
  for (const BucketSize &bucket : inputs.buckets)
    step_tokens = std::max(step_tokens, bucket.tokens);
  std::set<uint64_t> windows;
  for (const StateSize &state : inputs.states)
    if (state.paged)
      windows.insert(state.window);
  Checked all_pages = 0;
  for (uint64_t window : windows) {
    PageTable table{window, figures.pages_per_sequence, 0};
    if (Checked seen = Checked(window) + step_tokens; window > 0 && seen.ok())
      table.ring = std::min(table.ring, pages_for(seen.value() - 1) + 1);
    Checked pages = Checked(inputs.requests) * table.ring + 1;
    if (!pages.ok())
      return too_large("a page table");
    table.pages = pages.value();
    all_pages = all_pages + table.pages;
    figures.page_tables.push_back(table);
  }
  Checked slots = Checked(inputs.requests) + 1;  // slot 0 is scratch, like page 0
  Checked kv = 0;
  for (const StateSize &state : inputs.states) {
    if (state.paged) {
      MILI_ASSIGN_OR_RETURN(uint64_t bytes, page_bytes(state));
      const auto table = std::find_if(figures.page_tables.begin(), figures.page_tables.end(),
                                      [&](const PageTable &t) { return t.window == state.window; });
      kv = kv + Checked(table->pages) * bytes;
    } else {
      kv = kv + slots * state.slot_bytes;
    }
  }
  if (!kv.ok() || !all_pages.ok())
    return too_large("the state pools");
  figures.kv = kv.value();
  figures.kv_pages = all_pages.value();

  for (const BucketSize &bucket : inputs.buckets) {
    if (!Checked(bucket.arena_bytes).ok())
      return too_large("the arena");
    figures.arena = std::max(figures.arena, round_up(bucket.arena_bytes, kArenaAlign));
  }
  for (uint64_t bytes : inputs.kernel_scratch) {
    if (!Checked(bytes).ok())
      return too_large("a kernel's scratch");
    figures.worker_scratch = std::max(figures.worker_scratch, round_up(bytes, kTableAlign));
  }
  MILI_ASSIGN_OR_RETURN(BatchLayout layout, batch_layout(inputs.buckets, figures.pages_per_sequence,
                                                         std::max<uint64_t>(figures.page_tables.size(), 1)));
  figures.tables = layout.total;

  figures.counters = inputs.counter_bytes;
  Checked total = Checked(figures.weights) + figures.arena + figures.kv + figures.tables + figures.worker_scratch +
                  figures.counters;
  if (!total.ok())
    return too_large("the plan's memory");
  return figures;
}

std::string format_bytes(uint64_t bytes) {
  static constexpr const char *kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024)
    return std::to_string(bytes) + " bytes";
  double value = static_cast<double>(bytes) / 1024;
  int unit = 0;
  while (value >= 1024 && unit < 5) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), value < 10 ? "%.2f %s" : value < 100 ? "%.1f %s" : "%.0f %s", value, kUnits[unit]);
  return text;
}

}  // namespace mili
