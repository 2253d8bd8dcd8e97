//===- Passes.td - MILI's passes ----------------------------------*- tablegen -*-===//
#ifndef MILI_PASSES_PASSES
#define MILI_PASSES_PASSES

include "mlir/Pass/PassBase.td"

def RemoveUnusedWeights : Pass<"mili-optimize-remove-unused-weights", "::mlir::ModuleOp"> {
  let summary = "Drops weights and states that nothing reads; equal weights become one";
  let description = [{
    A `mili.weight` without uses is erased, so that the plan does not carry it. Two `mili.weight` of one function with the same
    `#mili.param` and type (a head tied to the embedding) become one. A `mili.state` that no function names is erased.

    ```mlir
    mili.state @layers.0.kv : !mili.kv<heads = 1, k = 8, v = 8, f32>     // erased when no function names it
    %0 = mili.weight #mili.param<"a"> : tensor<8xf32>                    // erased when unused
    ```
  }];
  let statistics = [
    Statistic<"numUnused", "unused-weights", "Weights without uses that were erased">,
    Statistic<"numDuplicates", "duplicate-weights", "Weights replaced by an equal one">,
    Statistic<"numStates", "unused-states", "States that no function names that were erased">
  ];
}

#endif
