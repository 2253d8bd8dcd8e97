// RUN: split-file %s %t
// RUN: mili-opt %t/target.mlir --verify-diagnostics --mili-codegen-select-kernels=target=abacus
// RUN: mili-opt %t/bucket.mlir --verify-diagnostics --mili-codegen-select-kernels
// RUN: mili-opt %t/none.mlir --verify-diagnostics --mili-codegen-select-kernels
// RUN: mili-opt %t/layout.mlir --verify-diagnostics --mili-codegen-select-kernels

//--- target.mlir
// expected-error @below {{mili-codegen-select-kernels: no kernels for target 'abacus'; there are: cpu, cuda}}
module {
}

//--- bucket.mlir
func.func @forward(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @below {{mili-codegen-select-kernels: the group's function has no mili.bucket; run mili-specialize-buckets first}}
  %0 = mili.group "a" hero "mili.scale" ins(%x : tensor<?x8xf32>) -> tensor<?x8xf32> {
  ^bb0(%b: tensor<?x8xf32>):
    %1 = mili.scale %b by 2.0 : tensor<?x8xf32>
    mili.yield %1 : tensor<?x8xf32>
  }
  return %0 : tensor<?x8xf32>
}

//--- none.mlir
// A product whose weight is computed: there is nothing to pack.
func.func @forward(%x: tensor<?x8xf32>) -> tensor<?x16xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %w = mili.weight "a" : tensor<16x8xf32>
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cpu' can run this group, led by mili.linear}}
  %0 = mili.group "a" hero "mili.linear" ins(%x, %w : tensor<?x8xf32>, tensor<16x8xf32>) -> tensor<?x16xf32> {
  ^bb0(%b: tensor<?x8xf32>, %h: tensor<16x8xf32>):
    %1 = mili.scale %h by 2.0 : tensor<16x8xf32>
    %2 = mili.linear %b, %1 : tensor<?x8xf32>, tensor<16x8xf32> -> tensor<?x16xf32>
    mili.yield %2 : tensor<?x16xf32>
  }
  return %0 : tensor<?x16xf32>
}

//--- layout.mlir
// One group multiplies with the matrix, the other reads it as rows.
func.func @forward(%x: tensor<?x8xf32>) -> (tensor<?x16xf32>, tensor<16x8xf32>)
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %w = mili.weight "a" : tensor<16x8xf32>
  // expected-error @below {{mili-codegen-select-kernels: no layout of weight a suits all of its users; 'product' reads panel16}}
  %0 = mili.group "product" hero "mili.linear" ins(%x, %w : tensor<?x8xf32>, tensor<16x8xf32>) -> tensor<?x16xf32> {
  ^bb0(%b: tensor<?x8xf32>, %h: tensor<16x8xf32>):
    %2 = mili.linear %b, %h : tensor<?x8xf32>, tensor<16x8xf32> -> tensor<?x16xf32>
    mili.yield %2 : tensor<?x16xf32>
  }
  // expected-note @below {{'rows' reads row_major}}
  %1 = mili.group "rows" hero "mili.scale" ins(%w : tensor<16x8xf32>) -> tensor<16x8xf32> {
  ^bb0(%b: tensor<16x8xf32>):
    %2 = mili.scale %b by 2.0 : tensor<16x8xf32>
    mili.yield %2 : tensor<16x8xf32>
  }
  return %0, %1 : tensor<?x16xf32>, tensor<16x8xf32>
}
