//===- LinearTemplate.cpp - products of activations and packed weights -------===//
//
// y[t][n] = sum_k x[t][k] * w[n][k], weights in panels of 16 rows (PanelLayout.h), a lane of a vector per row.
//
//   tile = one unit of output features: a multiple of 16 that the epilogue needs together (a head for RoPE)
//   for blocks of tokens:
//     for each panel of the unit: decode weights once per step of k, multiply with every token of the block
//     for each token: bias and row program (RowProgram.h) on the unit's f32 values
//
// Rows of x come prepared: after the prologue (a fused norm) they are f32 for plain weights, and int8 with a scale per
// 32 for quantized ones (symmetric, amax / 127, as llama.cpp's q8 rows), so that products are int8 dot products:
// vpdpbusd on AVX-512, vpmaddubsw + vpmaddwd on AVX2. Offsets of the formats (q - 8, q - 128, q - 32) enter as the
// start of the integer sum, exactly. For few tokens every worker prepares all rows for itself at the start of its call
// (less than a barrier costs); for more, a stage of its own does it.
//
//===------------------------------------------------------------------------===//
#include "PanelLayout.h"
#include "mili/Codegen/RowProgram.h"

#include "mili/Codegen/CpuTemplates.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <numeric>

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;

namespace panel = ::mili::panel;

namespace {

/// Up to this many rows every worker prepares x for itself.
constexpr int64_t kRecomputedRows = 16;

/// One row of x as the product reads it, in bytes from the row's start.
struct PreparedRow {
  PreparedRow(int64_t columns, bool quantized, bool halves) {
    if (!quantized) {
      bytes = llvm::alignTo(columns * 4, 64);
      return;
    }
    scales = llvm::alignTo(columns, 64);
    sums = scales + columns / 32 * 4;
    bytes = llvm::alignTo(sums + columns / (halves ? 16 : 32) * 4, 64);
  }
  int64_t scales = 0;  // f32 per 32 elements, after the int8 elements
  int64_t sums = 0;    // i32 sum of the elements of each 32 (of each 16 for Q6_K)
  int64_t bytes = 0;
};

/// The product at the heart of a group or kernel.
struct Product {
  explicit Product(Operation *hero);
  Operation *hero;
  OpOperand *input;
  BlockArgument weight;
  Value bias;  // a block argument, or null
  int64_t rows, columns;
  panel::Format format;
  bool logits;
  int64_t unit;  // features of a tile
  bool quantized() const { return panel::info(format).blockElements > 1; }
  bool halves() const { return format == panel::Format::kQ6_K; }
  PreparedRow prepared() const { return {columns, quantized(), halves()}; }
  int64_t rowBound(BucketAttr bucket) const { return logits ? bucket.getLogitRows() : bucket.getTokens(); }
  RowCount rowCount() const { return logits ? RowCount::logit_rows : RowCount::tokens; }
  /// Plain weights on plain f32 rows without a prologue: x is read where it lies.
  bool readsInPlace() const {
    return !quantized() && isa<BlockArgument>(input->get()) && elementOf(input->get()).isF32();
  }
  bool recomputes(BucketAttr bucket) const { return rowBound(bucket) <= kRecomputedRows && !readsInPlace(); }
  bool hasPrepareStage(BucketAttr bucket) const { return !recomputes(bucket) && !readsInPlace(); }
};

std::optional<panel::Format> panelFormat(Type element) {
  if (auto block = dyn_cast<BlockType>(element)) {
    switch (block.getFormat()) {
    case BlockFormat::q4_0: return panel::Format::kQ4_0;
    case BlockFormat::q4_1: return panel::Format::kQ4_1;
    case BlockFormat::q8_0: return panel::Format::kQ8_0;
    case BlockFormat::q6_k: return panel::Format::kQ6_K;
    }
  }
  if (element.isF32())
    return panel::Format::kF32;
  if (element.isF16())
    return panel::Format::kF16;
  if (element.isBF16())
    return panel::Format::kBF16;
  return std::nullopt;
}

/// The block argument behind a weight operand, through its dequantization.
BlockArgument weightArgument(Value operand) {
  if (auto dequant = operand.getDefiningOp<DequantOp>())
    operand = dequant.getStorage();
  return dyn_cast<BlockArgument>(operand);
}

Product::Product(Operation *hero)
    : hero(hero), input(&hero->getOpOperand(0)), weight(weightArgument(hero->getOperand(1))) {
  auto linear = dyn_cast<LinearOp>(hero);
  logits = !linear;
  bias = linear ? linear.getBias() : Value();
  auto type = cast<RankedTensorType>(weight.getType());
  rows = type.getShape()[0];
  columns = type.getShape()[1];
  format = *panelFormat(type.getElementType());
  unit = panel::kRows;
  bool after = false;
  for (Operation &op : *hero->getBlock()) {
    // All features at most: beyond them the multiple only grows.
    if (auto fusible = dyn_cast<FusibleOp>(op); fusible && after)
      unit = std::min<int64_t>(std::lcm(unit, fusible.getEpilogueGranularity()), llvm::alignTo(rows, panel::kRows));
    after |= &op == hero;
  }
  // A unit never straddles the parts of a split.
  unit = std::min<int64_t>(unit, llvm::alignTo(rows, panel::kRows));
}

/// Tokens whose sums are kept in registers together, largest first; the last is 1.
SmallVector<int64_t> tokenBlocks(int64_t bound, const CpuVariant &variant) {
  const int64_t most = variant.lanes == 16 ? 8 : 4;
  SmallVector<int64_t> blocks;
  for (int64_t size = most; size > 1; size /= 2)
    if (size <= bound)
      blocks.push_back(size);
  blocks.push_back(1);
  return blocks;
}
constexpr int64_t kMostTokens = 8;

class LinearTemplate : public CpuKernelTemplate {
public:
  StringRef getName() const override { return "cpu.linear"; }

