//===- MiliOps.cpp - verifiers, folds, result names -------------------------===//
#include "BodyAssembly.h"
#include "ParamAssembly.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/PatternMatch.h"
#include "llvm/ADT/StringExtras.h"

#include <cmath>

using namespace mlir;
using namespace mlir::mili;

#define GET_OP_CLASSES
#include "mili/IR/MiliOps.cpp.inc"

static int64_t features(Value value) {
  return cast<ShapedType>(value.getType()).getShape().back();
}

/// Rows of `a` and `b` are the step's tokens: they must not contradict each other.
static LogicalResult verifySameRows(Operation *op, Value a, Value b, StringRef what) {
  int64_t rowsA = cast<ShapedType>(a.getType()).getDimSize(0), rowsB = cast<ShapedType>(b.getType()).getDimSize(0);
  if (rowsA != rowsB)
    return op->emitOpError() << "expected as many rows in " << what << ", found " << a.getType() << " and "
                             << b.getType();
  return success();
}

static LogicalResult verifyFeatures(Operation *op, Value value, StringRef name, int64_t expected, const Twine &why) {
  if (features(value) != expected)
    return op->emitOpError() << "expected " << expected << " features in " << name << " (" << why << "), found "
                             << value.getType();
  return success();
}

//===- State -----------------------------------------------------------------===//

/// The op that turns a version of a state into a newer one: an append, or a group around one.
static bool advances(OpOperand &use) {
  Operation *owner = use.getOwner();
  if (auto append = dyn_cast<KvAppendOp>(owner))
    return &use == &append.getKvMutable();
  return isa<GroupOp>(owner) && llvm::is_contained(owner->getResultTypes(), use.get().getType()) &&
         isa<KvType, RecurrentType>(use.get().getType());
}

static int64_t countAdvances(Value version) {
  return llvm::count_if(version.getUses(), [](OpOperand &use) { return advances(use); });
}

/// Ops on versions are pure: one that nobody keeps would silently be erased, and with it what was appended.
static LogicalResult verifyKept(Operation *op, Value version) {
  for (OpOperand &use : version.getUses())
    if (advances(use) || isa<StateSetOp>(use.getOwner()) || use.getOwner()->hasTrait<OpTrait::IsTerminator>())
      return success();
  return op->emitOpError() << "expected mili.state_set or a further append to use the new version of the state, found "
                           << (version.use_empty() ? "no use" : "only reads");
}

/// Follows versions back to the `mili.state_get` they began with; null where they came in from outside.
static StateGetOp findOrigin(Value version) {
  while (Operation *op = version.getDefiningOp()) {
    if (auto get = dyn_cast<StateGetOp>(op))
      return get;
    if (auto append = dyn_cast<KvAppendOp>(op)) {
      version = append.getKv();
      continue;
    }
    auto group = dyn_cast<GroupOp>(op);
    if (!group || group.getBody().empty())
      return nullptr;
    auto yield = dyn_cast<YieldOp>(group.getBody().front().back());
    unsigned index = cast<OpResult>(version).getResultNumber();
    if (!yield || index >= yield.getNumOperands())
      return nullptr;
    Value inner = yield.getOperand(index);
    while (auto append = inner.getDefiningOp<KvAppendOp>())
      inner = append.getKv();
    auto arg = dyn_cast<BlockArgument>(inner);
    if (!arg || arg.getArgNumber() >= group.getInputs().size())
      return nullptr;
    version = group.getInputs()[arg.getArgNumber()];
  }
  return nullptr;
}

static LogicalResult verifyStateSymbol(Operation *op, FlatSymbolRefAttr symbol, Type type,
                                       SymbolTableCollection &symbols) {
  auto state = symbols.lookupNearestSymbolFrom<StateOp>(op, symbol);
  if (!state)
    return op->emitOpError() << "refers to " << symbol << ", which is not a mili.state of this module";
  if (state.getType() != type)
    return (op->emitOpError() << "expected the state's type " << state.getType() << ", found " << type)
               .attachNote(state.getLoc())
           << "declared here";
  return success();
}

LogicalResult StateGetOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyStateSymbol(*this, getStateAttr(), getType(), symbols);
}

void StateGetOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  setName(getResult(), "kv");
}

