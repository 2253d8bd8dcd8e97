//===- Passes.h - MILI's passes ----------------------------------*- C++ -*-===//
//
// Names are `mili-<family>-<verb>`; options and dependent dialects are in Passes.td. Each pass lives in a file of its
// own under passes/lib/<Family>/, with its algorithm described at the top of it.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_PASSES_PASSES_H
#define MILI_PASSES_PASSES_H

#include "mlir/Pass/Pass.h"

#include <memory>

namespace mlir::mili {

#define GEN_PASS_DECL
#include "mili/Passes/Passes.h.inc"

/// Registers every pass of this folder with MLIR's global registry, for `mili-opt` and textual pipelines.
void registerAllPasses();

}  // namespace mlir::mili

#endif  // MILI_PASSES_PASSES_H
