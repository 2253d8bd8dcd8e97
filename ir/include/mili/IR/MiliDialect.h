//===- MiliDialect.h - the mili dialect: types, attributes, interfaces, ops -===//
#ifndef MILI_IR_MILIDIALECT_H
#define MILI_IR_MILIDIALECT_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "mili/IR/BlockPattern.h"

#include "mili/IR/MiliDialect.h.inc"
#include "mili/IR/MiliEnums.h.inc"
#include "mili/IR/MiliInterfaces.h.inc"
#define GET_TYPEDEF_CLASSES
#include "mili/IR/MiliTypes.h.inc"
#define GET_ATTRDEF_CLASSES
#include "mili/IR/MiliAttrs.h.inc"
#define GET_OP_CLASSES
#include "mili/IR/MiliOps.h.inc"

namespace mlir::mili {
/// Bytes of a statically shaped tensor as it is stored: whole blocks for a `!mili.block` element type.
uint64_t getStorageBytes(ShapedType type);

/// Bounds of `#mili.block_sparse`, far beyond use, that keep its arithmetic within 32 bits.
inline constexpr int64_t kMaxPatternTokens = int64_t{1} << 24, kMaxRandomBlocks = 64;

/// Tokens that a query sees under an attention mask at the end of `context` tokens.
int64_t visibleTokens(Attribute mask, int64_t context);
}  // namespace mlir::mili

#endif  // MILI_IR_MILIDIALECT_H
