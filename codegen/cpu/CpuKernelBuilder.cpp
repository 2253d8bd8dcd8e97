//===- CpuKernelBuilder.cpp --------------------------------------------------===//
#include "mili/Codegen/CpuKernelBuilder.h"

#include "mili/runtime/batch.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cstddef>

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;

CpuKernelBuilder::CpuKernelBuilder(OpBuilder &builder, Location loc, Block *entry, const CpuVariant &variant)
    : b(builder), loc(loc), variant(variant) {
  b.setInsertionPointToEnd(entry);
  args = entry->getArgument(0);
  batch = entry->getArgument(1);
  begin = entry->getArgument(2);
  end = entry->getArgument(3);
  scratch = entry->getArgument(4);
  f32 = b.getF32Type();
  i64 = b.getI64Type();
  i32 = b.getI32Type();
  i8 = b.getI8Type();
  ptr = LLVM::LLVMPointerType::get(b.getContext());
}

//===- Types and constants ---------------------------------------------------===//

VectorType CpuKernelBuilder::vec(int64_t lanes, Type element) {
  return VectorType::get({lanes}, element ? element : f32);
}
Value CpuKernelBuilder::constant(int64_t value) {
  return arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(value));
}
Value CpuKernelBuilder::constantF(float value) {
  return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value));
}
Value CpuKernelBuilder::splat(float value, int64_t lanes) {
  if (lanes == 1)
    return constantF(value);
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(vec(lanes), value));
}
Value CpuKernelBuilder::splatI32(int32_t value, int64_t lanes) {
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(vec(lanes, i32), value));
}
Value CpuKernelBuilder::dense(ArrayRef<float> values) {
  if (values.size() == 1)
    return constantF(values[0]);
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(vec(values.size()), values));
}
int64_t CpuKernelBuilder::lanesFor(int64_t features) const {
  int64_t lanes = variant.lanes;
  while (features % lanes)
    lanes /= 2;
  return lanes;
}
int64_t CpuKernelBuilder::lanesOf(Value v) {
  auto type = dyn_cast<VectorType>(v.getType());
  return type ? type.getNumElements() : 1;
}
Value CpuKernelBuilder::like(float value, Value shape) {
  return isa<VectorType>(shape.getType()) ? splat(value, lanesOf(shape)) : constantF(value);
}

//===- Integers and addresses ------------------------------------------------===//

Value CpuKernelBuilder::add(Value x, Value y) {
  return arith::AddIOp::create(b, loc, x, y);
}
Value CpuKernelBuilder::add(Value x, int64_t y) {
  return y == 0 ? x : add(x, constant(y));
}
Value CpuKernelBuilder::sub(Value x, Value y) {
  return arith::SubIOp::create(b, loc, x, y);
}
Value CpuKernelBuilder::mul(Value x, Value y) {
  return arith::MulIOp::create(b, loc, x, y);
}
Value CpuKernelBuilder::mul(Value x, int64_t y) {
  return y == 1 ? x : mul(x, constant(y));
}
Value CpuKernelBuilder::div(Value x, int64_t y) {
  return y == 1 ? x : arith::DivUIOp::create(b, loc, x, constant(y)).getResult();
}
Value CpuKernelBuilder::rem(Value x, int64_t y) {
  return arith::RemUIOp::create(b, loc, x, constant(y));
}
Value CpuKernelBuilder::ceilDiv(Value x, int64_t y) {
  return div(add(x, y - 1), y);
}
Value CpuKernelBuilder::min(Value x, Value y) {
  return arith::MinSIOp::create(b, loc, x, y);
}
Value CpuKernelBuilder::max(Value x, Value y) {
  return arith::MaxSIOp::create(b, loc, x, y);
}
Value CpuKernelBuilder::lessThan(Value x, Value y) {
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, x, y);
}
Value CpuKernelBuilder::equal(Value x, int64_t y) {
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, x, constant(y));
}
Value CpuKernelBuilder::at(Value base, Value bytes) {
  return LLVM::GEPOp::create(b, loc, ptr, i8, base, ArrayRef<LLVM::GEPArg>{bytes});
}
Value CpuKernelBuilder::at(Value base, int64_t bytes) {
  return bytes == 0 ? base : at(base, constant(bytes));
}

//===- Kernel arguments ------------------------------------------------------===//

Value CpuKernelBuilder::argument(unsigned index) {
  return LLVM::LoadOp::create(b, loc, ptr, at(args, static_cast<int64_t>(index) * 8), 8);
}

