//===- Pipeline.cpp - which passes make up each phase -----------------------===//
#include "mili/Compiler/Pipeline.h"

#include "mili/Codegen/Passes.h"
#include "mili/IR/MiliDialect.h"
#include "mili/IR/MiliPlan.h"
#include "mili/Passes/FusionReport.h"
#include "mili/Passes/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

#include <algorithm>

using namespace mlir;
using namespace mlir::mili;

using ::mili::CompileOptions;
using ::mili::Phase;

void mlir::mili::registerCompilerDialects(DialectRegistry &registry) {
  registry.insert<MiliDialect, plan::MiliPlanDialect, func::FuncDialect, arith::ArithDialect>();
}

/// The buckets of a plan, ascending. Kernels loop over the tokens that a step has, so a few sizes do: one token, one
/// token of every request, a few tokens (also what hands out logits of every row), and the prefill chunk.
static std::vector<std::string> chooseBuckets(const CompileOptions &options, int64_t context) {
  constexpr int64_t kFewTokens = 16;
  const int64_t requests = options.requests;
  const int64_t prefill =
      std::max<int64_t>({std::min<int64_t>(options.prefill_tokens, context * requests), requests, kFewTokens});
  struct Bucket {
    int64_t tokens, sequences, logitRows;
    auto operator<=>(const Bucket &) const = default;
  };
  std::vector<Bucket> buckets = {{1, 1, 1}, {kFewTokens, std::min(requests, kFewTokens), kFewTokens}};
  if (requests > kFewTokens)
    buckets.push_back({requests, requests, requests});
  buckets.push_back({prefill, requests, std::max(requests, kFewTokens)});
  std::sort(buckets.begin(), buckets.end());
  buckets.erase(std::unique(buckets.begin(), buckets.end()), buckets.end());
  std::vector<std::string> text;
  for (const Bucket &b : buckets)
    text.push_back(std::to_string(b.tokens) + ":" + std::to_string(b.sequences) + ":" + std::to_string(b.logitRows));
  return text;
}

void mlir::mili::buildPhase(OpPassManager &pm, Phase phase, const CompileOptions &options, ModuleOp module,
                            FusionReport *report) {
  switch (phase) {
  case Phase::kImport:
  case Phase::kQuantize:
  case Phase::kPartition:
  case Phase::kCodegen:
  case Phase::kPack: break;

  case Phase::kOptimize: {
    pm.addPass(createCanonicalizerPass());
    pm.addPass(createCSEPass());
    MergeProjectionsOptions merge;
    merge.qkv = merge.gateUp = options.merge_projections;
    pm.addNestedPass<func::FuncOp>(createMergeProjections(merge, report));
    pm.addPass(createCSEPass());
    pm.addPass(createRemoveUnusedWeights());
    break;
  }

  case Phase::kSpecialize: {
    int64_t context = 1;
    if (auto attr = module->getAttrOfType<IntegerAttr>(MiliDialect::getContextAttrName()))
      context = attr.getInt();
    SpecializeBucketsOptions specialize;
    for (std::string &bucket : chooseBuckets(options, context))
      specialize.buckets.push_back(std::move(bucket));
    pm.addPass(createSpecializeBuckets(specialize));
    break;
  }

  case Phase::kFuse: {
    FuseGroupsOptions fuse;
    for (const std::string &kind : options.disabled_fusions)
      fuse.disable.push_back(kind);
    pm.addPass(createFuseGroups(fuse, GroupFilter(), report));
    codegen::SelectKernelsOptions select;
    select.target = options.target;
    pm.addPass(codegen::createSelectKernels(select));
    break;
  }

  case Phase::kPlanMemory: {
    MemoryPlanOptions memory;
    pm.addPass(createMemoryPlan(memory));
    break;
  }
  }
}