LogicalResult StateSetOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (failed(verifyStateSymbol(*this, getStateAttr(), getValue().getType(), symbols)))
    return failure();
  if (countAdvances(getValue()) != 0)
    return emitOpError() << "expected the last version of " << getStateAttr()
                         << ", found one that was appended to afterwards";
  if (StateGetOp origin = findOrigin(getValue()))
    if (origin.getStateAttr() != getStateAttr())
      return (emitOpError() << "expected a version of " << getStateAttr() << ", found one of " << origin.getStateAttr())
                 .attachNote(origin.getLoc())
             << "began here";
  for (Operation &other : *(*this)->getBlock())
    if (auto set = dyn_cast<StateSetOp>(other); set && set != *this && set.getStateAttr() == getStateAttr())
      return (emitOpError() << "expected one mili.state_set of " << getStateAttr() << ", found two")
                 .attachNote(set.getLoc())
             << "the other is here";
  return success();
}

LogicalResult KvAppendOp::verify() {
  KvType kv = getKv().getType();
  if (failed(verifySameRows(*this, getKey(), getValue(), "key and value")) ||
      failed(verifyFeatures(*this, getKey(), "key", kv.getHeads() * kv.getK(), "heads * k of the state")) ||
      failed(verifyFeatures(*this, getValue(), "value", kv.getHeads() * kv.getV(), "heads * v of the state")))
    return failure();
  Type keyElement = getKey().getType().getElementType(), valueElement = getValue().getType().getElementType();
  if (keyElement != valueElement)
    return emitOpError() << "expected key and value of one element type, found " << keyElement << " and "
                         << valueElement;
  // A state narrower than 16 bits is quantized by the append itself, from whatever the activations are.
  if (kv.getElementType().getWidth() >= 16 && keyElement != kv.getElementType())
    return emitOpError() << "expected key and value of the state's element type " << kv.getElementType() << ", found "
                         << keyElement;
  if (countAdvances(getKv()) > 1)
    return emitOpError() << "expected one append per version of the state, found " << countAdvances(getKv());
  return verifyKept(*this, getResult());
}

void KvAppendOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  setName(getResult(), "kv");
}

//===- Weights ---------------------------------------------------------------===//

LogicalResult WeightOp::verify() {
  if (failed(verifyPackedBytes(*this)))
    return failure();
  return verifyParamShape(*this, getParam(), cast<ShapedType>(getType()));
}

void WeightOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  // `layers.0.mlp.up_proj.weight` reads %up_proj.weight; joined pieces read %q_proj.k_proj.v_proj.
  auto lastComponents = [](StringRef name, unsigned skip, unsigned count) {
    SmallVector<StringRef> parts;
    name.split(parts, '.');
    ArrayRef<StringRef> kept(parts);
    if (kept.size() > skip)
      kept = kept.drop_back(skip);
    return llvm::join(kept.take_back(count), ".");
  };
  ArrayRef<PieceAttr> pieces = getParam().getPieces();
  if (pieces.size() == 1)
    return setName(getResult(), lastComponents(pieces.front().getName(), 0, 2));
  SmallVector<std::string> names;
  for (PieceAttr piece : pieces)
    names.push_back(lastComponents(piece.getName(), 1, 1));
  setName(getResult(), llvm::join(names, "."));
}

LogicalResult DequantOp::verify() {
  auto storage = cast<RankedTensorType>(getStorage().getType());
  auto block = dyn_cast<BlockType>(storage.getElementType());
  if (!block)
    return emitOpError() << "expected storage of a !mili.block element type, found " << storage;
  if (storage.getShape() != getType().getShape())
    return emitOpError() << "expected a result of the storage's shape, found " << storage << " and " << getType();
  if (storage.getShape().back() % block.getBlockElements() != 0)
    return emitOpError() << "expected an innermost dimension that is a multiple of the " << block << " block's "
                         << block.getBlockElements() << " elements, found " << storage;
  for (OpOperand &use : getResult().getUses())
    if (isa_and_present<MiliDialect>(use.getOwner()->getDialect()) && !isPrologueFor(use))
      return (emitOpError() << "expected only mili.linear, mili.logits or mili.embedding to use the result as their "
                               "weight, found "
                            << use.getOwner()->getName() << " operand #" << use.getOperandNumber())
                 .attachNote(use.getOwner()->getLoc())
             << "used here";
  return success();
}

LogicalResult EmbeddingOp::verify() {
  if (failed(verifySameRows(*this, getTokens(), getResult(), "tokens and result")))
    return failure();
  return verifyFeatures(*this, getResult(), "result", features(getTable()), "of the table");
}

