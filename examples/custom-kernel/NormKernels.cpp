// The kernels of example.norm, a row a tile: vector IR for the CPU, a CUDA source for GPUs. Both compute the norm
// themselves and leave what was fused behind it to MILI's RowProgram and CudaPrinter.
#include "NormKernels.h"
#include "Norm.h"

#include "mili/Codegen/CpuTemplates.h"
#include "mili/Codegen/CudaPrinter.h"
#include "mili/Codegen/RowProgram.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;
using example::NormOp;
using llvm::formatv;

namespace {
/// What both templates say of a group.
bool leads(GroupOp group) {
  auto norm = dyn_cast_or_null<NormOp>(group.getHeroOp());
  return norm && isa<BlockArgument>(norm.getInput()) && isa<BlockArgument>(norm.getWeight());
}
bool runsAfter(Operation *hero, Operation *op, bool prologue) {
  return isa<NormOp>(hero) && !prologue && isa<AddOp, ScaleOp>(op);
}
RowCount rowsOf(GroupOp group) {
  return isOnWantedRows(group) ? RowCount::logit_rows : RowCount::tokens;
}

class CpuNormTemplate : public CpuKernelTemplate {
public:
  StringRef getName() const override { return "cpu.example.norm"; }
  bool match(GroupOp group) const override { return leads(group); }
  bool fuses(Operation *hero, Operation *op, bool prologue) const override { return runsAfter(hero, op, prologue); }
  SmallVector<StringRef> getWeightLayouts(GroupOp, unsigned) const override { return {"row_major"}; }

  FailureOr<GroupPlan> plan(GroupOp group, BucketAttr) const override {
    // A worker's scratch: the normalized row, and what the row program wants.
    int64_t scratch = rowBytes(cast<NormOp>(group.getHeroOp())) + RowProgram::scratchBytes(group.getBody().front(), 0);
    GroupPlan plan;
    plan.stages.push_back(StageAttr::get(group.getContext(), "norm", 1, rowsOf(group), 1, scratch));
    return plan;
  }

  LogicalResult emit(CpuKernelBuilder &k, const CpuKernel &kernel) const override {
    auto norm = cast<NormOp>(kernel.getHeroOp());
    const int64_t width = featuresOf(norm.getInput()), lanes = k.lanesFor(width);
    Type element = elementOf(norm.getInput()), gainElement = elementOf(norm.getWeight());
    KernelArguments args(kernel.body);
    Value input = k.argument(args.input(norm.getInput())), gain = k.argument(args.input(norm.getWeight()));
    RowProgram rest(k, kernel.body, k.at(k.scratch, rowBytes(norm)));
    auto load = [&](Value base, Type type, Value i) {
      return k.load(k.at(base, k.mul(i, k.bytesOf(type))), type, lanes);
    };
    k.loop(k.begin, k.end, 1, [&](Value row) {
      Value x = k.at(input, k.mul(row, width * k.bytesOf(element)));
      Value squares = k.loop(k.constant(0), k.constant(width), lanes, ValueRange{k.splat(0, lanes)},
                             [&](Value i, ValueRange sum) -> SmallVector<Value> {
                               Value v = load(x, element, i);
                               return {k.fma(v, v, sum[0])};
                             })[0];
      Value mean = k.mulf(k.reduceAdd(squares), k.constantF(1.0f / static_cast<float>(width)));
      Value factor = k.broadcast(k.rsqrt(k.addf(mean, k.constantF(norm.getEps().convertToFloat()))), lanes);
      k.loop(0, width, lanes, [&](Value i) {
        Value v = k.mulf(k.mulf(load(x, element, i), factor), load(gain, gainElement, i));
        k.store(v, k.at(k.scratch, k.mul(i, 4)), k.f32, lanes);
      });
      bool wanted = kernel.stage.getPer() == RowCount::logit_rows;
      rest.setRow(row, wanted ? k.tableEntry(k.batchTable("logit_tokens"), row) : row);
      rest.run(norm.getResult(), {k.scratch, k.constant(0), width});
    });
    return success();
  }

private:
  static int64_t rowBytes(NormOp norm) { return llvm::alignTo(featuresOf(norm.getInput()) * 4, 64); }
};

class CudaNormTemplate : public CudaKernelTemplate {
public:
  StringRef getName() const override { return "cuda.example.norm"; }
  bool match(GroupOp group) const override {
    if (!leads(group))
      return false;
    Value result = cast<NormOp>(group.getHeroOp()).getResult();
    return elementOf(result).isBF16() && featuresOf(result) % 8 == 0 && CudaPrinter::canEpilogue(result);
  }
  bool fuses(Operation *hero, Operation *op, bool prologue) const override { return runsAfter(hero, op, prologue); }
  SmallVector<StringRef> getWeightLayouts(GroupOp, unsigned) const override { return {"vector_f32"}; }

  FailureOr<GroupPlan> plan(GroupOp group, BucketAttr) const override {
    int64_t threads = std::clamp<int64_t>(llvm::alignTo(featuresOf(group.getHeroOp()->getResult(0)) / 8, 32), 32, 512);
    CudaStage stage;
    stage.name = "norm";
    stage.per = rowsOf(group);
    stage.launch(group.getContext(), threads, /*shared=*/0);
    stage.config = {{"threads", threads}, {"wanted", stage.per == RowCount::logit_rows}};
    GroupPlan plan;
    plan.stages.push_back(stage.get(group.getContext()));
    return plan;
  }

  LogicalResult emit(CudaWriter &writer, const CudaKernel &kernel) const override {
    auto norm = cast<NormOp>(kernel.getHeroOp());
    writer.include("example/norm.cuh");
    CudaPrinter printer(writer, kernel);
    FailureOr<std::string> epilogue = printer.epilogue(norm.getResult(), 8);
    if (failed(epilogue))
      return failure();
    KernelParameters &parameters = printer.params();
    writer.open(formatv("extern \"C\" __global__ __launch_bounds__({0}) void MILI_KERNEL({1})", kernel.get("threads"),
                        parameters.declaration()));
    writer.line(formatv("example::norm<{0}, {1}, {2}>(batch, {3}, {4}, {5}, {6});", featuresOf(norm.getInput()),
                        kernel.get("threads"), kernel.get("wanted") ? "true" : "false",
                        parameters.input(norm.getInput()), parameters.input(norm.getWeight()),
                        cudaFloat(norm.getEps().convertToFloat()), *epilogue));
    writer.close();
    return success();
  }
};
}  // namespace

std::unique_ptr<CpuKernelTemplate> example::createCpuNormTemplate() {
  return std::make_unique<CpuNormTemplate>();
}
std::unique_ptr<CudaKernelTemplate> example::createCudaNormTemplate() {
  return std::make_unique<CudaNormTemplate>();
}
