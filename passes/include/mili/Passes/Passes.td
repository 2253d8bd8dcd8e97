//===- Passes.td - MILI's passes ----------------------------------*- tablegen -*-===//
#ifndef MILI_PASSES_PASSES
#define MILI_PASSES_PASSES

include "mlir/Pass/PassBase.td"

//===- Optimize ----------------------------------------------------------------===//

def MergeProjections : Pass<"mili-optimize-merge-projections", "::mlir::func::FuncOp"> {
  let summary = "Linears that read one value become one linear over a joined weight";
  let description = [{
    Q, K and V (linears whose results reach the same attention) become one linear whose weight is the pieces in program
    order, followed by `mili.split`. Gate and up (the two operands of one `mili.gated`) are interleaved. Works through
    `mili.dequant`. Weights of different formats, or with other uses, are left apart.

    ```mlir
    %q = mili.linear %n, %wq : ...          %qkv = mili.linear %n, %w : ...   // %w = mili.weight "q", "k", "v"
    %k = mili.linear %n, %wk : ...    =>    %q, %k, %v = mili.split %qkv : ...
    %v = mili.linear %n, %wv : ...
    ```
  }];
  let options = [
    Option<"qkv", "qkv", "bool", "true", "Join the projections of one attention">,
    Option<"gateUp", "gate-up", "bool", "true", "Interleave the two operands of a gated activation">,
    Option<"interleave", "interleave", "int64_t", "16", "Features in a run of gate or up: what one register tile of the target holds">
  ];
  let statistics = [Statistic<"numMerged", "merged-linears", "Linears that became part of a joined one">];
  let dependentDialects = ["::mlir::mili::MiliDialect"];
}

def RemoveUnusedWeights : Pass<"mili-optimize-remove-unused-weights", "::mlir::ModuleOp"> {
  let summary = "Drops weights and states that nothing reads; equal weights become one";
  let description = [{
    A `mili.weight` without uses is erased, so that the plan does not carry it. Two `mili.weight` of one function with the same
    `#mili.param` and type (a head tied to the embedding) become one; so do two of tensors that the module's `mili.duplicates`
    calls equal: the compiler compares the bytes of a model's matrices. A `mili.state` that no function names is erased.

    ```mlir
    module attributes {mili.duplicates = {lm_head.weight = "model.embed_tokens.weight"}} {  // set by the driver; spent here
    mili.state @layers.0.kv : !mili.kv<heads = 1, k = 8, v = 8, f32>     // erased when no function names it
    %0 = mili.weight "a" : tensor<8xf32>                                 // erased when unused
    ```
  }];
  let statistics = [
    Statistic<"numUnused", "unused-weights", "Weights without uses that were erased">,
    Statistic<"numDuplicates", "duplicate-weights", "Weights replaced by an equal one">,
    Statistic<"numStates", "unused-states", "States that no function names that were erased">
  ];
  let dependentDialects = ["::mlir::mili::MiliDialect"];
}

//===- Attention ---------------------------------------------------------------===//

def SetAttentionPattern : Pass<"mili-attention-set-pattern", "::mlir::ModuleOp"> {
  let summary = "Gives layers another attention mask: a window, or a selection of blocks";
  let description = [{
    A pattern is `causal`, `window=N`, or terms joined by `+`, at least one of them among the first four:

    | term | a token sees |
    |---|---|
    | `local[=N]` | the blocks of the last N tokens [512; with `strided=N`: N] |
    | `strided=N` | every block at a distance that is a multiple of N tokens |
    | `random[=K]` | K drawn blocks before its local ones [8] |
    | `bigbird[=K]` | `local=192+global=128+random=K` [3] where they are not given |
    | `global=N` | the blocks of the first N tokens |
    | `seed=N` | what the draws depend on [0] |

    N counts tokens, with `k` for 1024; blocks hold 64. A pattern holds for all layers, or for those after `@`
    (`window=4096@0-15:20`); of several patterns for a layer the last one holds. A layer whose mask becomes a window also has its
    state keep that window only. This changes what a model computes: it suits models trained for the pattern, or tolerant of it.

    ```mlir
    %a = mili.attention %q, %kv, %batch mask(#mili.causal) ...
    // patterns=strided=1024 =>
    %a = mili.attention %q, %kv, %batch mask(#mili.block_sparse<local = 1024, stride = 1024>) ...
    ```
  }];
  let options = [ListOption<"patterns", "patterns", "std::string", "Patterns, each with its layers">];
  let statistics = [Statistic<"numLayers", "attentions", "Attention ops that were given a mask">];
  let dependentDialects = ["::mlir::mili::MiliDialect"];
}

//===- Specialize --------------------------------------------------------------===//

