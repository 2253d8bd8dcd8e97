//===- RowProgram.cpp --------------------------------------------------------===//
#include "mili/Codegen/RowProgram.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;

//===- Arguments -------------------------------------------------------------===//

static bool isState(Type type) {
  return isa<KvType, RecurrentType>(type);
}

/// The batch, and the token ids, which are one of its tables.
static bool comesWithBatch(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return isa<BatchType>(type) || (tensor && tensor.getElementType().isInteger(32));
}

KernelArguments::KernelArguments(Block &body) {
  for (BlockArgument argument : body.getArguments())
    if (!comesWithBatch(argument.getType()))
      inputs[argument] = count++;
  for (Value value : body.getTerminator()->getOperands())
    results.push_back(isState(value.getType()) ? ~0u : count++);
}

static bool isActivation(Value value) {
  auto tensor = dyn_cast<RankedTensorType>(value.getType());
  return tensor && tensor.getRank() == 2 && tensor.isDynamicDim(0);
}

static int64_t bufferBytes(int64_t features) {
  return llvm::alignTo(features * 4, 64);
}

//===- Running ---------------------------------------------------------------===//

RowProgram::RowProgram(CpuKernelBuilder &builder, Block &body, Value scratch)
    : k(builder), body(body), args(body), scratch(scratch) {}

int64_t RowProgram::scratchBytesUpTo(OpOperand &operand) {
  // The arguments and results of the backward slice, each a whole row.
  int64_t bytes = 0;
  llvm::DenseSet<Value> seen;
  SmallVector<Value> worklist{operand.get()};
  while (!worklist.empty()) {
    Value value = worklist.pop_back_val();
    if (!isActivation(value) || !seen.insert(value).second)
      continue;
    bytes += bufferBytes(featuresOf(value));
    if (Operation *op = value.getDefiningOp())
      worklist.append(op->operand_begin(), op->operand_end());
  }
  return bytes;
}

int64_t RowProgram::scratchBytes(Block &body, int64_t width) {
  int64_t bytes = 0;
  auto count = [&](Value value) {
    if (isActivation(value))
      bytes += bufferBytes(width ? std::min(width, featuresOf(value)) : featuresOf(value));
  };
  for (BlockArgument argument : body.getArguments())
    count(argument);
  for (Operation &op : body)
    for (Value result : op.getResults())
      count(result);
  return bytes;
}

void RowProgram::reset() {
  used = 0;
  done.clear();
  wanted.clear();
  materialized.clear();
}

void RowProgram::setRow(Value newRow, Value newToken) {
  row = newRow;
  token = newToken;
}

Value RowProgram::allocate(int64_t features) {
  Value address = k.at(scratch, used);
  used += bufferBytes(features);
  return address;
}

Value RowProgram::argumentAddress(unsigned index) {
  return k.argument(index);
}

RowUnit RowProgram::loadArgument(Value argument) {
  int64_t features = featuresOf(argument);
  Type element = elementOf(argument);
  RowUnit unit{allocate(features), k.constant(0), features};
  Value source = k.at(argumentAddress(args.input(argument)), k.mul(row, features * k.bytesOf(element)));
  int64_t lanes = k.lanesFor(features);
  k.loop(0, features, lanes, [&](Value i) {
    k.store(k.load(k.at(source, k.mul(i, k.bytesOf(element))), element, lanes), k.at(unit.buffer, k.mul(i, 4)), k.f32,
            lanes);
  });
  return unit;
}

void RowProgram::runBody() {
  // Each op runs once, as soon as one of its operands arrives and the others are arguments or there already; appends
  // and splits run per operand.
  for (BlockArgument argument : body.getArguments()) {
    if (!isActivation(argument))
      continue;
    bool pending = llvm::any_of(argument.getUsers(), [&](Operation *op) {
      return isa<KvAppendOp, SplitOp, YieldOp>(op) || !done.contains(op);
    });
    if (pending)
      run(argument, loadArgument(argument));
  }
}

RowUnit RowProgram::runUpTo(OpOperand &operand) {
  // Backward slice from the operand to the arguments.
  SmallVector<Value> worklist{operand.get()};
  SmallVector<BlockArgument> roots;
  while (!worklist.empty()) {
    Value value = worklist.pop_back_val();
    if (auto argument = dyn_cast<BlockArgument>(value)) {
      if (isActivation(argument) && !llvm::is_contained(roots, argument))
        roots.push_back(argument);
      continue;
    }
    Operation *op = value.getDefiningOp();
    if (wanted.insert(op).second)
      for (Value input : op->getOperands())
        if (isActivation(input))
          worklist.push_back(input);
  }
  restricted = true;
  for (BlockArgument root : roots)
    run(root, loadArgument(root));
  restricted = false;
  RowUnit result = materialized.lookup(operand.get());
  // What follows the hero starts afresh.
  materialized.clear();
  return result;
}

