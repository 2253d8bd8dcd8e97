//===- CudaSampleTemplate.cpp - the next token -------------------------------===//
#include "mili/Codegen/CudaPrinter.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;
using llvm::formatv;

namespace {
constexpr int64_t kThreads = 256;

class CudaSampleTemplate : public CudaKernelTemplate {
public:
  StringRef getName() const override { return "cuda.sample"; }

  bool match(GroupOp group) const override {
    auto sample = dyn_cast_or_null<SampleOp>(group.getHeroOp());
    return sample && isa<BlockArgument>(sample.getLogits());
  }
  SmallVector<StringRef> getWeightLayouts(GroupOp, unsigned) const override { return {}; }

  FailureOr<GroupPlan> plan(GroupOp group, BucketAttr bucket) const override {
    // About 2000 logits a block.
    int64_t vocab = featuresOf(cast<SampleOp>(group.getHeroOp()).getLogits());
    int64_t parts = std::clamp<int64_t>(llvm::divideCeil(vocab, 2048), 1, 64);
    int64_t rows = std::max<int64_t>(bucket.getLogitRows(), 1);
    CudaStage stage;
    stage.name = "sample";
    stage.tiles = parts;
    stage.per = RowCount::logit_rows;
    stage.launch(group.getContext(), kThreads, 0);
    stage.config = {{"parts", parts}, {"scratch", 1}, {"counters", 1}};
    GroupPlan plan;
    plan.stages.push_back(stage.get(group.getContext()));
    plan.arenaScratch = rows * parts * 8;
    plan.counters = rows * 4;
    return plan;
  }

  LogicalResult emit(CudaWriter &writer, const CudaKernel &kernel) const override {
    writer.include("mili/device/sample.cuh");
    CudaPrinter printer(writer, kernel);
    auto sample = cast<SampleOp>(kernel.getHeroOp());
    writer.open(formatv("extern \"C\" __global__ __launch_bounds__({0}, 1) void MILI_KERNEL({1})", kThreads,
                        printer.params().declaration()));
    writer.line(
        formatv("mili::sample<{0}, {1}, {2}>(batch, {3}, {4}, reinterpret_cast<mili::Best *>(scratch), counters);",
                featuresOf(sample.getLogits()), kernel.get("parts"), kThreads,
                printer.params().input(sample.getLogits()), printer.params().result(0)));
    writer.close();
    return success();
  }
};
}  // namespace

std::unique_ptr<KernelTemplate> mlir::mili::codegen::createCudaSampleTemplate() {
  return std::make_unique<CudaSampleTemplate>();
}
