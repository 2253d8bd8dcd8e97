//===- OffsetAssignment.cpp - buffers into one arena ------------------------===//
//
// Dynamic storage allocation is NP-hard; the heuristic is "greedy by size" (Pisarchyk and Lee, Efficient Memory
// Management for Deep Neural Net Inference, arXiv 2001.03288): in some order, each buffer takes the smallest gap that
// holds it between the placed buffers whose lifetimes overlap its own, or the end. Decreasing size is the order that
// usually wins; two others (decreasing size times lifetime, first use) are tried as well when it misses the lower
// bound, and then the result is improved: a buffer that ends at the peak is moved to the front of the order and
// everything is placed again, for as long as that helps (the idea of TVM's hill-climbing planner).
//
//===------------------------------------------------------------------------===//
#include "mili/Passes/OffsetAssignment.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace mlir::mili {

namespace {
/// Rounds of improvement. Each costs one placement, O(n^2) for n buffers.
constexpr int kImprovements = 32;

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
  for (int round = 0; round < kImprovements && figures.peak > figures.lowerBound; ++round) {
    bool improved = false;
    for (size_t i = 1; i < bestOrder.size() && !improved; ++i) {
      const ArenaBuffer &buffer = buffers[bestOrder[i]];
      if (buffer.offset + roundUp(buffer.size, alignment) != figures.peak)
        continue;
      std::vector<size_t> order = bestOrder;
      std::rotate(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(i),
                  order.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      improved = tryOrder(order);
    }
    if (!improved)
      break;
  }
  return figures;
}

}  // namespace mlir::mili
