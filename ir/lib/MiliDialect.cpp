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

static int64_t elementBytes(FloatType type) {
  return (type.getWidth() + 7) / 8;
}

LogicalResult KvType::verify(function_ref<InFlightDiagnostic()> emitError, int64_t heads, int64_t k, int64_t v,
                             FloatType elementType, int64_t window) {
  if (heads <= 0 || k <= 0 || v <= 0)
    return emitError() << "kv state: heads, k and v must be positive, found heads = " << heads << ", k = " << k
                       << ", v = " << v;
  if (window < 0)
    return emitError() << "kv state: window must not be negative, found " << window;
  return success();
}

int64_t KvType::getPageBytes() const {
  return (getK() + getV()) * getHeads() * kPageTokens * elementBytes(getElementType());
}

LogicalResult RecurrentType::verify(function_ref<InFlightDiagnostic()> emitError, ArrayRef<int64_t> shape,
                                    FloatType elementType, int64_t snapshots) {
  if (shape.empty())
    return emitError() << "recurrent state: needs at least one dimension";
  for (int64_t d : shape)
    if (d <= 0)
      return emitError() << "recurrent state: dimensions must be positive, found " << d;
  if (snapshots < 0)
    return emitError() << "recurrent state: snapshots must not be negative, found " << snapshots;
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
