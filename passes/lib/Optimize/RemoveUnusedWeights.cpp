//===- RemoveUnusedWeights.cpp - mili-optimize-remove-unused-weights ---------===//
//
// One walk over each function keeps the first weight of each (param, type) and redirects the uses of later ones to it
// (weights are pure and stand in one block, so the first dominates); a second erases those without uses. Weights are
// erased here rather than left to the canonicalizer so that the plan's contents do not depend on which upstream passes
// run. States are module symbols: one that no function names has no effect and would only reserve pool memory.
//
//===------------------------------------------------------------------------===//
#include "mili/Passes/Passes.h"

#include "mili/IR/MiliDialect.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/DenseMap.h"

namespace mlir::mili {
#define GEN_PASS_DEF_REMOVEUNUSEDWEIGHTS
#include "mili/Passes/Passes.h.inc"

namespace {
struct RemoveUnusedWeights : impl::RemoveUnusedWeightsBase<RemoveUnusedWeights> {
  using RemoveUnusedWeightsBase::RemoveUnusedWeightsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<WeightOp> weights;
    // Keyed by block as well: a weight replaces only those after it in its own block, which it dominates.
    DenseMap<std::tuple<Block *, Attribute, Attribute, Type>, WeightOp> first;
    module.walk([&](WeightOp weight) {
      weights.push_back(weight);
      auto key = std::make_tuple(weight->getBlock(), Attribute(weight.getParam()), Attribute(weight.getLayoutAttr()),
                                 weight.getType());
      auto [it, inserted] = first.try_emplace(key, weight);
      if (inserted)
        return;
      if (!weight.use_empty())
        ++numDuplicates;
      weight.replaceAllUsesWith(it->second.getResult());
    });
    for (WeightOp weight : weights)
      if (weight.use_empty()) {
        ++numUnused;
        weight.erase();
      }
    for (StateOp state : llvm::make_early_inc_range(module.getOps<StateOp>()))
      if (SymbolTable::symbolKnownUseEmpty(state, module)) {
        ++numStates;
        state.erase();
      }
  }
};
}  // namespace
}  // namespace mlir::mili
