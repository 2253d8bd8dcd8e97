//===- MergeProjections.cpp - mili-optimize-merge-projections ----------------===//
//
// Linears that read the same value become one linear over a joined weight, so that the input is read, normalized and
// quantized once and a step has fewer, larger products.
//
//   qkv      linears whose results reach the same attention (through norms, RoPE, appends): pieces in program order,
//            then `mili.split`.
//   gate-up  two linears whose results feed one `mili.gated`: rows interleaved in runs of `interleave`, so that each
//   tile
//            of the product holds the gate and the up value of the same features, then an interleaved `mili.split`.
//
// A joined weight is a list of pieces in one `#mili.param`; no bytes move here. Weights join only when they are stored
// in the same format, with the same input width; mixed files (GGUF often stores V finer than Q and K) keep the odd one
// apart, and the report says so. Weights that something else reads too stay as they are, since the plan would carry
// them twice. The idea is common to all inference engines (e.g. Megatron-LM's fused QKV projection, arXiv 1909.08053).
//
//===------------------------------------------------------------------------===//
#include "mili/Passes/Passes.h"

#include "../Support/Names.h"
#include "mili/IR/MiliDialect.h"
#include "mili/Passes/FusionReport.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

namespace mlir::mili {
#define GEN_PASS_DEF_MERGEPROJECTIONS
#include "mili/Passes/Passes.h.inc"

namespace {

/// What the weight of a linear is made from.
struct Source {
  WeightOp weight;
  DequantOp dequant;  // null when the weight is stored as floats
  WeightOp bias;      // null without one
};

/// The ops behind a linear's weight and bias, or the reason why they cannot be joined with others.
static std::optional<Source> getSource(LinearOp linear, std::string &reason) {
  Source source;
  Value stored = linear.getWeight();
  source.dequant = stored.getDefiningOp<DequantOp>();
  if (source.dequant)
    stored = source.dequant.getStorage();
  source.weight = stored.getDefiningOp<WeightOp>();
  if (!source.weight) {
    reason = "the weight is computed";
    return std::nullopt;
  }
  if (!stored.hasOneUse() || !linear.getWeight().hasOneUse()) {
    reason = "the weight has other uses, joining would store it twice";
    return std::nullopt;
  }
  if (source.weight.getParam().getInterleave()) {
    reason = "the weight is interleaved already";
    return std::nullopt;
  }
  if (Value bias = linear.getBias()) {
    source.bias = bias.getDefiningOp<WeightOp>();
    if (!source.bias || source.bias.getParam().getInterleave() || !bias.hasOneUse()) {
      reason = "the bias is computed or has other uses";
      return std::nullopt;
    }
  }
  return source;
}

/// The attention that a projection serves: reached from its result through ops that work token by token.
static AttentionOp findAttention(LinearOp linear) {
  SmallVector<Value> worklist{linear.getResult()};
  llvm::SmallPtrSet<Operation *, 8> visited;
  while (!worklist.empty()) {
    Value value = worklist.pop_back_val();
    for (Operation *user : value.getUsers()) {
      if (auto attention = dyn_cast<AttentionOp>(user))
        return attention;
      if (isa<RopeOp, RmsNormOp, ScaleOp, AddOp, SplitOp, KvAppendOp>(user) && visited.insert(user).second)
        llvm::append_range(worklist, user->getResults());
    }
  }
  return {};
}

/// The one `mili.gated` that reads a linear's result and nothing else does.
static GatedOp findGated(LinearOp linear) {
  if (!linear.getResult().hasOneUse())
    return {};
  return dyn_cast<GatedOp>(*linear.getResult().user_begin());
}

static std::string formatOf(Type type) {
  std::string text;
  llvm::raw_string_ostream os(text);
  Type element = cast<RankedTensorType>(type).getElementType();
  if (auto block = dyn_cast<BlockType>(element))
    os << stringifyBlockFormat(block.getFormat());
  else
    os << element;
  return text;
}

struct MergeProjections : impl::MergeProjectionsBase<MergeProjections> {
  using MergeProjectionsBase::MergeProjectionsBase;
  MergeProjections(const MergeProjectionsOptions &options, FusionReport *report)
      : MergeProjectionsBase(options), report(report) {}

  FusionReport *report = nullptr;

