//===- Passes.h - passes of code generation ----------------------*- C++ -*-===//
#ifndef MILI_CODEGEN_PASSES_H
#define MILI_CODEGEN_PASSES_H

#include "mlir/Pass/Pass.h"

#include <memory>
#include <string>

namespace mlir {
class ModuleOp;
}

namespace mlir::mili::codegen {

#define GEN_PASS_DECL
#include "mili/Codegen/Passes.h.inc"

/// Registers the passes of this folder with MLIR's global registry.
void registerCodegenPasses();

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_PASSES_H
