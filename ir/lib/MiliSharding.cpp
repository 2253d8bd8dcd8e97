//===- MiliSharding.cpp - how ops are split over ranks ----------------------===//
//
// Each op describes itself as a nest of loops over its tensors' dimensions; everything that the `shard` dialect asks
// follows from that. Upstream's defaults are not used: they refuse operands that are not tensors (states, the batch),
// and their trivial partition drops the all-reduce of a split reduction. Here an op whose reduction is split inserts
// its own.
//
// Replicated whatever the annotations say:
//   states, kv_append, attention   the state's type would have to lose heads at the same time
//
// A split weight stays the whole name followed by `shard.all_slice`, which packing turns into the rank's slice.
//
//===------------------------------------------------------------------------===//
#include "mili/IR/MiliDialect.h"

#include "mlir/Dialect/Shard/IR/ShardDialect.h"
#include "mlir/Dialect/Shard/Interfaces/ShardingInterface.h"
#include "mlir/IR/AffineMap.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::mili;
using shard::GridAxis;
using shard::GridOp;
using shard::Sharding;
using shard::ShardingOption;
using utils::IteratorType;

namespace {
/// The loops of one op. A shard of loop i holds a multiple of `units[i]` iterations; 0 keeps the loop whole.
struct LoopNest {
  SmallVector<IteratorType> types;
  SmallVector<int64_t> units;
  SmallVector<int64_t> sizes;
  /// The loop of each dimension of each operand, then of each result; empty for what is not a tensor.
  SmallVector<SmallVector<unsigned>> dims;

  unsigned loop(int64_t size, int64_t unit, IteratorType type = IteratorType::parallel) {
    types.push_back(type);
    units.push_back(unit);
    sizes.push_back(size);
    return types.size() - 1;
  }
};
}  // namespace

/// Every dimension of every tensor by itself and whole.
static LoopNest replicated(Operation *op) {
  LoopNest nest;
  for (TypeRange types : {TypeRange(op->getOperandTypes()), TypeRange(op->getResultTypes())})
    for (Type type : types) {
      SmallVector<unsigned> dims;
      if (auto tensor = dyn_cast<RankedTensorType>(type))
        for (int64_t size : tensor.getShape())
          dims.push_back(nest.loop(size, 0));
      nest.dims.push_back(dims);
    }
  return nest;
}

