//===- RemoveUnusedWeights.cpp - mili-optimize-remove-unused-weights ---------===//
//
// Tensors that the model stores twice (`mili.duplicates`) get one name first: that of the copy that the module names
// first. One walk over each function then keeps the first weight of each (param, type) and redirects the uses of later
// ones to it (weights are pure and stand in one block, so the first dominates); a second erases those without uses.
// This runs after projections merge, so only weights that are equal as a whole become one. Weights are erased here
// rather than left to the canonicalizer so that the plan's contents do not depend on which upstream passes run. States
// are module symbols: one that no function names has no effect and would only reserve pool memory.
//
//===------------------------------------------------------------------------===//
#include "mili/Passes/Passes.h"

#include "mili/IR/MiliDialect.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"

namespace mlir::mili {
#define GEN_PASS_DEF_REMOVEUNUSEDWEIGHTS
#include "mili/Passes/Passes.h.inc"

namespace {
struct RemoveUnusedWeights : impl::RemoveUnusedWeightsBase<RemoveUnusedWeights> {
  using RemoveUnusedWeightsBase::RemoveUnusedWeightsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    renameDuplicates(module);
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

  void renameDuplicates(ModuleOp module) {
    auto copies = dyn_cast_or_null<DictionaryAttr>(module->removeAttr(MiliDialect::getDuplicatesAttrName()));
    if (!copies)
      return;
    llvm::StringMap<StringRef> names;  // of the first tensor in the file, the name to use
    module.walk([&](WeightOp weight) {
      SmallVector<PieceAttr> pieces;
      for (PieceAttr piece : weight.getParam().getPieces()) {
        auto first = copies.getAs<StringAttr>(piece.getName());
        StringRef name = names.try_emplace(first ? first.getValue() : piece.getName(), piece.getName()).first->second;
        pieces.push_back(PieceAttr::get(&getContext(), name, piece.getBegin(), piece.getEnd()));
      }
      weight.setParamAttr(ParamAttr::get(&getContext(), pieces, weight.getParam().getInterleave()));
    });
  }
};
}  // namespace
}  // namespace mlir::mili
