//===- MiliInterfaces.td - what passes ask of ops ------------------*- tablegen -*-===//
#ifndef MILI_IR_MILIINTERFACES
#define MILI_IR_MILIINTERFACES

include "mlir/IR/OpBase.td"

def FusibleOpInterface : OpInterface<"FusibleOp"> {
  let cppNamespace = "::mlir::mili";
  let description = [{
    How an op takes part in fusion. A group has one *hero*, the op that decides which kernel template is used; ops
    before it on the chosen operand are its *prologue*, ops after it its *epilogue*. Either end of an edge may offer it:
    ops from outside the tree take part by implementing this interface, and name the ops of MILI that may join them. An op that implements it and overrides nothing is an element-wise hero
    (priority 10) that fuses with nothing.
  }];
  let methods = [
    InterfaceMethod<[{
        Priority as the hero of a group: 0 cannot be one; of two candidates the higher leads. Products and attention
        are 100, embedding 60, row operations (norms) 50, splits 30, rope and appends 20, element-wise ops 10 (the default).
      }],
      "unsigned", "getHeroPriority", (ins), "", "return 10;">,
    InterfaceMethod<[{
        Whether this op may run in the prologue of `use.getOwner()`, producing that operand. By default it may not.
      }],
      "bool", "isPrologueFor", (ins "::mlir::OpOperand &":$use), "", "return false;">,
    InterfaceMethod<[{
        Whether this op may run in the epilogue of `producer`, consuming one of its results. Asked of chains too:
        `producer` is then the hero or an epilogue op already taken. False when no operand comes from it, and by
        default.
      }],
      "bool", "isEpilogueFor", (ins "::mlir::Operation *":$producer), "", "return false;">,
    InterfaceMethod<[{
        The same said by the consumer: whether the producer of `operand`, one of this op's, may run in front of this op,
        its hero. For producers that cannot know this op, `mili.add` for one; `isPrologueFor` or this is enough. By
        default none may.
      }],
      "bool", "acceptsPrologue", (ins "::mlir::OpOperand &":$operand), "", "return false;">,
    InterfaceMethod<[{
        The same said by the producer: whether `user`, which reads a result of this op, may run in its epilogue.
        `isEpilogueFor` or this is enough. By default none may.
      }],
      "bool", "acceptsEpilogue", (ins "::mlir::Operation *":$user), "", "return false;">,
    InterfaceMethod<[{
        Features of the hero's result, counted from a multiple of this number, that the op needs together in one tile,
        e.g. a head for RoPE; 1 when element-wise (the default).
      }],
      "int64_t", "getEpilogueGranularity", (ins), "", "return 1;">
  ];
}

def CostedOpInterface : OpInterface<"CostedOp"> {
  let cppNamespace = "::mlir::mili";
  let description = [{
    Work of a step, for cost decisions, `--explain` and the plan. It is linear in what the step holds (`StepWork`): its
    rows (tokens, or wanted rows for the head), the keys that it must read, the pairs of a query and a key.
  }];
  let methods = [
    InterfaceMethod<[{
        The op's coefficients: floating-point operations, and bytes that must be read of weights and state. Activations
        are left out, and whatever else is 0. `storedBytes` says how many bytes a weight takes where it is stored, blocks
        for a dequantized one (so `mili.dequant` itself counts nothing). No default.
      }],
      "::mlir::mili::StepWork", "getWork", (ins "::mlir::mili::StoredBytes":$storedBytes)>
  ];
  let extraClassDeclaration = [{
    /// Floating-point operations of `rows` rows, each at the end of `context` tokens.
    uint64_t getFlops(int64_t rows, int64_t context);
  }];
}

#endif
