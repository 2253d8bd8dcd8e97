//===- SetPattern.cpp - mili-attention-set-pattern ---------------------------===//
//
// Rewrites the masks of attention ops. A layer is the index of its state among the module's states; an attention op
// reaches its state through the appends before it. A window also becomes part of the state's type, so that memory
// planning keeps only the pages inside it; any other pattern makes the state keep all positions again.
//
//===------------------------------------------------------------------------===//
#include "mili/Passes/Passes.h"

#include "mili/IR/MiliDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringExtras.h"

namespace mlir::mili {
#define GEN_PASS_DEF_SETATTENTIONPATTERN
#include "mili/Passes/Passes.h.inc"

namespace {

/// What a pattern says without numbers of its own.
constexpr int64_t kDefaultLocal = 512, kDefaultRandom = 8;
/// BigBird's base configuration in blocks of 64: 3 local, 2 global, 3 random.
constexpr int64_t kBigBirdLocal = 192, kBigBirdGlobal = 128, kBigBirdRandom = 3;

struct Pattern {
  Attribute mask;
  /// Inclusive ranges of layers; empty: all.
  SmallVector<std::pair<int64_t, int64_t>> layers;

  bool covers(int64_t layer) const {
    return layers.empty() ||
           llvm::any_of(layers, [&](auto range) { return layer >= range.first && layer <= range.second; });
  }
};

/// A count of at least 0 with an optional k (1024).
std::optional<int64_t> parseCount(StringRef text) {
  const int64_t unit = text.consume_back("k") ? 1024 : 1;
  uint64_t value = 0;
  if (text.empty() || !llvm::all_of(text, llvm::isDigit) || text.getAsInteger(10, value) ||
      value > static_cast<uint64_t>(kMaxPatternTokens))
    return std::nullopt;
  return static_cast<int64_t>(value) * unit;
}

struct Parser {
  StringRef spec;
  function_ref<InFlightDiagnostic()> emitError;

  InFlightDiagnostic error() { return emitError() << "pattern \"" << spec << "\": "; }

  LogicalResult layers(StringRef text, Pattern &pattern) {
    for (StringRef part : llvm::split(text, ':')) {
      auto [first, last] = part.split('-');
      std::optional<int64_t> low = parseCount(first), high = last.empty() ? low : parseCount(last);
      if (!low || !high || *low > *high || part.ends_with("-"))
        return error() << "expected layers like 0-3:7 after '@', found \"" << part << "\"";
      pattern.layers.push_back({*low, *high});
    }
    return success();
  }

