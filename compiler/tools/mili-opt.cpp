//===- mili-opt.cpp - runs passes over textual IR ---------------------------===//
//
// The modular optimizer driver of every dialect and pass that MILI has or uses: what the lit tests and the authors of
// passes work with. `mili-opt --help` lists the passes.
//
//===------------------------------------------------------------------------===//
#include "mili/Compiler/ToolRegistry.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

using namespace mlir;

int main(int argc, char **argv) {
  DialectRegistry registry;
  mili::registerToolDialects(registry);
  mili::registerToolPasses();
  return asMainReturnCode(MlirOptMain(argc, argv, "MILI modular optimizer driver\n", registry));
}
