//===- MiliOps.td -------------------------------------------------*- tablegen -*-===//
#ifndef MILI_IR_MILIOPS
#define MILI_IR_MILIOPS

include "mili/IR/MiliDialect.td"
include "mili/IR/MiliTypes.td"
include "mili/IR/MiliAttrs.td"
include "mili/IR/MiliInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/IR/OpAsmInterface.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/IR/SymbolInterfaces.td"

class Mili_Op<string mnemonic, list<Trait> traits = []> : Op<Mili_Dialect, mnemonic, traits>;

defvar Mili_NamedResult = DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmResultNames"]>;

// A token-wise or token-mixing computation without side effects that fusion, costs and partitioning can reason about.
// State is threaded as values, so even appends are pure; the verifier keeps each version used at most once by an
// append. How ops are split over ranks (upstream's ShardingInterface) is attached to them in lib/MiliSharding.cpp.
// `fusion` lists the FusibleOp methods that the op answers itself; the others keep the interface's defaults (an
// element-wise hero that fuses with nothing).
class Mili_ComputeOp<string mnemonic, list<string> fusion, list<Trait> traits = []>
    : Mili_Op<mnemonic, !listconcat([Pure, DeclareOpInterfaceMethods<FusibleOpInterface, fusion>], traits)>;
defvar Mili_Costed = DeclareOpInterfaceMethods<CostedOpInterface>;

//===- State -----------------------------------------------------------------===//