  bool match(GroupOp group) const override {
    Operation *hero = group.getHeroOp();
    if (!isa_and_nonnull<LinearOp, LogitsOp>(hero))
      return false;
    BlockArgument weight = weightArgument(hero->getOperand(1));
    return weight && panelFormat(cast<RankedTensorType>(weight.getType()).getElementType());
  }

  SmallVector<StringRef> getWeightLayouts(GroupOp group, unsigned index) const override {
    if (index == weightArgument(group.getHeroOp()->getOperand(1)).getArgNumber())
      return {"panel16"};
    return {"row_major"};
  }

  FailureOr<GroupPlan> plan(GroupOp group, BucketAttr bucket) const override {
    Product product(group.getHeroOp());
    MLIRContext *context = group.getContext();
    GroupPlan plan;
    const int64_t rowBytes = product.prepared().bytes;
    const int64_t prologue = prologueBytes(product);
    int64_t scratch = kMostTokens * product.unit * 4 + RowProgram::scratchBytes(group.getBody().front(), product.unit);
    if (product.recomputes(bucket))
      scratch += product.rowBound(bucket) * rowBytes + prologue;
    if (product.hasPrepareStage(bucket)) {
      plan.arenaScratch = product.rowBound(bucket) * rowBytes;
      plan.stages.push_back(StageAttr::get(context, "prepare", 1, product.rowCount(), 1, prologue));
    }
    plan.stages.push_back(
        StageAttr::get(context, "product", llvm::divideCeil(product.rows, product.unit), RowCount::one, 1, scratch));
    return plan;
  }

  LogicalResult emit(CpuKernelBuilder &k, const CpuKernel &kernel) const override;

private:
  static int64_t prologueBytes(const Product &product) {
    return RowProgram::scratchBytesUpTo(*product.input) + llvm::alignTo(product.columns * 4, 64);
  }
};

/// Emits one kernel.
class Emitter {
public:
  Emitter(CpuKernelBuilder &k, const CpuKernel &kernel)
      : k(k), kernel(kernel), product(kernel.getHeroOp()), layout(product.prepared()), args(kernel.body) {}

