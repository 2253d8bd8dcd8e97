//===- OffsetAssignment.h - buffers into one arena ----------------*- C++ -*-===//
//
// Static memory planning: buffers with known sizes and lifetimes get offsets in one arena so that buffers that live at
// the same time do not overlap and the arena is as small as can be.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_PASSES_OFFSETASSIGNMENT_H
#define MILI_PASSES_OFFSETASSIGNMENT_H

#include <cstdint>
#include <vector>

namespace mlir::mili {

struct ArenaBuffer {
  int64_t size = 0;    // bytes
  int64_t first = 0;   // step that writes it
  int64_t last = 0;    // last step that reads it, >= first
  int64_t offset = 0;  // bytes; the result of `assignOffsets`
};

struct ArenaFigures {
  int64_t peak = 0;        // bytes of the arena
  int64_t lowerBound = 0;  // bytes live at the worst step: no assignment can do with less
  int64_t naive = 0;       // bytes if every buffer had its own place
};

/// Sets every buffer's offset, a multiple of `alignment`; sizes count rounded up to it, in the figures too.
ArenaFigures assignOffsets(std::vector<ArenaBuffer> &buffers, int64_t alignment);

}  // namespace mlir::mili

#endif  // MILI_PASSES_OFFSETASSIGNMENT_H
