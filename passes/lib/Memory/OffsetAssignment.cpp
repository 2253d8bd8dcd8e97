//===- OffsetAssignment.cpp - buffers into one arena ------------------------===//
//
// Dynamic storage allocation is NP-hard; the heuristic is "greedy by size" (Pisarchyk and Lee, Efficient Memory
// Management for Deep Neural Net Inference, arXiv 2001.03288): in some order, each buffer takes the smallest gap that
// holds it between the placed buffers whose lifetimes overlap its own, or the end. Decreasing size is the order that
// usually wins; two others (decreasing size times lifetime, first use) are tried as well when it misses the lower
// bound, and then the best order is improved: a buffer that reaches the peak swaps its turn with one that was placed
// before it and lives at the same time, and the result is kept if it is no worse (the idea of TVM's hill-climbing
// planner).
//
//===------------------------------------------------------------------------===//
#include "mili/Passes/OffsetAssignment.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <utility>

namespace mlir::mili {

namespace {
/// Pairs of buffers that improvement may look at: a second at most, for the largest models.
constexpr int64_t kImprovementWork = 40'000'000;

int64_t roundUp(int64_t value, int64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

/// Places the buffers in `order`; returns the peak.
int64_t place(std::vector<ArenaBuffer> &buffers, const std::vector<size_t> &order, int64_t alignment) {
  std::vector<const ArenaBuffer *> placed;  // ascending by offset
  std::vector<const ArenaBuffer *> neighbours;
  int64_t peak = 0;
  for (size_t index : order) {
    ArenaBuffer &buffer = buffers[index];
    int64_t size = roundUp(buffer.size, alignment);
    int64_t bestGap = std::numeric_limits<int64_t>::max(), best = -1, end = 0;
    for (const ArenaBuffer *other : placed) {
      if (other->last < buffer.first || buffer.last < other->first)
        continue;
      int64_t gap = other->offset - end;
      if (gap >= size && gap < bestGap) {
        bestGap = gap;
        best = end;
      }
      end = std::max(end, other->offset + roundUp(other->size, alignment));
    }
    buffer.offset = best >= 0 ? best : end;
    peak = std::max(peak, buffer.offset + size);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &buffer,
                                   [](const ArenaBuffer *a, const ArenaBuffer *b) { return a->offset < b->offset; }),
                  &buffer);
  }
  return peak;
}
}  // namespace

ArenaFigures assignOffsets(std::vector<ArenaBuffer> &buffers, int64_t alignment) {
  ArenaFigures figures;
  int64_t steps = 0;
  for (const ArenaBuffer &buffer : buffers)
    steps = std::max(steps, buffer.last + 1);
  std::vector<int64_t> live(steps + 1);
  for (const ArenaBuffer &buffer : buffers) {
    int64_t size = roundUp(buffer.size, alignment);
    figures.naive += size;
    live[buffer.first] += size;
    live[buffer.last + 1] -= size;
  }
  std::partial_sum(live.begin(), live.end(), live.begin());
  for (int64_t bytes : live)
    figures.lowerBound = std::max(figures.lowerBound, bytes);

  auto sorted = [&](auto key) {
    std::vector<size_t> order(buffers.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(buffers[a]) > key(buffers[b]); });
    return order;
  };
  std::vector<ArenaBuffer> attempt = buffers;
  figures.peak = std::numeric_limits<int64_t>::max();
  std::vector<size_t> bestOrder;
  auto tryOrder = [&](const std::vector<size_t> &order) {
    if (figures.peak == figures.lowerBound)
      return false;
    int64_t peak = place(attempt, order, alignment);
    if (peak >= figures.peak)
      return false;
    figures.peak = peak;
    buffers = attempt;
    bestOrder = order;
    return true;
  };
  tryOrder(sorted([](const ArenaBuffer &b) { return b.size; }));
  tryOrder(sorted([](const ArenaBuffer &b) { return b.size * (b.last - b.first + 1); }));
  tryOrder(sorted([](const ArenaBuffer &b) { return -b.first; }));

  // Hill climbing from the best order. A swap that leaves the peak as it is is kept too: it may open the way to one
  // that lowers it.
  // NOLINTNEXTLINE(bugprone-random-generator-seed): the same plan every time.
  std::minstd_rand random(1);
  std::vector<size_t> order = bestOrder;
  int64_t current = figures.peak;
  attempt = buffers;
  auto count = static_cast<int64_t>(buffers.size());
  int64_t attempts = std::clamp<int64_t>(kImprovementWork / std::max<int64_t>(1, count * count), 16, 2000);
  for (int64_t i = 0; i < attempts && figures.peak > figures.lowerBound; ++i) {
    std::vector<std::pair<size_t, size_t>> swaps;  // turns: of a buffer at the peak, of an earlier one that meets it
    for (size_t at = 1; at < order.size(); ++at) {
      const ArenaBuffer &top = attempt[order[at]];
      if (top.offset + roundUp(top.size, alignment) != current)
        continue;
      for (size_t before = 0; before < at; ++before)
        if (attempt[order[before]].last >= top.first && top.last >= attempt[order[before]].first)
          swaps.emplace_back(at, before);
    }
    if (swaps.empty())
      break;
    auto [at, before] = swaps[random() % swaps.size()];
    std::vector<size_t> next = order;
    std::swap(next[at], next[before]);
    std::vector<ArenaBuffer> placed = attempt;
    int64_t peak = place(placed, next, alignment);
    if (peak > current)
      continue;
    current = peak;
    order = std::move(next);
    attempt = std::move(placed);
    if (peak < figures.peak) {
      figures.peak = peak;
      buffers = attempt;
    }
  }
  return figures;
}

}  // namespace mlir::mili
