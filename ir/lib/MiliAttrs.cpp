//===- MiliAttrs.cpp - attributes of the mili dialect -----------------------===//
#include "ParamAssembly.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>
#include <limits>

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
  if (end > kMaxBytes)
    return emitError() << "weight piece \"" << name << "\": expected a range that ends by " << kMaxBytes << ", found "
                       << end;
  return success();
}

/// `"name"` or `"name"[begin : end]`; null once an error was emitted.
static PieceAttr parsePiece(AsmParser &parser) {
  std::string name;
  int64_t begin = 0, end = -1;
  if (parser.parseString(&name))
    return {};
  if (succeeded(parser.parseOptionalLSquare()))
    if (parser.parseInteger(begin) || parser.parseColon() || parser.parseInteger(end) || parser.parseRSquare())
      return {};
  return parser.getChecked<PieceAttr>(parser.getContext(), name, begin, end);
}

static void printPiece(AsmPrinter &printer, PieceAttr piece) {
  printer.printString(piece.getName());
  if (piece.getEnd() != -1)
    printer << '[' << piece.getBegin() << " : " << piece.getEnd() << ']';
}

Attribute PieceAttr::parse(AsmParser &parser, Type) {
  if (parser.parseLess())
    return {};
  PieceAttr piece = parsePiece(parser);
  if (!piece || parser.parseGreater())
    return {};
  return piece;
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
  if (interleave < 0 || interleave > kMaxDimension)
    return emitError() << "weight param: interleave must not be negative and at most " << kMaxDimension << ", found "
                       << interleave;
  if (interleave > 0 && pieces.size() != 2)
    return emitError() << "weight param: interleave needs exactly two pieces, found " << pieces.size();
  return success();
}

ParseResult mlir::mili::parseParamBody(AsmParser &parser, ParamAttr &param) {
  SmallVector<PieceAttr> pieces;
  int64_t interleave = 0;
  do {
    if (succeeded(parser.parseOptionalKeyword("interleave"))) {
      if (parser.parseEqual() || parser.parseInteger(interleave))
        return failure();
      break;
    }
    PieceAttr piece = parsePiece(parser);
    if (!piece)
      return failure();
    pieces.push_back(piece);
  } while (succeeded(parser.parseOptionalComma()));
  param = parser.getChecked<ParamAttr>(parser.getContext(), pieces, interleave);
  return success(param != nullptr);
}

void mlir::mili::printParamBody(AsmPrinter &printer, ParamAttr param) {
  llvm::interleaveComma(param.getPieces(), printer, [&](PieceAttr piece) { printPiece(printer, piece); });
  if (param.getInterleave())
    printer << ", interleave = " << param.getInterleave();
}

Attribute ParamAttr::parse(AsmParser &parser, Type) {
  ParamAttr param;
  if (parser.parseLess() || parseParamBody(parser, param) || parser.parseGreater())
    return {};
  return param;
}

void ParamAttr::print(AsmPrinter &printer) const {
  printer << '<';
  printParamBody(printer, *this);
  printer << '>';
}

LogicalResult mlir::mili::verifyPackedBytes(Operation *op) {
  Attribute found = op->getAttr("packed_bytes");
  if (!found)
    return success();
  auto bytes = dyn_cast<IntegerAttr>(found);
  if (!bytes || !bytes.getType().isSignlessInteger(64) || bytes.getInt() < 0 || bytes.getInt() > 8 * kMaxBytes)
    return op->emitOpError() << "expected an i64 of 0 to " << 8 * kMaxBytes << " as packed_bytes, found " << found;
  return success();
}

LogicalResult mlir::mili::verifyParamShape(Operation *op, ParamAttr param, ShapedType type) {
  if (type.getRank() == 0)
    return op->emitOpError() << "expected a weight of rank 1 or more, found " << type;
  if (auto block = dyn_cast<BlockType>(type.getElementType()))
    if (type.getShape().back() % block.getBlockElements() != 0)
      return op->emitOpError() << "expected an innermost dimension that is a multiple of the " << block << " block's "
                               << block.getBlockElements() << " elements, found " << type;
  // Only ranges tell their height before the file is read; a whole piece has at least one row.
  int64_t rows = type.getDimSize(0), known = 0, whole = 0;
  for (PieceAttr piece : param.getPieces()) {
    if (piece.getEnd() == -1)
      ++whole;
    else
      known = std::min(known + piece.getEnd() - piece.getBegin(), kMaxBytes);
  }
  if (whole == 0 ? known != rows : known + whole > rows)
    return op->emitOpError() << "expected pieces of " << rows << " rows in all for " << type << ", found " << known
                             << (whole ? " rows in ranges beside whole tensors" : " rows");
  if (int64_t run = param.getInterleave()) {
    if (rows % (2 * run) != 0)
      return op->emitOpError() << "expected rows that are a multiple of 2 * interleave = " << 2 * run << ", found "
                               << rows;
    for (PieceAttr piece : param.getPieces())
      if (piece.getEnd() != -1 && piece.getEnd() - piece.getBegin() != rows / 2)
        return op->emitOpError() << "expected interleaved pieces of " << rows / 2 << " rows each, found "
                                 << piece.getEnd() - piece.getBegin() << " in \"" << piece.getName() << "\"";
  }
  return success();
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
  if (!amplitude.getValue().isFinite() ||
      !llvm::all_of(frequencies.asArrayRef(), [](float f) { return std::isfinite(f); }))
    return emitError() << "rope: amplitude and frequencies must be finite";
  return success();
}

