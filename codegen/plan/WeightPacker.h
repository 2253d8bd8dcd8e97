//===- WeightPacker.h - streams one weight into the plan ---------------------===//
#ifndef MILI_CODEGEN_PLAN_WEIGHTPACKER_H
#define MILI_CODEGEN_PLAN_WEIGHTPACKER_H

#include "mili/Frontends/ModelFile.h"
#include "mili/runtime/plan_writer.h"

#include <functional>
#include <string>
#include <vector>

namespace mili {

/// Rows [begin, end) of a tensor of the model file; end -1: all of them.
struct WeightPiece {
  std::string tensor;
  int64_t begin = 0, end = -1;
};

/// What the plan holds of a weight: the file's own bytes; 16-row panels; rows of bf16; a vector of f32.
enum class Packing { kRowMajor, kPanels, kRowsBf16, kVectorF32 };

/// What #mili.param says, in plain terms.
struct WeightRecipe {
  std::vector<WeightPiece> pieces;  // joined along rows
  int64_t interleave = 0;           // runs of this many rows from each of two pieces; 0: one after the other
  TensorFormat format;              // of every piece
  int64_t rows = 1, columns = 0;    // of the result; a vector has one row
  Packing packing = Packing::kRowMajor;
};

/// Appends the packed bytes to the writer's WEIGHTS section. Reads a few megabytes at a time. `onBytes` hears how many
/// bytes went out.
Status packWeight(const ModelFile &model, const WeightRecipe &recipe, PlanWriter &writer,
                  const std::function<void(uint64_t)> &onBytes);

}  // namespace mili

#endif  // MILI_CODEGEN_PLAN_WEIGHTPACKER_H
