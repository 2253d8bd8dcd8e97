//===- mili-opt.cpp - runs passes over textual IR ---------------------------===//
//
// The modular optimizer driver of every dialect and pass that MILI has or uses: what the lit tests and the authors of
// passes work with. `mili-opt --help` lists the passes.
//
//===------------------------------------------------------------------------===//
#include "mili/Codegen/Passes.h"
#include "mili/IR/MiliDialect.h"
#include "mili/IR/MiliPlan.h"
#include "mili/Passes/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/ShardingInterfaceImpl.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/Extensions/ShardingExtensions.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/ShardingInterfaceImpl.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Shard/IR/ShardDialect.h"
#include "mlir/Dialect/Shard/Transforms/Passes.h"
#include "mlir/Dialect/Tensor/Extensions/ShardingExtensions.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

int main(int argc, char **argv) {
  DialectRegistry registry;
  registry.insert<mili::MiliDialect, mili::plan::MiliPlanDialect>();
  registry.insert<arith::ArithDialect, cf::ControlFlowDialect, func::FuncDialect, linalg::LinalgDialect,
                  LLVM::LLVMDialect, math::MathDialect, memref::MemRefDialect, scf::SCFDialect, shard::ShardDialect,
                  tensor::TensorDialect, vector::VectorDialect>();
  arith::registerShardingInterfaceExternalModels(registry);
  func::registerShardingInterfaceExternalModels(registry);
  linalg::registerShardingInterfaceExternalModels(registry);
  tensor::registerShardingInterfaceExternalModels(registry);

  registerTransformsPasses();
  shard::registerShardPasses();
  mili::registerAllPasses();
  mili::codegen::registerCodegenPasses();
  return asMainReturnCode(MlirOptMain(argc, argv, "MILI modular optimizer driver\n", registry));
}