void RowProgram::run(Value value, RowUnit unit) {
  materialized[value] = unit;
  SmallVector<OpOperand *> uses;
  for (OpOperand &use : value.getUses())
    uses.push_back(&use);
  llvm::sort(uses, [](OpOperand *a, OpOperand *b) {
    if (a->getOwner() != b->getOwner())
      return a->getOwner()->isBeforeInBlock(b->getOwner());
    return a->getOperandNumber() < b->getOperandNumber();
  });
  for (OpOperand *use : uses)
    if (!restricted || wanted.contains(use->getOwner()))
      runUse(*use, unit);
}

RowUnit RowProgram::outputFor(Value input, const RowUnit &unit, int64_t width) {
  if (input.hasOneUse())
    return {unit.buffer, unit.first, width};
  return {allocate(width), unit.first, width};
}

void RowProgram::map(const RowUnit &in, const RowUnit &out, llvm::function_ref<Value(Value, Value, int64_t)> f) {
  int64_t lanes = k.lanesFor(in.width);
  k.loop(0, in.width, lanes, [&](Value i) {
    Value offset = k.mul(i, 4);
    k.store(f(k.load(k.at(in.buffer, offset), k.f32, lanes), i, lanes), k.at(out.buffer, offset), k.f32, lanes);
  });
}

/// Lanes of the other operand of a binary op: from memory for an argument, else from its buffer.
Value RowProgram::loadOther(Value operand, const RowUnit &unit, Value offset, int64_t lanes) {
  if (!isa<BlockArgument>(operand))
    return k.load(k.at(materialized.lookup(operand).buffer, k.mul(offset, 4)), k.f32, lanes);
  Type element = elementOf(operand);
  Value feature = k.add(k.mul(row, featuresOf(operand)), k.add(unit.first, offset));
  return k.load(k.at(argumentAddress(args.input(operand)), k.mul(feature, k.bytesOf(element))), element, lanes);
}

void RowProgram::runUse(OpOperand &use, RowUnit unit) {
  Operation *op = use.getOwner();
  Value value = use.get();

  if (isa<YieldOp>(op)) {
    store(use.getOperandNumber(), value, unit);
    return;
  }
  if (isa<KvAppendOp>(op)) {
    append(op, /*isValue=*/use.getOperandNumber() == 2, unit);
    return;
  }
  if (auto split = dyn_cast<SplitOp>(op)) {
    if (int64_t n = split.getInterleave()) {
      RowUnit halves[2];
      for (int part = 0; part < 2; ++part) {
        halves[part] = {allocate(unit.width / 2), k.div(unit.first, 2), unit.width / 2};
        int64_t lanes = k.lanesFor(n);
        k.loop(0, unit.width / (2 * n), 1, [&](Value run) {
          k.loop(0, n, lanes, [&](Value i) {
            Value from = k.add(k.add(k.mul(run, 2 * n), part * n), i);
            Value to = k.add(k.mul(run, n), i);
            k.store(k.load(k.at(unit.buffer, k.mul(from, 4)), k.f32, lanes), k.at(halves[part].buffer, k.mul(to, 4)),
                    k.f32, lanes);
          });
        });
      }
      for (int part = 0; part < 2; ++part)
        run(op->getResult(part), halves[part]);
      return;
    }
    // Parts are worked on in place; a value with other uses keeps its own copy.
    if (!value.hasOneUse()) {
      RowUnit copy{allocate(unit.width), unit.first, unit.width};
      map(unit, copy, [](Value x, Value, int64_t) { return x; });
      unit = copy;
    }
    int64_t start = 0;
    const bool whole = unit.width == featuresOf(value);
    for (Value part : op->getResults()) {
      int64_t width = featuresOf(part);
      if (whole) {
        run(part, {k.at(unit.buffer, start * 4), k.constant(0), width});
      } else {
        Value inside = arith::AndIOp::create(k.b, k.loc, k.lessThan(k.constant(start - 1), unit.first),
                                             k.lessThan(unit.first, k.constant(start + width)));
        int64_t from = start;
        k.ifThen(inside, [&] { run(part, {unit.buffer, k.sub(unit.first, k.constant(from)), unit.width}); });
      }
      start += width;
    }
    return;
  }

  // The rest compute one value, once, when all of their operands are there.
  if (done.contains(op))
    return;
  for (Value operand : op->getOperands())
    if (isActivation(operand) && !isa<BlockArgument>(operand) && !materialized.contains(operand))
      return;
  done.insert(op);
  Value first = op->getOperand(0);
  RowUnit out = outputFor(value, unit, unit.width);
  if (isa<RmsNormOp>(op)) {
    rmsNorm(op, unit, out);
  } else if (isa<RopeOp>(op)) {
    rope(op, unit, out);
  } else if (auto scale = dyn_cast<ScaleOp>(op)) {
    float factor = scale.getFactor().convertToFloat();
    map(unit, out, [&](Value x, Value, int64_t lanes) { return k.mulf(x, k.splat(factor, lanes)); });
  } else if (auto activation = dyn_cast<ActivationOp>(op)) {
    map(unit, out, [&](Value x, Value, int64_t) { return k.activation(activation.getFunction(), x); });
  } else if (isa<AddOp>(op)) {
    Value other = first == value ? op->getOperand(1) : first;
    map(unit, out, [&](Value x, Value i, int64_t lanes) { return k.addf(x, loadOther(other, unit, i, lanes)); });
  } else if (auto gated = dyn_cast<GatedOp>(op)) {
    const bool isGate = gated.getGate() == value;
    Value other = isGate ? gated.getUp() : gated.getGate();
    map(unit, out, [&](Value x, Value i, int64_t lanes) {
      Value y = loadOther(other, unit, i, lanes);
      return k.mulf(k.activation(gated.getFunction(), isGate ? x : y), isGate ? y : x);
    });
  } else {
    op->emitOpError("has no row form on the CPU target");
    return;
  }
  run(op->getResult(0), out);
}