  void prepareStage();
  void productStage();

private:
  void prepareRow(Value row, Value target, RowProgram &program);
  void quantizeRow(Value source, Value target);
  void tile(Value unitIndex, Value x, int64_t xStride, int64_t width);
  void block(Value firstRow, int64_t tokens, Value unitFirst, Value x, int64_t xStride, int64_t width,
             RowProgram &program);
  void plainPanel(Value panelBase, ArrayRef<Value> rows, int64_t half, SmallVector<Value> &sums);
  void quantizedPanel(Value panelBase, ArrayRef<Value> rows, int64_t half, SmallVector<Value> &sums);
  /// Prepared rows are in the order of the output; x in place has a row for each token.
  Value xRow(Value row) { return product.readsInPlace() ? token(row) : row; }
  Value token(Value row) { return product.logits ? k.tableEntry(k.batchTable("logit_tokens"), row) : row; }
  // Integer vectors of k.variant.lanes words.
  int64_t lanes() const { return k.variant.lanes; }
  VectorType words() { return k.vec(lanes(), k.i32); }
  VectorType bytes() { return k.vec(lanes() * 4, k.i8); }
  Value byteSplat(int8_t value) {
    return arith::ConstantOp::create(k.b, k.loc, DenseElementsAttr::get(bytes(), value));
  }
  Value wordSplat(Value scalar) { return k.broadcast(scalar, lanes()); }
  Value dot(Value sum, Value unsignedBytes, Value signedBytes);
  Value dotSigned(Value sum, Value weights, Value x);

  CpuKernelBuilder &k;
  const CpuKernel &kernel;
  Product product;
  PreparedRow layout;
  KernelArguments args;
  Value biasAddress;
};

//===- Preparing rows --------------------------------------------------------===//

void Emitter::prepareRow(Value row, Value target, RowProgram &program) {
  program.reset();
  // Token-wise ops of the prologue read the token's row.
  Value t = token(row);
  program.setRow(t, t);
  RowUnit x = isa<BlockArgument>(product.input->get()) ? program.loadArgument(product.input->get())
                                                       : program.runUpTo(*product.input);
  if (product.quantized())
    return quantizeRow(x.buffer, target);
  int64_t width = k.lanesFor(product.columns);
  k.loop(0, product.columns, width, [&](Value i) {
    k.store(k.load(k.at(x.buffer, k.mul(i, 4)), k.f32, width), k.at(target, k.mul(i, 4)), k.f32, width);
  });
}

void Emitter::quantizeRow(Value source, Value target) {
  const int64_t n = lanes(), perBlock = 32 / n;
  k.loop(0, product.columns / 32, 1, [&](Value b) {
    SmallVector<Value> x;
    Value top;
    for (int64_t i = 0; i < perBlock; ++i) {
      x.push_back(k.load(k.at(source, k.add(k.mul(b, 128), i * n * 4)), k.f32, n));
      Value a = math::AbsFOp::create(k.b, k.loc, x.back());
      top = top ? k.maxf(top, a) : a;
    }
    Value amax = k.reduceMax(top);
    Value scale = k.mulf(amax, k.constantF(1.0f / 127));
    Value zero = arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OEQ, amax, k.constantF(0));
    Value inverse = arith::SelectOp::create(k.b, k.loc, zero, k.constantF(0), k.divf(k.constantF(127), amax));
    SmallVector<Value> sums;
    for (int64_t i = 0; i < perBlock; ++i) {
      Value rounded = math::RoundEvenOp::create(k.b, k.loc, k.mulf(x[i], k.broadcast(inverse, n)));
      Value q = arith::FPToSIOp::create(k.b, k.loc, words(), rounded);
      k.storeRaw(arith::TruncIOp::create(k.b, k.loc, k.vec(n, k.i8), q), k.at(target, k.add(k.mul(b, 32), i * n)));
      sums.push_back(vector::ReductionOp::create(k.b, k.loc, vector::CombiningKind::ADD, q));
    }
    k.storeRaw(scale, k.at(target, k.add(k.mul(b, 4), layout.scales)), 4);
    // Sums of 16 elements, or of all 32.
    const int64_t groups = product.halves() ? 2 : 1;
    for (int64_t g = 0; g < groups; ++g) {
      Value sum;
      for (int64_t i = g * perBlock / groups; i < (g + 1) * perBlock / groups; ++i)
        sum = sum ? arith::AddIOp::create(k.b, k.loc, sum, sums[i]).getResult() : sums[i];
      k.storeRaw(sum, k.at(target, k.add(k.mul(b, groups * 4), layout.sums + g * 4)), 4);
    }
  });
}