def SpecializeBuckets : Pass<"mili-specialize-buckets", "::mlir::ModuleOp"> {
  let summary = "One clone of a function for each bucket of steps that the plan serves";
  let description = [{
    A bucket is written `tokens:sequences:logit_rows`. `@forward` becomes `@forward_t1`, `@forward_t512`, ... in ascending
    order of tokens, each with `mili.bucket = #mili.bucket<...>` and `mili.function = "forward"`; the original is
    erased. Two buckets of equal tokens are told apart by their sequences (`@forward_t8_s1`) and, if needed, rows.
  }];
  let options = [
    Option<"function", "function", "std::string", "\"forward\"", "The function to specialize">,
    ListOption<"buckets", "buckets", "std::string", "Buckets, each tokens:sequences:logit_rows">
  ];
  let dependentDialects = ["::mlir::mili::MiliDialect"];
}

def AddSampling : Pass<"mili-specialize-add-sampling", "::mlir::ModuleOp"> {
  let summary = "The function samples the next tokens itself";
  let description = [{
    Appends `mili.sample` to `@forward`, which then returns its logits and the tokens drawn from them, so that a device can feed
    them back without the host. For targets that have a kernel for it.
  }];
  let options = [Option<"function", "function", "std::string", "\"forward\"", "The function to extend">];
  let dependentDialects = ["::mlir::mili::MiliDialect"];
}

//===- Fusion ------------------------------------------------------------------===//

def FuseGroups : Pass<"mili-fuse-groups", "::mlir::ModuleOp"> {
  let summary = "Every compute op into a mili.group of one hero, by cost";
  let description = [{
    Works on functions with a `mili.bucket`. Ops say what they can be (`FusibleOp`) and what they cost (`CostedOp`); each op
    ends in exactly one group, except that cheap producers may be recomputed in several. See the top of FuseGroups.cpp for
    the algorithm.

    `disable` takes kinds of fusion: `rms_norm-linear` (that producer into that consumer), `gated` (that op after
    whatever produces its operands, or before its consumers) or `all`.
  }];
  let options = [
    ListOption<"disable", "disable", "std::string", "Kinds of fusion to leave out: producer-consumer, op, or all">,
    Option<"granularityLimit", "granularity-limit", "int64_t", "512",
           "Most features that one tile of a product may have to hold for its epilogue">,
    Option<"tileFeatures", "tile-features", "int64_t", "1",
           "Features that any tile of the target holds together: an epilogue that needs no more costs no tiles">,
    Option<"asTokens", "as-tokens", "int64_t", "0",
           "Decide for a step of this many tokens in every bucket, so that all buckets fuse alike; 0: for the bucket's own">,
    Option<"workers", "workers", "int64_t", "8", "Parallel workers that costs are estimated for">,
    Option<"launchNs", "launch-ns", "int64_t", "5000", "Cost of one more launch (barrier), in nanoseconds">,
    Option<"flopsPerNs", "flops-per-ns", "int64_t", "32", "Element-wise floating-point operations of one worker in a nanosecond">,
    Option<"bytesPerNs", "bytes-per-ns", "int64_t", "20", "Bytes of activations that one worker moves in a nanosecond">,
    Option<"context", "context", "int64_t", "1024", "Tokens of context per sequence that costs are estimated for">,
    Option<"report", "report", "std::string", "\"\"", "Print the decisions to standard error: table or json">
  ];
  let statistics = [
    Statistic<"numGroups", "groups", "Groups formed">,
    Statistic<"numFused", "fused-edges", "Values that stay inside a group">
  ];
  let dependentDialects = ["::mlir::mili::MiliDialect"];
}

//===- Memory ------------------------------------------------------------------===//

def MemoryPlan : Pass<"mili-memory-plan", "::mlir::ModuleOp"> {
  let summary = "Groups into launches over one arena: the mili_plan dialect";
  let description = [{
    Works on functions with a `mili.bucket` whose groups have kernels (`kernel`, `stages`) and whose weights have layouts;
    the functions are gone afterwards. Sets `mili_plan.memory` on the module: the exact bytes that the runtime allocates.
    A weight's discardable attribute `packed_bytes` (i64) says what its layout takes where that differs from the tensor's
    own storage. See the top of MemoryPlan.cpp for liveness, in-place reuse and offsets.
  }];
  let options = [
    Option<"requests", "requests", "int64_t", "0", "Sequences that can be live at once; 0: the module's mili.requests">,
    Option<"context", "context", "int64_t", "0", "Tokens of each sequence; 0: the module's mili.context">,
    Option<"reuse", "reuse", "bool", "true", "Let values share memory; off to measure what that is worth">,
    Option<"report", "report", "std::string", "\"\"", "Print each bucket's figures to standard error: table">
  ];
  let statistics = [
    Statistic<"numKernels", "kernels", "Kernels after equal groups were joined">,
    Statistic<"numInPlace", "in-place-results", "Results that took over an operand's buffer">
  ];
  let dependentDialects = ["::mlir::mili::plan::MiliPlanDialect"];
}

#endif