  void record(MutableArrayRef<LinearOp> linears, StringRef kind, bool merged, std::string reason) {
    if (!report)
      return;
    MergeRecord entry{getOperation().getSymName().str(), {}, kind.str(), merged, std::move(reason)};
    for (LinearOp linear : linears)
      entry.linears.push_back(getSourceName(linear));
    report->merges.push_back(std::move(entry));
  }

  /// Joins the rows of `weights`. Neighbouring ranges of one tensor become one range again.
  ParamAttr joinParams(MutableArrayRef<WeightOp> weights, int64_t runs) {
    SmallVector<PieceAttr> pieces;
    for (WeightOp weight : weights)
      for (PieceAttr piece : weight.getParam().getPieces()) {
        if (!runs && !pieces.empty() && piece.getEnd() != -1 && pieces.back().getName() == piece.getName() &&
            pieces.back().getEnd() == piece.getBegin())
          pieces.back() = PieceAttr::get(&getContext(), piece.getName(), pieces.back().getBegin(), piece.getEnd());
        else
          pieces.push_back(piece);
      }
    return ParamAttr::get(&getContext(), pieces, runs);
  }

  /// Replaces `linears` (at least two, compatible, in program order) by one. `runs` > 0 interleaves.
  void merge(MutableArrayRef<LinearOp> linears, MutableArrayRef<Source> sources, int64_t runs) {
    OpBuilder builder(linears.front());
    SmallVector<std::string> names;
    SmallVector<WeightOp> weights, biases;
    SmallVector<Type> resultTypes;
    int64_t rows = 0;
    for (auto [linear, source] : llvm::zip_equal(linears, sources)) {
      names.push_back(getSourceName(linear));
      weights.push_back(source.weight);
      if (source.bias)
        biases.push_back(source.bias);
      resultTypes.push_back(linear.getType());
      rows += cast<RankedTensorType>(source.weight.getType()).getDimSize(0);
    }
    Location loc = NameLoc::get(builder.getStringAttr(joinNames(names)));
    auto resized = [&](Type type, unsigned dim) -> Type {
      auto tensor = cast<RankedTensorType>(type);
      SmallVector<int64_t> shape(tensor.getShape());
      shape[dim] = rows;
      return tensor.clone(shape);
    };
    Value weight = WeightOp::create(builder, loc, resized(weights.front().getType(), 0), joinParams(weights, runs),
                                    weights.front().getLayoutAttr());
    if (sources.front().dequant)
      weight = DequantOp::create(builder, loc, resized(linears.front().getWeight().getType(), 0), weight);
    Value bias;
    if (!biases.empty())
      bias = WeightOp::create(builder, loc, resized(biases.front().getType(), 0), joinParams(biases, runs),
                              biases.front().getLayoutAttr());
    Value product =
        LinearOp::create(builder, loc, resized(linears.front().getType(), 1), linears.front().getInput(), weight, bias);
    auto split = SplitOp::create(builder, loc, resultTypes, product, builder.getI64IntegerAttr(runs));
    for (auto [linear, source, result] : llvm::zip_equal(linears, sources, split.getResults())) {
      linear.getResult().replaceAllUsesWith(result);
      linear.erase();
      if (DequantOp dequant = source.dequant)
        dequant.erase();
      source.weight.erase();
      if (WeightOp old = source.bias)
        old.erase();
    }
    numMerged += linears.size();
  }

