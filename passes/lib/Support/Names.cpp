//===- Names.cpp - source names of ops --------------------------------------===//
#include "Names.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"

namespace mlir::mili {

std::string getLocationName(Location loc) {
  return llvm::TypeSwitch<LocationAttr, std::string>(loc)
      .Case([](NameLoc name) { return name.getName().str(); })
      .Case([](CallSiteLoc site) { return getLocationName(site.getCallee()); })
      .Case([](FusedLoc fused) {
        for (Location inner : fused.getLocations())
          if (std::string name = getLocationName(inner); !name.empty())
            return name;
        return std::string();
      })
      .Default([](LocationAttr) { return std::string(); });
}

StringRef getMnemonic(Operation *op) {
  return op->getName().stripDialect();
}

std::string getSourceName(Operation *op) {
  std::string name = getLocationName(op->getLoc());
  return name.empty() ? getMnemonic(op).str() : name;
}

std::string joinNames(ArrayRef<std::string> names) {
  if (names.empty())
    return {};
  size_t prefix = names.front().rfind('.') + 1;  // 0 when there is no dot
  for (const std::string &name : names)
    if (name.rfind('.') + 1 != prefix ||
        StringRef(name).take_front(prefix) != StringRef(names.front()).take_front(prefix))
      return llvm::join(names, "+");
  bool letters = llvm::all_of(names, [&](const std::string &name) { return name.size() == prefix + 1; });
  std::string result = names.front().substr(0, prefix);
  llvm::ListSeparator separator(letters ? "" : "_");
  for (const std::string &name : names) {
    result += StringRef(separator);
    result += StringRef(name).drop_front(prefix);
  }
  return result;
}

}  // namespace mlir::mili
