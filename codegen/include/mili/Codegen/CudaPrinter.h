//===- CudaPrinter.h - the ops of a group around its hero, in C++ -*- C++ -*-===//
//
// One printer for the three places where fused ops run: on a unit of consecutive features in registers (epilogues of
// products), on eight elements on their way in (inputs of products), and on a row or a head in shared memory (row
// kernels, attention's queries and keys). An op that it does not know is a located diagnostic.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_CODEGEN_CUDAPRINTER_H
#define MILI_CODEGEN_CUDAPRINTER_H

#include "mili/Codegen/CudaTemplates.h"

#include "llvm/ADT/DenseSet.h"

namespace mlir::mili::codegen {

/// Whether a block argument is passed to kernels: not the batch, not the token ids, which come with it.
bool isKernelArgument(Value argument);
/// The weight op's tensor behind dequantization, which happens when the plan is packed.
Value storedWeight(Value weight);

/// Writes the parameters of a kernel's function in the order of a launch's arguments, and knows their names.
class KernelParameters {
public:
  KernelParameters(CudaWriter &writer, const CudaKernel &kernel);

  /// "const mili::Batch *batch, const mili::bf16 *x, ..."
  std::string declaration() const;
  StringRef input(Value argument) const { return inputs.find(argument)->second; }
  bool has(Value argument) const { return inputs.contains(argument); }
  StringRef result(unsigned yielded) const { return results[yielded]; }  // empty for states
  /// The one result that is no state.
  StringRef output() const {
    return *llvm::find_if(results, [](const std::string &name) { return !name.empty(); });
  }
  StringRef map(unsigned index) const { return maps[index]; }
  std::string typeOf(StringRef name) const { return types.lookup(name); }

private:
  void add(StringRef name, StringRef type);
  std::vector<std::string> parameters;
  DenseMap<Value, std::string> inputs;
  std::vector<std::string> results, maps;
  llvm::StringMap<std::string> types;
};

/// Members of a functor: every pointer that its body uses.
class Functor {
public:
  Functor(CudaWriter &writer, KernelParameters &parameters) : writer(writer), parameters(parameters) {}
  /// The member of this name; noted as used.
  std::string use(StringRef parameter);
  /// "const mili::bf16 *x;" lines.
  void declareMembers() const;
  /// "{x, g}"
  std::string construct() const;

private:
  CudaWriter &writer;
  KernelParameters &parameters;
  std::vector<std::string> members;
};

class CudaPrinter {
public:
  CudaPrinter(CudaWriter &writer, const CudaKernel &kernel)
      : writer(writer), kernel(kernel), parameters(writer, kernel) {}

  KernelParameters &params() { return parameters; }

  /// struct Epilogue: what follows from `value` (the hero's result) on `unit` consecutive features. Returns the
  /// expression that constructs it.
  FailureOr<std::string> epilogue(Value value, int64_t unit);
  /// struct Input: rows of the hero's operand. Returns the expression that constructs it.
  FailureOr<std::string> input(Value operand);
  /// Whether `operand` can be printed by `input`.
  static bool canInput(Value operand);
  static bool canEpilogue(Value value);

  /// Features of a unit: 16 where gate and up alternate in runs of 8.
  static int64_t unitOf(Value value);

  /// Statements that compute everything in the block, on whole rows in shared memory. They use `team`, `shared`
  /// (floats), `row` and `token`.
  LogicalResult rows();

  /// Statements of a functor that put head `head` of `operand` into `row` by one warp: loads, norms and rotates.
  LogicalResult headRow(Functor &functor, Value operand);
  static bool canHeadRow(Value operand);

  /// Bytes of shared memory that `rows` takes.
  static int64_t rowBuffers(Block &body);

  /// A constant array of a rope's frequencies; returns its name.
  std::string frequencies(RopeOp op);

private:
  struct Unit {
    std::string array;    // float[8] or float[16]
    std::string feature;  // expression: first feature within the value's own row
    int64_t width;        // 8, 16
  };
  LogicalResult epilogueOps(Functor &functor, DenseMap<Value, Unit> units, llvm::DenseSet<Operation *> &done,
                            Block::iterator from);
  /// Members of Operands and the loads that fill them.
  using Fetches = std::vector<std::pair<std::string, std::string>>;
  Fetches *fetched = nullptr;
  LogicalResult stores(Functor &functor, Value value, const Unit &unit);
  std::string activation(Activation function, StringRef x);

  CudaWriter &writer;
  const CudaKernel &kernel;
  KernelParameters parameters;
  DenseMap<Attribute, std::string> tables;
};

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_CUDAPRINTER_H
