//===- MiliPlan.cpp - the mili_plan dialect ---------------------------------===//
#include "mili/IR/MiliPlan.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::plan;

#include "mili/IR/MiliPlanDialect.cpp.inc"
#include "mili/IR/MiliPlanEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "mili/IR/MiliPlanAttrs.cpp.inc"
#define GET_OP_CLASSES
#include "mili/IR/MiliPlanOps.cpp.inc"

void MiliPlanDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "mili/IR/MiliPlanAttrs.cpp.inc"
      >();
}

void MiliPlanDialect::initialize() {
  registerAttributes();
  addOperations<
#define GET_OP_LIST
#include "mili/IR/MiliPlanOps.cpp.inc"
      >();
}

LogicalResult BucketOp::verify() {
  return success();
}
LogicalResult LaunchOp::verify() {
  return success();
}
LogicalResult LaunchOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return success();
}
