//===- ModelBuilder.h - the blocks that architectures are built from --------===//
//
// Values are activations `[T][features]` of the activation type unless said otherwise. Roles ("attn.q") name the op
// (NameLoc "layers.3.attn.q" inside enterLayer(3)) and, where the op has weights, the tensors of the file
// (TensorRole). A tensor that is missing or misshapen is recorded and building goes on, so that one run names all of
// them; the module is thrown away then.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_FRONTENDS_MODELBUILDER_H
#define MILI_FRONTENDS_MODELBUILDER_H

#include "mili/Frontends/Architecture.h"

#include "mlir/IR/Value.h"
#include "llvm/ADT/StringRef.h"

#include <memory>

namespace mlir::mili {

class ModelBuilder {
public:
  struct State;  // the importer's side of the builder
  explicit ModelBuilder(State &state) : state(state) {}

  const DecoderConfig &config() const;
  /// The roles that follow belong to this layer.
  void enterLayer(int64_t layer);
  int64_t layer() const;

  //===- Ops -------------------------------------------------------------===//

  /// Rows of the table, times the embedding multiplier.
  Value embedding();
  /// x [T][n * features] normalized in segments of `features`; weight [features].
  Value rmsNorm(Value x, llvm::StringRef role, int64_t features);
  /// x [T][in] times weight [outputs][in], plus bias [outputs].
  Value linear(Value x, llvm::StringRef role, int64_t outputs, Bias bias = Bias::kNone);
  /// The same with rows `begin` to `begin + outputs` of the tensor of `merged`, which has `rows` of them: projections
  /// that a checkpoint stores as one. Without bias.
  Value linearRows(Value x, llvm::StringRef role, llvm::StringRef merged, int64_t rows, int64_t begin, int64_t outputs);
  /// x [T][heads * headDim] rotated by the configuration's table.
  Value rope(Value x, llvm::StringRef role, int64_t heads);
  /// Appends k and v [T][kvHeads * headDim] to the layer's state and attends with q [T][heads * headDim] over it,
  /// through the layer's window.
  Value attend(Value q, Value k, Value v);
  Value gated(Value gate, Value up);
  Value add(Value lhs, Value rhs, llvm::StringRef role);
  /// Nothing is built for a factor of 1.
  Value scale(Value x, double factor, llvm::StringRef role);
  /// Final norm, logits of the wanted rows divided by the logits divisor, return.
  void head(Value x);

  //===- Blocks ------------------------------------------------------------===//

  struct Projections {
    Value q, k, v;
  };
  /// Three products on tensors of their own.
  Projections project(Value x);
  /// Three products on ranges of the rows of "attn.qkv".
  Projections projectMerged(Value x);
  /// RoPE where the layer has it, attention, output projection.
  Value attention(Projections projections);
  /// down(activation(gate(x)) * up(x)).
  Value gatedMlp(Value x);
  /// The same with gate and up as ranges of the rows of "mlp.gate_up".
  Value gatedMlpMerged(Value x);
  /// x + branch * residualMultiplier.
  Value residual(Value x, Value branch, llvm::StringRef role);

private:
  State &state;
};

/// Embedding, layers of x += attention(norm(x)); x += mlp(norm(x)), head: the body of most families.
void buildPreNormDecoder(ModelBuilder &builder);

}  // namespace mlir::mili

#endif  // MILI_FRONTENDS_MODELBUILDER_H
