// RUN: split-file %s %t
// RUN: mili-opt %t/none.mlir --verify-diagnostics --mili-memory-plan
// RUN: mili-opt %t/argument.mlir --verify-diagnostics --mili-memory-plan
// RUN: mili-opt %t/ungrouped.mlir --verify-diagnostics --mili-memory-plan
// RUN: mili-opt %t/kernel.mlir --verify-diagnostics --mili-memory-plan
// RUN: mili-opt %t/layout.mlir --verify-diagnostics --mili-memory-plan='requests=1 context=64'
// RUN: mili-opt %t/returns.mlir --verify-diagnostics --mili-memory-plan='requests=1 context=64'
// RUN: mili-opt %t/nothing.mlir --verify-diagnostics --mili-memory-plan='requests=1 context=64'
// RUN: mili-opt %t/order.mlir --verify-diagnostics --mili-memory-plan='requests=1 context=64'
// RUN: mili-opt %t/tokens.mlir --verify-diagnostics --mili-memory-plan='requests=1 context=64'
// RUN: mili-opt %t/three.mlir --verify-diagnostics --mili-memory-plan='requests=1 context=64'
// RUN: mili-opt %t/good.mlir --verify-diagnostics --mili-memory-plan
// RUN: not mili-opt %t/good.mlir --mili-memory-plan='requests=1 context=64 report=json' 2>&1 | FileCheck %s --check-prefix=REPORT
// RUN: not mili-opt %t/good.mlir --mili-memory-plan='requests=1 context=4611686018427387904' 2>&1 | FileCheck %s --check-prefix=LARGE

// REPORT: mili-memory-plan: report must be table, found 'json'
// LARGE: mili-memory-plan: expected a positive mili.context of at most 2147483648 on the module or as an option, found 4611686018427387904

//--- none.mlir
// expected-error @below {{mili-memory-plan: no function has mili.bucket; run mili-specialize-buckets first}}
module {
}

//--- argument.mlir
// expected-error @below {{mili-memory-plan: expected arguments that are token ids (tensor<?xi32>) or the batch, found 'tensor<?x8xf32>'}}
func.func @f(%x: tensor<?x8xf32>) -> tensor<?x8xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  return %x : tensor<?x8xf32>
}

//--- ungrouped.mlir
func.func @f(%t: tensor<?xi32>) -> tensor<?x8xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %e = mili.weight "e" layout "rows" : tensor<16x8xf32>
  // expected-error @below {{mili-memory-plan: expected only groups, weights and states; run mili-fuse-groups first}}
  %0 = mili.embedding %t, %e : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

//--- kernel.mlir
func.func @f(%t: tensor<?xi32>) -> tensor<?x8xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %e = mili.weight "e" layout "rows" : tensor<16x8xf32>
  // expected-error @below {{mili-memory-plan: no kernel was selected for the group}}
  %0 = mili.group "a" hero "mili.embedding" ins(%t, %e : tensor<?xi32>, tensor<16x8xf32>) -> tensor<?x8xf32> {
  ^bb0(%b: tensor<?xi32>, %w: tensor<16x8xf32>):
    %1 = mili.embedding %b, %w : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
    mili.yield %1 : tensor<?x8xf32>
  }
  return %0 : tensor<?x8xf32>
}

//--- layout.mlir
func.func @f(%t: tensor<?xi32>) -> tensor<?x8xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  // expected-error @below {{mili-memory-plan: no layout was selected for the weight}}
  %e = mili.weight "e" : tensor<16x8xf32>
  %0 = mili.group "a" hero "mili.embedding" ins(%t, %e : tensor<?xi32>, tensor<16x8xf32>) -> tensor<?x8xf32>
      kernel "cpu.gather" stages [#mili.stage<"main", tiles = 1 per tokens by 1>] {
  ^bb0(%b: tensor<?xi32>, %w: tensor<16x8xf32>):
    %1 = mili.embedding %b, %w : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
    mili.yield %1 : tensor<?x8xf32>
  }
  return %0 : tensor<?x8xf32>
}

//--- returns.mlir
// expected-error @below {{mili-memory-plan: expected to return the logits that a group computes, and perhaps the tokens sampled from them, found 2 values}}
func.func @f(%t: tensor<?xi32>) -> (tensor<?x8xf32>, tensor<?x8xf32>)
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %e = mili.weight "e" layout "rows" : tensor<16x8xf32>
  %0 = mili.group "a" hero "mili.embedding" ins(%t, %e : tensor<?xi32>, tensor<16x8xf32>) -> tensor<?x8xf32>
      kernel "cpu.gather" stages [#mili.stage<"main", tiles = 1 per tokens by 1>] {
  ^bb0(%b: tensor<?xi32>, %w: tensor<16x8xf32>):
    %1 = mili.embedding %b, %w : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
    mili.yield %1 : tensor<?x8xf32>
  }
  return %0, %0 : tensor<?x8xf32>, tensor<?x8xf32>
}

//--- nothing.mlir
// A step without a result.
// expected-error @below {{mili-memory-plan: expected to return the logits that a group computes, and perhaps the tokens sampled from them, found 0 values}}
func.func @f(%t: tensor<?xi32>, %batch: !mili.batch)
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %e = mili.weight "e" layout "rows" : tensor<16x8xf32>
  %l = mili.group "a" hero "mili.embedding" ins(%t, %e : tensor<?xi32>, tensor<16x8xf32>) -> tensor<?x8xf32>
      kernel "cuda.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1>] {
  ^bb0(%b: tensor<?xi32>, %w: tensor<16x8xf32>):
    %0 = mili.embedding %b, %w : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
    mili.yield %0 : tensor<?x8xf32>
  }
  %s = mili.group "s" hero "mili.sample" ins(%l, %batch : tensor<?x8xf32>, !mili.batch) -> tensor<?xi32>
      kernel "cuda.sample" stages [#mili.stage<"sample", tiles = 1 per logit_rows by 1>] {
  ^bb0(%b: tensor<?x8xf32>, %t0: !mili.batch):
    %0 = mili.sample %b, %t0 : tensor<?x8xf32> -> tensor<?xi32>
    mili.yield %0 : tensor<?xi32>
  }
  return
}

