//===- CpuKernelBuilder.h - writes one CPU kernel in vector IR ---*- C++ -*-===//
//
// A kernel is `void f(ptr args, ptr batch, i64 begin, i64 end, ptr scratch)` (mili/runtime/cpu_abi.h). The builder
// offers loads and stores with conversion, batch fields by name, loops and the few mathematical functions that
// transformers need, all on `vector<n x f32>` and i64. Nothing it emits needs a library: the object has no undefined
// symbols.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_CODEGEN_CPUKERNELBUILDER_H
#define MILI_CODEGEN_CPUKERNELBUILDER_H

#include "mili/Codegen/CpuTarget.h"
#include "mili/IR/MiliDialect.h"

#include "mlir/IR/Builders.h"

namespace mlir::mili::codegen {

class CpuKernelBuilder {
public:
  /// Positions at the end of `function`'s entry block, which has the five arguments of a kernel.
  CpuKernelBuilder(OpBuilder &builder, Location loc, Block *entry, const CpuVariant &variant);

  OpBuilder &b;
  Location loc;
  const CpuVariant &variant;
  Value args, batch, begin, end, scratch;

  //===- Types and constants -------------------------------------------------===//
  Type f32, i64, i32, i8, ptr;
  VectorType vec(int64_t lanes, Type element = {});
  Value constant(int64_t value);
  Value constantF(float value);
  Value splat(float value, int64_t lanes);
  Value splatI32(int32_t value, int64_t lanes);
  /// A vector constant.
  Value dense(ArrayRef<float> values);
  /// The widest vector of at most the variant's lanes whose length divides `features`.
  int64_t lanesFor(int64_t features) const;

  //===- Integers (i64) and addresses ----------------------------------------===//
  Value add(Value a, Value b);
  Value add(Value a, int64_t b);
  Value sub(Value a, Value b);
  Value mul(Value a, Value b);
  Value mul(Value a, int64_t b);
  Value div(Value a, int64_t b);  // unsigned
  Value rem(Value a, int64_t b);
  Value ceilDiv(Value a, int64_t b);
  Value min(Value a, Value b);
  Value max(Value a, Value b);
  Value lessThan(Value a, Value b);
  Value equal(Value a, int64_t b);
  /// base + bytes.
  Value at(Value base, Value bytes);
  Value at(Value base, int64_t bytes);

  //===- Kernel arguments ----------------------------------------------------===//
  Value argument(unsigned index);
  /// An int64_t count of the batch ("tokens").
  Value batchCount(StringRef name);
  /// The address of a table of the batch ("positions").
  Value batchTable(StringRef name);
  /// The entry of the batch's page_table where the pages of sequence `segment` begin, in the plan's table `table`.
  Value pageTableLine(int64_t table, Value segment);
  /// table[index] of an i32 table, as i64.
  Value tableEntry(Value table, Value index);

  //===- Memory --------------------------------------------------------------===//
  /// `lanes` elements of `element` (f32, f16, bf16) as f32; a scalar when lanes is 1.
  Value load(Value address, Type element, int64_t lanes);
  /// Rounds to nearest even where `element` is narrower than f32.
  void store(Value value, Value address, Type element, int64_t lanes);
  Value loadBytes(Value address, int64_t count);
  Value loadI8(Value address);
  Value loadI32(Value address);
  void storeRaw(Value value, Value address, int64_t alignment = 1);
  static int64_t bytesOf(Type element) { return (element.getIntOrFloatBitWidth() + 7) / 8; }

  //===- Control -------------------------------------------------------------===//
  void loop(Value from, Value to, int64_t step, llvm::function_ref<void(Value)> body);
  void loop(int64_t from, int64_t to, int64_t step, llvm::function_ref<void(Value)> body);
  SmallVector<Value> loop(Value from, Value to, int64_t step, ValueRange init,
                          llvm::function_ref<SmallVector<Value>(Value, ValueRange)> body);
  void ifThen(Value condition, llvm::function_ref<void()> body);

  //===- Arithmetic on f32 vectors or scalars --------------------------------===//
  Value addf(Value a, Value b);
  Value subf(Value a, Value b);
  Value mulf(Value a, Value b);
  Value divf(Value a, Value b);
  Value maxf(Value a, Value b);
  Value fma(Value a, Value b, Value c);
  Value broadcast(Value scalar, int64_t lanes);
  Value reduceAdd(Value vector);
  Value reduceMax(Value vector);
  Value rsqrt(Value scalar);
  /// exp, relative error below 2e-7; 0 below -87, inf above 88.7.
  Value exp(Value x);
  Value activation(Activation function, Value x);
  /// Sine and cosine of f32 angles in radians, |x| < 2^31: absolute error below 1e-7.
  std::pair<Value, Value> sinCos(Value x);
  /// llvm.<name> as an intrinsic call.
  Value intrinsic(StringRef name, Type result, ValueRange operands);

private:
  Value like(float value, Value shape);
  Value erf(Value x);
  Value tanh(Value x);
  int64_t lanesOf(Value v);
};

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_CPUKERNELBUILDER_H
