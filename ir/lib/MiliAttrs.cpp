//===- MiliAttrs.cpp - attributes of the mili dialect -----------------------===//
#include "mili/IR/MiliDialect.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::mili;

#define GET_ATTRDEF_CLASSES
#include "mili/IR/MiliAttrs.cpp.inc"

void MiliDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "mili/IR/MiliAttrs.cpp.inc"
      >();
}

//===- Pieces and params -----------------------------------------------------===//

LogicalResult PieceAttr::verify(function_ref<InFlightDiagnostic()> emitError, StringRef name, int64_t begin,
                                int64_t end) {
  if (name.empty())
    return emitError() << "weight piece: the tensor's name is empty";
  if (begin < 0 || (end != -1 && end <= begin))
    return emitError() << "weight piece \"" << name << "\": expected 0 <= begin < end, found [" << begin << " : " << end
                       << "]";
  if (end == -1 && begin != 0)
    return emitError() << "weight piece \"" << name << "\": a range needs both ends";
  return success();
}

/// `"name"` or `"name"[begin : end]`.
static FailureOr<PieceAttr> parsePiece(AsmParser &parser) {
  std::string name;
  int64_t begin = 0, end = -1;
  if (parser.parseString(&name))
    return failure();
  if (succeeded(parser.parseOptionalLSquare()))
    if (parser.parseInteger(begin) || parser.parseColon() || parser.parseInteger(end) || parser.parseRSquare())
      return failure();
  PieceAttr piece = parser.getChecked<PieceAttr>(parser.getContext(), name, begin, end);
  if (!piece)
    return failure();
  return piece;
}

static void printPiece(AsmPrinter &printer, PieceAttr piece) {
  printer.printString(piece.getName());
  if (piece.getEnd() != -1)
    printer << '[' << piece.getBegin() << " : " << piece.getEnd() << ']';
}

Attribute PieceAttr::parse(AsmParser &parser, Type) {
  if (parser.parseLess())
    return {};
  FailureOr<PieceAttr> piece = parsePiece(parser);
  if (failed(piece) || parser.parseGreater())
    return {};
  return *piece;
}

void PieceAttr::print(AsmPrinter &printer) const {
  printer << '<';
  printPiece(printer, *this);
  printer << '>';
}

LogicalResult ParamAttr::verify(function_ref<InFlightDiagnostic()> emitError, ArrayRef<PieceAttr> pieces,
                                int64_t interleave) {
  if (pieces.empty())
    return emitError() << "weight param: needs at least one piece";
  if (interleave < 0)
    return emitError() << "weight param: interleave must not be negative, found " << interleave;
  if (interleave > 0 && pieces.size() != 2)
    return emitError() << "weight param: interleave needs exactly two pieces, found " << pieces.size();
  return success();
}

Attribute ParamAttr::parse(AsmParser &parser, Type) {
  SmallVector<PieceAttr> pieces;
  int64_t interleave = 0;
  if (parser.parseLess())
    return {};
  do {
    if (succeeded(parser.parseOptionalKeyword("interleave"))) {
      if (parser.parseEqual() || parser.parseInteger(interleave))
        return {};
      break;
    }
    FailureOr<PieceAttr> piece = parsePiece(parser);
    if (failed(piece))
      return {};
    pieces.push_back(*piece);
  } while (succeeded(parser.parseOptionalComma()));
  if (parser.parseGreater())
    return {};
  return parser.getChecked<ParamAttr>(parser.getContext(), pieces, interleave);
}

void ParamAttr::print(AsmPrinter &printer) const {
  printer << '<';
  llvm::interleaveComma(getPieces(), printer, [&](PieceAttr piece) { printPiece(printer, piece); });
  if (getInterleave())
    printer << ", interleave = " << getInterleave();
  printer << '>';
}

std::string ParamAttr::getDisplayName() const {
  std::string name;
  for (PieceAttr piece : getPieces()) {
    if (!name.empty())
      name += '+';
    name += piece.getName();
  }
  return name;
}

//===- Others ----------------------------------------------------------------===//

LogicalResult RopeAttr::verify(function_ref<InFlightDiagnostic()> emitError, StringRef kind, RopePairing,
                               FloatAttr amplitude, DenseF32ArrayAttr frequencies) {
  if (frequencies.empty())
    return emitError() << "rope: needs at least one frequency";
  if (!amplitude.getType().isF32())
    return emitError() << "rope: amplitude must be f32, found " << amplitude.getType();
  return success();
}

LogicalResult WindowAttr::verify(function_ref<InFlightDiagnostic()> emitError, int64_t tokens) {
  if (tokens <= 0)
    return emitError() << "window mask: tokens must be positive, found " << tokens;
  return success();
}

LogicalResult BucketAttr::verify(function_ref<InFlightDiagnostic()> emitError, int64_t tokens, int64_t sequences,
                                 int64_t logitRows) {
  if (tokens <= 0 || sequences <= 0 || logitRows < 0)
    return emitError() << "bucket: tokens and sequences must be positive and logit_rows not negative, found tokens = "
                       << tokens << ", sequences = " << sequences << ", logit_rows = " << logitRows;
  if (sequences > tokens || logitRows > tokens)
    return emitError() << "bucket: sequences and logit_rows cannot exceed tokens = " << tokens
                       << ", found sequences = " << sequences << ", logit_rows = " << logitRows;
  return success();
}
