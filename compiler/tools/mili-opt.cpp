//===- mili-opt.cpp - runs passes over textual IR ---------------------------===//
//
// The modular optimizer driver of every dialect and pass that MILI has or uses: what the lit tests and the authors of
// passes work with. `mili-opt --help` lists the passes. `--plugin FILE` adds what a plugin brings.
//
//===------------------------------------------------------------------------===//
#include "mili/Compiler/Plugin.h"
#include "mili/Compiler/ToolRegistry.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

// For --help; the passes and options that plugins add must be known before the command line is parsed.
static llvm::cl::list<std::string> plugins("plugin", llvm::cl::desc("Load this plugin of MILI's (may be repeated)"),
                                           llvm::cl::value_desc("file"));

/// Loads FILE of every "--plugin FILE" and "--plugin=FILE"; false after a message.
static bool loadPlugins(int argc, char **argv) {
  for (int i = 1; i < argc; ++i) {
    StringRef argument = argv[i];
    if (!argument.consume_front("--plugin") && !argument.consume_front("-plugin"))
      continue;
    StringRef file;
    if (argument.consume_front("="))
      file = argument;
    else if (argument.empty() && i + 1 < argc)
      file = argv[++i];
    else
      continue;  // another option, or one without a value, which the parser reports
    if (::mili::Status status = ::mili::load_plugin(file.str()); !status.ok()) {
      llvm::errs() << "mili-opt: " << status.message() << "\n";
      return false;
    }
  }
  return true;
}

int main(int argc, char **argv) {
  mlir::mili::registerToolPasses();
  if (!loadPlugins(argc, argv))
    return 1;
  DialectRegistry registry;
  mlir::mili::registerToolDialects(registry);
  return asMainReturnCode(MlirOptMain(argc, argv, "MILI modular optimizer driver\n", registry));
}