//===- The ops ---------------------------------------------------------------===//

void RowProgram::rmsNorm(Operation *op, const RowUnit &in, const RowUnit &out) {
  auto norm = cast<RmsNormOp>(op);
  const int64_t width = cast<RankedTensorType>(norm.getWeight().getType()).getShape().back();
  const int64_t lanes = k.lanesFor(width);
  Type element = elementOf(norm.getWeight());
  Value gain = argumentAddress(args.input(norm.getWeight()));
  k.loop(0, in.width / width, 1, [&](Value segment) {
    Value base = k.mul(segment, width * 4);
    Value source = k.at(in.buffer, base), target = k.at(out.buffer, base);
    Value squares = k.loop(k.constant(0), k.constant(width), lanes, ValueRange{k.splat(0, lanes)},
                           [&](Value i, ValueRange sum) -> SmallVector<Value> {
                             Value x = k.load(k.at(source, k.mul(i, 4)), k.f32, lanes);
                             return {k.fma(x, x, sum[0])};
                           })[0];
    Value mean = k.mulf(k.reduceAdd(squares), k.constantF(1.0f / static_cast<float>(width)));
    Value factor = k.broadcast(k.rsqrt(k.addf(mean, k.constantF(norm.getEps().convertToFloat()))), lanes);
    k.loop(0, width, lanes, [&](Value i) {
      Value x = k.load(k.at(source, k.mul(i, 4)), k.f32, lanes);
      Value g = k.load(k.at(gain, k.mul(i, k.bytesOf(element))), element, lanes);
      k.store(k.mulf(k.mulf(x, factor), g), k.at(target, k.mul(i, 4)), k.f32, lanes);
    });
  });
}