void Emitter::prepareStage() {
  RowProgram program(k, kernel.body, k.scratch);
  Value rows = k.argument(args.arenaScratch());
  k.loop(k.begin, k.end, 1, [&](Value row) { prepareRow(row, k.at(rows, k.mul(row, layout.bytes)), program); });
}

//===- Panels ----------------------------------------------------------------===//

/// sums[t] += w * x[t] over all k, plain weights: lanes [half * lanes, ...) of a panel.
void Emitter::plainPanel(Value base, ArrayRef<Value> rows, int64_t half, SmallVector<Value> &sums) {
  Type element = cast<RankedTensorType>(product.weight.getType()).getElementType();
  const int64_t size = k.bytesOf(element), step = panel::kRows * size;
  Value start = k.at(base, half * lanes() * size);
  // A single token keeps several sums, or each fma would wait for the one before; where results must not depend on how
  // many tokens there are, it waits.
  const int64_t unroll = rows.size() == 1 ? 4 : 2;
  const int64_t chains = rows.size() == 1 && !isDeterministic(kernel.body.getParentOp()) ? 4 : 1;
  SmallVector<Value> init(rows.size() * chains, k.splat(0, lanes()));
  const int64_t whole = product.columns / unroll * unroll;
  auto step1 = [&](Value column, int64_t u, SmallVector<Value> &acc) {
    Value w = k.load(k.at(start, k.mul(k.add(column, u), step)), element, lanes());
    for (size_t t = 0; t < rows.size(); ++t) {
      Value x = k.load(k.at(rows[t], k.mul(k.add(column, u), 4)), k.f32, 1);
      Value &sum = acc[t * chains + u % chains];
      sum = k.fma(w, k.broadcast(x, lanes()), sum);
    }
  };
  SmallVector<Value> acc = init;
  if (whole)
    acc = k.loop(k.constant(0), k.constant(whole), unroll, init, [&](Value column, ValueRange carried) {
      SmallVector<Value> next(carried);
      for (int64_t u = 0; u < unroll; ++u)
        step1(column, u, next);
      return next;
    });
  for (int64_t column = whole; column < product.columns; ++column)
    step1(k.constant(column), 0, acc);
  for (size_t t = 0; t < rows.size(); ++t) {
    sums[t] = acc[t * chains];
    for (int64_t c = 1; c < chains; ++c)
      sums[t] = k.addf(sums[t], acc[t * chains + c]);
  }
}

/// sum + per word the four products of unsigned and signed bytes.
Value Emitter::dot(Value sum, Value unsignedBytes, Value signedBytes) {
  if (k.variant.vnni)
    return k.intrinsic("llvm.x86.avx512.vpdpbusd.512", words(), {sum, unsignedBytes, signedBytes});
  // Pairs in i16: exact, since the unsigned side is at most 63 here (or |w| <= 128 with |x| <= 127).
  Value pairs =
      k.intrinsic("llvm.x86.avx2.pmadd.ub.sw", k.vec(lanes() * 2, k.b.getI16Type()), {unsignedBytes, signedBytes});
  Value ones = arith::ConstantOp::create(
      k.b, k.loc, DenseElementsAttr::get(k.vec(lanes() * 2, k.b.getI16Type()), static_cast<int16_t>(1)));
  Value quads = k.intrinsic("llvm.x86.avx2.pmadd.wd", words(), {pairs, ones});
  return arith::AddIOp::create(k.b, k.loc, sum, quads);
}

