//===- BuilderState.h - what ModelBuilder works on --------------------------===//
#ifndef MILI_FRONTENDS_IMPORT_BUILDERSTATE_H
#define MILI_FRONTENDS_IMPORT_BUILDERSTATE_H

#include "mili/Frontends/ModelBuilder.h"
#include "mili/Frontends/ModelFile.h"
#include "mili/IR/MiliDialect.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

#include <set>

namespace mlir::mili {

struct ModelBuilder::State {
  State(const ::mili::ModelFile &model, const Architecture &architecture, DecoderConfig decoder, FloatType activation,
        RopeAttr rope, MLIRContext *context)
      : model(model), architecture(architecture), config(std::move(decoder)), activation(activation), rope(rope),
        builder(context) {}

  const ::mili::ModelFile &model;
  const Architecture &architecture;
  const DecoderConfig config;
  const FloatType activation;
  const RopeAttr rope;
  bool synthetic = false;  // no tensors are looked up

  OpBuilder builder;
  Value tokens, batch;
  int64_t layer = -1;  // none
  std::map<std::string, Value> weights;
  std::set<std::string, std::less<>> usedTensors;
  /// About tensors; empty if all was well.
  std::vector<std::string> errors;

  std::string fullName(StringRef role) const;
  Location loc(StringRef role) const;
  /// The file's name of a role's tensors, without ".weight".
  std::string tensorStem(StringRef role) const;
  RankedTensorType rows(int64_t features) const;

  /// Looks the tensor up and checks its shape; null after an error.
  const ::mili::TensorInfo *claim(const std::string &name, ArrayRef<int64_t> shape);
  /// Rows `begin` to `end` (-1: all) of a tensor of `shape`, as the file stores them. `role` is the op's whole name
  /// here, "attn.q.weight".
  Value weight(StringRef role, const std::string &name, ArrayRef<int64_t> shape, int64_t begin = 0, int64_t end = -1);
  /// The weight of role "attn.q", dequantized where the file has blocks.
  Value matrix(StringRef role, const std::string &name, ArrayRef<int64_t> shape, int64_t begin = 0, int64_t end = -1);
  /// A vector, which must be stored in plain floats; `role` as for weight().
  Value vector(StringRef role, const std::string &name, int64_t size);
  /// Null if `bias` says that there is none.
  Value optionalBias(StringRef role, const std::string &name, int64_t size, Bias bias);

  /// An error for each tensor that nobody asked for, save those that say nothing of their own.
  void refuseUnusedTensors();
};

}  // namespace mlir::mili

#endif  // MILI_FRONTENDS_IMPORT_BUILDERSTATE_H
