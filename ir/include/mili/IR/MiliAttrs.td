//===- MiliAttrs.td -----------------------------------------------*- tablegen -*-===//
#ifndef MILI_IR_MILIATTRS
#define MILI_IR_MILIATTRS

include "mili/IR/MiliDialect.td"
include "mili/IR/MiliTypes.td"
include "mlir/IR/BuiltinAttributes.td"

class Mili_Attr<string name, string attrMnemonic, list<Trait> traits = []> : AttrDef<Mili_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

def Mili_PieceAttr : Mili_Attr<"Piece", "piece"> {
  let summary = "Rows of one tensor of the model file";
  let description = [{
    `#mili.piece<"model.layers.0.self_attn.qkv_proj.weight">` is the whole tensor,
    `#mili.piece<"...qkv_proj.weight"[0 : 576]>` rows 0 to 575 of it.
  }];
  let parameters = (ins StringRefParameter<>:$name, DefaultValuedParameter<"int64_t", "0">:$begin,
                        DefaultValuedParameter<"int64_t", "-1">:$end);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

def Mili_ParamAttr : Mili_Attr<"Param", "param"> {
  let summary = "A weight by name: pieces of the model file, joined along rows, with a row order";
  let description = [{
    Weights are names, never bytes. Pieces are concatenated along dimension 0. With `interleave = n` there must be
    exactly two pieces of equal height; rows come in alternating runs of n from each (gate and up).
    The packing stage streams pieces through these transforms into the plan.

    ```mlir
    #mili.param<"model.norm.weight">
    #mili.param<"q_proj.weight", "k_proj.weight", "v_proj.weight">
    #mili.param<"gate_proj.weight", "up_proj.weight", interleave = 16>
    #mili.param<"qkv_proj.weight"[0 : 128]>
    ```
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::mili::PieceAttr">:$pieces,
                        DefaultValuedParameter<"int64_t", "0">:$interleave);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Names joined with '+', for plans and profiles.
    std::string getDisplayName() const;
  }];
}

def Mili_RopePairing : I32EnumAttr<"RopePairing", "which two elements of a head rotate together", [
  I32EnumAttrCase<"half", 0, "half">,          // i and i + dim/2 (Hugging Face, NeoX)
  I32EnumAttrCase<"adjacent", 1, "adjacent">   // 2i and 2i + 1 (GPT-J, ggml's llama files)
]> {
  let cppNamespace = "::mlir::mili";
  let genSpecializedAttr = 0;
}

def Mili_RopeAttr : Mili_Attr<"Rope", "rope"> {
  let summary = "Rotary embedding: pairing, angular frequencies, amplitude";
  let description = [{
    The first 2 * |frequencies| elements of each head rotate, the rest pass through. The angle of pair i at position p
    is p * frequencies[i] radians; cosine and sine are multiplied by `amplitude` (YaRN's and LongRoPE's attention
    factor). Every published scaling (linear, llama3, YaRN, longrope) is a choice of these numbers, made by the
    frontend; `kind` names the choice for people. Printed once per module behind an alias.
  }];
  let parameters = (ins StringRefParameter<>:$kind, EnumParameter<Mili_RopePairing>:$pairing,
                        "::mlir::FloatAttr":$amplitude, "::mlir::DenseF32ArrayAttr":$frequencies);
  let assemblyFormat = [{
    `<` $kind `,` `pairing` `=` $pairing `,` `amplitude` `=` $amplitude
    `,` `frequencies` `=` $frequencies `>`
  }];
  let genVerifyDecl = 1;
}

def Mili_CausalAttr : Mili_Attr<"Causal", "causal"> {
  let summary = "Attention mask: a token sees itself and everything before it in its sequence";
}
def Mili_WindowAttr : Mili_Attr<"Window", "window"> {
  let summary = "Attention mask: a token sees itself and the `tokens - 1` before it in its sequence";
  let parameters = (ins "int64_t":$tokens);
  let assemblyFormat = "`<` $tokens `>`";
  let genVerifyDecl = 1;
}
def Mili_BlockSparseAttr : Mili_Attr<"BlockSparse", "block_sparse"> {
  let summary = "Attention mask: a token sees a fixed selection of the blocks of 64 tokens up to its own";
  let description = [{
    The last `local` tokens' blocks, the first `global` tokens' blocks, and of the blocks between either those at a distance
    that is a multiple of `stride` tokens, or `random` blocks that depend on `seed` and on the token's own block. Counts of tokens are
    multiples of 64; a token's own block is seen up to the token. BlockPattern.h has the definition, which kernels share.

    ```mlir
    #mili.block_sparse<local = 1024, stride = 1024>                         // strided (arXiv 1904.10509)
    #mili.block_sparse<local = 512, random = 8, seed = 3>                   // local and random
    #mili.block_sparse<local = 192, global = 128, random = 3, seed = 1>     // BigBird (arXiv 2007.14062)
    ```
  }];
  let parameters = (ins "int64_t":$local, DefaultValuedParameter<"int64_t", "0">:$global,
                        DefaultValuedParameter<"int64_t", "0">:$stride, DefaultValuedParameter<"int64_t", "0">:$random,
                        DefaultValuedParameter<"int64_t", "0">:$seed);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// In blocks.
    ::mili_attention::BlockPattern getPattern() const;
  }];
}
def Mili_MaskAttr : AnyAttrOf<[Mili_CausalAttr, Mili_WindowAttr, Mili_BlockSparseAttr], "attention mask"> {
  let storageType = "::mlir::Attribute";
  let returnType = "::mlir::Attribute";
}

