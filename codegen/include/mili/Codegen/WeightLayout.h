//===- WeightLayout.h - bytes of weights in the plan -------------*- C++ -*-===//
#ifndef MILI_CODEGEN_WEIGHTLAYOUT_H
#define MILI_CODEGEN_WEIGHTLAYOUT_H

#include "mlir/IR/BuiltinTypes.h"

namespace mlir::mili::codegen {

/// Bytes of a weight in "row_major" (as the file has it) or "panel16" (codegen/cpu/PanelLayout.h).
int64_t packedBytes(RankedTensorType type, StringRef layout);

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_WEIGHTLAYOUT_H
