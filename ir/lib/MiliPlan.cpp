//===- MiliPlan.cpp - the mili_plan dialect ---------------------------------===//
#include "mili/IR/MiliPlan.h"

#include "BodyAssembly.h"
#include "ParamAssembly.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::plan;

/// Slices of the arena begin at multiples of this many bytes.
static constexpr int64_t kSliceAlignment = 256;

#include "mili/IR/MiliPlanDialect.cpp.inc"
#include "mili/IR/MiliPlanEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "mili/IR/MiliPlanAttrs.cpp.inc"
#define GET_OP_CLASSES
#include "mili/IR/MiliPlanOps.cpp.inc"

void MiliPlanDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "mili/IR/MiliPlanAttrs.cpp.inc"
      >();
}

void MiliPlanDialect::initialize() {
  registerAttributes();
  addOperations<
#define GET_OP_LIST
#include "mili/IR/MiliPlanOps.cpp.inc"
      >();
}

//===- Verification ----------------------------------------------------------===//

LogicalResult WorkAttr::verify(function_ref<InFlightDiagnostic()> emitError, RowCount, int64_t bytesFixed,
                               int64_t bytesRow, int64_t bytesKey, int64_t flopsRow, int64_t flopsPair,
                               int64_t visibleBase, int64_t visibleEvery) {
  for (int64_t figure : {bytesFixed, bytesRow, bytesKey, flopsRow, flopsPair, visibleBase, visibleEvery})
    if (figure < 0)
      return emitError() << "work: expected figures that are not negative, found " << figure;
  if ((bytesKey || flopsPair) != (visibleBase || visibleEvery))
    return emitError() << "work: expected visible keys just where keys or pairs count, found bytes_key = " << bytesKey
                       << ", flops_pair = " << flopsPair << ", visible_base = " << visibleBase
                       << ", visible_every = " << visibleEvery;
  return success();
}

LogicalResult mlir::mili::plan::WeightOp::verify() {
  if (failed(verifyPackedBytes(*this)))
    return failure();
  return verifyParamShape(*this, getParam(), cast<ShapedType>(getType()));
}

LogicalResult KernelOp::verify() {
  Block &body = getBody().front();
  if (getStages().empty())
    return emitOpError() << "expected at least one stage, found none";
  for (Attribute layout : getWeightLayouts())
    if (!isa<StringAttr>(layout))
      return emitOpError() << "expected layouts that are strings, found " << layout;
  if (getWeightLayouts().size() != body.getNumArguments())
    return emitOpError() << "expected a layout (empty for what is not a weight) for each of the "
                         << body.getNumArguments() << " body arguments, found " << getWeightLayouts().size();
  if (body.empty() || !isa<YieldOp>(body.back()))
    return emitOpError() << "expected a body that ends in mili.yield, found "
                         << (body.empty() ? StringRef("an empty one") : body.back().getName().getStringRef());
  if (llvm::none_of(body, [&](Operation &op) { return op.getName().getStringRef() == getHero(); }))
    return emitOpError() << "expected the hero \"" << getHero() << "\" among the ops of the body, found none";
  return success();
}

LogicalResult BucketOp::verify() {
  auto signedAttr = [](uint64_t value) { return static_cast<int64_t>(value); };
  int64_t arena = signedAttr(getArena()), lowerBound = signedAttr(getLowerBound()), logits = signedAttr(getLogits());
  if (arena < 0 || lowerBound < 0 || lowerBound > arena)
    return emitOpError() << "expected 0 <= lower_bound <= arena bytes, found lower_bound = " << lowerBound
                         << ", arena = " << arena;
  if (logits < 0 || logits % kSliceAlignment != 0 || (logits >= arena && logits != 0))
    return emitOpError() << "expected logits at a multiple of " << kSliceAlignment << " within the arena of " << arena
                         << " bytes, found offset " << logits;
  if (auto attr = getSampledAttr())
    if (int64_t sampled = attr.getInt(); sampled < 0 || sampled % kSliceAlignment != 0 || sampled >= arena)
      return emitOpError() << "expected sampled tokens at a multiple of " << kSliceAlignment << " within the arena of "
                           << arena << " bytes, found offset " << sampled;
  for (Operation &op : getBody().front())
    if (!isa<LaunchOp>(op))
      return (emitOpError() << "expected only mili_plan.launch in its body, found " << op.getName())
                 .attachNote(op.getLoc())
             << "found here";
  return success();
}

