//===- MiliOps.cpp - verifiers, folds ---------------------------------------===//
#include "mili/IR/MiliDialect.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::mili;

#define GET_OP_CLASSES
#include "mili/IR/MiliOps.cpp.inc"
