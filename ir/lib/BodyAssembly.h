//===- BodyAssembly.h - the body of an op that is isolated from above --------===//
#ifndef MILI_IR_LIB_BODYASSEMBLY_H
#define MILI_IR_LIB_BODYASSEMBLY_H

#include "mlir/IR/OpImplementation.h"

namespace mlir::mili {

/// A region with names of its own, as nothing of it can be named outside. Parsers generated for `$body` share the names
/// around them: a value that is used before such a body, and defined in it, was then used after it was freed where the
/// op did not parse to its end.
inline ParseResult parseIsolatedBody(OpAsmParser &parser, Region &body) {
  if (failed(parser.parseRegion(body, /*arguments=*/{}, /*enableNameShadowing=*/true)))
    return failure();
  if (body.empty())
    body.emplaceBlock();
  return success();
}
inline void printIsolatedBody(OpAsmPrinter &printer, Operation *, Region &body) {
  printer.printRegion(body);
}

}  // namespace mlir::mili

#endif  // MILI_IR_LIB_BODYASSEMBLY_H