static int64_t batchOffset(StringRef name) {
#define MILI_BATCH_COUNT(field, doc)                                                                                   \
  if (name == #field)                                                                                                  \
    return offsetof(::mili::Batch, field);
#define MILI_BATCH_TABLE(field, elem, doc) MILI_BATCH_COUNT(field, doc)
#include "mili/runtime/batch_fields.def"
  llvm::report_fatal_error("no batch field of that name");
}

Value CpuKernelBuilder::batchCount(StringRef name) {
  return LLVM::LoadOp::create(b, loc, i64, at(batch, batchOffset(name)), 8);
}
Value CpuKernelBuilder::batchTable(StringRef name) {
  return LLVM::LoadOp::create(b, loc, ptr, at(batch, batchOffset(name)), 8);
}
Value CpuKernelBuilder::pageTableLine(int64_t table, Value segment) {
  Value line = table == 0 ? segment : add(segment, mul(batchCount("sequences"), table));
  return mul(line, batchCount("pages_per_sequence"));
}
Value CpuKernelBuilder::tableEntry(Value table, Value index) {
  return arith::ExtSIOp::create(b, loc, i64, loadI32(at(table, mul(index, 4))));
}

//===- Memory ----------------------------------------------------------------===//

Value CpuKernelBuilder::load(Value address, Type element, int64_t lanes) {
  Type type = lanes == 1 ? element : Type(vec(lanes, element));
  if (element.isF32())
    return LLVM::LoadOp::create(b, loc, type, address, 4);
  if (element.isBF16()) {
    // bf16 is the upper half of an f32.
    Type half = lanes == 1 ? Type(b.getI16Type()) : Type(vec(lanes, b.getI16Type()));
    Type word = lanes == 1 ? Type(i32) : Type(vec(lanes, i32));
    Type real = lanes == 1 ? f32 : Type(vec(lanes));
    Value bits = arith::ExtUIOp::create(b, loc, word, LLVM::LoadOp::create(b, loc, half, address, 2));
    Value sixteen =
        lanes == 1 ? arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(16)).getResult() : splatI32(16, lanes);
    return arith::BitcastOp::create(b, loc, real, arith::ShLIOp::create(b, loc, bits, sixteen));
  }
  Value raw = LLVM::LoadOp::create(b, loc, type, address, 2);
  return arith::ExtFOp::create(b, loc, lanes == 1 ? f32 : Type(vec(lanes)), raw);
}

void CpuKernelBuilder::store(Value value, Value address, Type element, int64_t lanes) {
  if (element.isF32()) {
    LLVM::StoreOp::create(b, loc, value, address, 4);
    return;
  }
  if (element.isF16()) {
    Type type = lanes == 1 ? element : Type(vec(lanes, element));
    LLVM::StoreOp::create(b, loc, arith::TruncFOp::create(b, loc, type, value), address, 2);
    return;
  }
  // bf16, to nearest even: add 0x7fff and the lowest bit that stays. (NaN payloads may change; none is stored.)
  Type half = lanes == 1 ? Type(b.getI16Type()) : Type(vec(lanes, b.getI16Type()));
  Type word = lanes == 1 ? Type(i32) : Type(vec(lanes, i32));
  auto number = [&](int32_t n) -> Value {
    return lanes == 1 ? arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(n)).getResult() : splatI32(n, lanes);
  };
  Value bits = arith::BitcastOp::create(b, loc, word, value);
  Value odd = arith::AndIOp::create(b, loc, arith::ShRUIOp::create(b, loc, bits, number(16)), number(1));
  Value rounded = arith::AddIOp::create(b, loc, arith::AddIOp::create(b, loc, bits, number(0x7fff)), odd);
  Value upper = arith::ShRUIOp::create(b, loc, rounded, number(16));
  LLVM::StoreOp::create(b, loc, arith::TruncIOp::create(b, loc, half, upper), address, 2);
}

Value CpuKernelBuilder::loadBytes(Value address, int64_t count) {
  return LLVM::LoadOp::create(b, loc, vec(count, i8), address, 1);
}
Value CpuKernelBuilder::loadI8(Value address) {
  return LLVM::LoadOp::create(b, loc, i8, address, 1);
}
Value CpuKernelBuilder::loadI32(Value address) {
  return LLVM::LoadOp::create(b, loc, i32, address, 4);
}
void CpuKernelBuilder::storeRaw(Value value, Value address, int64_t alignment) {
  LLVM::StoreOp::create(b, loc, value, address, alignment);
}

//===- Control ---------------------------------------------------------------===//

