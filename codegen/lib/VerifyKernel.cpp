//===- VerifyKernel.cpp - what emission relies on -----------------------------===//
#include "mili/Codegen/KernelTemplate.h"
#include "mili/IR/MiliPlan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;

/// The group that the kernel came from, as templates know it, in a function at the end of the module.
static GroupOp rebuildGroup(plan::KernelOp kernel, func::FuncOp function) {
  Block *entry = function.addEntryBlock();
  OpBuilder builder = OpBuilder::atBlockEnd(entry);
  OperationState state(kernel.getLoc(), GroupOp::getOperationName());
  state.addOperands(entry->getArguments());
  state.addTypes(kernel.getBody().front().back().getOperandTypes());
  state.addAttribute("name", kernel.getSymNameAttr());
  state.addAttribute("hero", kernel.getHeroAttr());
  IRMapping mapping;
  kernel.getBody().cloneInto(state.addRegion(), mapping);
  return cast<GroupOp>(builder.create(state));
}

static LogicalResult verifyStage(plan::KernelOp kernel, StageAttr found, StageAttr planned) {
  auto keys = [](StageAttr stage) {
    SmallVector<StringRef> names;
    if (DictionaryAttr config = stage.getConfig())
      for (NamedAttribute entry : config)
        names.push_back(entry.getName().getValue());
    return names;  // a dictionary is sorted
  };
  if (found.getName() != planned.getName() || found.getMaps().size() != planned.getMaps().size() ||
      keys(found) != keys(planned))
    return kernel.emitError("mili-codegen: template '")
           << kernel.getKernelTemplate() << "' runs this kernel by a stage like " << planned << ", found " << found;
  if (DictionaryAttr config = found.getConfig())
    for (NamedAttribute entry : config) {
      auto value = dyn_cast<IntegerAttr>(entry.getValue());
      // Whether there is scratch, or an input gathered before, is not free: it says which arguments the kernel has.
      const bool some = cast<IntegerAttr>(planned.getConfig().get(entry.getName())).getInt() != 0;
      if (!value || !value.getType().isInteger(64) || value.getInt() < 0 || (value.getInt() != 0) != some)
        return kernel.emitError("mili-codegen: stage \"")
               << found.getName() << "\": expected " << (some ? "an i64 above 0" : "0 : i64") << " as "
               << entry.getName() << ", found " << entry.getValue();
    }
  return success();
}

LogicalResult mlir::mili::codegen::verifyKernel(plan::KernelOp kernel, const KernelTemplate &kernelTemplate) {
  OpBuilder builder = OpBuilder::atBlockEnd(kernel->getBlock());
  auto type = builder.getFunctionType(kernel.getBody().front().getArgumentTypes(), {});
  auto function = func::FuncOp::create(builder, kernel.getLoc(), kernel.getSymName(), type);
  llvm::scope_exit erase([&] { function.erase(); });
  function->setAttr(MiliDialect::getBucketAttrName(), kernel.getBucket());
  GroupOp group = rebuildGroup(kernel, function);
  if (!kernelTemplate.match(group))
    return kernel.emitError("mili-codegen: template '")
           << kernel.getKernelTemplate() << "' cannot run this kernel, led by " << kernel.getHero();

  for (auto [i, layout] : llvm::enumerate(kernel.getWeightLayouts().getAsRange<StringAttr>())) {
    if (layout.getValue().empty())
      continue;
    auto tensor = dyn_cast<RankedTensorType>(group.getInputs()[i].getType());
    if (!tensor || !tensor.hasStaticShape() || tensor.getRank() == 0)
      return kernel.emitError("mili-codegen: expected a weight where argument #")
             << i << " has layout \"" << layout.getValue() << "\", found " << group.getInputs()[i].getType();
    SmallVector<StringRef> read = kernelTemplate.getWeightLayouts(group, static_cast<unsigned>(i));
    if (!llvm::is_contained(read, layout.getValue()))
      return kernel.emitError("mili-codegen: template '")
             << kernel.getKernelTemplate() << "' reads argument #" << i << " in layout " << llvm::join(read, ", ")
             << ", found \"" << layout.getValue() << "\"";
  }

  FailureOr<GroupPlan> plan = kernelTemplate.plan(group, kernel.getBucket());
  if (failed(plan))
    return failure();
  if (plan->stages.size() != kernel.getStages().size())
    return kernel.emitError("mili-codegen: template '")
           << kernel.getKernelTemplate() << "' runs this kernel in " << plan->stages.size() << " stages, found "
           << kernel.getStages().size();
  for (auto [found, planned] : llvm::zip_equal(kernel.getStages().getAsRange<StageAttr>(), plan->stages))
    if (failed(verifyStage(kernel, found, planned)))
      return failure();
  return success();
}