def Mili_StateOp : Mili_Op<"state", [Symbol]> {
  let summary = "Declares the state of one layer";
  let description = [{
    Paged KV or recurrent; the pool of every live sequence's state of this layer.

    ```mlir
    mili.state @layers.0.kv : !mili.kv<heads = 3, k = 64, v = 64, f32>
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<Mili_State>:$type);
  let assemblyFormat = "$sym_name `:` $type attr-dict";
}

def Mili_StateGetOp : Mili_Op<"state_get", [MemoryEffects<[MemRead]>, Mili_NamedResult,
                                           DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "The version of a state at the start of the step";
  let description = [{
    ```mlir
    %kv0 = mili.state_get @layers.0.kv : !mili.kv<heads = 3, k = 64, v = 64, f32>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$state);
  let results = (outs Mili_State:$result);
  let assemblyFormat = "$state `:` type($result) attr-dict";
}

def Mili_StateSetOp : Mili_Op<"state_set", [MemoryEffects<[MemWrite]>,
                                           DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Makes a version the state at the end of the step";
  let description = [{
    `value` is the last version: nothing was appended to it, and it began with the same state's `mili.state_get`. One
    per state in a function.

    ```mlir
    mili.state_set @layers.0.kv, %kv1 : !mili.kv<heads = 3, k = 64, v = 64, f32>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$state, Mili_State:$value);
  let assemblyFormat = "$state `,` $value `:` type($value) attr-dict";
}

def Mili_KvAppendOp : Mili_ComputeOp<"kv_append", ["getHeroPriority", "isPrologueFor", "isEpilogueFor", "getEpilogueGranularity"],
    [Mili_Costed, AllTypesMatch<["kv", "result"]>, Mili_NamedResult]> {
  let summary = "Appends the step's keys and values";
  let description = [{
    key `[T][heads * k]`, value `[T][heads * v]`, both of the state's element type unless that is narrower than 16 bits.
    Row t goes to position `positions[t]` of sequence `segments[t]`. A version is appended to at most once, and the new
    one must be kept: by a further append, by `mili.state_set`, or by leaving the region.

    ```mlir
    %kv1 = mili.kv_append %kv0, %k, %v, %batch : !mili.kv<heads = 3, k = 64, v = 64, f32>, tensor<?x192xf32>, tensor<?x192xf32>
    ```
  }];
  let arguments = (ins Mili_KvType:$kv, Mili_Activation2D:$key, Mili_Activation2D:$value, Mili_BatchType:$batch);
  let results = (outs Mili_KvType:$result);
  let assemblyFormat = "$kv `,` $key `,` $value `,` $batch attr-dict `:` type($kv) `,` type($key) `,` type($value)";
  let hasVerifier = 1;
}

//===- Weights ---------------------------------------------------------------===//

def Mili_WeightOp : Mili_Op<"weight", [Pure, Mili_NamedResult]> {
  let summary = "A weight of the model, by name";
  let description = [{
    `layout` is set by the target's kernel selection: the order in which the packing stage writes the bytes.
    The inside of a `#mili.param` is written without its brackets. Shapes are `[out][in]`, outermost first.

    ```mlir
    %g  = mili.weight "model.norm.weight" : tensor<576xf32>
    %qkv = mili.weight "q_proj.weight", "k_proj.weight", "v_proj.weight" : tensor<960x576xbf16>
    %gu = mili.weight "gate_proj.weight", "up_proj.weight", interleave = 16 : tensor<3072x576x!mili.block<q4_1>>
    %q  = mili.weight "qkv_proj.weight"[0 : 576] layout "panel16" : tensor<576x576xf32>
    ```
  }];
  let arguments = (ins Mili_ParamAttr:$param, OptionalAttr<StrAttr>:$layout);
  let results = (outs Mili_Stored:$result);
  let assemblyFormat = "custom<ParamBody>($param) (`layout` $layout^)? `:` type($result) attr-dict";
  let hasVerifier = 1;
}

def Mili_DequantOp : Mili_ComputeOp<"dequant", ["getHeroPriority", "isPrologueFor"], [Mili_Costed]> {
  let summary = "An ordinary tensor from block-quantized storage; fuses into its consumer";
  let description = [{
    storage `[out][in]` of `!mili.block`, result the same shape of floats. It feeds the weight of `mili.linear` or
    `mili.logits` or the table of `mili.embedding`, and nothing else of this dialect.
  }];
  let arguments = (ins Mili_Stored:$storage);
  let results = (outs Mili_Matrix:$result);
  let assemblyFormat = "$storage attr-dict `:` type($storage) `->` type($result)";
  let hasVerifier = 1;
}

def Mili_EmbeddingOp : Mili_ComputeOp<"embedding", ["getHeroPriority"], [Mili_Costed]> {
  let summary = "Rows of the table by token id";
  let description = [{
    tokens `[T]` i32, table `[vocab][features]`, result `[T][features]`.

    ```mlir
    %x = mili.embedding %tokens, %table : tensor<?xi32>, tensor<49152x576xf32> -> tensor<?x576xf32>
    ```
  }];
  let arguments = (ins Mili_Tokens:$tokens, Mili_Matrix:$table);
  let results = (outs Mili_Activation2D:$result);
  let assemblyFormat = "$tokens `,` $table attr-dict `:` type($tokens) `,` type($table) `->` type($result)";
  let hasVerifier = 1;
}

//===- Products --------------------------------------------------------------===//

def Mili_LinearOp : Mili_ComputeOp<"linear", ["getHeroPriority"], [Mili_Costed]> {
  let summary = "y = x * w^T (+ bias), accumulated in f32";
  let description = [{
    input `[T][in]`, weight `[out][in]`, bias `[out]`, result `[T][out]`.

    ```mlir
    %u = mili.linear %h, %w : tensor<?x576xf32>, tensor<1536x576xf32> -> tensor<?x1536xf32>
    %q = mili.linear %n, %wq bias %bq : tensor<?x576xf32>, tensor<576x576xf32>, tensor<576xf32> -> tensor<?x576xf32>
    ```
  }];
  let arguments = (ins Mili_Activation2D:$input, Mili_Matrix:$weight, Optional<Mili_Vector>:$bias);
  let results = (outs Mili_Activation2D:$result);
  let assemblyFormat = [{
    $input `,` $weight (`bias` $bias^)?
    attr-dict `:` type($input) `,` type($weight) (`,` type($bias)^)? `->` type($result)
  }];
  let hasVerifier = 1;
}

def Mili_LogitsOp : Mili_ComputeOp<"logits", ["getHeroPriority"], [Mili_Costed]> {
  let summary = "The head, on the rows of the batch that want logits";
  let description = [{
    input `[T][in]`, weight `[vocab][in]`, result f32 `[R][vocab]`: row r is token `logit_tokens[r]` of the batch.

    ```mlir
    %l = mili.logits %x, %table, %batch : tensor<?x576xf32>, tensor<49152x576xf32> -> tensor<?x49152xf32>
    ```
  }];
  let arguments = (ins Mili_Activation2D:$input, Mili_Matrix:$weight, Mili_BatchType:$batch);
  let results = (outs Mili_Logits2D:$result);
  let assemblyFormat = "$input `,` $weight `,` $batch attr-dict `:` type($input) `,` type($weight) `->` type($result)";
  let hasVerifier = 1;
}

def Mili_SampleOp : Mili_ComputeOp<"sample", ["getHeroPriority"], [Mili_Costed]> {
  let summary = "The next token of each wanted row, by the batch's sampling parameters";
  let description = [{
    logits f32 `[R][vocab]`, result i32 `[R]`: the arg-max where the row's sequence has temperature 0, else a draw from
    softmax(logits / temperature) after top-k, top-p and min-p. Random numbers are Philox(seed, position). Where the batch
    asks for feedback, the kernel makes each token its sequence's next one (token id, position, length), so that another
    step can follow at once, until a stop token or the end of its pages ends the sequence.

    ```mlir
    %next = mili.sample %logits, %batch : tensor<?x49152xf32> -> tensor<?xi32>
    ```
  }];
  let arguments = (ins Mili_Logits2D:$logits, Mili_BatchType:$batch);
  let results = (outs Mili_Tokens:$result);
  let assemblyFormat = "$logits `,` $batch attr-dict `:` type($logits) `->` type($result)";
}

//===- Attention -------------------------------------------------------------===//

def Mili_RopeOp : Mili_ComputeOp<"rope", ["getHeroPriority", "isPrologueFor", "isEpilogueFor", "getEpilogueGranularity"],
    [Mili_Costed, AllTypesMatch<["input", "result"]>]> {
  let summary = "Rotates each head by its token's position";
  let description = [{
    input `[T][heads * width]`; the first 2 * |frequencies| elements of each head rotate, the rest pass through.
    (arXiv 2104.09864)

    ```mlir
    #rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.1]>
    %qr = mili.rope %q, %batch heads 9 #rope : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins Mili_Activation2D:$input, Mili_BatchType:$batch, I64Attr:$heads, Mili_RopeAttr:$rope);
  let results = (outs Mili_Activation2D:$result);
  let assemblyFormat = "$input `,` $batch `heads` $heads $rope attr-dict `:` type($input)";
  let hasVerifier = 1;
}

def Mili_AttentionOp : Mili_ComputeOp<"attention", ["getHeroPriority"], [Mili_Costed]> {
  let summary = "Softmax attention of the step's queries over paged state";
  let description = [{
    query `[T][heads * k]`, result `[T][heads * v]`. `heads` is a multiple of the state's KV heads; query head h reads KV
    head `h / (heads / kv_heads)`. Scores are `scale * (q . k)`, in f32. A state that keeps a window needs a mask within
    it.

    ```mlir
    %a = mili.attention %q, %kv1, %batch mask(#mili.causal) heads 9 scale 0.125 : tensor<?x576xf32>, !mili.kv<heads = 3, k = 64, v = 64, f32> -> tensor<?x576xf32>
    ```
  }];
  let arguments = (ins Mili_Activation2D:$query, Mili_KvType:$kv, Mili_BatchType:$batch, I64Attr:$heads, F32Attr:$scale,
                       Mili_MaskAttr:$mask);
  let results = (outs Mili_Activation2D:$result);
  let assemblyFormat = [{
    $query `,` $kv `,` $batch `mask` `(` $mask `)` `heads` $heads `scale` $scale
    attr-dict `:` type($query) `,` type($kv) `->` type($result)
  }];
  let hasVerifier = 1;
}

//===- Row and element-wise operations ---------------------------------------===//

def Mili_RmsNormOp : Mili_ComputeOp<"rms_norm",
    ["getHeroPriority", "isPrologueFor", "isEpilogueFor", "getEpilogueGranularity"],
    [Mili_Costed, AllTypesMatch<["input", "result"]>]> {
  let summary = "x / sqrt(mean(x^2) + eps) * g over each segment of a row";
  let description = [{
    input `[T][n * d]`, weight `[d]`: each of the n segments of d features is normalized on its own, so the same op is the
    layer norm (n = 1) and the per-head query/key norm (n = heads). Statistics in f32. (arXiv 1910.07467)

    ```mlir
    %n = mili.rms_norm %x, %g eps 1.0e-5 : tensor<?x576xf32>, tensor<576xf32>
    ```
  }];
  let arguments = (ins Mili_Activation2D:$input, Mili_Vector:$weight, F32Attr:$eps);
  let results = (outs Mili_Activation2D:$result);
  let assemblyFormat = "$input `,` $weight `eps` $eps attr-dict `:` type($input) `,` type($weight)";
  let hasVerifier = 1;
}

def Mili_AddOp : Mili_ComputeOp<"add", ["isPrologueFor", "isEpilogueFor"],
    [Mili_Costed, Commutative, SameOperandsAndResultType, AllTypesMatch<["lhs", "rhs", "result"]>]> {
  let summary = "Element-wise sum";
  let description = [{
    ```mlir
    %x1 = mili.add %x, %o : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins Mili_Activation2D:$lhs, Mili_Activation2D:$rhs);
  let results = (outs Mili_Activation2D:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($result)";
}

def Mili_ScaleOp : Mili_ComputeOp<"scale", ["isPrologueFor", "isEpilogueFor"],
    [Mili_Costed, SameOperandsAndResultType, AllTypesMatch<["input", "result"]>]> {
  let summary = "Multiplies every element by a constant";
  let description = [{
    A factor of 1 folds away; a scale of a scale that has no other use becomes one.

    ```mlir
    %y = mili.scale %x by 12.0 : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins Mili_Activation2D:$input, F32Attr:$factor);
  let results = (outs Mili_Activation2D:$result);
  let assemblyFormat = "$input `by` $factor attr-dict `:` type($result)";
  let hasFolder = 1;
  let hasCanonicalizer = 1;
}

def Mili_ActivationOp : Mili_ComputeOp<"activation", ["isPrologueFor", "isEpilogueFor"],
    [Mili_Costed, SameOperandsAndResultType, AllTypesMatch<["input", "result"]>]> {
  let summary = "A scalar activation on every element";
  let description = [{
    silu: x / (1 + exp(-x)); gelu: x * Phi(x); gelu_tanh: its tanh approximation (arXiv 1606.08415); relu: max(x, 0).

    ```mlir
    %y = mili.activation <gelu_tanh> %x : tensor<?x1536xf32>
    ```
  }];
  let arguments = (ins Mili_Activation2D:$input, Mili_ActivationAttr:$function);
  let results = (outs Mili_Activation2D:$result);
  let assemblyFormat = "$function $input attr-dict `:` type($result)";
}

def Mili_GatedOp : Mili_ComputeOp<"gated", ["isPrologueFor", "isEpilogueFor", "getEpilogueGranularity"],
    [Mili_Costed, SameOperandsAndResultType, AllTypesMatch<["gate", "up", "result"]>]> {
  let summary = "activation(gate) * up";
  let description = [{
    ```mlir
    %h = mili.gated <silu> %gate, %up : tensor<?x1536xf32>
    ```
  }];
  let arguments = (ins Mili_Activation2D:$gate, Mili_Activation2D:$up, Mili_ActivationAttr:$function);
  let results = (outs Mili_Activation2D:$result);
  let assemblyFormat = "$function $gate `,` $up attr-dict `:` type($result)";
}

def Mili_SplitOp : Mili_ComputeOp<"split", ["getHeroPriority", "isEpilogueFor", "getEpilogueGranularity"], [Mili_Costed]> {
  let summary = "Splits the features of each row";
  let description = [{
    Without `interleave`, results are consecutive ranges of features. With `interleave = n` there are two results of equal
    width, alternating runs of n features (the counterpart of `#mili.param<..., interleave = n>`).

    ```mlir
    %q, %k, %v = mili.split %qkv : tensor<?x960xf32> -> tensor<?x576xf32>, tensor<?x192xf32>, tensor<?x192xf32>
    %gate, %up = mili.split %gu interleave 16 : tensor<?x3072xf32> -> tensor<?x1536xf32>, tensor<?x1536xf32>
    ```
  }];
  let arguments = (ins Mili_Activation2D:$input, DefaultValuedAttr<I64Attr, "0">:$interleave);
  let results = (outs Variadic<Mili_Activation2D>:$results);
  let assemblyFormat = "$input (`interleave` $interleave^)? attr-dict `:` type($input) `->` type($results)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

//===- Groups ----------------------------------------------------------------===//

def Mili_GroupOp : Mili_Op<"group", [IsolatedFromAbove, SingleBlock, NoTerminator, RecursiveMemoryEffects]> {
  let summary = "A fused region: one hero, its prologue and epilogue; becomes one kernel template instance";
  let description = [{
    Operands are activations, weights, states and the batch; the body computes on block arguments of the same types and
    ends in `mili.yield`. `hero` is the name of the op of the body that leads (the first of that name). Values inside a
    group stay f32 and are rounded at its edges. Kernel selection adds `kernel` (the template), `stages` (its launches)
    `arena_scratch` (bytes it needs in the arena beyond its results) and `counters` (bytes of the plan's counter block,
    which is zero before and after every launch).

    ```mlir
    %h = mili.group "layers.0.mlp.up" hero "mili.linear" ins(%x, %g, %w : ...) -> tensor<?x1536xf32> {
    ^bb0(...):
      ...
      mili.yield %r : tensor<?x1536xf32>
    }
    ```
  }];
  let arguments = (ins StrAttr:$name, StrAttr:$hero, Variadic<AnyType>:$inputs, OptionalAttr<StrAttr>:$kernel,
                       OptionalAttr<TypedArrayAttrBase<Mili_StageAttr, "stages">>:$stages,
                       OptionalAttr<I64Attr>:$arena_scratch, OptionalAttr<I64Attr>:$counters);
  let results = (outs Variadic<AnyType>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $name `hero` $hero `ins` `(` ($inputs^ `:` type($inputs))? `)` (`->` type($results)^)?
    (`kernel` $kernel^)? (`stages` $stages^)? (`arena_scratch` $arena_scratch^)?
    (`counters` $counters^)? attr-dict-with-keyword custom<IsolatedBody>($body)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The op of the body that leads it; null only in invalid IR.
    ::mlir::Operation *getHeroOp();
  }];
}

def Mili_YieldOp : Mili_Op<"yield", [Pure, Terminator, ReturnLike]> {
  let summary = "Results of a group, or of the kernel that groups became (`mili_plan.kernel`)";
  let arguments = (ins Variadic<AnyType>:$operands);
  let assemblyFormat = "($operands^ `:` type($operands))? attr-dict";
  let builders = [OpBuilder<(ins), [{ /* a group without results */ }]>];
  let hasVerifier = 1;
}

#endif
