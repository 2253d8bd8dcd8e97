//===- CudaWriter.h - writes one CUDA source unit ----------------*- C++ -*-===//
//
// A unit is one `extern "C" __global__` function and what it needs. The writer keeps scopes and their indentation, the
// set of headers, and names: every body argument and every value gets a unique, stable name, after the model's own
// where it has one.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_CODEGEN_CUDAWRITER_H
#define MILI_CODEGEN_CUDAWRITER_H

#include "mili/IR/MiliDialect.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FormatVariadic.h"

namespace mlir::mili::codegen {

class CudaWriter {
public:
  void include(StringRef header) {
    if (!llvm::is_contained(headers, header.str()))
      headers.push_back(header.str());
  }
  void line(const Twine &text);
  /// A line that ends in an opening brace, and everything up to `close` one level deeper.
  void open(const Twine &text);
  void close(StringRef after = "");
  void blank() { body += "\n"; }
  /// Text before everything that was written: constants of the unit.
  void global(const Twine &text) { globals += (text + "\n").str(); }

  /// A fresh name from `hint`, whatever characters that has.
  std::string unique(StringRef hint);
  /// The name of a value; the first question names it after its location, else `hint`.
  StringRef name(Value value, StringRef hint = "x");
  void setName(Value value, StringRef name) { names[value] = name.str(); }

  /// Includes, then what was written.
  std::string finish(StringRef comment) const;

private:
  std::string body, globals;
  int depth = 0;
  std::vector<std::string> headers;
  llvm::StringMap<unsigned> used;
  DenseMap<Value, std::string> names;
};

/// A float that reads back as itself: "1.5f", "0x1.99999ap-4f" where the decimal would be long.
std::string cudaFloat(float value);

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_CUDAWRITER_H
