//===- CpuFunctions.cpp - planned kernels to functions in vector IR ----------===//
#include "mili/Codegen/CpuObject.h"
#include "mili/Codegen/CpuTemplates.h"
#include "mili/IR/MiliPlan.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;

FailureOr<OwningOpRef<ModuleOp>> mlir::mili::codegen::emitCpuFunctions(ModuleOp planModule, const CpuVariant &variant) {
  MLIRContext *context = planModule.getContext();
  context->loadDialect<arith::ArithDialect, cf::ControlFlowDialect, func::FuncDialect, LLVM::LLVMDialect,
                       math::MathDialect, scf::SCFDialect, vector::VectorDialect>();
  KernelRegistry *registry = KernelRegistry::forTarget("cpu");
  OwningOpRef<ModuleOp> module = ModuleOp::create(planModule.getLoc());
  OpBuilder builder(context);
  Type ptr = LLVM::LLVMPointerType::get(context), i64 = builder.getI64Type();
  auto type = builder.getFunctionType({ptr, ptr, i64, i64, ptr}, {});
  for (auto kernel : llvm::to_vector(planModule.getOps<plan::KernelOp>())) {
    auto *emitter = static_cast<const CpuKernelTemplate *>(registry->lookup(kernel.getKernelTemplate()));
    if (!emitter)
      return kernel.emitError("mili-codegen: no kernel template '") << kernel.getKernelTemplate() << "'", failure();
    if (failed(verifyKernel(kernel, *emitter)))
      return failure();
    auto stages = llvm::to_vector(kernel.getStages().getAsRange<StageAttr>());
    SmallVector<StringRef> layouts;
    for (auto layout : kernel.getWeightLayouts().getAsRange<StringAttr>())
      layouts.push_back(layout.getValue());
    for (auto [i, stage] : llvm::enumerate(stages)) {
      std::string symbol = kernel.getSymName().str();
      if (stages.size() > 1)
        symbol += "." + stage.getName().str();
      builder.setInsertionPointToEnd(module->getBody());
      auto function = func::FuncOp::create(builder, kernel.getLoc(), symbol, type);
      Block *entry = function.addEntryBlock();
      CpuKernelBuilder body(builder, kernel.getLoc(), entry, variant);
      CpuKernel description{kernel.getBody().front(),
                            kernel.getHero(),
                            kernel.getBucket(),
                            stage,
                            static_cast<unsigned>(i),
                            static_cast<unsigned>(stages.size()),
                            layouts};
      if (failed(emitter->emit(body, description)))
        return failure();
      builder.setInsertionPointToEnd(entry);
      func::ReturnOp::create(builder, kernel.getLoc());
    }
  }
  return module;
}
