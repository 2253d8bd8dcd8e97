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

namespace mlir::mili {
/// Bounds of what verifiers let pass, far above any model: sums and products of a few sizes stay within 64 bits, so
/// passes compute with them as they are.
inline constexpr int64_t kMaxDimension = int64_t{1} << 24;  // features, rows, tokens
inline constexpr int64_t kMaxHeads = int64_t{1} << 14;      // heads, and elements of one
inline constexpr int64_t kMaxContext = int64_t{1} << 31;    // tokens of a sequence
inline constexpr int64_t kMaxBytes = int64_t{1} << 40;      // of one tensor, state slot or scratch; elements too

/// Whether every static dimension is 1 to kMaxDimension, and all elements together at most kMaxBytes.
bool hasBoundedShape(Type type);
}  // namespace mlir::mili

namespace mlir::mili {
/// How many bytes a weight takes where it is stored.
using StoredBytes = llvm::function_ref<uint64_t(Value)>;

/// Keys that a query sees at the end of n tokens of its sequence, as a line: min(n, base + n / every), where every = 0
/// adds none.
struct VisibleKeys {
  int64_t base = 0, every = 0;
};

/// Work of a step, linear in what the step holds: see `#mili_plan.work`.
struct StepWork {
  uint64_t fixedBytes = 0;  ///< Read once, whatever the rows.
  uint64_t rowBytes = 0;    ///< For each row.
  uint64_t keyBytes = 0;    ///< For each key position that must be read.
  uint64_t rowFlops = 0;    ///< For each row.
  uint64_t pairFlops = 0;   ///< For each pair of a query and a key that it sees.
  VisibleKeys visible;      ///< Of the keys and pairs.

  /// The work of both; of two that read keys, what the other sees counts.
  StepWork &operator+=(const StepWork &other);
};
}  // namespace mlir::mili

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
/// The same as a line, for plans. Exact but for block-sparse masks, whose blocks it counts as whole ones.
VisibleKeys visibleKeys(Attribute mask);
/// The bytes of a weight as the model's file stores it, or of what a dequantized one was made from.
uint64_t getWeightBytes(Value weight);
}  // namespace mlir::mili

#endif  // MILI_IR_MILIDIALECT_H