  FailureOr<Pattern> parse(MLIRContext *context) {
    Pattern pattern;
    auto [text, where] = spec.split('@');
    if (spec.contains('@') && failed(layers(where, pattern)))
      return failure();
    if (text == "causal") {
      pattern.mask = CausalAttr::get(context);
      return pattern;
    }
    std::optional<int64_t> window, local, global, stride, random, seed;
    bool bigbird = false;
    for (StringRef term : llvm::split(text, '+')) {
      auto [name, number] = term.split('=');
      std::optional<int64_t> value;
      if (term.contains('=') && !(value = parseCount(number)))
        return error() << "expected a count after '" << name << "=', found \"" << number << "\"";
      auto set = [&](std::optional<int64_t> &field, std::optional<int64_t> fallback) -> LogicalResult {
        if (field)
          return error() << name << " is given twice";
        if (!value && !fallback)
          return error() << "expected a count: " << name << "=N";
        field = value ? value : fallback;
        return success();
      };
      LogicalResult done = failure();
      if (name == "window")
        done = set(window, std::nullopt);
      else if (name == "local")
        done = set(local, kDefaultLocal);
      else if (name == "global")
        done = set(global, std::nullopt);
      else if (name == "strided")
        done = set(stride, std::nullopt);
      else if (name == "random")
        done = set(random, kDefaultRandom);
      else if (name == "seed")
        done = set(seed, std::nullopt);
      else if (name == "bigbird") {
        done = set(random, kBigBirdRandom);
        bigbird = true;
      } else {
        return error() << "expected causal, window, strided, local, global, random, bigbird or seed, found \"" << name
                       << "\"";
      }
      if (failed(done))
        return failure();
    }
    if (bigbird) {
      local = local.value_or(kBigBirdLocal);
      global = global.value_or(kBigBirdGlobal);
    }
    if (window) {
      if (local || global || stride || random || seed)
        return error() << "a window stands alone; blocks of the last tokens are local=N";
      pattern.mask = WindowAttr::getChecked([&] { return error(); }, context, *window);
    } else {
      // Strided attention's local part is as long as its stride (arXiv 1904.10509).
      pattern.mask =
          BlockSparseAttr::getChecked([&] { return error(); }, context, local.value_or(stride.value_or(kDefaultLocal)),
                                      global.value_or(0), stride.value_or(0), random.value_or(0), seed.value_or(0));
    }
    if (!pattern.mask)
      return failure();
    return pattern;
  }
};

struct SetAttentionPattern : impl::SetAttentionPatternBase<SetAttentionPattern> {
  using SetAttentionPatternBase::SetAttentionPatternBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto emitError = [&](Operation *op) { return op->emitError("mili-attention-set-pattern: "); };
    SmallVector<Pattern> parsed;
    for (const std::string &spec : patterns) {
      FailureOr<Pattern> pattern = Parser{spec, [&] { return emitError(module); }}.parse(&getContext());
      if (failed(pattern))
        return signalPassFailure();
      parsed.push_back(*pattern);
    }
    if (parsed.empty())
      return;

    SmallVector<StateOp> states(module.getOps<StateOp>());
    for (const auto &[pattern, spec] : llvm::zip(parsed, patterns))
      for (auto [first, last] : pattern.layers)
        if (last >= static_cast<int64_t>(states.size())) {
          emitError(module) << "pattern \"" << spec << "\": layer " << last << ", the model has " << states.size();
          return signalPassFailure();
        }

    // The last pattern that names a layer holds.
    llvm::StringMap<Attribute> masks;
    for (auto [layer, state] : llvm::enumerate(states))
      for (const Pattern &pattern : parsed)
        if (pattern.covers(static_cast<int64_t>(layer)))
          masks[state.getSymName()] = pattern.mask;

    WalkResult result = module.walk([&](AttentionOp op) {
      Value version = op.getKv();
      while (auto append = version.getDefiningOp<KvAppendOp>())
        version = append.getKv();
      auto get = version.getDefiningOp<StateGetOp>();
      if (!get) {
        emitError(op) << "expected a version of a state that mili.state_get entered; run it before fusion";
        return WalkResult::interrupt();
      }
      if (Attribute mask = masks.lookup(get.getState())) {
        op.setMaskAttr(mask);
        ++numLayers;
      }
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      return signalPassFailure();
    module.walk([&](StateGetOp get) {
      auto type = dyn_cast<KvType>(get.getType());
      Attribute mask = masks.lookup(get.getState());
      if (!type || !mask)
        return;
      auto window = dyn_cast<WindowAttr>(mask);
      retype(get.getResult(), KvType::get(&getContext(), type.getHeads(), type.getK(), type.getV(),
                                          type.getElementType(), window ? window.getTokens() : 0));
    });
    for (StateOp state : states) {
      auto type = dyn_cast<KvType>(state.getType());
      Attribute mask = masks.lookup(state.getSymName());
      if (!type || !mask)
        continue;
      auto window = dyn_cast<WindowAttr>(mask);
      state.setType(KvType::get(&getContext(), type.getHeads(), type.getK(), type.getV(), type.getElementType(),
                                window ? window.getTokens() : 0));
    }
  }

  /// Gives a version of a state and the ones appended to it another type.
  static void retype(Value version, KvType type) {
    version.setType(type);
    for (Operation *user : version.getUsers())
      if (auto append = dyn_cast<KvAppendOp>(user))
        retype(append.getResult(), type);
  }
};
}  // namespace
}  // namespace mlir::mili