//===- Products --------------------------------------------------------------===//

LogicalResult LinearOp::verify() {
  if (failed(verifySameRows(*this, getInput(), getResult(), "input and result")) ||
      failed(verifyFeatures(*this, getInput(), "input", features(getWeight()), "columns of the weight")) ||
      failed(verifyFeatures(*this, getResult(), "result", getWeight().getType().getDimSize(0), "rows of the weight")))
    return failure();
  if (getBias())
    return verifyFeatures(*this, getBias(), "bias", features(getResult()), "of the result");
  return success();
}

LogicalResult LogitsOp::verify() {
  if (failed(verifyFeatures(*this, getInput(), "input", features(getWeight()), "columns of the weight")))
    return failure();
  return verifyFeatures(*this, getResult(), "result", getWeight().getType().getDimSize(0), "rows of the weight");
}

//===- Attention -------------------------------------------------------------===//

LogicalResult RopeOp::verify() {
  int64_t heads = getHeads(), width = features(getInput());
  if (static_cast<int64_t>(getHeads()) <= 0 || width % heads != 0)
    return emitOpError() << "expected features that " << heads << " heads divide, found " << getInput().getType();
  int64_t rotated = 2 * getRope().getFrequencies().size();
  if (width / heads % 2 != 0 || rotated > width / heads)
    return emitOpError() << "expected heads of an even width of at least " << rotated
                         << " (two elements a frequency), found width " << width / heads;
  return success();
}

LogicalResult AttentionOp::verify() {
  KvType kv = getKv().getType();
  int64_t heads = getHeads();
  if (heads <= 0 || heads > kMaxHeads || heads % kv.getHeads() != 0)
    return emitOpError() << "expected at most " << kMaxHeads << " query heads that are a multiple of the state's "
                         << kv.getHeads() << " heads, found " << heads;
  if (failed(verifySameRows(*this, getQuery(), getResult(), "query and result")) ||
      failed(verifyFeatures(*this, getQuery(), "query", heads * kv.getK(), "heads * k of the state")) ||
      failed(verifyFeatures(*this, getResult(), "result", heads * kv.getV(), "heads * v of the state")))
    return failure();
  if (kv.getWindow() == 0)
    return success();
  auto window = dyn_cast<WindowAttr>(getMask());
  if (!window || window.getTokens() > kv.getWindow())
    return emitOpError() << "expected a window mask of at most the " << kv.getWindow()
                         << " tokens that the state keeps, found " << getMask();
  return success();
}

//===- Row and element-wise operations ---------------------------------------===//

LogicalResult RmsNormOp::verify() {
  int64_t segment = features(getWeight());
  if (segment == 0 || features(getInput()) % segment != 0)
    return emitOpError() << "expected features that are a multiple of the weight's " << segment << ", found "
                         << getInput().getType();
  float eps = getEps().convertToFloat();
  if (!(eps >= 0) || std::isinf(eps))
    return emitOpError() << "expected a finite eps of at least 0, found " << eps;
  return success();
}

OpFoldResult ScaleOp::fold(FoldAdaptor) {
  if (getFactor().isExactlyValue(1.0))
    return getInput();
  return {};
}

namespace {
/// scale(scale(x, a), b) -> scale(x, a * b), where nothing else wants the inner product.
struct MergeScales : OpRewritePattern<ScaleOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ScaleOp op, PatternRewriter &rewriter) const override {
    auto inner = op.getInput().getDefiningOp<ScaleOp>();
    if (!inner || !inner->hasOneUse())
      return failure();
    APFloat factor = inner.getFactor();
    factor.multiply(op.getFactor(), APFloat::rmNearestTiesToEven);
    rewriter.replaceOpWithNewOp<ScaleOp>(op, op.getType(), inner.getInput(),
                                         rewriter.getF32FloatAttr(factor.convertToFloat()));
    return success();
  }
};
}  // namespace

void ScaleOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *context) {
  patterns.add<MergeScales>(context);
}