/// As dot, for weights of the full signed range stored as q + 128, without vpdpbusd: |w| times x with w's sign. Not the
/// other way round: a weight may be -128, which has no negative, and |-128| is 128 unsigned; x lies within -127..127.
Value Emitter::dotSigned(Value sum, Value weights, Value x) {
  Value w = arith::XOrIOp::create(k.b, k.loc, weights, byteSplat(-128));
  Value signedX = k.intrinsic("llvm.x86.avx2.psign.b", bytes(), {x, w});
  return dot(sum, math::AbsIOp::create(k.b, k.loc, w), signedX);
}

void Emitter::quantizedPanel(Value base, ArrayRef<Value> rows, int64_t half, SmallVector<Value> &sums) {
  const panel::FormatInfo &info = panel::info(product.format);
  const int64_t n = lanes(), vectorOffset = half * n * 4;
  const bool six = product.halves(), eight = product.format == panel::Format::kQ8_0;
  Type f16 = k.b.getF16Type();
  Value nibble = byteSplat(15);
  auto loadWords = [&](Value address) { return k.loadBytes(address, n * 4); };
  auto shift = [&](Value v, int32_t bits) -> Value {  // within words; the caller masks
    if (bits == 0)
      return v;
    Value w = vector::BitCastOp::create(k.b, k.loc, words(), v);
    Value s = arith::ShRUIOp::create(k.b, k.loc, w, k.splatI32(bits, n));
    return vector::BitCastOp::create(k.b, k.loc, bytes(), s);
  };
  auto mask = [&](Value v, Value m) -> Value { return arith::AndIOp::create(k.b, k.loc, v, m); };

  // The eight word groups of 32 k.
  auto decode = [&](Value quants, Value high) {
    SmallVector<Value> groups(8);
    if (eight) {
      for (int64_t j = 0; j < 8; ++j)
        groups[j] = loadWords(k.at(quants, j * 64 + vectorOffset));
      return groups;
    }
    for (int64_t j = 0; j < 4; ++j) {
      Value v = loadWords(k.at(quants, j * 64 + vectorOffset));
      groups[j] = mask(v, nibble);
      groups[j + 4] = mask(shift(v, 4), nibble);
    }
    if (six)
      for (int64_t v = 0; v < 2; ++v) {
        Value pairs = loadWords(k.at(high, v * 64 + vectorOffset));
        for (int64_t s = 0; s < 4; ++s) {
          Value two = mask(shift(pairs, 2 * s), byteSplat(3));
          Value w = vector::BitCastOp::create(k.b, k.loc, words(), two);
          Value up = arith::ShLIOp::create(k.b, k.loc, w, k.splatI32(4, n));
          Value &group = groups[4 * v + s];
          group = arith::OrIOp::create(k.b, k.loc, group, vector::BitCastOp::create(k.b, k.loc, bytes(), up));
        }
      }
    return groups;
  };
  auto xWords = [&](Value row, Value block, int64_t group) -> Value {
    Value word = k.loadI32(k.at(row, k.add(k.mul(block, 32), group * 4)));
    return vector::BitCastOp::create(k.b, k.loc, bytes(), wordSplat(word));
  };
  auto toFloat = [&](Value v) -> Value { return arith::SIToFPOp::create(k.b, k.loc, k.vec(n), v); };
  auto scaledSum = [&](Value row, Value index, int32_t factor) -> Value {
    Value sum = k.loadI32(k.at(row, k.add(k.mul(index, 4), layout.sums)));
    Value f = arith::ConstantOp::create(k.b, k.loc, k.b.getI32IntegerAttr(factor));
    return wordSplat(arith::MulIOp::create(k.b, k.loc, sum, f));
  };
  auto xScale = [&](Value row, Value block) {
    return k.load(k.at(row, k.add(k.mul(block, 4), layout.scales)), k.f32, 1);
  };

  SmallVector<Value> init(rows.size(), k.splat(0, n));
  if (six) {
    sums = k.loop(k.constant(0), k.constant(product.columns / 256), 1, init, [&](Value super, ValueRange carried) {
      Value block = k.at(base, k.mul(super, info.blockBytes));
      Value d = k.load(k.at(block, half * n * 2), f16, n);
      Value low = k.at(block, info.scaleBytes), high = k.at(low, 2048);
      return k.loop(k.constant(0), k.constant(8), 1, carried, [&](Value b, ValueRange inner) {
        SmallVector<Value> groups = decode(k.at(low, k.mul(b, 256)), k.at(high, k.mul(b, 128)));
        Value scales[2];
        for (int64_t h = 0; h < 2; ++h) {
          Value raw = k.loadBytes(k.at(block, k.add(k.mul(b, 32), 32 + h * 16 + half * n)), n);
          scales[h] = arith::ExtSIOp::create(k.b, k.loc, words(), raw);
        }
        Value blockIndex = k.add(k.mul(super, 8), b);
        SmallVector<Value> next;
        for (size_t t = 0; t < rows.size(); ++t) {
          Value total;
          for (int64_t h = 0; h < 2; ++h) {
            Value sum = scaledSum(rows[t], k.add(k.mul(blockIndex, 2), h), -32);
            for (int64_t j = 0; j < 4; ++j)
              sum = dot(sum, groups[4 * h + j], xWords(rows[t], blockIndex, 4 * h + j));
            sum = arith::MulIOp::create(k.b, k.loc, sum, scales[h]);
            total = total ? arith::AddIOp::create(k.b, k.loc, total, sum).getResult() : sum;
          }
          Value factor = k.mulf(d, k.broadcast(xScale(rows[t], blockIndex), n));
          next.push_back(k.fma(toFloat(total), factor, inner[t]));
        }
        return next;
      });
    });
    return;
  }

  const bool hasMin = product.format == panel::Format::kQ4_1;
  sums = k.loop(k.constant(0), k.constant(product.columns / 32), 1, init, [&](Value b, ValueRange carried) {
    Value block = k.at(base, k.mul(b, info.blockBytes));
    Value d = k.load(k.at(block, half * n * 2), f16, n);
    Value m = hasMin ? k.load(k.at(block, 32 + half * n * 2), f16, n) : Value();
    SmallVector<Value> groups = decode(k.at(block, info.scaleBytes), Value());
    SmallVector<Value> next;
    for (size_t t = 0; t < rows.size(); ++t) {
      Value sum = k.splatI32(0, n);
      const bool useSign = eight && !k.variant.vnni;
      if (!hasMin && !useSign)
        sum = scaledSum(rows[t], b, eight ? -128 : -8);
      for (int64_t j = 0; j < 8; ++j) {
        Value x = xWords(rows[t], b, j);
        sum = useSign ? dotSigned(sum, groups[j], x) : dot(sum, groups[j], x);
      }
      Value scale = xScale(rows[t], b);
      Value acc = k.fma(toFloat(sum), k.mulf(d, k.broadcast(scale, n)), carried[t]);
      if (hasMin) {
        Value total =
            arith::SIToFPOp::create(k.b, k.loc, k.f32, k.loadI32(k.at(rows[t], k.add(k.mul(b, 4), layout.sums))));
        acc = k.fma(m, k.broadcast(k.mulf(total, scale), n), acc);
      }
      next.push_back(acc);
    }
    return next;
  });
}

