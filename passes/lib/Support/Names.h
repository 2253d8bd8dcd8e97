//===- Names.h - source names of ops ------------------------------*- C++ -*-===//
#ifndef MILI_PASSES_SUPPORT_NAMES_H
#define MILI_PASSES_SUPPORT_NAMES_H

#include "mlir/IR/Operation.h"

#include <string>

namespace mlir::mili {

/// The name that the frontend attached to an op ("layers.0.attn.q"), found through fused, call-site and nested
/// locations; empty when there is none.
std::string getLocationName(Location loc);

/// That name, or the op's mnemonic ("linear").
std::string getSourceName(Operation *op);

/// "linear" of "mili.linear".
StringRef getMnemonic(Operation *op);

/// One name for several ops: the dotted prefix that they share, then their last parts: "layers.0.attn.q", ".k", ".v"
/// give "layers.0.attn.qkv" (single letters join), "mlp.gate", "mlp.up" give "mlp.gate_up".
std::string joinNames(ArrayRef<std::string> names);

}  // namespace mlir::mili

#endif  // MILI_PASSES_SUPPORT_NAMES_H
