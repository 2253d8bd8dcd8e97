//===- Pipeline.cpp - which passes make up each phase -----------------------===//
#include "mili/Compiler/Pipeline.h"

#include "mili/Codegen/CudaTemplates.h"
#include "mili/Codegen/Passes.h"
#include "mili/Compiler/Plugin.h"
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
using codegen::kDecodeTokens;

using ::mili::CompileOptions;
using ::mili::Phase;

void mlir::mili::registerCompilerDialects(DialectRegistry &registry) {
  registry.insert<MiliDialect, plan::MiliPlanDialect, func::FuncDialect, arith::ArithDialect>();
  appendPluginDialects(registry);
}

void mlir::mili::registerCompilerPasses() {
  static const bool registered = [] {
    registerTransformsPasses();
    registerAllPasses();
    codegen::registerCodegenPasses();
    return true;
  }();
  (void)registered;
}

StringRef mlir::mili::targetDevice(const CompileOptions &options) {
  return StringRef(options.target).split(':').first;
}

/// What a target's kernels for MILI's ops cannot fuse.
static GroupFilter ownFilter(StringRef target) {
  if (target != "cuda")
    return [](const FusionCandidate &candidate) -> std::optional<std::string> {
      if (candidate.prologue && isa<AttentionOp, KvAppendOp, RopeOp>(candidate.hero))
        return "the attention of this target reads finished queries, and keys from their pages";
      return std::nullopt;
    };
  return [](const FusionCandidate &candidate) -> std::optional<std::string> {
    Operation *op = candidate.op;
    if (candidate.prologue) {
      if (isa<AttentionOp, KvAppendOp, RopeOp>(candidate.hero) && candidate.tokens > codegen::kDecodeTokens)
        return "many tiles of queries read each key of a long step; it is finished once";
      return std::nullopt;
    }
    if (isa<AttentionOp, SampleOp>(candidate.hero))
      return "the attention of this target stores its own result";
    if (isa<LinearOp, LogitsOp>(candidate.hero)) {
      if (isa<RopeOp, RmsNormOp, KvAppendOp>(op))
        return "a tile of the product holds 8 features of a head together";
      // One row kernel splits, rotates and appends.
      if (auto split = dyn_cast<SplitOp>(op); split && !split.getInterleave() && candidate.tokens > kDecodeTokens)
        return "a row kernel finishes queries and keys of a long step, and splits them on its way";
      if (auto split = dyn_cast<SplitOp>(op))
        for (Value piece : split.getResults())
          if (codegen::featuresOf(piece) % 8 != 0)
            return "a piece of the split is no multiple of 8 features";
    }
    return std::nullopt;
  };
}

/// What a target's kernels cannot fuse. Where an op of another dialect leads or joins, only templates that know it say.
static GroupFilter filterFor(StringRef target) {
  return [own = ownFilter(target), registry = codegen::KernelRegistry::forTarget(target)](
             const FusionCandidate &candidate) -> std::optional<std::string> {
    if (llvm::all_of(ArrayRef<Operation *>{candidate.hero, candidate.op},
                     [](Operation *op) { return isa_and_present<MiliDialect>(op->getDialect()); }))
      return own(candidate);
    if (registry->fuses(candidate.hero, candidate.op, candidate.prologue))
      return std::nullopt;
    return ("no kernel of this target has " + candidate.op->getName().getStringRef() + " in a group led by " +
            candidate.hero->getName().getStringRef())
        .str();
  };
}

/// The buckets of a plan, ascending. Kernels loop over the tokens that a step has, so a few sizes do: one token, one
/// token of every request, a few tokens (also what hands out logits of every row), and the prefill chunk.
static std::vector<std::string> chooseBuckets(const CompileOptions &options, int64_t context) {
  constexpr int64_t kFewTokens = 16;
  const int64_t requests = options.requests;
  const bool cuda = targetDevice(options) == "cuda";
  const int64_t wanted = options.prefill_tokens ? options.prefill_tokens : cuda ? 2048 : 512;
  const int64_t prefill = std::max<int64_t>({std::min<int64_t>(wanted, context * requests), requests, kFewTokens});
  struct Bucket {
    int64_t tokens, sequences, logitRows;
    auto operator<=>(const Bucket &) const = default;
  };
  std::vector<Bucket> buckets = {{1, 1, 1}, {kFewTokens, std::min(requests, kFewTokens), kFewTokens}};
  if (cuda) {
    // Grids and tile sizes come from the bound, so there is a bucket for each doubling of concurrent sequences, and one
    // for shorter prompts.
    for (int64_t n = 2; n < requests && n < kDecodeTokens; n *= 2)
      buckets.push_back({n, n, n});
    if (requests > 1 && requests <= kDecodeTokens)
      buckets.push_back({requests, requests, requests});
    for (int64_t tokens = 512; tokens < prefill; tokens *= 4)
      buckets.push_back({tokens, std::min(requests, tokens), std::max(std::min(requests, tokens), kFewTokens)});
  } else if (requests > kFewTokens) {
    buckets.push_back({requests, requests, requests});
  }
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
    if (!options.attention_patterns.empty()) {
      SetAttentionPatternOptions attention;
      for (const std::string &pattern : options.attention_patterns)
        attention.patterns.push_back(pattern);
      pm.addPass(createSetAttentionPattern(attention));
    }
    pm.addPass(createCanonicalizerPass());
    pm.addPass(createCSEPass());
    MergeProjectionsOptions merge;
    merge.qkv = merge.gateUp = options.merge_projections;
    // A thread of a CUDA epilogue holds 8 features of gate and the 8 of up.
    if (targetDevice(options) == "cuda")
      merge.interleave = 8;
    pm.addNestedPass<func::FuncOp>(createMergeProjections(merge, report));
    pm.addPass(createRemoveUnusedWeights());
    // What reads one weight that was two may be one computation.
    pm.addPass(createCSEPass());
    break;
  }

  case Phase::kSpecialize: {
    int64_t context = 1;
    if (auto attr = module->getAttrOfType<IntegerAttr>(MiliDialect::getContextAttrName()))
      context = attr.getInt();
    SpecializeBucketsOptions specialize;
    for (std::string &bucket : chooseBuckets(options, context))
      specialize.buckets.push_back(std::move(bucket));
    if (targetDevice(options) == "cuda")
      pm.addPass(createAddSampling());
    pm.addPass(createSpecializeBuckets(specialize));
    break;
  }

  case Phase::kFuse: {
    FuseGroupsOptions fuse;
    for (const std::string &kind : options.disabled_fusions)
      fuse.disable.push_back(kind);
    if (options.deterministic)
      fuse.asTokens = 2 * kDecodeTokens;  // a step like a prompt's
    if (targetDevice(options) == "cuda") {
      // One multiprocessor of an H100: a launch in a graph, bf16 rows at its share of memory bandwidth.
      fuse.tileFeatures = 16;
      fuse.workers = 132;
      fuse.launchNs = 2000;
      fuse.flopsPerNs = 200;
      fuse.bytesPerNs = 24;
    }
    pm.addPass(createFuseGroups(fuse, filterFor(targetDevice(options)), report));
    codegen::SelectKernelsOptions select;
    select.target = targetDevice(options).str();
    for (const std::string &choice : options.kernels)
      select.kernels.push_back(choice);
    pm.addPass(codegen::createSelectKernels(select));
    break;
  }

  case Phase::kPlanMemory: {
    MemoryPlanOptions memory;
    memory.reuse = options.arena_reuse;
    pm.addPass(createMemoryPlan(memory));
    break;
  }
  }
}