static LoopNest describe(Operation *op) {
  auto shape = [](Value value) { return cast<RankedTensorType>(value.getType()).getShape(); };
  // Rows and features of all operands and results alike.
  auto elementwise = [&](int64_t unit) {
    LoopNest nest;
    unsigned rows = nest.loop(shape(op->getResult(0))[0], 1), columns = nest.loop(shape(op->getResult(0))[1], unit);
    nest.dims.assign(op->getNumOperands() + op->getNumResults(), {rows, columns});
    return nest;
  };
  return TypeSwitch<Operation *, LoopNest>(op)
      .Case<AddOp, ScaleOp, ActivationOp, GatedOp>([&](Operation *) { return elementwise(1); })
      .Case<LinearOp>([&](LinearOp linear) {
        LoopNest nest;
        unsigned rows = nest.loop(shape(linear.getInput())[0], 1), out = nest.loop(shape(linear.getWeight())[0], 1);
        // A bias would be added once per rank.
        unsigned in = nest.loop(shape(linear.getWeight())[1], linear.getBias() ? 0 : 1, IteratorType::reduction);
        nest.dims = {{rows, in}, {out, in}};
        if (linear.getBias())
          nest.dims.push_back({out});
        nest.dims.push_back({rows, out});
        return nest;
      })
      .Case<LogitsOp>([&](LogitsOp logits) {
        LoopNest nest;
        unsigned tokens = nest.loop(shape(logits.getInput())[0], 0), rows = nest.loop(shape(logits.getResult())[0], 0);
        unsigned out = nest.loop(shape(logits.getWeight())[0], 1);
        unsigned in = nest.loop(shape(logits.getWeight())[1], 1, IteratorType::reduction);
        nest.dims = {{tokens, in}, {out, in}, {}, {rows, out}};
        return nest;
      })
      .Case<EmbeddingOp>([&](EmbeddingOp embedding) {
        LoopNest nest;
        unsigned rows = nest.loop(shape(embedding.getTokens())[0], 1),
                 vocab = nest.loop(shape(embedding.getTable())[0], 0);
        unsigned columns = nest.loop(shape(embedding.getTable())[1], 1);
        nest.dims = {{rows}, {vocab, columns}, {rows, columns}};
        return nest;
      })
      .Case<WeightOp>([&](WeightOp weight) {
        LoopNest nest;
        auto tensor = cast<RankedTensorType>(weight.getType());
        auto block = dyn_cast<BlockType>(tensor.getElementType());
        nest.dims.emplace_back();
        for (int64_t dim = 0; dim < tensor.getRank(); ++dim)
          nest.dims[0].push_back(
              nest.loop(tensor.getDimSize(dim), block && dim + 1 == tensor.getRank() ? block.getBlockElements() : 1));
        return nest;
      })
      .Case<DequantOp>([&](DequantOp dequant) {
        LoopNest nest;
        auto storage = cast<RankedTensorType>(dequant.getStorage().getType());
        unsigned out = nest.loop(storage.getDimSize(0), 1);
        unsigned in = nest.loop(storage.getDimSize(1), cast<BlockType>(storage.getElementType()).getBlockElements());
        nest.dims = {{out, in}, {out, in}};
        return nest;
      })
      .Case<RmsNormOp>([&](RmsNormOp norm) {
        // Segments are normalized on their own; one over the whole row stays whole.
        LoopNest nest;
        int64_t segment = shape(norm.getWeight())[0], width = shape(norm.getInput())[1];
        unsigned rows = nest.loop(shape(norm.getInput())[0], 1),
                 columns = nest.loop(width, segment < width ? segment : 0);
        nest.dims = {{rows, columns}, {nest.loop(segment, 0)}, {rows, columns}};
        return nest;
      })
      .Case<RopeOp>([&](RopeOp rope) {
        // Positions are the whole batch's, so rows stay together; heads are independent.
        LoopNest nest;
        int64_t width = shape(rope.getInput())[1];
        unsigned rows = nest.loop(shape(rope.getInput())[0], 0);
        unsigned columns = nest.loop(width, width / static_cast<int64_t>(rope.getHeads()));
        nest.dims = {{rows, columns}, {}, {rows, columns}};
        return nest;
      })
      .Case<SplitOp>([&](SplitOp split) {
        // Alternating runs stay paired in a shard of whole pairs; consecutive ranges would land on different ranks.
        LoopNest nest;
        int64_t run = split.getInterleave();
        unsigned rows = nest.loop(shape(split.getInput())[0], 1),
                 columns = nest.loop(shape(split.getInput())[1], 2 * run);
        nest.dims.assign(1 + split.getNumResults(), {rows, columns});
        if (run == 0)
          for (auto [index, result] : llvm::enumerate(split.getResults()))
            nest.dims[1 + index][1] = nest.loop(shape(result)[1], 0);
        return nest;
      })
      .Default([](Operation *other) { return replicated(other); });
}

static SmallVector<AffineMap> indexingMaps(Operation *op) {
  LoopNest nest = describe(op);
  SmallVector<AffineMap> maps;
  for (ArrayRef<unsigned> dims : nest.dims) {
    SmallVector<AffineExpr> exprs;
    for (unsigned loop : dims)
      exprs.push_back(getAffineDimExpr(loop, op->getContext()));
    maps.push_back(AffineMap::get(nest.types.size(), 0, exprs, op->getContext()));
  }
  return maps;
}