LogicalResult SplitOp::verify() {
  if (getResults().empty())
    return emitOpError() << "expected at least one result, found none";
  int64_t sum = 0, run = getInterleave();
  for (Value result : getResults()) {
    if (failed(verifySameRows(*this, getInput(), result, "input and results")))
      return failure();
    if (cast<ShapedType>(result.getType()).getElementType() != getInput().getType().getElementType())
      return emitOpError() << "expected results of the input's element type, found " << getInput().getType() << " and "
                           << result.getType();
    sum += features(result);
  }
  if (sum != features(getInput()))
    return emitOpError() << "expected results of " << features(getInput()) << " features in all, found " << sum;
  if (run < 0)
    return emitOpError() << "expected an interleave of at least 0, found " << run;
  if (run == 0)
    return success();
  if (getNumResults() != 2 || features(getResult(0)) != features(getResult(1)))
    return emitOpError() << "expected two results of equal width with an interleave, found " << getResultTypes();
  if (features(getResult(0)) % run != 0)
    return emitOpError() << "expected results whose width is a multiple of the interleave " << run << ", found "
                         << getResult(0).getType();
  return success();
}

LogicalResult SplitOp::fold(FoldAdaptor, SmallVectorImpl<OpFoldResult> &results) {
  if (getNumResults() != 1 || getResult(0).getType() != getInput().getType())
    return failure();
  results.push_back(getInput());
  return success();
}

//===- Groups ----------------------------------------------------------------===//

LogicalResult GroupOp::verify() {
  Block &body = getBody().front();
  if (body.getArgumentTypes() != getInputs().getTypes())
    return emitOpError() << "expected body arguments of the inputs' types " << getInputs().getTypes() << ", found "
                         << body.getArgumentTypes();
  auto yield = body.empty() ? YieldOp() : dyn_cast<YieldOp>(body.back());
  if (!yield)
    return emitOpError() << "expected a body that ends in mili.yield, found "
                         << (body.empty() ? StringRef("an empty one") : body.back().getName().getStringRef());
  if (yield.getOperandTypes() != getResultTypes())
    return (emitOpError() << "expected mili.yield of the results' types " << getResultTypes() << ", found "
                          << yield.getOperandTypes())
               .attachNote(yield.getLoc())
           << "yielded here";
  for (Operation &op : body.without_terminator())
    if (isa<GroupOp, StateOp, StateGetOp, StateSetOp, YieldOp>(op))
      return (emitOpError() << "expected a body that only computes (states come in as operands), found "
                            << op.getName())
                 .attachNote(op.getLoc())
             << "found here";
  if (!getHeroOp())
    return emitOpError() << "expected the hero \"" << getHero() << "\" among the ops of the body, found none";
  if (std::optional<ArrayAttr> stages = getStages()) {
    if (!getKernel())
      return emitOpError() << "expected a kernel template beside its stages, found none";
    if (stages->empty())
      return emitOpError() << "expected at least one stage, found none";
  }
  for (auto [what, bytes] : {std::pair("arena_scratch", getArenaScratch()), {"counters", getCounters()}})
    if (bytes && *bytes > static_cast<uint64_t>(kMaxBytes))
      return emitOpError() << "expected 0 to " << kMaxBytes << " bytes of " << what << ", found "
                           << static_cast<int64_t>(*bytes);
  for (Type type : llvm::concat<const Type>(getInputs().getTypes(), getResultTypes()))
    if (auto tensor = dyn_cast<ShapedType>(type); tensor && !hasBoundedShape(tensor))
      return emitOpError() << "expected tensors of known rank, dimensions of 1 to " << kMaxDimension
                           << ", 2^40 elements at most, found " << type;
  for (OpOperand &input : getInputsMutable())
    if (isa<KvType, RecurrentType>(input.get().getType()) && countAdvances(input.get()) > 1)
      return emitOpError() << "expected one append per version of the state, found " << countAdvances(input.get());
  for (Value result : getResults())
    if (isa<KvType, RecurrentType>(result.getType()) && failed(verifyKept(*this, result)))
      return failure();
  return success();
}

Operation *GroupOp::getHeroOp() {
  if (getBody().empty())
    return nullptr;
  for (Operation &op : getBody().front())
    if (op.getName().getStringRef() == getHero())
      return &op;
  return nullptr;
}

LogicalResult YieldOp::verify() {
  // Named, not by class: the plan dialect stands on this one.
  StringRef parent = (*this)->getParentOp()->getName().getStringRef();
  if (parent != GroupOp::getOperationName() && parent != "mili_plan.kernel")
    return emitOpError() << "expected to end a mili.group or mili_plan.kernel, found it in " << parent;
  return success();
}