  /// Merges those of `linears` that can be; all read the same value and serve the same consumer.
  void mergeCompatible(SmallVector<LinearOp> linears, StringRef kind, int64_t runs) {
    SmallVector<Source> sources;
    SmallVector<LinearOp> usable;
    std::string reason;
    for (LinearOp linear : linears) {
      std::optional<Source> source = getSource(linear, reason);
      if (!source)
        continue;
      usable.push_back(linear);
      sources.push_back(*source);
    }
    // Same storage, same kind of bias, same result type but for its width.
    using Key = std::tuple<Type, Type, Type, int64_t>;
    llvm::MapVector<Key, SmallVector<unsigned>> compatible;
    for (auto [i, linear] : llvm::enumerate(usable)) {
      auto stored = cast<RankedTensorType>(sources[i].weight.getType());
      Type bias = sources[i].bias ? cast<RankedTensorType>(sources[i].bias.getType()).getElementType() : Type();
      compatible[{stored.getElementType(), bias, cast<RankedTensorType>(linear.getType()).getElementType(),
                  stored.getDimSize(1)}]
          .push_back(i);
    }
    if (compatible.size() > 1 && reason.empty()) {
      SmallVector<std::string> formats;
      for (Source &source : sources)
        if (std::string format = formatOf(source.weight.getType()); !llvm::is_contained(formats, format))
          formats.push_back(std::move(format));
      reason = formats.size() > 1 ? "weights are stored in different formats (" + llvm::join(formats, ", ") + ")"
                                  : std::string("some have a bias and some have none");
    }
    SmallVector<std::pair<SmallVector<LinearOp>, SmallVector<Source>>> joins;
    llvm::SmallPtrSet<Operation *, 4> joined;
    for (auto &[key, members] : compatible) {
      if (members.size() < 2)
        continue;
      SmallVector<LinearOp> group;
      SmallVector<Source> groupSources;
      for (unsigned i : members) {
        group.push_back(usable[i]);
        groupSources.push_back(sources[i]);
      }
      if (runs && !canInterleave(group, groupSources, runs, reason))
        continue;
      joined.insert(group.begin(), group.end());
      record(group, kind, true, "one input, stored as " + formatOf(groupSources.front().weight.getType()));
      joins.emplace_back(std::move(group), std::move(groupSources));
    }
    llvm::erase_if(linears, [&](LinearOp linear) { return joined.contains(linear); });
    if (!linears.empty())
      record(linears, kind, false, reason);
    for (auto &[group, groupSources] : joins)
      merge(group, groupSources, runs);
  }

  /// Interleaving takes two tensors of equal height, whole runs of each.
  static bool canInterleave(MutableArrayRef<LinearOp> group, MutableArrayRef<Source> sources, int64_t runs,
                            std::string &reason) {
    for (Source &source : sources)
      if (source.weight.getParam().getPieces().size() != 1) {
        reason = "a weight is made of several pieces, which cannot be interleaved";
        return false;
      }
    int64_t width = cast<RankedTensorType>(group[0].getType()).getDimSize(1);
    if (width % runs != 0) {
      reason = llvm::formatv("the width {0} is no multiple of the interleave {1}", width, runs);
      return false;
    }
    return true;
  }

  void runOnOperation() override {
    if (interleave <= 0) {
      getOperation().emitError() << "mili-optimize-merge-projections: interleave must be positive, found "
                                 << interleave.getValue();
      return signalPassFailure();
    }
    // Collected first: merging erases linears.
    using Consumer = std::tuple<Value, Operation *, Block *>;
    llvm::MapVector<Consumer, SmallVector<LinearOp>> toAttention, toGated;
    getOperation().walk([&](LinearOp linear) {
      if (GatedOp gated = findGated(linear))
        toGated[{linear.getInput(), gated, linear->getBlock()}].push_back(linear);
      else if (AttentionOp attention = findAttention(linear))
        toAttention[{linear.getInput(), attention, linear->getBlock()}].push_back(linear);
    });
    for (auto &[consumer, linears] : toAttention) {
      if (linears.size() < 2)
        continue;
      if (qkv)
        mergeCompatible(linears, "qkv", 0);
      else
        record(linears, "qkv", false, "switched off");
    }
    for (auto &[consumer, linears] : toGated) {
      if (linears.size() != 2)
        continue;
      // The gate's rows come first in each pair of runs, whatever the order of the two products. Both results are read
      // by the gate alone, so the product may stand where either of them stood.
      auto gated = cast<GatedOp>(std::get<Operation *>(consumer));
      SmallVector<LinearOp> ordered{gated.getGate().getDefiningOp<LinearOp>(), gated.getUp().getDefiningOp<LinearOp>()};
      if (gateUp)
        mergeCompatible(ordered, "gate-up", interleave);
      else
        record(ordered, "gate-up", false, "switched off");
    }
  }
};
}  // namespace

std::unique_ptr<Pass> createMergeProjections(const MergeProjectionsOptions &options, FusionReport *report) {
  return std::make_unique<MergeProjections>(options, report);
}

}  // namespace mlir::mili
