//===- Import.h - from a model file to the mili dialect ---------------------===//
#ifndef MILI_FRONTENDS_IMPORT_H
#define MILI_FRONTENDS_IMPORT_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace mili {
class ModelFile;
}  // namespace mili

namespace mlir::mili {

struct ImportOptions {
  /// Element type of activations and KV state: "f32" or "bf16".
  std::string activationDtype = "f32";
  /// Tokens of context per sequence; 0 takes what the model was trained for. Decides between LongRoPE's short and long
  /// factors, as a plan serves one context.
  int64_t context = 0;
  /// The configuration alone decides: no tensor is looked up, matrices are bf16 and vectors f32.
  bool syntheticWeights = false;
};

/// Builds the module of `model`: states, one `@forward(tokens, batch) -> logits`. Every refusal (an architecture, a
/// configuration field, a tensor that is missing, unused or misshapen) is an error diagnostic on `context` that names
/// it; null is returned then.
OwningOpRef<ModuleOp> importModel(const ::mili::ModelFile &model, const ImportOptions &options, MLIRContext *context);

}  // namespace mlir::mili

#endif  // MILI_FRONTENDS_IMPORT_H
