//===- WeightLayout.cpp ------------------------------------------------------===//
#include "mili/Codegen/WeightLayout.h"

#include "../cpu/PanelLayout.h"
#include "mili/IR/MiliDialect.h"

using namespace mlir;
using namespace mlir::mili;

int64_t mlir::mili::codegen::packedBytes(RankedTensorType type, StringRef layout) {
  Type element = type.getElementType();
  int64_t rows = type.getShape()[0], columns = type.getShape().back();
  int64_t padded = layout == "panel16" ? llvm::alignTo(rows, ::mili::panel::kRows) : rows;
  if (layout == "rows_bf16")
    return type.getNumElements() * 2;
  if (layout == "vector_f32")
    return type.getNumElements() * 4;
  if (type.getRank() == 1)
    return columns * ((element.getIntOrFloatBitWidth() + 7) / 8);
  if (auto block = dyn_cast<BlockType>(element))
    return padded * (columns / block.getBlockElements()) * block.getBlockBytes();
  return padded * columns * ((element.getIntOrFloatBitWidth() + 7) / 8);
}
