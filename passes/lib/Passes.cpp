//===- Passes.cpp - registration --------------------------------------------===//
#include "mili/Passes/Passes.h"

#include "mlir/Pass/PassRegistry.h"

namespace mlir::mili {

namespace {
#define GEN_PASS_REGISTRATION
#include "mili/Passes/Passes.h.inc"
}  // namespace

void registerAllPasses() {
  registerMiliPasses();
}

}  // namespace mlir::mili
