#include "Importer.h"

#include "mili/Frontends/Import.h"
#include "mili/IR/MiliDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <sstream>

using namespace mlir;
using namespace mlir::mili;

namespace mili_test {

static StringRef nameOf(Location loc) {
  if (auto name = dyn_cast<NameLoc>(loc))
    return name.getName();
  return "<unnamed>";
}

static void printAttribute(llvm::raw_ostream &os, Attribute attribute) {
  if (auto rope = dyn_cast<RopeAttr>(attribute))
    os << rope.getKind() << ' ' << stringifyRopePairing(rope.getPairing()) << ' ' << rope.getFrequencies().size();
  else if (auto number = dyn_cast<FloatAttr>(attribute))
    os << llvm::format("%g", number.getValueAsDouble());
  else if (auto integer = dyn_cast<IntegerAttr>(attribute))
    os << integer.getInt();
  else
    attribute.print(os, /*elideType=*/true);
}

static std::string describe(Operation &op) {
  std::string text;
  llvm::raw_string_ostream os(text);
  StringRef name = op.getName().getStringRef();
  name.consume_front("mili.");
  if (auto weight = dyn_cast<WeightOp>(op)) {
    os << nameOf(op.getLoc()) << " = weight ";
    llvm::interleaveComma(weight.getParam().getPieces(), os, [&](PieceAttr piece) {
      os << piece.getName();
      if (piece.getEnd() != -1)
        os << '[' << piece.getBegin() << " : " << piece.getEnd() << ']';
    });
    os << " : " << weight.getType();
    return text;
  }
  os << nameOf(op.getLoc()) << " = " << name << '(';
  llvm::interleaveComma(op.getOperands(), os, [&](Value value) { os << nameOf(value.getLoc()); });
  os << ')';
  if (!op.getAttrDictionary().empty()) {
    os << " {";
    llvm::interleaveComma(op.getAttrDictionary(), os, [&](NamedAttribute attribute) {
      os << attribute.getName().strref() << " = ";
      printAttribute(os, attribute.getValue());
    });
    os << '}';
  }
  for (Type type : op.getResultTypes()) {
    os << " : ";
    type.print(os);
  }
  return text;
}

Imported importText(const ::mili::ModelFile &model, const std::string &dtype, int64_t context) {
  Imported result;
  MLIRContext mlirContext(MLIRContext::Threading::DISABLED);
  ScopedDiagnosticHandler handler(&mlirContext, [&](Diagnostic &diagnostic) {
    (diagnostic.getSeverity() == DiagnosticSeverity::Error ? result.errors : result.warnings)
        .push_back(diagnostic.str());
    return success();
  });
  ImportOptions options;
  options.activationDtype = dtype;
  options.context = context;
  OwningOpRef<ModuleOp> module = importModel(model, options, &mlirContext);
  if (!module)
    return result;
  result.ok = succeeded(verify(*module));

  llvm::raw_string_ostream moduleText(result.module), forwardText(result.forward);
  for (NamedAttribute attribute : (*module)->getAttrs()) {
    moduleText << attribute.getName().strref() << " = ";
    printAttribute(moduleText, attribute.getValue());
    moduleText << '\n';
  }
  for (StateOp state : module->getOps<StateOp>())
    moduleText << state.getSymName() << " : " << state.getType() << '\n';
  auto forward = module->lookupSymbol<func::FuncOp>("forward");
  if (!forward)
    return result;
  moduleText << "forward : " << forward.getFunctionType() << '\n';
  for (Operation &op : forward.getBody().front()) {
    forwardText << describe(op) << '\n';
    if (auto rope = dyn_cast<RopeOp>(op); rope && result.frequencies.empty()) {
      result.frequencies.assign(rope.getRope().getFrequencies().asArrayRef().begin(),
                                rope.getRope().getFrequencies().asArrayRef().end());
      result.amplitude = rope.getRope().getAmplitude().getValue().convertToFloat();
    }
  }
  return result;
}

/// The lines that begin with `prefix`, of weights or of all else but dequantization.
static std::string select(const std::string &forward, const std::string &prefix, bool weights) {
  std::istringstream lines(forward);
  std::string line, text;
  while (std::getline(lines, line)) {
    const bool isWeight = line.find(" = weight ") != std::string::npos;
    const bool isDequant = line.find(" = dequant(") != std::string::npos;
    if (!line.starts_with(prefix) || isWeight != weights || isDequant)
      continue;
    // Names in a checkpoint have the same prefix, after "model.".
    const std::string name = "model." + prefix;
    for (size_t at = line.find(prefix); prefix.ends_with('.') && at != std::string::npos; at = line.find(prefix, at))
      if (at >= 6 && line.compare(at - 6, name.size(), name) == 0)
        at += prefix.size();
      else
        line.erase(at, prefix.size());
    text += line + "\n";
  }
  return text;
}

std::string Imported::graph(const std::string &prefix) const {
  return select(forward, prefix, /*weights=*/false);
}

std::string Imported::weights(const std::string &prefix) const {
  return select(forward, prefix, /*weights=*/true);
}

}  // namespace mili_test