void CpuKernelBuilder::loop(Value from, Value to, int64_t step, llvm::function_ref<void(Value)> body) {
  loop(from, to, step, ValueRange(), [&](Value iv, ValueRange) {
    body(iv);
    return SmallVector<Value>();
  });
}
void CpuKernelBuilder::loop(int64_t from, int64_t to, int64_t step, llvm::function_ref<void(Value)> body) {
  if (to - from == step) {
    body(constant(from));
    return;
  }
  loop(constant(from), constant(to), step, body);
}
SmallVector<Value> CpuKernelBuilder::loop(Value from, Value to, int64_t step, ValueRange init,
                                          llvm::function_ref<SmallVector<Value>(Value, ValueRange)> body) {
  auto op = scf::ForOp::create(b, loc, from, to, constant(step), init,
                               [&](OpBuilder &, Location, Value iv, ValueRange carried) {
                                 // The builder `b` is the one passed: its insertion point is inside the body.
                                 SmallVector<Value> next = body(iv, carried);
                                 scf::YieldOp::create(b, loc, next);
                               });
  return SmallVector<Value>(op.getResults());
}
void CpuKernelBuilder::ifThen(Value condition, llvm::function_ref<void()> body) {
  auto op = scf::IfOp::create(b, loc, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(op.thenBlock()->getTerminator());
  body();
}

//===- Arithmetic ------------------------------------------------------------===//

Value CpuKernelBuilder::addf(Value x, Value y) {
  return arith::AddFOp::create(b, loc, x, y);
}
Value CpuKernelBuilder::subf(Value x, Value y) {
  return arith::SubFOp::create(b, loc, x, y);
}
Value CpuKernelBuilder::mulf(Value x, Value y) {
  return arith::MulFOp::create(b, loc, x, y);
}
Value CpuKernelBuilder::divf(Value x, Value y) {
  return arith::DivFOp::create(b, loc, x, y);
}
Value CpuKernelBuilder::maxf(Value x, Value y) {
  return arith::MaxNumFOp::create(b, loc, x, y);
}
Value CpuKernelBuilder::fma(Value x, Value y, Value z) {
  return math::FmaOp::create(b, loc, x, y, z);
}
Value CpuKernelBuilder::broadcast(Value scalar, int64_t lanes) {
  if (lanes == 1)
    return scalar;
  return vector::BroadcastOp::create(b, loc, vec(lanes, scalar.getType()), scalar);
}
Value CpuKernelBuilder::reduceAdd(Value v) {
  if (!isa<VectorType>(v.getType()))
    return v;
  return vector::ReductionOp::create(b, loc, vector::CombiningKind::ADD, v, arith::FastMathFlags::reassoc);
}
Value CpuKernelBuilder::reduceMax(Value v) {
  if (!isa<VectorType>(v.getType()))
    return v;
  return vector::ReductionOp::create(b, loc, vector::CombiningKind::MAXNUMF, v);
}
Value CpuKernelBuilder::rsqrt(Value x) {
  return divf(like(1.0f, x), math::SqrtOp::create(b, loc, x));
}

Value CpuKernelBuilder::intrinsic(StringRef name, Type result, ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(b, loc, result, b.getStringAttr(name), operands).getResult(0);
}

Value CpuKernelBuilder::exp(Value x) {
  // exp(x) = 2^k * exp(r), k = round(x / ln 2), |r| <= ln 2 / 2; ln 2 in two parts (Cody and Waite), then a polynomial
  // of degree 6 in r (Taylor; the remainder is below 1e-8 there). 2^k by adding to the exponent.
  const bool isVector = isa<VectorType>(x.getType());
  const int64_t n = lanesOf(x);
  Type word = isVector ? Type(vec(n, i32)) : Type(i32);
  auto integer = [&](int32_t v) -> Value {
    return isVector ? splatI32(v, n) : arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(v)).getResult();
  };
  Value clamped =
      arith::MinNumFOp::create(b, loc, arith::MaxNumFOp::create(b, loc, x, like(-87.3f, x)), like(88.7f, x));
  Value k = math::RoundEvenOp::create(b, loc, mulf(clamped, like(1.44269504088896341f, x)));
  Value r = fma(k, like(-0.693359375f, x), clamped);
  r = fma(k, like(2.12194440e-4f, x), r);
  Value p = like(1.0f / 720, x);
  for (float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    p = fma(p, r, like(c, x));
  Value shift = arith::ShLIOp::create(b, loc, arith::FPToSIOp::create(b, loc, word, k), integer(23));
  Value scaled = arith::BitcastOp::create(
      b, loc, x.getType(), arith::AddIOp::create(b, loc, arith::BitcastOp::create(b, loc, word, p), shift));
  Value tiny = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, like(-87.3f, x));
  return arith::SelectOp::create(b, loc, tiny, like(0.0f, x), scaled);
}