static FailureOr<ShardingOption> shardingOption(Operation *op, ArrayRef<Sharding> operands,
                                                ArrayRef<Sharding> results) {
  LoopNest nest = describe(op);
  ShardingOption option;
  option.shardingArray.resize(nest.types.size());
  GridOp grid;
  // What the op cannot honour it leaves out: the annotations that follow then reshard that value.
  auto take = [&](const Sharding &sharding, ArrayRef<unsigned> dims) -> LogicalResult {
    if (!sharding || dims.empty())
      return success();
    if (option.grid && option.grid != sharding.getGridAttr())
      return failure();
    if (!option.grid) {
      option.grid = sharding.getGridAttr();
      grid = SymbolTable::lookupNearestSymbolFrom<GridOp>(op, option.grid);
      if (!grid)
        return op->emitOpError() << "is sharded over " << option.grid << ", which is not a shard.grid";
    }
    for (auto [loop, axesAttr] : llvm::zip(dims, sharding.getSplitAxes())) {
      ArrayRef<GridAxis> axes = axesAttr.asArrayRef();
      bool taken = llvm::any_of(option.shardingArray, [&](ArrayRef<GridAxis> other) {
        return llvm::any_of(axes, [&](GridAxis axis) { return llvm::is_contained(other, axis); });
      });
      if (axes.empty() || taken || nest.units[loop] == 0 || !option.shardingArray[loop].empty())
        continue;
      int64_t ranks = shard::collectiveProcessGroupSize(axes, grid), size = nest.sizes[loop];
      if (!ShapedType::isDynamic(size) && (ShapedType::isDynamic(ranks) || size % (ranks * nest.units[loop]) != 0))
        continue;
      option.shardingArray[loop].assign(axes.begin(), axes.end());
    }
    return success();
  };
  for (auto [index, sharding] : llvm::enumerate(results))
    if (failed(take(sharding, nest.dims[op->getNumOperands() + index])))
      return failure();
  for (auto [index, sharding] : llvm::enumerate(operands))
    if (failed(take(sharding, nest.dims[index])))
      return failure();
  if (!option.grid)
    return ShardingOption::makeEmpty();
  shard::removeTrailingEmptySubArray(option.shardingArray);
  return option;
}

/// One per operand, then one per result; null for what is not a tensor.
static std::vector<Sharding> shardingAnnotations(Operation *op, const ShardingOption &option) {
  std::vector<Sharding> annotations;
  for (ArrayRef<unsigned> dims : describe(op).dims) {
    if (dims.empty()) {
      annotations.emplace_back();
      continue;
    }
    SmallVector<SmallVector<GridAxis>> split(dims.size());
    for (auto [axes, loop] : llvm::zip_equal(split, dims))
      if (loop < option.shardingArray.size())
        axes = option.shardingArray[loop];
    shard::removeTrailingEmptySubArray(split);
    SmallVector<shard::GridAxesAttr> attrs;
    for (ArrayRef<GridAxis> axes : split)
      attrs.push_back(shard::GridAxesAttr::get(op->getContext(), axes));
    annotations.push_back(Sharding::get(option.grid, attrs));
  }
  return annotations;
}

static LogicalResult annotate(Operation *op, OpBuilder &builder, const ShardingOption &option) {
  std::vector<Sharding> annotations = shardingAnnotations(op, option);
  unsigned operands = op->getNumOperands();
  for (OpResult result : op->getResults())
    if (const Sharding &sharding = annotations[operands + result.getResultNumber()])
      shard::maybeInsertTargetShardingAnnotation(sharding, result, builder);
  for (OpOperand &operand : op->getOpOperands())
    if (const Sharding &sharding = annotations[operand.getOperandNumber()]) {
      OpBuilder::InsertionGuard guard(builder);
      shard::maybeInsertSourceShardingAnnotation(sharding, operand, builder);
    }
  // A dequant is part of its consumer, but stands before it: a forward traversal has passed it by already.
  for (Value operand : op->getOperands()) {
    while (auto annotation = operand.getDefiningOp<shard::ShardOp>())
      operand = annotation.getSrc();
    auto dequant = operand.getDefiningOp<DequantOp>();
    if (!dequant || dequant.getStorage().getDefiningOp<shard::ShardOp>())
      continue;
    FailureOr<std::pair<bool, Sharding>> known = shard::getSharding(cast<OpResult>(operand));
    if (failed(known))
      continue;
    FailureOr<ShardingOption> inner = shardingOption(dequant, Sharding(), known->second);
    if (failed(inner) || failed(annotate(dequant, builder, *inner)))
      return failure();
  }
  return success();
}

