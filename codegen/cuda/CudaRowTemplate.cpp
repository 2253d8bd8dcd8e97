//===- CudaRowTemplate.cpp - groups without a product, a block a row ---------===//
#include "mili/Codegen/CudaPrinter.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;
using llvm::formatv;

namespace {
class CudaRowTemplate : public CudaKernelTemplate {
public:
  StringRef getName() const override { return "cuda.rows"; }

  bool match(GroupOp group) const override {
    return llvm::all_of(group.getBody().front(), [](Operation &op) {
      return isa<EmbeddingOp, DequantOp, RmsNormOp, AddOp, ScaleOp, ActivationOp, GatedOp, RopeOp, KvAppendOp, SplitOp,
                 YieldOp>(op);
    });
  }

  SmallVector<StringRef> getWeightLayouts(GroupOp group, unsigned index) const override {
    auto type = cast<RankedTensorType>(group.getInputs()[index].getType());
    return {type.getRank() == 1 ? "vector_f32" : "rows_bf16"};
  }

  FailureOr<GroupPlan> plan(GroupOp group, BucketAttr) const override {
    if (Value result = inRegisters(group.getBody().front())) {
      // Rows in registers, 16 elements a thread.
      int64_t threads = std::clamp<int64_t>(llvm::alignTo(llvm::divideCeil(featuresOf(result), 16), 32), 32, 512);
      CudaStage stage;
      stage.name = "row";
      stage.per = isOnWantedRows(group) ? RowCount::logit_rows : RowCount::tokens;
      stage.launch(group.getContext(), threads, 0);
      stage.config = {{"threads", threads}};
      GroupPlan plan;
      plan.stages.push_back(stage.get(group.getContext()));
      return plan;
    }
    int64_t widest = 0;
    for (Operation &op : group.getBody().front().without_terminator())
      for (Value value : op.getResults())
        if (isa<RankedTensorType>(value.getType()))
          widest = std::max(widest, featuresOf(value));
    CudaStage stage;
    stage.name = "rows";
    stage.per = isOnWantedRows(group) ? RowCount::logit_rows : RowCount::tokens;
    int64_t threads = std::clamp<int64_t>(llvm::alignTo(llvm::divideCeil(widest, 8), 32), 64, 256);
    int64_t shared = CudaPrinter::rowBuffers(group.getBody().front());
    if (shared > 99 * 1024)
      return group.emitError("mili-codegen: a row kernel of this group needs ")
             << shared << " bytes of shared memory, the limit is " << 99 * 1024;
    stage.launch(group.getContext(), threads, shared);
    stage.config = {{"threads", threads}, {"wanted", stage.per == RowCount::logit_rows}};
    GroupPlan plan;
    plan.stages.push_back(stage.get(group.getContext()));
    return plan;
  }

  LogicalResult emit(CudaWriter &writer, const CudaKernel &kernel) const override {
    if (kernel.stage.getName() == "row")
      return emitRow(writer, kernel);
    writer.include("mili/device/rows.cuh");
    CudaPrinter printer(writer, kernel);
    int64_t threads = kernel.get("threads");
    writer.open(formatv("extern \"C\" __global__ __launch_bounds__({0}) void MILI_KERNEL({1})", threads,
                        printer.params().declaration()));
    writer.line("mili::begin_kernel();");
    writer.line("const mili::int64_t row = blockIdx.x;");
    bool wanted = kernel.get("wanted") != 0;
    writer.line(formatv("if (row >= batch->{0})", wanted ? "logit_rows" : "tokens"));
    writer.line("  return;");
    writer.line(formatv("const mili::int64_t token = {0};", wanted ? "batch->logit_tokens[row]" : "row"));
    writer.line("float *shared = reinterpret_cast<float *>(mili_shared_memory);");
    writer.line(formatv("const mili::BlockTeam<{0}> team{{shared};", threads));
    if (failed(printer.rows()))
      return failure();
    writer.close();
    return success();
  }

private:
  /// The result of a group of element-wise ops and perhaps a norm of whole rows at their end, which a row in registers
  /// does; else null.
  static Value inRegisters(Block &body) {
    Operation *yield = body.getTerminator();
    if (yield->getNumOperands() != 1)
      return {};
    Value result = yield->getOperand(0);
    auto norm = result.getDefiningOp<RmsNormOp>();
    if (!result.getDefiningOp() || !isa<RankedTensorType>(result.getType()) || !elementOf(result).isBF16() ||
        !CudaPrinter::canInput(result) ||
        featuresOf(result) % 8 != 0 || featuresOf(result) > (norm ? 16384 : 32768))
      return {};
    for (Operation &op : body.without_terminator())
      if (&op != norm && !isa<AddOp, ScaleOp, ActivationOp, GatedOp>(op))
        return {};
    return result;
  }

  LogicalResult emitRow(CudaWriter &writer, const CudaKernel &kernel) const {
    writer.include("mili/device/gather.cuh");
    CudaPrinter printer(writer, kernel);
    Value result = kernel.body.getTerminator()->getOperand(0);
    FailureOr<std::string> input = printer.input(result);
    if (failed(input))
      return failure();
    writer.open("struct Config");
    writer.line(
        formatv("static constexpr int kDepth = {0}, kThreads = {1};", featuresOf(result), kernel.get("threads")));
    // Rows are the activation's own, whatever tokens they are of.
    writer.line(formatv("static constexpr bool kWanted = false, kRowsAreWanted = {0};",
                        kernel.stage.getPer() == RowCount::logit_rows ? "true" : "false"));
    writer.close(";");
    writer.blank();
    writer.open(formatv("extern \"C\" __global__ __launch_bounds__({0}) void MILI_KERNEL({1})", kernel.get("threads"),
                        printer.params().declaration()));
    writer.line(formatv("mili::gather_rows<Config>(batch, {0}, {1});", *input, printer.params().output()));
    writer.close();
    return success();
  }
};
}  // namespace

std::unique_ptr<KernelTemplate> mlir::mili::codegen::createCudaRowTemplate() {
  return std::make_unique<CudaRowTemplate>();
}
