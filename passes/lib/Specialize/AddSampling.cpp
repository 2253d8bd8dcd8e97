//===- AddSampling.cpp - mili-specialize-add-sampling ------------------------===//
#include "mili/Passes/Passes.h"

#include "mili/IR/MiliDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace mlir::mili {
#define GEN_PASS_DEF_ADDSAMPLING
#include "mili/Passes/Passes.h.inc"

namespace {
struct AddSampling : impl::AddSamplingBase<AddSampling> {
  using AddSamplingBase::AddSamplingBase;

  void runOnOperation() override {
    auto forward = getOperation().lookupSymbol<func::FuncOp>(function);
    if (!forward || forward.isExternal() || !forward.getBody().hasOneBlock()) {
      getOperation().emitError("mili-specialize-add-sampling: the module has no function @")
          << function.getValue() << " with a body of one block";
      return signalPassFailure();
    }
    auto batch = llvm::find_if(forward.getArguments(), [](Value v) { return isa<BatchType>(v.getType()); });
    Operation *ret = forward.getBody().front().getTerminator();
    if (batch == forward.getArguments().end()) {
      forward.emitError("mili-specialize-add-sampling: expected a batch among the arguments, found ")
          << forward.getNumArguments() << " others";
      return signalPassFailure();
    }
    if (ret->getNumOperands() != 1) {
      forward.emitError("mili-specialize-add-sampling: expected one returned value, the logits, found ")
          << ret->getNumOperands();
      return signalPassFailure();
    }
    OpBuilder builder(ret);
    Location loc = NameLoc::get(builder.getStringAttr("sample"));
    auto type = RankedTensorType::get({ShapedType::kDynamic}, builder.getI32Type());
    Value sampled = SampleOp::create(builder, loc, type, ret->getOperand(0), *batch);
    ret->insertOperands(1, sampled);
    forward.setType(builder.getFunctionType(forward.getArgumentTypes(), ret->getOperandTypes()));
  }
};
}  // namespace
}  // namespace mlir::mili
