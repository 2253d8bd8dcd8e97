//===- ToolRegistry.h - what tools over textual IR know ----------*- C++ -*-===//
//
// The dialects that MILI has, lowers to or shares an interface with, and every pass: for mili-opt and for programs like
// it, which take any module rather than one of a model.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_COMPILER_TOOLREGISTRY_H
#define MILI_COMPILER_TOOLREGISTRY_H

namespace mlir {
class DialectRegistry;
}  // namespace mlir

namespace mlir::mili {

void registerToolDialects(DialectRegistry &registry);

/// Into MLIR's global registry: once per process.
void registerToolPasses();

}  // namespace mlir::mili

#endif  // MILI_COMPILER_TOOLREGISTRY_H
