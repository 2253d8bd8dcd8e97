//===- Rows.h - how many rows a value of a bucket has -------------*- C++ -*-===//
#ifndef MILI_PASSES_SUPPORT_ROWS_H
#define MILI_PASSES_SUPPORT_ROWS_H

#include "mili/IR/MiliDialect.h"

#include "llvm/ADT/DenseSet.h"

namespace mlir::mili {

/// Bounds of the dynamic dimension of a function's values in its bucket: `mili.logits` gives one row per wanted row,
/// and so does what is computed from it; everything else has one row per token. Works before and after fusion.
class RowCounts {
public:
  RowCounts(Region &function, BucketAttr bucket);

  /// Whether a value is an activation: a tensor with one row per token or wanted row. Weights have static shapes.
  static bool isActivation(Value value);
  /// Whether an activation has one row per wanted row.
  bool isWanted(Value value) const { return wanted.contains(value); }
  /// Bytes of one row of an activation.
  static int64_t getRowBytes(Value activation);
  /// Bound of the rows of an activation; for other values the bucket's tokens.
  int64_t getRows(Value value) const;
  /// Bytes of an activation at the bound, of any other tensor as it is stored, 0 for states and the batch.
  int64_t getBytes(Value value) const;

private:
  BucketAttr bucket;
  llvm::DenseSet<Value> wanted;  // one row per wanted row
};

}  // namespace mlir::mili

#endif  // MILI_PASSES_SUPPORT_ROWS_H
