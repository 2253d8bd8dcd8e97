//===- RowProgram.h - the ops of a group around its hero, row by row ---------===//
//
// Everything in a group but the hero's own algorithm (norms, RoPE, appends, residual adds, gates, splits, stores) works
// on one row, or on a unit of a row: consecutive features that a tile of a product has just computed. The hero puts f32
// values into a buffer of the worker's scratch and calls `run`; each op that uses them is emitted in turn, in place
// where it is the only use, until everything is yielded. So one mechanism is the epilogue of products and attention,
// the prologue of products (values that lead to the hero's input), and the whole body of row groups.
//
// A unit may lie in one part of a split only; which part is decided at run time by its first feature.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_CODEGEN_ROWPROGRAM_H
#define MILI_CODEGEN_ROWPROGRAM_H

#include "mili/Codegen/CpuKernelBuilder.h"
#include "mili/Codegen/KernelTemplate.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"

#include <functional>

namespace mlir::mili::codegen {

/// The arguments of a kernel by the values of its body: inputs without the batch and the token ids, then results
/// without states, then the arena scratch.
class KernelArguments {
public:
  explicit KernelArguments(Block &body);
  /// Index of a block argument; it must have one.
  unsigned input(Value argument) const { return inputs.lookup(argument); }
  bool has(Value argument) const { return inputs.contains(argument); }
  /// Index of yielded value `index`; only for values that are not states.
  unsigned result(unsigned index) const { return results[index]; }
  unsigned arenaScratch() const { return count; }

private:
  DenseMap<Value, unsigned> inputs;
  SmallVector<unsigned> results;
  unsigned count = 0;
};

/// f32 values of features [first, first + width) of a value, for one row.
struct RowUnit {
  Value buffer;       // address of `width` f32, 64-byte aligned
  Value first;        // i64
  int64_t width = 0;  // static
};

class RowProgram {
public:
  RowProgram(CpuKernelBuilder &builder, Block &body, Value scratch);

  /// Bytes of scratch that `run` needs when no unit is wider than `width` features (0: whole rows).
  static int64_t scratchBytes(Block &body, int64_t width);
  /// Bytes of scratch of `runUpTo(operand)`.
  static int64_t scratchBytesUpTo(OpOperand &operand);

  /// Begins anew, with all scratch free: once for each place where the program is emitted.
  void reset();

  /// The row that is being computed: its index in activations, and its token for positions and pages. They differ for
  /// rows of logits.
  void setRow(Value row, Value token);

  /// Emits every use of `value`, given this unit of it, and what follows from them.
  void run(Value value, RowUnit unit);
  /// For row groups: loads whole rows of the activations that the body reads and runs everything.
  void runBody();
  /// Runs what leads from the body's arguments to `operand` (of the hero), whole rows; returns the row's buffer.
  RowUnit runUpTo(OpOperand &operand);
  /// Loads `width` features of an argument at the current row into a buffer of scratch.
  RowUnit loadArgument(Value argument);

  const KernelArguments &arguments() const { return args; }

private:
  void runUse(OpOperand &use, RowUnit unit);
  RowUnit outputFor(Value input, const RowUnit &unit, int64_t width);
  Value allocate(int64_t features);
  void map(const RowUnit &in, const RowUnit &out, llvm::function_ref<Value(Value, Value offset, int64_t lanes)> f);
  Value loadOther(Value operand, const RowUnit &unit, Value offset, int64_t lanes);
  void rmsNorm(Operation *op, const RowUnit &in, const RowUnit &out);
  void rope(Operation *op, const RowUnit &in, const RowUnit &out);
  void append(Operation *op, bool isValue, const RowUnit &unit);
  void store(unsigned result, Value value, const RowUnit &unit);
  Value argumentAddress(unsigned index);

  CpuKernelBuilder &k;
  Block &body;
  KernelArguments args;
  Value scratch;
  int64_t used = 0;
  Value row, token;
  DenseMap<Value, RowUnit> materialized;  // whole rows that several ops read
  llvm::DenseSet<Operation *> done;
  llvm::DenseSet<Operation *> wanted;  // with runUpTo: the ops that lead to the operand
  bool restricted = false;
};

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_ROWPROGRAM_H