LogicalResult WindowAttr::verify(function_ref<InFlightDiagnostic()> emitError, int64_t tokens) {
  if (tokens <= 0 || tokens > kMaxContext)
    return emitError() << "window mask: tokens must be positive and at most " << kMaxContext << ", found " << tokens;
  return success();
}

LogicalResult BlockSparseAttr::verify(function_ref<InFlightDiagnostic()> emitError, int64_t local, int64_t global,
                                      int64_t stride, int64_t random, int64_t seed) {
  for (auto [name, tokens] : {std::pair("local", local), {"global", global}, {"stride", stride}})
    if (tokens < 0 || tokens % KvType::kPageTokens != 0 || tokens > kMaxPatternTokens)
      return emitError() << "block_sparse mask: " << name << " must be a multiple of " << KvType::kPageTokens
                         << " tokens, at most " << kMaxPatternTokens << ", found " << tokens;
  if (local == 0)
    return emitError() << "block_sparse mask: local must be positive: a token sees its own block";
  if (random < 0 || random > kMaxRandomBlocks)
    return emitError() << "block_sparse mask: random must be 0 to " << kMaxRandomBlocks << " blocks, found " << random;
  if (random > 0 && stride > 0)
    return emitError() << "block_sparse mask: stride and random do not combine";
  if (seed < 0 || seed > std::numeric_limits<uint32_t>::max())
    return emitError() << "block_sparse mask: seed must be 0 to 2^32 - 1, found " << seed;
  return success();
}

::mili_attention::BlockPattern BlockSparseAttr::getPattern() const {
  const int64_t block = KvType::kPageTokens;
  static_assert(::mili_attention::kPatternTokens == KvType::kPageTokens);
  return {static_cast<int>(getLocal() / block), static_cast<int>(getGlobal() / block),
          static_cast<int>(getStride() / block), static_cast<int>(getRandom()), static_cast<unsigned>(getSeed())};
}

int64_t mlir::mili::visibleTokens(Attribute mask, int64_t context) {
  if (auto window = dyn_cast<WindowAttr>(mask))
    return std::min(context, window.getTokens());
  if (auto sparse = dyn_cast<BlockSparseAttr>(mask)) {
    const int64_t blocks = llvm::divideCeil(std::min(context, kMaxPatternTokens), KvType::kPageTokens);
    return blocks == 0 ? 0
                       : std::min<int64_t>(context, sparse.getPattern().count(static_cast<int>(blocks - 1)) *
                                                        KvType::kPageTokens);
  }
  return context;
}

VisibleKeys mlir::mili::visibleKeys(Attribute mask) {
  if (auto window = dyn_cast<WindowAttr>(mask))
    return {window.getTokens(), 0};
  if (auto sparse = dyn_cast<BlockSparseAttr>(mask)) {
    const ::mili_attention::BlockPattern pattern = sparse.getPattern();
    const int64_t always = int64_t{pattern.local} + pattern.global;
    // Behind the blocks that are always seen, one of `stride`, or `random` in all.
    if (pattern.stride > 0)
      return {always * KvType::kPageTokens * (pattern.stride - 1) / pattern.stride, pattern.stride};
    return {(always + pattern.random) * KvType::kPageTokens, 0};
  }
  return {0, 1};
}