void RowProgram::rope(Operation *op, const RowUnit &in, const RowUnit &out) {
  auto rope = cast<RopeOp>(op);
  const int64_t head = featuresOf(rope.getInput()) / static_cast<int64_t>(rope.getHeads());
  ArrayRef<float> frequencies = rope.getRope().getFrequencies().asArrayRef();
  const int64_t pairs = static_cast<int64_t>(frequencies.size());
  const int64_t heads = in.width / head;
  const bool adjacent = rope.getRope().getPairing() == RopePairing::adjacent;
  const float amplitude = static_cast<float>(rope.getRope().getAmplitude().getValueAsDouble());
  const int64_t lanes = k.lanesFor(pairs);
  Value position = k.tableEntry(k.batchTable("positions"), token);
  Value p = arith::SIToFPOp::create(k.b, k.loc, k.f32, position);
  for (int64_t i = 0; i < pairs; i += lanes) {
    auto [sin, cos] = k.sinCos(k.mulf(k.broadcast(p, lanes), k.dense(frequencies.slice(i, lanes))));
    if (amplitude != 1.0f) {
      sin = k.mulf(sin, k.splat(amplitude, lanes));
      cos = k.mulf(cos, k.splat(amplitude, lanes));
    }
    k.loop(0, heads, 1, [&](Value h) {
      Value base = k.mul(h, head * 4);
      auto rotate = [&](Value a, Value b) -> std::pair<Value, Value> {
        return {k.subf(k.mulf(a, cos), k.mulf(b, sin)), k.addf(k.mulf(b, cos), k.mulf(a, sin))};
      };
      if (adjacent && lanes > 1) {
        Value offset = k.add(base, i * 8);
        auto both = vector::DeinterleaveOp::create(k.b, k.loc, k.load(k.at(in.buffer, offset), k.f32, 2 * lanes));
        auto [x, y] = rotate(both.getRes1(), both.getRes2());
        k.store(vector::InterleaveOp::create(k.b, k.loc, x, y), k.at(out.buffer, offset), k.f32, 2 * lanes);
      } else {
        Value one = k.add(base, (adjacent ? 2 * i : i) * 4);
        Value two = k.add(base, (adjacent ? 2 * i + 1 : i + pairs) * 4);
        auto [x, y] = rotate(k.load(k.at(in.buffer, one), k.f32, lanes), k.load(k.at(in.buffer, two), k.f32, lanes));
        k.store(x, k.at(out.buffer, one), k.f32, lanes);
        k.store(y, k.at(out.buffer, two), k.f32, lanes);
      }
    });
  }
  const int64_t rest = head - 2 * pairs;
  if (rest == 0 || in.buffer == out.buffer)
    return;
  const int64_t tail = k.lanesFor(rest);
  k.loop(0, heads, 1, [&](Value h) {
    k.loop(0, rest, tail, [&](Value i) {
      Value offset = k.mul(k.add(k.add(k.mul(h, head), 2 * pairs), i), 4);
      k.store(k.load(k.at(in.buffer, offset), k.f32, tail), k.at(out.buffer, offset), k.f32, tail);
    });
  });
}

void RowProgram::append(Operation *op, bool isValue, const RowUnit &unit) {
  auto append = cast<KvAppendOp>(op);
  Value state = append.getKv();
  while (!isa<BlockArgument>(state))
    state = cast<KvAppendOp>(state.getDefiningOp()).getKv();
  auto type = cast<KvType>(state.getType());
  const int64_t head = isValue ? type.getV() : type.getK();
  const int64_t bytes = k.bytesOf(type.getElementType());
  const int64_t pageTokens = KvType::kPageTokens;
  Value position = k.tableEntry(k.batchTable("positions"), token);
  Value segment = k.tableEntry(k.batchTable("segments"), token);
  Value line = k.pageTableLine(pageTableOf(op, type).index, segment);
  Value page = k.tableEntry(k.batchTable("page_table"), k.add(line, k.div(position, pageTokens)));
  Value base = k.at(argumentAddress(args.input(state)), k.mul(page, type.getPageBytes()));
  base = k.at(base, isValue ? type.getHeads() * pageTokens * type.getK() * bytes : 0);
  Value slot = k.rem(position, pageTokens);
  const int64_t lanes = k.lanesFor(head);
  Value firstHead = k.div(unit.first, head);
  k.loop(0, unit.width / head, 1, [&](Value h) {
    Value rowIndex = k.add(k.mul(k.add(firstHead, h), pageTokens), slot);
    Value target = k.at(base, k.mul(rowIndex, head * bytes));
    k.loop(0, head, lanes, [&](Value i) {
      Value source = k.at(unit.buffer, k.mul(k.add(k.mul(h, head), i), 4));
      k.store(k.load(source, k.f32, lanes), k.at(target, k.mul(i, bytes)), type.getElementType(), lanes);
    });
  });
}

void RowProgram::store(unsigned result, Value value, const RowUnit &unit) {
  const int64_t features = featuresOf(value);
  Type element = elementOf(value);
  const int64_t bytes = k.bytesOf(element);
  Value target = k.at(argumentAddress(args.result(result)), k.mul(k.add(k.mul(row, features), unit.first), bytes));
  const int64_t lanes = k.lanesFor(unit.width);
  k.loop(0, unit.width, lanes, [&](Value i) {
    k.store(k.load(k.at(unit.buffer, k.mul(i, 4)), k.f32, lanes), k.at(target, k.mul(i, bytes)), element, lanes);
  });
}
