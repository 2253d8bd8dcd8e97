// The op, its roles in fusion and its cost; a pass that puts it into models; the plugin.
#include "Norm.h"
#include "NormKernels.h"

#include "mili/Codegen/CpuTemplates.h"
#include "mili/Codegen/CudaTemplates.h"
#include "mili/Compiler/Plugin.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/Pass/PassManager.h"

#include "NormDialect.cpp.inc"
#define GET_OP_CLASSES
#include "NormOps.cpp.inc"

using namespace mlir;
using namespace mlir::mili;
using example::NormOp;

void example::ExampleDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "NormOps.cpp.inc"
      >();
}

//===- What fusion and planning ask ----------------------------------------===//

unsigned NormOp::getHeroPriority() {
  return 50;  // like MILI's norms: after products, before element-wise ops
}
bool NormOp::acceptsEpilogue(Operation *user) {
  // MILI's own ops do not know this one, so it says what may follow it in its kernel.
  return isa<AddOp, ScaleOp>(user);
}
StepWork NormOp::getWork(StoredBytes storedBytes) {
  StepWork work;
  work.rowFlops = 4 * getType().getDimSize(1);
  work.fixedBytes = storedBytes(getWeight());
  return work;
}

//===- Where it is used ----------------------------------------------------===//

namespace {
/// Norms of whole rows that only a residual sum reads: x + rms_norm(y), as in families that normalize after a block.
struct UseNorm : PassWrapper<UseNorm, OperationPass<func::FuncOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(UseNorm)
  StringRef getArgument() const override { return "example-use-norm"; }
  StringRef getDescription() const override { return "Norms before a residual sum become example.norm"; }
  void getDependentDialects(DialectRegistry &registry) const override { registry.insert<example::ExampleDialect>(); }

  void runOnOperation() override {
    getOperation().walk([](RmsNormOp norm) {
      auto input = cast<RankedTensorType>(norm.getInput().getType());
      auto weight = cast<RankedTensorType>(norm.getWeight().getType());
      if (weight.getDimSize(0) != input.getDimSize(1) || !norm->hasOneUse() || !isa<AddOp>(*norm->user_begin()))
        return;
      OpBuilder builder(norm);
      auto own = NormOp::create(builder, norm.getLoc(), input, norm.getInput(), norm.getWeight(), norm.getEpsAttr());
      norm.replaceAllUsesWith(own.getResult());
      norm.erase();
    });
  }
};
}  // namespace

static const char *const kNormHeader =
#include "norm.cuh.inc"
    ;

MILI_PLUGIN("custom-kernel", registration) {
  registration.dialects().insert<example::ExampleDialect>();
  registration.addPass<UseNorm>();
  registration.addKernelTemplate(example::createCpuNormTemplate());
  registration.addKernelTemplate(example::createCudaNormTemplate());
  registration.addDeviceHeader("example/norm.cuh", kNormHeader);
  registration.addToPipeline("after-optimize", [](OpPassManager &pm, const ::mili::CompileOptions &) {
    pm.addNestedPass<func::FuncOp>(std::make_unique<UseNorm>());
  });
}
