//===- Rows.cpp - how many rows a value of a bucket has ---------------------===//
#include "Rows.h"

namespace mlir::mili {

RowCounts::RowCounts(Region &function, BucketAttr bucket) : bucket(bucket) {
  // Definitions come before uses; a group's block arguments take over from its operands.
  function.walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (auto group = dyn_cast<GroupOp>(op)) {
      if (!group.getBody().empty())
        for (auto [input, argument] : llvm::zip(group.getInputs(), group.getBody().getArguments()))
          if (wanted.contains(input))
            wanted.insert(argument);
      return;
    }
    bool rows = isa<LogitsOp>(op) || llvm::any_of(op->getOperands(), [&](Value v) { return wanted.contains(v); });
    if (rows)
      for (Value result : op->getResults())
        if (isActivation(result))
          wanted.insert(result);
    if (auto yield = dyn_cast<YieldOp>(op))
      if (auto group = dyn_cast<GroupOp>(op->getParentOp()))
        for (auto [value, result] : llvm::zip(yield.getOperands(), group.getResults()))
          if (wanted.contains(value))
            wanted.insert(result);
  });
}

bool RowCounts::isActivation(Value value) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  return type && !type.hasStaticShape();
}

int64_t RowCounts::getRowBytes(Value activation) {
  auto type = cast<RankedTensorType>(activation.getType());
  int64_t elements = 1;
  for (int64_t size : type.getShape())
    elements *= ShapedType::isDynamic(size) ? 1 : size;
  return (elements * type.getElementTypeBitWidth() + 7) / 8;
}

int64_t RowCounts::getRows(Value value) const {
  return isWanted(value) ? bucket.getLogitRows() : bucket.getTokens();
}

int64_t RowCounts::getBytes(Value value) const {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type)
    return 0;
  if (type.hasStaticShape())
    return static_cast<int64_t>(getStorageBytes(type));
  int64_t elements = 1;
  for (int64_t size : type.getShape())
    elements *= ShapedType::isDynamic(size) ? getRows(value) : size;
  return (elements * type.getElementTypeBitWidth() + 7) / 8;
}

}  // namespace mlir::mili
