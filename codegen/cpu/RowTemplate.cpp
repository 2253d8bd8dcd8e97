//===- RowTemplate.cpp - groups without a product, one row a tile ------------===//
#include "mili/Codegen/RowProgram.h"

#include "mili/Codegen/CpuTemplates.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;

namespace {
class RowTemplate : public CpuKernelTemplate {
public:
  StringRef getName() const override { return "cpu.rows"; }

  bool match(GroupOp group) const override {
    return llvm::all_of(group.getBody().front(), [](Operation &op) {
      return isa<RmsNormOp, AddOp, ScaleOp, ActivationOp, GatedOp, RopeOp, KvAppendOp, SplitOp, YieldOp>(op);
    });
  }

  SmallVector<StringRef> getWeightLayouts(GroupOp, unsigned) const override { return {"row_major"}; }

  FailureOr<GroupPlan> plan(GroupOp group, BucketAttr) const override {
    GroupPlan plan;
    RowCount per = isOnWantedRows(group) ? RowCount::logit_rows : RowCount::tokens;
    plan.stages.push_back(
        StageAttr::get(group.getContext(), "rows", 1, per, 1, RowProgram::scratchBytes(group.getBody().front(), 0)));
    return plan;
  }

  LogicalResult emit(CpuKernelBuilder &k, const CpuKernel &kernel) const override {
    RowProgram program(k, kernel.body, k.scratch);
    k.loop(k.begin, k.end, 1, [&](Value row) {
      bool wanted = kernel.stage.getPer() == RowCount::logit_rows;
      program.setRow(row, wanted ? k.tableEntry(k.batchTable("logit_tokens"), row) : row);
      program.runBody();
    });
    return success();
  }
};
}  // namespace

std::unique_ptr<KernelTemplate> mlir::mili::codegen::createCpuRowTemplate() {
  return std::make_unique<RowTemplate>();
}
