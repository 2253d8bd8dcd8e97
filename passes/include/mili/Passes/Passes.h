//===- Passes.h - MILI's passes ----------------------------------*- C++ -*-===//
//
// Names are `mili-<family>-<verb>`; options and dependent dialects are in Passes.td. Each pass lives in a file of its
// own under passes/lib/<Family>/, with its algorithm described at the top of it.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_PASSES_PASSES_H
#define MILI_PASSES_PASSES_H

#include "mlir/Pass/Pass.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace mlir {
class ModuleOp;
namespace func {
class FuncOp;
}  // namespace func
}  // namespace mlir

namespace mlir::mili {

struct FusionReport;

#define GEN_PASS_DECL
#include "mili/Passes/Passes.h.inc"

/// `op` about to join the group led by `hero`. All ops stand in the function still.
struct FusionCandidate {
  Operation *hero;
  ArrayRef<Operation *> members;  // the group so far, hero included, in the order in which they joined
  Operation *op;                  // what would join
  bool prologue;                  // before the hero (recomputed by every worker) or after it
  int64_t tileFeatures;           // features that a tile would have to hold together, 1 when any tile does
  int64_t tokens;                 // bounds of the function's bucket
};

/// A target's veto: the reason why its kernels cannot run the candidate in that group, or nothing.
using GroupFilter = std::function<std::optional<std::string>(const FusionCandidate &)>;

/// As the passes of the same name made from options alone. `report`, if given, receives the decisions; it must outlive
/// the pass and be used by one pipeline at a time.
std::unique_ptr<Pass> createMergeProjections(const MergeProjectionsOptions &options, FusionReport *report);
std::unique_ptr<Pass> createFuseGroups(const FuseGroupsOptions &options, GroupFilter filter, FusionReport *report);

/// Registers every pass of this folder with MLIR's global registry, for `mili-opt` and textual pipelines.
void registerAllPasses();

}  // namespace mlir::mili

#endif  // MILI_PASSES_PASSES_H
