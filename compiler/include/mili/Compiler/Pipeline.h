//===- Pipeline.h - the phases as pass pipelines -----------------*- C++ -*-===//
//
// What Compiler.h runs, for programs that hold a module themselves and for tests. A phase is a list of passes; import,
// codegen and pack touch files and objects and are calls of their own.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_COMPILER_PIPELINE_H
#define MILI_COMPILER_PIPELINE_H

#include "mili/Compiler/Compiler.h"

#include "mlir/Support/LLVM.h"

namespace mlir {
class DialectRegistry;
class ModuleOp;
class OpPassManager;
}  // namespace mlir

namespace mlir::mili {

struct FusionReport;

/// "cuda" of "cuda:sm_90a".
StringRef targetDevice(const ::mili::CompileOptions &options);

/// Every dialect that a phase can leave in the module, what they need to lower, and the dialects of plugins.
void registerCompilerDialects(DialectRegistry &registry);

/// Every pass of MILI's and upstream's general ones, with MLIR's global registry. Once for a process.
void registerCompilerPasses();

/// Appends the passes of `phase` to a pipeline over a module. `report` receives fusion decisions; may be null.
void buildPhase(OpPassManager &pm, ::mili::Phase phase, const ::mili::CompileOptions &options, ModuleOp module,
                FusionReport *report);

}  // namespace mlir::mili

#endif  // MILI_COMPILER_PIPELINE_H
