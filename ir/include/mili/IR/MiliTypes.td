//===- MiliTypes.td -----------------------------------------------*- tablegen -*-===//
#ifndef MILI_IR_MILITYPES
#define MILI_IR_MILITYPES

include "mili/IR/MiliDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

class Mili_Type<string name, string typeMnemonic, list<Trait> traits = []> : TypeDef<Mili_Dialect, name, traits> {
  let mnemonic = typeMnemonic;
}

def Mili_BatchType : Mili_Type<"Batch", "batch"> {
  let builderCall = "$_builder.getType<::mlir::mili::BatchType>()";
  let summary = "The batch of one step: positions, segments, page tables, rows that want logits";
  let description = [{
    Its fields and the runtime's device struct come from one definition, `mili/runtime/batch_fields.def`.
  }];
}

def Mili_KvType : Mili_Type<"Kv", "kv"> {
  let summary = "Paged key/value state of one layer";
  let description = [{
    `heads` KV heads, rows of `k` and `v` elements per head (they differ under MLA), element type, and optionally the
    window in tokens beyond which rows are never read again. Pages hold 64 tokens, laid out
    `[page][K,V][head][64][width]`.

    ```mlir
    !mili.kv<heads = 3, k = 64, v = 64, f32>
    !mili.kv<heads = 8, k = 128, v = 128, bf16, window = 4096>
    ```
  }];
  let parameters = (ins "int64_t":$heads, "int64_t":$k, "int64_t":$v, "::mlir::FloatType":$elementType,
                        DefaultValuedParameter<"int64_t", "0">:$window);
  let assemblyFormat = [{
    `<` `heads` `=` $heads `,` `k` `=` $k `,` `v` `=` $v
    `,` $elementType (`,` `window` `=` $window^)? `>`
  }];
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    static constexpr int64_t kPageTokens = 64;
    /// Bytes of one page of this state.
    int64_t getPageBytes() const;
  }];
}

def Mili_RecurrentType : Mili_Type<"Recurrent", "recurrent"> {
  let summary = "Fixed-size recurrent state of one layer, one slot per sequence, with snapshots";
  let description = [{
    Truncation returns to the nearest snapshot reached. `!mili.recurrent<16x128x128xf32, snapshots = 2>`
  }];
  let parameters = (ins ArrayRefParameter<"int64_t">:$shape, "::mlir::FloatType":$elementType,
                        DefaultValuedParameter<"int64_t", "0">:$snapshots);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{ int64_t getSlotBytes() const; }];
}

def Mili_BlockFormat : I32EnumAttr<"BlockFormat", "ggml block-quantized element formats", [
  I32EnumAttrCase<"q4_0", 0>, I32EnumAttrCase<"q4_1", 1>, I32EnumAttrCase<"q8_0", 2>, I32EnumAttrCase<"q6_k", 3>]> {
  let cppNamespace = "::mlir::mili";
  let genSpecializedAttr = 0;
}

def Mili_BlockType : Mili_Type<"Block", "block"> {
  let summary = "Element type of a tensor stored in quantized blocks along its innermost dimension";
  let description = [{
    A tensor of this element type keeps the file's blocks; `mili.dequant` turns it into an ordinary tensor and must fuse
    into its consumer. `tensor<49152x576x!mili.block<q8_0>>`
  }];
  let parameters = (ins EnumParameter<Mili_BlockFormat>:$format);
  let assemblyFormat = "`<` $format `>`";
  let extraClassDeclaration = [{
    /// Elements and bytes of one block: 32/18 (q4_0), 32/20 (q4_1), 32/34 (q8_0), 256/210 (q6_k).
    int64_t getBlockElements() const;
    int64_t getBlockBytes() const;
  }];
}

def Mili_State : AnyTypeOf<[Mili_KvType, Mili_RecurrentType], "state type">;

// One row of N features per token (or per wanted row), N known: `tensor<?xN>`.
def Mili_BoundedShapePred : CPred<"::mlir::mili::hasBoundedShape($_self)">;
def Mili_Activation2D : RankedTensorOf<[F32, BF16, F16], [HasAnyRankOfPred<[2]>, Mili_BoundedShapePred,
  CPred<"!::mlir::ShapedType::isDynamic(::llvm::cast<::mlir::RankedTensorType>($_self).getDimSize(1))">],
  "[rows][features] tensor with static features of 1 to 2^24">;
def Mili_Logits2D : RankedTensorOf<[F32], [HasAnyRankOfPred<[2]>, Mili_BoundedShapePred,
  CPred<"!::mlir::ShapedType::isDynamic(::llvm::cast<::mlir::RankedTensorType>($_self).getDimSize(1))">],
  "[rows][vocab] tensor with a static vocabulary of 1 to 2^24">;
def Mili_Tokens : TensorRankOf<[I32], [1]>;

// What the model file or a dequant gives.
def Mili_Stored : ConfinedType<StaticShapeTensorOf<[AnyFloat, Mili_BlockType]>, [Mili_BoundedShapePred],
  "statically shaped tensor of floating-point or block elements, dimensions of 1 to 2^24 and 2^40 elements at most">;
def Mili_Matrix : RankedTensorOf<[F32, BF16, F16], [HasAnyRankOfPred<[2]>, HasStaticShapePred, Mili_BoundedShapePred],
  "static [out][in] matrix, dimensions of 1 to 2^24 and 2^40 elements at most">;
def Mili_Vector : RankedTensorOf<[F32, BF16, F16], [HasAnyRankOfPred<[1]>, HasStaticShapePred, Mili_BoundedShapePred],
  "static vector of 1 to 2^24 elements">;

#endif