//===- Tiles -----------------------------------------------------------------===//

void Emitter::block(Value firstRow, int64_t tokens, Value unitFirst, Value x, int64_t xStride, int64_t width,
                    RowProgram &program) {
  Value unitBuffer = k.scratch;
  const int64_t bufferRow = product.unit * 4;
  SmallVector<Value> rows;
  for (int64_t t = 0; t < tokens; ++t)
    rows.push_back(k.at(x, k.mul(xRow(k.add(firstRow, t)), xStride)));
  const int64_t bytesOfPanel = panel::panelBytes(product.format, product.columns);
  Value weights = k.argument(args.input(product.weight));
  Value firstPanel = k.div(unitFirst, panel::kRows);
  // A unit's last panel may be padded; its lanes are computed and left unread.
  k.loop(0, llvm::divideCeil(width, panel::kRows), 1, [&](Value p) {
    Value base = k.at(weights, k.mul(k.add(firstPanel, p), bytesOfPanel));
    for (int64_t half = 0; half < panel::kRows / lanes(); ++half) {
      SmallVector<Value> sums(tokens);
      if (product.quantized())
        quantizedPanel(base, rows, half, sums);
      else
        plainPanel(base, rows, half, sums);
      Value offset = k.add(k.mul(p, panel::kRows * 4), half * lanes() * 4);
      for (int64_t t = 0; t < tokens; ++t)
        k.store(sums[t], k.at(unitBuffer, k.add(offset, t * bufferRow)), k.f32, lanes());
    }
  });
  program.reset();
  k.loop(0, tokens, 1, [&](Value t) {
    Value row = k.add(firstRow, t);
    program.setRow(row, token(row));
    Value buffer = k.at(unitBuffer, k.mul(t, bufferRow));
    if (product.bias) {
      Type element = elementOf(product.bias);
      Value bias = k.at(k.argument(args.input(product.bias)), k.mul(unitFirst, k.bytesOf(element)));
      int64_t n = k.lanesFor(width);
      k.loop(0, width, n, [&](Value i) {
        Value slot = k.at(buffer, k.mul(i, 4));
        Value b = k.load(k.at(bias, k.mul(i, k.bytesOf(element))), element, n);
        k.store(k.addf(k.load(slot, k.f32, n), b), slot, k.f32, n);
      });
    }
    program.run(product.hero->getResult(0), {buffer, unitFirst, width});
  });
}

