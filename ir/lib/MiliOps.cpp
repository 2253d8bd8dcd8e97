//===- MiliOps.cpp - verifiers, folds ---------------------------------------===//
#include "mili/IR/MiliDialect.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::mili;

#define GET_OP_CLASSES
#include "mili/IR/MiliOps.cpp.inc"

LogicalResult StateGetOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return success();
}
LogicalResult StateSetOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return success();
}
LogicalResult KvAppendOp::verify() {
  return success();
}
LogicalResult WeightOp::verify() {
  return success();
}
LogicalResult DequantOp::verify() {
  return success();
}
LogicalResult EmbeddingOp::verify() {
  return success();
}
LogicalResult LinearOp::verify() {
  return success();
}
LogicalResult LogitsOp::verify() {
  return success();
}
LogicalResult RopeOp::verify() {
  return success();
}
LogicalResult AttentionOp::verify() {
  return success();
}
LogicalResult RmsNormOp::verify() {
  return success();
}
LogicalResult SplitOp::verify() {
  return success();
}
LogicalResult GroupOp::verify() {
  return success();
}

OpFoldResult ScaleOp::fold(FoldAdaptor adaptor) {
  return {};
}
void ScaleOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *context) {}

Operation *GroupOp::getHeroOp() {
  if (getBody().empty())
    return nullptr;
  for (Operation &op : getBody().front())
    if (op.getName().getStringRef() == getHero())
      return &op;
  return nullptr;
}
