// example-limit-window: layers that attend to everything attend to the last `tokens` tokens only, so that the work of a
// token stops growing with the context. Layers with a shorter window keep theirs; `keep-layers` full ones come first.
#include "mili/Compiler/Plugin.h"
#include "mili/IR/MiliDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace mlir::mili;

namespace {
struct LimitWindow : PassWrapper<LimitWindow, OperationPass<func::FuncOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(LimitWindow)
  LimitWindow() = default;
  LimitWindow(const LimitWindow &other) : PassWrapper(other) {}

  StringRef getArgument() const override { return "example-limit-window"; }
  StringRef getDescription() const override { return "Full attention becomes attention through a window"; }

  Option<int64_t> tokens{*this, "tokens", llvm::cl::desc("Tokens of the window"), llvm::cl::init(1024)};
  Option<int64_t> keep{*this, "keep-layers", llvm::cl::desc("First layers to leave alone"), llvm::cl::init(0)};

  void runOnOperation() override {
    if (tokens <= 0) {
      getOperation().emitError("example-limit-window: tokens must be positive, found ") << tokens.getValue();
      return signalPassFailure();
    }
    int64_t layer = 0;
    getOperation().walk([&](AttentionOp attention) {
      if (layer++ >= keep && isa<CausalAttr>(attention.getMask()))
        attention.setMaskAttr(WindowAttr::get(&getContext(), tokens));
    });
  }
};
}  // namespace

MILI_PLUGIN("custom-pass", registration) {
  registration.addPass<LimitWindow>();
}
