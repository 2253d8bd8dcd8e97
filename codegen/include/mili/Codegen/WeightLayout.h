//===- WeightLayout.h - bytes of weights in the plan -------------*- C++ -*-===//
#ifndef MILI_CODEGEN_WEIGHTLAYOUT_H
#define MILI_CODEGEN_WEIGHTLAYOUT_H

#include "mlir/IR/BuiltinTypes.h"

namespace mlir::mili::codegen {

/// Bytes of a weight in "row_major" (as the file has it), "panel16" (codegen/cpu/PanelLayout.h), "rows_bf16" (rows of
/// bf16, whatever the file has) or "vector_f32" (a vector of f32, likewise).
int64_t packedBytes(RankedTensorType type, StringRef layout);

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_WEIGHTLAYOUT_H