//--- order.mlir
// Tokens before logits.
// expected-error @below {{mili-memory-plan: expected to return the logits that a group computes, and perhaps the tokens sampled from them, found 2 values}}
func.func @f(%t: tensor<?xi32>, %batch: !mili.batch) -> (tensor<?xi32>, tensor<?x8xf32>)
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %e = mili.weight "e" layout "rows" : tensor<16x8xf32>
  %l = mili.group "a" hero "mili.embedding" ins(%t, %e : tensor<?xi32>, tensor<16x8xf32>) -> tensor<?x8xf32>
      kernel "cuda.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1>] {
  ^bb0(%b: tensor<?xi32>, %w: tensor<16x8xf32>):
    %0 = mili.embedding %b, %w : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
    mili.yield %0 : tensor<?x8xf32>
  }
  %s = mili.group "s" hero "mili.sample" ins(%l, %batch : tensor<?x8xf32>, !mili.batch) -> tensor<?xi32>
      kernel "cuda.sample" stages [#mili.stage<"sample", tiles = 1 per logit_rows by 1>] {
  ^bb0(%b: tensor<?x8xf32>, %t0: !mili.batch):
    %0 = mili.sample %b, %t0 : tensor<?x8xf32> -> tensor<?xi32>
    mili.yield %0 : tensor<?xi32>
  }
  return %s, %l : tensor<?xi32>, tensor<?x8xf32>
}

//--- tokens.mlir
// The second value is the token ids of the step, which nothing sampled.
// expected-error @below {{mili-memory-plan: expected to return the logits that a group computes, and perhaps the tokens sampled from them, found 2 values}}
func.func @f(%t: tensor<?xi32>, %batch: !mili.batch) -> (tensor<?x8xf32>, tensor<?xi32>)
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %e = mili.weight "e" layout "rows" : tensor<16x8xf32>
  %l = mili.group "a" hero "mili.embedding" ins(%t, %e : tensor<?xi32>, tensor<16x8xf32>) -> tensor<?x8xf32>
      kernel "cuda.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1>] {
  ^bb0(%b: tensor<?xi32>, %w: tensor<16x8xf32>):
    %0 = mili.embedding %b, %w : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
    mili.yield %0 : tensor<?x8xf32>
  }
  %s = mili.group "s" hero "mili.sample" ins(%l, %batch : tensor<?x8xf32>, !mili.batch) -> tensor<?xi32>
      kernel "cuda.sample" stages [#mili.stage<"sample", tiles = 1 per logit_rows by 1>] {
  ^bb0(%b: tensor<?x8xf32>, %t0: !mili.batch):
    %0 = mili.sample %b, %t0 : tensor<?x8xf32> -> tensor<?xi32>
    mili.yield %0 : tensor<?xi32>
  }
  return %l, %t : tensor<?x8xf32>, tensor<?xi32>
}

//--- three.mlir
// Tokens twice.
// expected-error @below {{mili-memory-plan: expected to return the logits that a group computes, and perhaps the tokens sampled from them, found 3 values}}
func.func @f(%t: tensor<?xi32>, %batch: !mili.batch) -> (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>)
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %e = mili.weight "e" layout "rows" : tensor<16x8xf32>
  %l = mili.group "a" hero "mili.embedding" ins(%t, %e : tensor<?xi32>, tensor<16x8xf32>) -> tensor<?x8xf32>
      kernel "cuda.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1>] {
  ^bb0(%b: tensor<?xi32>, %w: tensor<16x8xf32>):
    %0 = mili.embedding %b, %w : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
    mili.yield %0 : tensor<?x8xf32>
  }
  %s = mili.group "s" hero "mili.sample" ins(%l, %batch : tensor<?x8xf32>, !mili.batch) -> tensor<?xi32>
      kernel "cuda.sample" stages [#mili.stage<"sample", tiles = 1 per logit_rows by 1>] {
  ^bb0(%b: tensor<?x8xf32>, %t0: !mili.batch):
    %0 = mili.sample %b, %t0 : tensor<?x8xf32> -> tensor<?xi32>
    mili.yield %0 : tensor<?xi32>
  }
  return %l, %s, %s : tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
}

//--- good.mlir
// expected-error @below {{mili-memory-plan: expected a positive mili.requests of at most 16777216 on the module or as an option, found 0}}
module {
mili.state @kv : !mili.kv<heads = 1, k = 8, v = 8, f32>
func.func @f(%t: tensor<?xi32>) -> tensor<?x8xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %e = mili.weight "e" layout "rows" : tensor<16x8xf32>
  %0 = mili.group "a" hero "mili.embedding" ins(%t, %e : tensor<?xi32>, tensor<16x8xf32>) -> tensor<?x8xf32>
      kernel "cpu.gather" stages [#mili.stage<"main", tiles = 1 per tokens by 1>] {
  ^bb0(%b: tensor<?xi32>, %w: tensor<16x8xf32>):
    %1 = mili.embedding %b, %w : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
    mili.yield %1 : tensor<?x8xf32>
  }
  return %0 : tensor<?x8xf32>
}
}
