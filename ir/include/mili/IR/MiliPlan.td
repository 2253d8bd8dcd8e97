//===- MiliPlan.td - the executable plan as IR ---------------------*- tablegen -*-===//
#ifndef MILI_IR_MILIPLAN
#define MILI_IR_MILIPLAN

include "mili/IR/MiliTypes.td"
include "mili/IR/MiliAttrs.td"
include "mili/IR/MiliPlanEnums.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"

def MiliPlan_Dialect : Dialect {
  let name = "mili_plan";
  let cppNamespace = "::mlir::mili::plan";
  let summary = "Buffers and launches: one op is one record of the plan file";
  let dependentDialects = ["::mlir::mili::MiliDialect"];
  let useDefaultAttributePrinterParser = 1;
  let extraClassDeclaration = [{
    /// Module attribute set by memory planning: a dictionary of the plan's exact byte figures.
    static constexpr llvm::StringLiteral getMemoryAttrName() { return "mili_plan.memory"; }
  private:
    void registerAttributes();
  public:
  }];
}

class MiliPlan_Op<string mnemonic, list<Trait> traits = []> : Op<MiliPlan_Dialect, mnemonic, traits>;
class MiliPlan_Attr<string name, string m> : AttrDef<MiliPlan_Dialect, name> { let mnemonic = m; }

def MiliPlan_ArenaAttr : MiliPlan_Attr<"Arena", "arena"> {
  let summary = "A slice of the arena, bytes: `#mili_plan.arena<read 1024 + 2304>`";
  let parameters = (ins EnumParameter<MiliPlan_Access>:$access, "int64_t":$offset, "int64_t":$size);
  let assemblyFormat = "`<` $access $offset `+` $size `>`";
}
def MiliPlan_WeightRefAttr : MiliPlan_Attr<"WeightRef", "weight_ref"> {
  let summary = "A weight of the plan: `#mili_plan.weight_ref<@w12>`";
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$weight);
  let assemblyFormat = "`<` $weight `>`";
}
def MiliPlan_StateRefAttr : MiliPlan_Attr<"StateRef", "state_ref"> {
  let summary = "A state pool: `#mili_plan.state_ref<readwrite @layers.0.kv>`";
  let parameters = (ins EnumParameter<MiliPlan_Access>:$access, "::mlir::FlatSymbolRefAttr":$state);
  let assemblyFormat = "`<` $access $state `>`";
}

def MiliPlan_CountersAttr : MiliPlan_Attr<"Counters", "counters"> {
  let summary = "The first bytes of the counter block: `#mili_plan.counters<512>`";
  let parameters = (ins "int64_t":$size);
  let assemblyFormat = "`<` $size `>`";
}