Value CpuKernelBuilder::tanh(Value x) {
  // 1 - 2 / (exp(2x) + 1), exact at both ends; near 0 the cancellation costs 1e-7 absolute, which gelu multiplies by x.
  return subf(like(1.0f, x), divf(like(2.0f, x), addf(exp(addf(x, x)), like(1.0f, x))));
}

Value CpuKernelBuilder::erf(Value x) {
  // Abramowitz and Stegun 7.1.26 is good to 1.5e-7: not enough beside f32 references. Instead erfc by the Chebyshev
  // fit of Numerical Recipes (erfcc, fractional error 1.2e-7): t = 1 / (1 + |x| / 2).
  Value a = math::AbsFOp::create(b, loc, x);
  Value t = divf(like(1.0f, x), fma(a, like(0.5f, x), like(1.0f, x)));
  Value p = like(0.17087277f, x);
  for (float c : {-0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f, -0.18628806f, 0.09678418f, 0.37409196f,
                  1.00002368f, -1.26551223f})
    p = fma(p, t, like(c, x));
  Value erfc = mulf(t, exp(subf(p, mulf(a, a))));
  Value positive = subf(like(1.0f, x), erfc);
  return math::CopySignOp::create(b, loc, positive, x);
}

Value CpuKernelBuilder::activation(Activation function, Value x) {
  switch (function) {
  case Activation::silu: return divf(x, addf(like(1.0f, x), exp(subf(like(0.0f, x), x))));
  case Activation::gelu:
    return mulf(mulf(like(0.5f, x), x), addf(like(1.0f, x), erf(mulf(x, like(0.70710678118654752f, x)))));
  case Activation::gelu_tanh: {
    Value cube = mulf(mulf(x, x), x);
    Value inner = mulf(like(0.79788456080286536f, x), fma(cube, like(0.044715f, x), x));
    return mulf(mulf(like(0.5f, x), x), addf(like(1.0f, x), tanh(inner)));
  }
  case Activation::relu: return maxf(x, like(0.0f, x));
  }
  llvm_unreachable("every activation is listed");
}

std::pair<Value, Value> CpuKernelBuilder::sinCos(Value x) {
  // In f64: x = q * pi/2 + r, |r| <= pi/4, then Taylor polynomials (remainder below 1e-11) and the quadrant's signs.
  const int64_t n = lanesOf(x);
  const bool isVector = isa<VectorType>(x.getType());
  Type f64 = b.getF64Type();
  Type wide = isVector ? Type(vec(n, f64)) : f64;
  auto number = [&](double v) -> Value {
    return isVector ? arith::ConstantOp::create(b, loc, DenseElementsAttr::get(cast<VectorType>(wide), v)).getResult()
                    : arith::ConstantOp::create(b, loc, b.getF64FloatAttr(v)).getResult();
  };
  Value d = arith::ExtFOp::create(b, loc, wide, x);
  Value q = math::RoundEvenOp::create(b, loc, mulf(d, number(0.63661977236758134308)));
  Value r = fma(q, number(-1.57079632679489655800), d);
  r = fma(q, number(-6.12323399573676603587e-17), r);
  Value r2 = mulf(r, r);
  auto polynomial = [&](ArrayRef<double> coefficients) {
    Value p = number(coefficients[0]);
    for (double c : coefficients.drop_front())
      p = fma(p, r2, number(c));
    return p;
  };
  Value s = mulf(r, polynomial({-1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6, 1.0}));
  Value c = polynomial({1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24, -0.5, 1.0});
  // Quadrant q mod 4 = q - 4 * floor(q / 4), as a number in {0, 1, 2, 3}.
  Value quadrant = fma(math::FloorOp::create(b, loc, mulf(q, number(0.25))), number(-4.0), q);
  auto is = [&](double v) -> Value {
    return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, quadrant, number(v));
  };
  Value swap = arith::OrIOp::create(b, loc, is(1), is(3));
  Value sinValue = arith::SelectOp::create(b, loc, swap, c, s);
  Value cosValue = arith::SelectOp::create(b, loc, swap, s, c);
  auto negateIf = [&](Value condition, Value v) -> Value {
    return arith::SelectOp::create(b, loc, condition, subf(number(0), v), v);
  };
  sinValue = negateIf(arith::OrIOp::create(b, loc, is(2), is(3)), sinValue);
  cosValue = negateIf(arith::OrIOp::create(b, loc, is(1), is(2)), cosValue);
  return {arith::TruncFOp::create(b, loc, x.getType(), sinValue),
          arith::TruncFOp::create(b, loc, x.getType(), cosValue)};
}