def Mili_Activation : I32EnumAttr<"Activation", "scalar activation function", [
  I32EnumAttrCase<"silu", 0, "silu">, I32EnumAttrCase<"gelu", 1, "gelu">,
  I32EnumAttrCase<"gelu_tanh", 2, "gelu_tanh">, I32EnumAttrCase<"relu", 3, "relu">]> {
  let cppNamespace = "::mlir::mili";
  let genSpecializedAttr = 0;
}
def Mili_ActivationAttr : EnumAttr<Mili_Dialect, Mili_Activation, "activation"> { let assemblyFormat = "`<` $value `>`"; }

def Mili_BucketAttr : Mili_Attr<"Bucket", "bucket"> {
  let summary = "Bounds of the steps that one specialized function runs";
  let description = "`#mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>`";
  let parameters = (ins "int64_t":$tokens, "int64_t":$sequences, "int64_t":$logitRows);
  let assemblyFormat = "`<` `tokens` `=` $tokens `,` `sequences` `=` $sequences `,` `logit_rows` `=` $logitRows `>`";
  let genVerifyDecl = 1;
}

// What a target's kernel selection says of a group.

def Mili_RowCount : I32EnumAttr<"RowCount", "the count of the batch that a tile grid grows with", [
  I32EnumAttrCase<"one", 0, "one">, I32EnumAttrCase<"tokens", 1, "tokens">,
  I32EnumAttrCase<"logit_rows", 2, "logit_rows">, I32EnumAttrCase<"sequences", 3, "sequences">]> {
  let cppNamespace = "::mlir::mili";
  let genSpecializedAttr = 0;
}

def Mili_CudaLaunchAttr : Mili_Attr<"CudaLaunch", "cuda_launch"> {
  let summary = "How a stage is launched on GPUs of compute capability `arch` and later, up to the next entry's"; 
  let description = [{
    `#mili.cuda_launch<arch = 90, threads = 384, shared = 197632, blocks_per_sm = 1>`: threads of a block, bytes of its dynamic
    shared memory; blocks_per_sm = 0 is a block for each tile, otherwise at most so many for each multiprocessor.
  }];
  let parameters = (ins "int64_t":$arch, "int64_t":$threads, "int64_t":$shared, DefaultValuedParameter<"int64_t", "0">:$blocksPerSm);
  let assemblyFormat = [{
    `<` `arch` `=` $arch `,` `threads` `=` $threads `,` `shared` `=` $shared (`,` `blocks_per_sm` `=` $blocksPerSm^)? `>`
  }];
}

def Mili_TensorMapAttr : Mili_Attr<"TensorMap", "tensor_map"> {
  let summary = "A bf16 matrix that a stage reads by tensor copies (TMA)";
  let description = [{
    `#mili.tensor_map<arg = 1, rows = 4096, columns = 4096, box_rows = 128>`: `arg` counts the launch's arguments; boxes are 64
    columns wide, swizzled by 128 bytes.
  }];
  let parameters = (ins "int64_t":$arg, "int64_t":$rows, "int64_t":$columns, "int64_t":$boxRows);
  let assemblyFormat = "`<` `arg` `=` $arg `,` `rows` `=` $rows `,` `columns` `=` $columns `,` `box_rows` `=` $boxRows `>`";
}

def Mili_StageAttr : Mili_Attr<"Stage", "stage"> {
  let summary = "One planned launch of a group's kernel template";
  let description = [{
    A template may need several launches (quantize rows, then the product). Tiles are
    `tiles * (per == one ? 1 : ceil(rows / rows_per_tile))`. `scratch` is per-worker bytes (CPU).
    `#mili.stage<"product", tiles = 60 per one by 1, scratch = 4096>`
    On CUDA `cuda` says how it is launched, `maps` what it reads by tensor copies, and `config` what the template chose (tile
    sizes, splits), for its own emission.
  }];
  let parameters = (ins StringRefParameter<>:$name, "int64_t":$tiles, EnumParameter<Mili_RowCount>:$per,
                        "int64_t":$rowsPerTile, DefaultValuedParameter<"int64_t", "0">:$scratch,
                        OptionalArrayRefParameter<"::mlir::mili::CudaLaunchAttr">:$cuda,
                        OptionalArrayRefParameter<"::mlir::mili::TensorMapAttr">:$maps,
                        OptionalParameter<"::mlir::DictionaryAttr">:$config);
  // The declarative format reads any comma as the one before its first optional group.
  let hasCustomAssemblyFormat = 1;
  let builders = [AttrBuilder<(ins "::llvm::StringRef":$name, "int64_t":$tiles, "::mlir::mili::RowCount":$per,
                                   "int64_t":$rowsPerTile, CArg<"int64_t", "0">:$scratch), [{
    return $_get($_ctxt, name, tiles, per, rowsPerTile, scratch, ::llvm::ArrayRef<::mlir::mili::CudaLaunchAttr>(),
                 ::llvm::ArrayRef<::mlir::mili::TensorMapAttr>(), ::mlir::DictionaryAttr());
  }]>];
  let genVerifyDecl = 1;
}

#endif