def MiliPlan_WorkAttr : MiliPlan_Attr<"Work", "work"> {
  let summary = "Expected work of a launch, linear in what a step holds";
  let description = [{
    bytes = bytes_fixed + bytes_row * rows + bytes_key * keys, operations = flops_row * rows + flops_pair * pairs; both are 0
    where there are no rows. `rows` are what `per` counts in the step. At the end of n tokens of its sequence a query sees
    min(n, visible_base + n / visible_every) keys, where 0 for visible_every adds none: 0 and 1 is a causal mask, W and 0 a
    window of W. `pairs` are the keys that each token sees, summed over the step's tokens. `keys` are positions that must be
    read, summed over its sequences: those that a sequence's last token sees, and for each token before it one more, at
    most all. Figures that are 0 are left out.

    ```mlir
    #mili_plan.work<per = tokens, bytes_fixed = 557056, bytes_row = 256, flops_row = 1769472>
    #mili_plan.work<per = tokens, bytes_key = 512, flops_pair = 2112, visible_every = 1>
    ```
  }];
  let parameters = (ins EnumParameter<Mili_RowCount>:$per, DefaultValuedParameter<"int64_t", "0">:$bytes_fixed,
                        DefaultValuedParameter<"int64_t", "0">:$bytes_row, DefaultValuedParameter<"int64_t", "0">:$bytes_key,
                        DefaultValuedParameter<"int64_t", "0">:$flops_row, DefaultValuedParameter<"int64_t", "0">:$flops_pair,
                        DefaultValuedParameter<"int64_t", "0">:$visible_base,
                        DefaultValuedParameter<"int64_t", "0">:$visible_every);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def MiliPlan_WeightOp : MiliPlan_Op<"weight", [Symbol]> {
  let summary = "A weight that the plan carries";
  let description = "`mili_plan.weight @w0 \"a.weight\" layout \"panel16\" : tensor<128x128xbf16>`";
  let arguments = (ins SymbolNameAttr:$sym_name, Mili_ParamAttr:$param, StrAttr:$layout, TypeAttrOf<Mili_Stored>:$type);
  let assemblyFormat = "$sym_name custom<ParamBody>($param) `layout` $layout `:` $type attr-dict";
  let hasVerifier = 1;
}

def MiliPlan_KernelOp : MiliPlan_Op<"kernel", [Symbol, IsolatedFromAbove, SingleBlock, NoTerminator]> {
  let summary = "A group's body as a kernel, shared by structurally equal groups";
  let description = [{
    `template` names the KernelTemplate, `stages` its launches. The body is the group's, with its block arguments and its
    `mili.yield`. A launch's arguments are the block arguments in order, then the yielded values in order, then the arena
    scratch if the template wants any. Left out are the batch and the token ids (`tensor<?xi32>`, a table of the batch),
    which every kernel gets by itself, and yielded states, which are updated in place.
    `layouts` has a string for each block argument: the layout of a weight, empty for anything else.
    Each stage becomes one symbol `<name>` or, when there are several, `<name>.<stage>`.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$kernel_template, StrAttr:$hero,
                       TypedArrayAttrBase<Mili_StageAttr, "stages">:$stages, Mili_BucketAttr:$bucket,
                       ArrayAttr:$weight_layouts);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $sym_name `template` $kernel_template `hero` $hero `stages` $stages `bucket` $bucket `layouts` $weight_layouts
    attr-dict-with-keyword custom<IsolatedBody>($body)
  }];
  let hasVerifier = 1;
}

def MiliPlan_BucketOp : MiliPlan_Op<"bucket", [Symbol, IsolatedFromAbove, SingleBlock, NoTerminator, NoRegionArguments]> {
  let summary = "The launches of one bucket, in order";
  let description = [{
    All figures are bytes: `arena` the peak that this bucket needs, `lower_bound` the most that is live at one time,
    `naive` what separate buffers would take, `logits` the offset in the arena of the f32 `[logit_rows][vocab]`,
    `sampled` that of the i32 `[logit_rows]` which the bucket samples itself.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Mili_BucketAttr:$bucket, I64Attr:$arena, I64Attr:$lower_bound, I64Attr:$naive,
                       I64Attr:$logits, OptionalAttr<I64Attr>:$sampled);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $sym_name $bucket `arena` $arena `lower_bound` $lower_bound `naive` $naive `logits` $logits
    (`sampled` $sampled^)? attr-dict-with-keyword custom<IsolatedBody>($body)
  }];
  let hasVerifier = 1;
}

def MiliPlan_LaunchOp : MiliPlan_Op<"launch", [HasParent<"BucketOp">, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "One launch of one stage of a kernel";
  let description = [{
    `name` is the group's name in the model. Arena slices begin at multiples of 256 bytes within the bucket's arena.
    `work` is the expected traffic and work; a launch without it, a stage beside its kernel's main one, counts nothing.

    ```mlir
    mili_plan.launch @linear_3 stage 0 "layers.0.mlp.up" [#mili_plan.arena<read 0 + 2304>, #mili_plan.weight_ref<@w4>,
        #mili_plan.arena<write 2304 + 6144>] work <per = tokens, bytes_fixed = 548864, bytes_row = 8448, flops_row = 1769472>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$kernel, I64Attr:$stage, StrAttr:$name, ArrayAttr:$args,
                       OptionalAttr<MiliPlan_WorkAttr>:$work);
  let assemblyFormat = "$kernel `stage` $stage $name $args (`work` $work^)? attr-dict";
  let hasVerifier = 1;
}

#endif
