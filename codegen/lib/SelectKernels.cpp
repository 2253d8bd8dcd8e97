//===- SelectKernels.cpp - mili-codegen-select-kernels -----------------------===//
#include "mili/Codegen/KernelTemplate.h"
#include "mili/Codegen/Passes.h"
#include "mili/Codegen/WeightLayout.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"

namespace mlir::mili::codegen {
#define GEN_PASS_DEF_SELECTKERNELS
#define GEN_PASS_REGISTRATION
#include "mili/Codegen/Passes.h.inc"

void registerCodegenPasses() {
  registerMiliCodegenPasses();
}

namespace {

/// What one user of a weight can read.
struct Reader {
  GroupOp group;
  SmallVector<StringRef> layouts;
};

struct SelectKernels : impl::SelectKernelsBase<SelectKernels> {
  using SelectKernelsBase::SelectKernelsBase;

  /// Leaves the option's choices on the module, where templates look.
  LogicalResult noteChoices(const KernelRegistry &registry) {
    Builder builder(&getContext());
    NamedAttrList chosen;
    for (StringRef choice : kernels) {
      auto [stage, name] = choice.split('=');
      bool known = false;
      std::string there;
      for (const auto &kernelTemplate : registry.getTemplates())
        for (const auto &[of, names] : kernelTemplate->getChoices())
          for (StringRef one : names) {
            known |= of == stage && one == name;
            there += (there.empty() ? "" : ", ") + of.str() + "=" + one.str();
          }
      if (!known)
        return getOperation().emitError("mili-codegen-select-kernels: no choice of kernels is \"")
               << choice << "\"; target '" << target << "' has " << (there.empty() ? "none" : there);
      chosen.set(stage, builder.getStringAttr(name));
    }
    if (!chosen.empty())
      getOperation()->setAttr(MiliDialect::getKernelsAttrName(), chosen.getDictionary(&getContext()));
    return success();
  }

  void runOnOperation() override {
    KernelRegistry *registry = KernelRegistry::forTarget(target);
    if (!registry) {
      getOperation().emitError("mili-codegen-select-kernels: no kernels for target '")
          << target << "'; there are: cpu, cuda";
      return signalPassFailure();
    }
    if (mlir::failed(noteChoices(*registry)))
      return signalPassFailure();
    // One weight of the plan may be an op in each bucket's function: layouts are chosen by what it is.
    llvm::MapVector<std::pair<Attribute, Type>, SmallVector<Reader>> readers;
    SmallVector<std::pair<GroupOp, const KernelTemplate *>> groups;
    bool failed = false;
    getOperation().walk([&](GroupOp group) {
      const KernelTemplate *match = registry->match(group);
      if (!match) {
        group.emitError("mili-codegen-select-kernels: no kernel of target '")
            << target << "' can run this group, led by " << group.getHero();
        failed = true;
        return;
      }
      groups.push_back({group, match});
      for (auto [i, input] : llvm::enumerate(group.getInputs()))
        if (auto weight = input.getDefiningOp<WeightOp>())
          readers[{weight.getParam(), weight.getType()}].push_back({group, match->getWeightLayouts(group, i)});
    });
    if (failed)
      return signalPassFailure();

    llvm::MapVector<std::pair<Attribute, Type>, StringRef> layouts;
    for (auto &[weight, users] : readers) {
      StringRef chosen;
      for (StringRef candidate : users.front().layouts)
        if (chosen.empty() &&
            llvm::all_of(users, [&](const Reader &user) { return llvm::is_contained(user.layouts, candidate); }))
          chosen = candidate;
      if (chosen.empty()) {
        auto conflicting = llvm::find_if(users, [&](const Reader &user) {
          return llvm::none_of(user.layouts, [&](StringRef l) { return llvm::is_contained(users.front().layouts, l); });
        });
        Reader &other = conflicting == users.end() ? users.back() : *conflicting;
        InFlightDiagnostic error = users.front().group.emitError("mili-codegen-select-kernels: no layout of weight ")
                                   << cast<ParamAttr>(weight.first).getDisplayName() << " suits all of its users; '"
                                   << users.front().group.getName() << "' reads "
                                   << llvm::join(users.front().layouts, ", ");
        error.attachNote(other.group.getLoc())
            << "'" << other.group.getName() << "' reads " << llvm::join(other.layouts, ", ");
        return signalPassFailure();
      }
      layouts[weight] = chosen;
    }
    Builder builder(&getContext());
    getOperation().walk([&](WeightOp weight) {
      auto it = layouts.find({weight.getParam(), weight.getType()});
      if (it == layouts.end())
        return;
      weight.setLayout(it->second);
      // Padding of the last panel.
      auto type = cast<RankedTensorType>(weight.getType());
      int64_t packed = packedBytes(type, it->second);
      if (packed != packedBytes(type, "row_major"))
        weight->setAttr("packed_bytes", builder.getI64IntegerAttr(packed));
    });

    for (auto [group, match] : groups) {
      auto bucket = group->getParentOp()->getAttrOfType<BucketAttr>(MiliDialect::getBucketAttrName());
      if (!bucket) {
        group.emitError("mili-codegen-select-kernels: the group's function has no ")
            << MiliDialect::getBucketAttrName() << "; run mili-specialize-buckets first";
        return signalPassFailure();
      }
      FailureOr<GroupPlan> plan = match->plan(group, bucket);
      if (mlir::failed(plan))
        return signalPassFailure();
      group.setKernel(match->getName());
      group.setStagesAttr(builder.getArrayAttr(SmallVector<Attribute>(plan->stages.begin(), plan->stages.end())));
      if (plan->arenaScratch)
        group.setArenaScratch(plan->arenaScratch);
      if (plan->counters)
        group.setCounters(plan->counters);
    }
  }
};

}  // namespace
}  // namespace mlir::mili::codegen
