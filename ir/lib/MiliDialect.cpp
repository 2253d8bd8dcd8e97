//===- MiliDialect.cpp - registration, types --------------------------------===//
#include "mili/IR/MiliDialect.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::mili;

#include "mili/IR/MiliDialect.cpp.inc"
#include "mili/IR/MiliEnums.cpp.inc"
#include "mili/IR/MiliInterfaces.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "mili/IR/MiliTypes.cpp.inc"

namespace {
/// Prints long attributes once, behind an alias.
struct MiliAsmInterface : OpAsmDialectInterface {
  using OpAsmDialectInterface::OpAsmDialectInterface;
  AliasResult getAlias(Attribute attr, raw_ostream &os) const override {
    if (auto rope = dyn_cast<RopeAttr>(attr)) {
      os << "rope";
      return AliasResult::FinalAlias;
    }
    return AliasResult::NoAlias;
  }
};
}  // namespace

void MiliDialect::registerTypes() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "mili/IR/MiliTypes.cpp.inc"
      >();
}

void MiliDialect::initialize() {
  registerTypes();
  registerAttributes();
  addOperations<
#define GET_OP_LIST
#include "mili/IR/MiliOps.cpp.inc"
      >();
  attachSharding();
  addInterfaces<MiliAsmInterface>();
}

bool mlir::mili::hasBoundedShape(Type type) {
  auto shaped = cast<ShapedType>(type);
  if (!shaped.hasRank())
    return false;
  int64_t elements = 1;
  for (int64_t size : shaped.getShape()) {
    if (ShapedType::isDynamic(size))
      continue;
    if (size < 1 || size > kMaxDimension || elements > kMaxBytes / size)
      return false;
    elements *= size;
  }
  return true;
}

LogicalResult MiliDialect::verifyOperationAttribute(Operation *op, NamedAttribute attribute) {
  StringRef name = attribute.getName().getValue();
  Attribute value = attribute.getValue();
  auto refuse = [&](const Twine &expected) {
    return op->emitOpError() << "expected " << expected << " as " << name << ", found " << value;
  };
  auto integer = [&](int64_t most) -> LogicalResult {
    auto number = dyn_cast<IntegerAttr>(value);
    if (!number || !number.getType().isSignlessInteger(64) || number.getInt() < 1 || number.getInt() > most)
      return refuse("an i64 of 1 to " + Twine(most));
    return success();
  };
  if (name == getBucketAttrName())
    return isa<BucketAttr>(value) ? success() : refuse("a #mili.bucket");
  if (name == getContextAttrName() || name == getTrainedContextAttrName())
    return integer(kMaxContext);
  if (name == getVocabAttrName() || name == getLayersAttrName() || name == getRequestsAttrName())
    return integer(kMaxDimension);
  if (name == getFamilyAttrName() || name == getModelNameAttrName() || name == getFunctionAttrName())
    return isa<StringAttr>(value) ? success() : refuse("a string");
  if (name == getKernelsAttrName()) {
    auto choices = dyn_cast<DictionaryAttr>(value);
    if (!choices || llvm::any_of(choices, [](NamedAttribute choice) { return !isa<StringAttr>(choice.getValue()); }))
      return refuse("a dictionary of strings");
    return success();
  }
  if (name == getDuplicatesAttrName()) {
    // A copy of a copy would say nothing of the first.
    auto copies = dyn_cast<DictionaryAttr>(value);
    if (!copies || llvm::any_of(copies, [&](NamedAttribute copy) {
          auto first = dyn_cast<StringAttr>(copy.getValue());
          return !first || copies.contains(first);
        }))
      return refuse("a dictionary of names that are no keys of it");
    return success();
  }
  if (name == getDeterministicAttrName())
    return isa<UnitAttr>(value) ? success() : refuse("a unit attribute");
  return op->emitOpError() << "has an unknown attribute " << name << "; expected one of " << getBucketAttrName() << ", "
                           << getFunctionAttrName() << ", " << getContextAttrName() << ", "
                           << getTrainedContextAttrName() << ", " << getRequestsAttrName() << ", " << getVocabAttrName()
                           << ", " << getLayersAttrName() << ", " << getFamilyAttrName() << ", "
                           << getModelNameAttrName() << ", " << getKernelsAttrName() << ", " << getDuplicatesAttrName()
                           << ", " << getDeterministicAttrName();
}