Attribute StageAttr::parse(AsmParser &parser, Type) {
  std::string name;
  int64_t tiles = 0, rowsPerTile = 0, scratch = 0;
  StringRef per;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseLess() || parser.parseString(&name) || parser.parseComma() || parser.parseKeyword("tiles") ||
      parser.parseEqual() || parser.parseInteger(tiles) || parser.parseKeyword("per"))
    return {};
  SMLoc perLoc = parser.getCurrentLocation();
  if (parser.parseKeyword(&per))
    return {};
  std::optional<RowCount> count = symbolizeRowCount(per);
  if (!count)
    return parser.emitError(perLoc, "expected one, tokens, logit_rows or sequences, found '") << per << "'",
           Attribute();
  if (parser.parseKeyword("by") || parser.parseInteger(rowsPerTile))
    return {};
  SmallVector<CudaLaunchAttr> cuda;
  SmallVector<TensorMapAttr> maps;
  DictionaryAttr config;
  auto list = [&](auto &into) {
    return parser.parseCommaSeparatedList(AsmParser::Delimiter::Square,
                                          [&] { return parser.parseCustomAttributeWithFallback(into.emplace_back()); });
  };
  // Parts in their order, each at most once.
  int last = -1;
  while (succeeded(parser.parseOptionalComma())) {
    SMLoc partLoc = parser.getCurrentLocation();
    StringRef part;
    if (parser.parseKeyword(&part))
      return {};
    const int index =
        llvm::StringSwitch<int>(part).Case("scratch", 0).Case("cuda", 1).Case("maps", 2).Case("config", 3).Default(-1);
    if (index <= last)
      return parser.emitError(partLoc,
                              "expected scratch, cuda, maps, config, each at most once and in this order, found '")
                 << part << "'",
             Attribute();
    last = index;
    if (parser.parseEqual() || (index == 0   ? parser.parseInteger(scratch)
                                : index == 1 ? list(cuda)
                                : index == 2 ? list(maps)
                                             : parser.parseAttribute(config)))
      return {};
  }
  if (parser.parseGreater())
    return {};
  return parser.getChecked<StageAttr>(loc, parser.getContext(), name, tiles, *count, rowsPerTile, scratch, cuda, maps,
                                      config);
}

void StageAttr::print(AsmPrinter &printer) const {
  printer << '<';
  printer.printString(getName());
  printer << ", tiles = " << getTiles() << " per " << stringifyRowCount(getPer()) << " by " << getRowsPerTile();
  if (getScratch() != 0)
    printer << ", scratch = " << getScratch();
  auto list = [&](StringRef part, auto attributes) {
    if (attributes.empty())
      return;
    printer << ", " << part << " = [";
    llvm::interleaveComma(attributes, printer, [&](auto attribute) { printer.printStrippedAttrOrType(attribute); });
    printer << ']';
  };
  list("cuda", getCuda());
  list("maps", getMaps());
  if (getConfig())
    printer << ", config = " << getConfig();
  printer << '>';
}

LogicalResult StageAttr::verify(function_ref<InFlightDiagnostic()> emitError, StringRef name, int64_t tiles, RowCount,
                                int64_t rowsPerTile, int64_t scratch, ArrayRef<CudaLaunchAttr> cuda,
                                ArrayRef<TensorMapAttr> maps, DictionaryAttr) {
  if (name.empty())
    return emitError() << "stage: its name is empty";
  if (tiles <= 0 || rowsPerTile <= 0 || scratch < 0)
    return emitError() << "stage \"" << name
                       << "\": tiles and rows per tile must be positive and scratch not negative, "
                       << "found tiles = " << tiles << ", rows per tile = " << rowsPerTile << ", scratch = " << scratch;
  if (tiles > kMaxBytes || rowsPerTile > kMaxBytes || scratch > kMaxBytes)
    return emitError() << "stage \"" << name << "\": tiles, rows per tile and scratch must be at most " << kMaxBytes
                       << ", found tiles = " << tiles << ", rows per tile = " << rowsPerTile
                       << ", scratch = " << scratch;
  int64_t before = 0;
  for (CudaLaunchAttr launch : cuda) {
    if (launch.getArch() <= before || launch.getThreads() <= 0 || launch.getThreads() > 1024 ||
        launch.getShared() < 0 || launch.getShared() > kMaxDimension || launch.getBlocksPerSm() < 0 ||
        launch.getBlocksPerSm() > 1024)
      return emitError() << "stage \"" << name << "\": CUDA launches ascend by arch and have 1 to 1024 threads, "
                         << "0 to " << kMaxDimension << " bytes of shared memory and 0 to 1024 blocks_per_sm, found "
                         << launch;
    before = launch.getArch();
  }
  for (TensorMapAttr map : maps)
    if (map.getArg() < 0 || map.getRows() <= 0 || map.getRows() > kMaxDimension || map.getColumns() <= 0 ||
        map.getColumns() > kMaxDimension || map.getBoxRows() <= 0 || map.getBoxRows() > 256)
      return emitError() << "stage \"" << name << "\": tensor maps name an argument, 1 to " << kMaxDimension
                         << " rows and columns, and boxes of 1 to 256 rows, found " << map;
  return success();
}

LogicalResult BucketAttr::verify(function_ref<InFlightDiagnostic()> emitError, int64_t tokens, int64_t sequences,
                                 int64_t logitRows) {
  if (tokens <= 0 || sequences <= 0 || logitRows < 0)
    return emitError() << "bucket: tokens and sequences must be positive and logit_rows not negative, found tokens = "
                       << tokens << ", sequences = " << sequences << ", logit_rows = " << logitRows;
  if (tokens > kMaxDimension)
    return emitError() << "bucket: tokens must be at most " << kMaxDimension << ", found " << tokens;
  if (sequences > tokens || logitRows > tokens)
    return emitError() << "bucket: sequences and logit_rows cannot exceed tokens = " << tokens
                       << ", found sequences = " << sequences << ", logit_rows = " << logitRows;
  return success();
}
