//===- SpecializeBuckets.cpp - mili-specialize-buckets -----------------------===//
//
// A plan is compiled for a few bounds on a step (tokens, sequences, rows that want logits); the runtime runs each step
// in the smallest bucket that holds it. Everything after this pass (fusion by cost, tile grids, arena) knows the bound,
// so each bucket gets its own clone of the function.
//
//===------------------------------------------------------------------------===//
#include "mili/Passes/Passes.h"

#include "mili/IR/MiliDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/StringExtras.h"

#include <tuple>

namespace mlir::mili {
#define GEN_PASS_DEF_SPECIALIZEBUCKETS
#include "mili/Passes/Passes.h.inc"

namespace {
struct SpecializeBuckets : impl::SpecializeBucketsBase<SpecializeBuckets> {
  using SpecializeBucketsBase::SpecializeBucketsBase;

  /// Null after an error.
  BucketAttr parseBucket(StringRef text) {
    auto error = [&]() { return getOperation().emitError("mili-specialize-buckets: bucket '") << text << "': "; };
    SmallVector<StringRef> parts;
    text.split(parts, ':');
    int64_t values[3];
    if (parts.size() != 3 || parts[0].getAsInteger(10, values[0]) || parts[1].getAsInteger(10, values[1]) ||
        parts[2].getAsInteger(10, values[2])) {
      error() << "expected tokens:sequences:logit_rows, three integers";
      return {};
    }
    return BucketAttr::getChecked(error, &getContext(), values[0], values[1], values[2]);
  }

  LogicalResult specialize() {
    ModuleOp module = getOperation();
    auto error = [&] { return module.emitError("mili-specialize-buckets: "); };
    auto original = module.lookupSymbol<func::FuncOp>(function);
    if (!original)
      return error() << "the module has no function @" << function.getValue();
    if (original.isExternal())
      return original.emitError("mili-specialize-buckets: the function has no body");
    if (original->hasAttr(MiliDialect::getBucketAttrName()))
      return original.emitError("mili-specialize-buckets: the function is specialized already");
    if (buckets.empty())
      return error() << "no buckets given, e.g. buckets=1:1:1,512:1:1";

    SmallVector<BucketAttr> parsed;
    for (const std::string &text : buckets) {
      BucketAttr bucket = parseBucket(text);
      if (!bucket)
        return failure();
      parsed.push_back(bucket);
    }
    auto key = [](BucketAttr b) { return std::make_tuple(b.getTokens(), b.getSequences(), b.getLogitRows()); };
    llvm::sort(parsed, [&](BucketAttr a, BucketAttr b) { return key(a) < key(b); });
    for (size_t i = 1; i < parsed.size(); ++i)
      if (parsed[i] == parsed[i - 1])
        return error() << "bucket " << parsed[i] << " is given twice";

    SymbolTable symbols(module);
    OpBuilder builder(original);
    for (BucketAttr bucket : parsed) {
      // As many parts of the bucket as tell it from the others.
      auto shared = [&](unsigned parts) {
        return llvm::count_if(parsed, [&](BucketAttr other) {
                 return other.getTokens() == bucket.getTokens() &&
                        (parts < 2 || other.getSequences() == bucket.getSequences());
               }) > 1;
      };
      std::string name = function + "_t" + std::to_string(bucket.getTokens());
      if (shared(1))
        name += "_s" + std::to_string(bucket.getSequences());
      if (shared(2))
        name += "_r" + std::to_string(bucket.getLogitRows());
      if (symbols.lookup(name))
        return error() << "the module has a symbol @" << name << " already";
      auto clone = cast<func::FuncOp>(builder.clone(*original));
      clone.setSymName(name);
      clone->setAttr(MiliDialect::getBucketAttrName(), bucket);
      clone->setAttr(MiliDialect::getFunctionAttrName(), builder.getStringAttr(function));
    }
    original.erase();
    return success();
  }

  void runOnOperation() override {
    if (failed(specialize()))
      signalPassFailure();
  }
};
}  // namespace
}  // namespace mlir::mili