void Emitter::tile(Value unitIndex, Value x, int64_t xStride, int64_t width) {
  Value unitFirst = k.mul(unitIndex, product.unit);
  Value rows = k.batchCount(product.logits ? "logit_rows" : "tokens");
  RowProgram program(k, kernel.body, k.at(k.scratch, kMostTokens * product.unit * 4));
  Value done = k.constant(0);
  for (int64_t size : tokenBlocks(product.rowBound(kernel.bucket), k.variant)) {
    Value end = k.add(done, k.mul(k.div(k.sub(rows, done), size), size));
    k.loop(done, end, size, [&](Value first) { block(first, size, unitFirst, x, xStride, width, program); });
    done = end;
  }
}

void Emitter::productStage() {
  Value x;
  int64_t stride = layout.bytes;
  if (product.readsInPlace()) {
    x = k.argument(args.input(product.input->get()));
    stride = product.columns * 4;
  } else if (product.recomputes(kernel.bucket)) {
    // After the tile's own scratch: all prepared rows, then what preparing one needs.
    x = k.at(k.scratch, kMostTokens * product.unit * 4 + RowProgram::scratchBytes(kernel.body, product.unit));
    RowProgram program(k, kernel.body, k.at(x, product.rowBound(kernel.bucket) * layout.bytes));
    k.loop(k.constant(0), k.batchCount(product.logits ? "logit_rows" : "tokens"), 1,
           [&](Value row) { prepareRow(row, k.at(x, k.mul(row, layout.bytes)), program); });
  } else {
    x = k.argument(args.arenaScratch());
  }
  // The last tile may be narrower; it gets code of its own.
  const int64_t tail = product.rows % product.unit, whole = product.rows / product.unit;
  k.loop(k.begin, tail ? k.min(k.end, k.constant(whole)) : k.end, 1,
         [&](Value unit) { tile(unit, x, stride, product.unit); });
  if (tail)
    k.ifThen(k.lessThan(k.constant(whole), k.end), [&] { tile(k.constant(whole), x, stride, tail); });
}

LogicalResult LinearTemplate::emit(CpuKernelBuilder &k, const CpuKernel &kernel) const {
  Emitter emitter(k, kernel);
  if (kernel.stage.getName() == "prepare")
    emitter.prepareStage();
  else
    emitter.productStage();
  return success();
}

}  // namespace

std::unique_ptr<KernelTemplate> mlir::mili::codegen::createCpuLinearTemplate() {
  return std::make_unique<LinearTemplate>();
}
