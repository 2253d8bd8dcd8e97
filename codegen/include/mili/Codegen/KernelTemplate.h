//===- KernelTemplate.h - how groups become kernels --------------*- C++ -*-===//
//
// A KernelTemplate turns one kind of group (chosen by its hero) into launches of code. Templates are registered per
// target, here or by a plugin; adding one is one file. Kernel selection (before memory planning) asks `plan`; codegen
// asks `emit`.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_CODEGEN_KERNELTEMPLATE_H
#define MILI_CODEGEN_KERNELTEMPLATE_H

#include "mili/IR/MiliDialect.h"

#include <memory>
#include <string>
#include <vector>

namespace mlir::mili::plan {
class KernelOp;
}  // namespace mlir::mili::plan

namespace mlir::mili::codegen {

/// Features of a row: the static last dimension of an activation's type.
int64_t featuresOf(Value activation);
Type elementOf(Value tensor);

/// Whether the module of this group or kernel asks for results that do not depend on what else is in a step
/// (mili.deterministic): every bucket then sums in the same order.
bool isDeterministic(Operation *op);

/// Whether a group works on one row per wanted row: something that it reads comes from `mili.logits`, through any
/// number of groups.
bool isOnWantedRows(GroupOp group);

/// Which of a template's kernels was asked for, for a stage (see KernelTemplate::getChoices); empty: none.
StringRef kernelChoice(Operation *op, StringRef stage);

/// The page table of a state, as memory planning left it on the module around `op` (see PageTable of
/// mili/runtime/memory.h): its place among the plan's tables, and the pages of each of its states. The first one,
/// without pages, before memory planning.
struct PageTableRef {
  int64_t index = 0;
  int64_t pages = 0;
};
PageTableRef pageTableOf(Operation *op, KvType type);

/// What a template needs of the plan for one group.
struct GroupPlan {
  /// Launches in order; a barrier separates them.
  SmallVector<StageAttr> stages;
  /// Bytes in the arena beyond the group's results, live during the group (passed as the last launch argument).
  int64_t arenaScratch = 0;
  /// Bytes of the plan's counter block: zero before the group, and left zero (the argument after the scratch).
  int64_t counters = 0;
};

class KernelTemplate {
public:
  virtual ~KernelTemplate();
  /// "cpu.linear"; unique in a registry.
  virtual StringRef getName() const = 0;
  /// Whether this template can run the group. The first match in registration order is taken.
  virtual bool match(GroupOp group) const = 0;
  /// Layouts ("row_major", "panel16", ...) that it reads for operand `index`, a weight; best first.
  virtual SmallVector<StringRef> getWeightLayouts(GroupOp group, unsigned index) const = 0;
  /// Stages for which it has several kernels, and their names; the first is the default.
  virtual std::vector<std::pair<StringRef, std::vector<StringRef>>> getChoices() const { return {}; }
  /// Called once the layouts are fixed. Emits a located diagnostic on failure.
  virtual FailureOr<GroupPlan> plan(GroupOp group, BucketAttr bucket) const = 0;
  /// Asked by fusion where one of the two ops is of another dialect than MILI's: whether it can run a group led by
  /// `hero` that `op` has joined, before the hero (`prologue`) or after it. By default it cannot.
  virtual bool fuses(Operation *hero, Operation *op, bool prologue) const { return false; }
};

/// Templates of one target: first those of plugins, then the target's own, each in order of registration.
class KernelRegistry {
public:
  void add(std::unique_ptr<KernelTemplate> kernelTemplate);
  /// False, and nothing is added, where the target has a template of that name.
  bool addFromPlugin(std::unique_ptr<KernelTemplate> kernelTemplate);
  /// Whether any template can run `op` in a group led by `hero` (see KernelTemplate::fuses).
  bool fuses(Operation *hero, Operation *op, bool prologue) const;
  const KernelTemplate *lookup(StringRef name) const;
  const KernelTemplate *match(GroupOp group) const;
  ArrayRef<std::unique_ptr<KernelTemplate>> getTemplates() const { return templates; }

  /// The registry of a target ("cpu", "cuda"); null when there is none of that name.
  static KernelRegistry *forTarget(StringRef target);

private:
  std::vector<std::unique_ptr<KernelTemplate>> templates;
  size_t fromPlugins = 0;
};

/// What `emit` relies on, of a kernel that need not come from selection: `kernelTemplate` matches its body, its stages
/// are the ones that `plan` makes (names, tensor maps, keys of the config with integers that are 0 where the
/// plan's are and above it elsewhere), and its weights lie in layouts that the template reads. Emits a located
/// diagnostic where that is not so.
LogicalResult verifyKernel(plan::KernelOp kernel, const KernelTemplate &kernelTemplate);

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_KERNELTEMPLATE_H
