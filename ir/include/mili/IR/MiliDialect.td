//===- MiliDialect.td - the graph dialect ------------------------*- tablegen -*-===//
#ifndef MILI_IR_MILIDIALECT
#define MILI_IR_MILIDIALECT

include "mlir/IR/OpBase.td"

def Mili_Dialect : Dialect {
  let name = "mili";
  let cppNamespace = "::mlir::mili";
  let summary = "What a transformer computes: tensors and typed state, no memory";
  let description = [{
    A forward pass takes the tokens of a whole batch flattened into `tensor<?x...>` plus one `!mili.batch`. Token-wise
    ops ignore the batch; ops that mix tokens take it together with the state they read. State is declared in the
    module (`mili.state`) and threaded through SSA inside a function. Weights are names that refer to the model file,
    never bytes.
  }];
  let useDefaultTypePrinterParser = 1;
  let useDefaultAttributePrinterParser = 1;
  // `mili.` attributes on modules and functions: those below, of their types and in their ranges, and no others.
  let hasOperationAttrVerify = 1;
  let extraClassDeclaration = [{
    /// Function attribute: `#mili.bucket`, set by specialization.
    static constexpr llvm::StringLiteral getBucketAttrName() { return "mili.bucket"; }
    /// Function attribute: the name of the function that was specialized.
    static constexpr llvm::StringLiteral getFunctionAttrName() { return "mili.function"; }
    /// Module attributes, set by frontends: family, name, context (tokens), vocab, activation dtype.
    static constexpr llvm::StringLiteral getFamilyAttrName() { return "mili.family"; }
    static constexpr llvm::StringLiteral getModelNameAttrName() { return "mili.model"; }
    static constexpr llvm::StringLiteral getContextAttrName() { return "mili.context"; }
    static constexpr llvm::StringLiteral getTrainedContextAttrName() { return "mili.trained_context"; }
    static constexpr llvm::StringLiteral getVocabAttrName() { return "mili.vocab"; }
    static constexpr llvm::StringLiteral getLayersAttrName() { return "mili.layers"; }
    /// Sequences that can be live at once, set by the driver.
    static constexpr llvm::StringLiteral getRequestsAttrName() { return "mili.requests"; }
    /// Unit attribute, set by the driver: what a token computes does not depend on what else is in the step.
    static constexpr llvm::StringLiteral getDeterministicAttrName() { return "mili.deterministic"; }
    /// Dictionary of strings, set by kernel selection: which of several kernels a template takes for a stage.
    static constexpr llvm::StringLiteral getKernelsAttrName() { return "mili.kernels"; }
    /// Dictionary, set by the driver: tensors of the model that have the bytes of another one, whose name is the value.
    static constexpr llvm::StringLiteral getDuplicatesAttrName() { return "mili.duplicates"; }
  private:
    void registerTypes();
    void registerAttributes();
    void attachSharding();
  public:
  }];
}

#endif