static LogicalResult partitionOp(Operation *op, ArrayRef<Sharding> operands, ArrayRef<Sharding> results, IRMapping &map,
                                 SymbolTableCollection &symbols, OpBuilder &builder) {
  LoopNest nest = describe(op);
  SmallVector<SmallVector<GridAxis>> axesOfLoop(nest.types.size());
  FlatSymbolRefAttr gridSymbol;
  auto collect = [&](const Sharding &sharding, ArrayRef<unsigned> dims) {
    if (!sharding)
      return;
    gridSymbol = sharding.getGridAttr();
    for (auto [loop, axes] : llvm::zip(dims, sharding.getSplitAxes()))
      if (axesOfLoop[loop].empty())
        axesOfLoop[loop] = llvm::to_vector(axes.asArrayRef());
  };
  for (auto [index, sharding] : llvm::enumerate(operands))
    collect(sharding, nest.dims[index]);
  for (auto [index, sharding] : llvm::enumerate(results))
    collect(sharding, nest.dims[op->getNumOperands() + index]);
  GridOp grid = shard::getGridOrNull(op, gridSymbol, symbols);

  Operation *local = builder.clone(*op, map);
  if (!grid)
    return success();
  SmallVector<GridAxis> reduced;
  for (auto [loop, axes] : llvm::enumerate(axesOfLoop)) {
    if (!axes.empty() && nest.units[loop] == 0)
      return op->emitOpError() << "cannot be split along a dimension that its annotations split; run "
                                  "sharding-propagation before shard-partition";
    if (shard::isReductionLoop(nest.types[loop]))
      llvm::append_range(reduced, axes);
  }
  if (isa<WeightOp>(op)) {
    Value slice = local->getResult(0);
    for (auto [dim, loop] : llvm::enumerate(nest.dims[0]))
      if (!axesOfLoop[loop].empty())
        slice = shard::AllSliceOp::create(builder, op->getLoc(), slice, grid, axesOfLoop[loop], dim).getResult();
    map.map(op->getResult(0), slice);
    return success();
  }
  for (auto [result, dims] : llvm::zip_equal(local->getResults(), ArrayRef(nest.dims).drop_front(op->getNumOperands())))
    if (auto tensor = dyn_cast<RankedTensorType>(result.getType())) {
      SmallVector<int64_t> shape(tensor.getShape());
      for (auto [size, loop] : llvm::zip_equal(shape, dims))
        size = shard::shardDimension(size, shard::collectiveProcessGroupSize(axesOfLoop[loop], grid));
      result.setType(tensor.clone(shape));
    }
  if (auto rope = dyn_cast<RopeOp>(local)) {
    int64_t width = rope.getType().getDimSize(1), before = cast<RopeOp>(op).getType().getDimSize(1);
    rope.setHeads(rope.getHeads() * width / before);
  }
  if (reduced.empty())
    return success();
  for (auto [result, partial] : llvm::zip_equal(op->getResults(), local->getResults())) {
    auto sum = shard::AllReduceOp::create(builder, op->getLoc(), partial, gridSymbol.getValue(), reduced,
                                          shard::ReductionKind::Sum);
    map.map(result, sum.getResult());
  }
  return success();
}

namespace {
/// One model for all: `describe` tells ops apart.
template <typename Op>
struct ShardingModel : shard::ShardingInterface::ExternalModel<ShardingModel<Op>, Op> {
  SmallVector<IteratorType> getLoopIteratorTypes(Operation *op) const { return describe(op).types; }
  SmallVector<shard::ReductionKind> getReductionLoopIteratorKinds(Operation *op) const {
    return SmallVector<shard::ReductionKind>(llvm::count_if(describe(op).types, shard::isReductionLoop),
                                             shard::ReductionKind::Sum);
  }
  SmallVector<AffineMap> getIndexingMaps(Operation *op) const { return indexingMaps(op); }
  FailureOr<ShardingOption> getShardingOption(Operation *op, ArrayRef<Sharding> operands,
                                              ArrayRef<Sharding> results) const {
    return shardingOption(op, operands, results);
  }
  FailureOr<std::vector<Sharding>> getShardingAnnotations(Operation *op, const ShardingOption &option) const {
    return shardingAnnotations(op, option);
  }
  LogicalResult addShardingAnnotations(Operation *op, OpBuilder &builder, const ShardingOption &option) const {
    return annotate(op, builder, option);
  }
  LogicalResult partition(Operation *op, ArrayRef<Value>, ArrayRef<Sharding> operands, ArrayRef<Sharding> results,
                          IRMapping &map, SymbolTableCollection &symbols, OpBuilder &builder) const {
    return partitionOp(op, operands, results, map, symbols, builder);
  }
};

template <typename... Ops>
void attach(MLIRContext *context) {
  (Ops::template attachInterface<ShardingModel<Ops>>(*context), ...);
}
}  // namespace

void MiliDialect::attachSharding() {
  attach<WeightOp, StateGetOp, StateSetOp, KvAppendOp, DequantOp, EmbeddingOp, LinearOp, LogitsOp, RopeOp, AttentionOp,
         RmsNormOp, AddOp, ScaleOp, ActivationOp, GatedOp, SplitOp>(getContext());
}
