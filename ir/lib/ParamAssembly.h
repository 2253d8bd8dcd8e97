//===- ParamAssembly.h - the inside of a #mili.param in op assembly ---------===//
#ifndef MILI_IR_LIB_PARAMASSEMBLY_H
#define MILI_IR_LIB_PARAMASSEMBLY_H

#include "mili/IR/MiliDialect.h"

namespace mlir::mili {

/// `"a"[0 : 64], "b", interleave = 16`: a #mili.param without its brackets. An attribute in front of `: type` would
/// otherwise swallow the type.
ParseResult parseParamBody(AsmParser &parser, ParamAttr &param);
void printParamBody(AsmPrinter &printer, ParamAttr param);
inline void printParamBody(OpAsmPrinter &printer, Operation *, ParamAttr param) {
  printParamBody(printer, param);
}

/// The discardable `packed_bytes` of a weight of either dialect, if it has one: bytes of its layout.
LogicalResult verifyPackedBytes(Operation *op);

/// Whether the rows that the pieces name can be the `type`'s, as far as the names alone tell.
LogicalResult verifyParamShape(Operation *op, ParamAttr param, ShapedType type);

}  // namespace mlir::mili

#endif  // MILI_IR_LIB_PARAMASSEMBLY_H
