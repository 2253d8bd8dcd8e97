//===- MiliPlanEnums.td -------------------------------------------*- tablegen -*-===//
#ifndef MILI_IR_MILIPLANENUMS
#define MILI_IR_MILIPLANENUMS

include "mlir/IR/EnumAttr.td"

def MiliPlan_Access : I32EnumAttr<"Access", "what a launch does with an argument", [
  I32EnumAttrCase<"read", 0, "read">, I32EnumAttrCase<"write", 1, "write">, I32EnumAttrCase<"readwrite", 2, "readwrite">]> {
  let cppNamespace = "::mlir::mili::plan";
  let genSpecializedAttr = 0;
}

#endif