LogicalResult LaunchOp::verify() {
  auto arena = static_cast<int64_t>(cast<BucketOp>((*this)->getParentOp()).getArena());
  for (auto [index, arg] : llvm::enumerate(getArgs())) {
    if (auto counters = dyn_cast<CountersAttr>(arg); counters && counters.getSize() <= 0)
      return emitOpError() << "expected a positive number of bytes of counters as argument #" << index << ", found "
                           << counters.getSize();
    if (isa<WeightRefAttr, StateRefAttr, CountersAttr>(arg))
      continue;
    auto slice = dyn_cast<ArenaAttr>(arg);
    if (!slice)
      return emitOpError() << "expected argument #" << index
                           << " to be an arena slice, a weight_ref or a state_ref, found " << arg;
    if (slice.getOffset() < 0 || slice.getOffset() % kSliceAlignment != 0)
      return emitOpError() << "expected argument #" << index << " at an offset that is a multiple of "
                           << kSliceAlignment << " bytes, found " << slice.getOffset();
    // Not `offset + size > arena`: the sum may overflow.
    if (slice.getSize() <= 0 || slice.getOffset() > arena || slice.getSize() > arena - slice.getOffset())
      return emitOpError() << "expected argument #" << index << " within the bucket's arena of " << arena
                           << " bytes, found " << slice.getOffset() << " + " << slice.getSize();
  }
  return success();
}

/// The batch itself and the token ids, which are one of its tables: no launch argument stands for them.
static bool comesWithTheBatch(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return isa<BatchType>(type) || (tensor && tensor.getRank() == 1 && tensor.getElementType().isInteger(32));
}

LogicalResult LaunchOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto kernel = symbols.lookupNearestSymbolFrom<KernelOp>(*this, getKernelAttr());
  if (!kernel)
    return emitOpError() << "refers to " << getKernelAttr() << ", which is not a mili_plan.kernel of this module";
  if (getStage() >= kernel.getStages().size())
    return emitOpError() << "expected a stage of " << getKernelAttr() << " below " << kernel.getStages().size()
                         << ", found " << getStage();
  // What the kernel's body says of each argument: its type, and the layout where it is a weight.
  SmallVector<std::pair<Type, StringRef>> expected;
  Block &body = kernel.getBody().front();
  for (auto [arg, layout] : llvm::zip(body.getArguments(), kernel.getWeightLayouts().getAsRange<StringAttr>()))
    if (!comesWithTheBatch(arg.getType()))
      expected.emplace_back(arg.getType(), layout.getValue());
  for (Type type : body.back().getOperandTypes())
    if (!isa<KvType, RecurrentType>(type))
      expected.emplace_back(type, "");
  if (getArgs().size() < expected.size() || getArgs().size() > expected.size() + 2)
    return emitOpError() << "expected " << expected.size() << " arguments for " << getKernelAttr()
                         << " (then scratch and counters, if any), found " << getArgs().size();
  for (auto [index, arg, of] : llvm::enumerate(getArgs().getValue().take_front(expected.size()), expected)) {
    auto [type, layout] = of;
    bool isState = isa<KvType, RecurrentType>(type);
    if (isState != isa<StateRefAttr>(arg) || layout.empty() == isa<WeightRefAttr>(arg) || isa<CountersAttr>(arg))
      return emitOpError() << "expected argument #" << index << " to be "
                           << (isState          ? "a state_ref"
                               : layout.empty() ? "an arena slice"
                                                : "a weight_ref")
                           << " for " << type << ", found " << arg;
    if (auto ref = dyn_cast<WeightRefAttr>(arg)) {
      auto weight = symbols.lookupNearestSymbolFrom<plan::WeightOp>(*this, ref.getWeight());
      if (!weight)
        return emitOpError() << "argument #" << index << " refers to " << ref.getWeight()
                             << ", which is not a mili_plan.weight of this module";
      if (weight.getType() != type || weight.getLayout() != layout)
        return emitOpError() << "expected argument #" << index << " to be a weight of " << type << " in layout \""
                             << layout << "\", found " << weight.getType() << " in layout \"" << weight.getLayout()
                             << "\"";
    }
    if (auto ref = dyn_cast<StateRefAttr>(arg)) {
      auto state = symbols.lookupNearestSymbolFrom<StateOp>(*this, ref.getState());
      if (!state)
        return emitOpError() << "argument #" << index << " refers to " << ref.getState()
                             << ", which is not a mili.state of this module";
      if (state.getType() != type)
        return emitOpError() << "expected argument #" << index << " to be a state of " << type << ", found "
                             << state.getType();
    }
  }
  ArrayRef<Attribute> rest = getArgs().getValue().drop_front(expected.size());
  if (!rest.empty() && isa<ArenaAttr>(rest.front()))
    rest = rest.drop_front();
  if (!rest.empty() && isa<CountersAttr>(rest.front()))
    rest = rest.drop_front();
  if (!rest.empty())
    return emitOpError() << "expected scratch in the arena, then counters, as the arguments after #"
                         << static_cast<int64_t>(expected.size()) - 1 << ", found " << rest.front();
  return success();
}