static int64_t elementBytes(FloatType type) {
  return (type.getWidth() + 7) / 8;
}

LogicalResult KvType::verify(function_ref<InFlightDiagnostic()> emitError, int64_t heads, int64_t k, int64_t v,
                             FloatType elementType, int64_t window) {
  if (heads <= 0 || k <= 0 || v <= 0)
    return emitError() << "kv state: heads, k and v must be positive, found heads = " << heads << ", k = " << k
                       << ", v = " << v;
  if (heads > kMaxHeads || k > kMaxHeads || v > kMaxHeads)
    return emitError() << "kv state: heads, k and v must be at most " << kMaxHeads << ", found heads = " << heads
                       << ", k = " << k << ", v = " << v;
  if (window < 0 || window > kMaxContext)
    return emitError() << "kv state: window must not be negative and at most " << kMaxContext << ", found " << window;
  return success();
}

int64_t KvType::getPageBytes() const {
  return (getK() + getV()) * getHeads() * kPageTokens * elementBytes(getElementType());
}

LogicalResult RecurrentType::verify(function_ref<InFlightDiagnostic()> emitError, ArrayRef<int64_t> shape,
                                    FloatType elementType, int64_t snapshots) {
  if (shape.empty())
    return emitError() << "recurrent state: needs at least one dimension";
  int64_t elements = 1;
  for (int64_t d : shape) {
    if (d <= 0)
      return emitError() << "recurrent state: dimensions must be positive, found " << d;
    if (elements > kMaxBytes / d)
      return emitError() << "recurrent state: expected at most " << kMaxBytes << " elements, found more";
    elements *= d;
  }
  if (snapshots < 0 || snapshots > kMaxHeads)
    return emitError() << "recurrent state: snapshots must not be negative and at most " << kMaxHeads << ", found "
                       << snapshots;
  return success();
}

Type RecurrentType::parse(AsmParser &parser) {
  SmallVector<int64_t> shape;
  FloatType element;
  int64_t snapshots = 0;
  if (parser.parseLess() || parser.parseDimensionList(shape, /*allowDynamic=*/false) || parser.parseType(element))
    return {};
  if (succeeded(parser.parseOptionalComma()))
    if (parser.parseKeyword("snapshots") || parser.parseEqual() || parser.parseInteger(snapshots))
      return {};
  if (parser.parseGreater())
    return {};
  return parser.getChecked<RecurrentType>(parser.getContext(), shape, element, snapshots);
}

void RecurrentType::print(AsmPrinter &printer) const {
  printer << '<';
  for (int64_t d : getShape())
    printer << d << 'x';
  printer << getElementType();
  if (getSnapshots())
    printer << ", snapshots = " << getSnapshots();
  printer << '>';
}

int64_t RecurrentType::getSlotBytes() const {
  int64_t n = elementBytes(getElementType());
  for (int64_t d : getShape())
    n *= d;
  return n * (1 + getSnapshots());
}

int64_t BlockType::getBlockElements() const {
  return getFormat() == BlockFormat::q6_k ? 256 : 32;
}

int64_t BlockType::getBlockBytes() const {
  switch (getFormat()) {
  case BlockFormat::q4_0: return 18;
  case BlockFormat::q4_1: return 20;
  case BlockFormat::q8_0: return 34;
  case BlockFormat::q6_k: return 210;
  }
  llvm_unreachable("every format is listed");
}
