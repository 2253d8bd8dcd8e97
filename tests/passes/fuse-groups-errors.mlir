// RUN: split-file %s %t
// RUN: mili-opt %t/bucket.mlir --verify-diagnostics --mili-fuse-groups
// RUN: mili-opt %t/blocks.mlir --verify-diagnostics --mili-fuse-groups
// RUN: mili-opt %t/fused.mlir --verify-diagnostics --mili-fuse-groups
// RUN: mili-opt %t/foreign.mlir --verify-diagnostics --mili-fuse-groups
// RUN: mili-opt %t/dequant.mlir --verify-diagnostics --mili-fuse-groups
// RUN: mili-opt %t/kind.mlir --verify-diagnostics --mili-fuse-groups=disable=gate
// RUN: mili-opt %t/kinds.mlir --verify-diagnostics --mili-fuse-groups=disable=rms_norm-linear-add
// RUN: mili-opt %t/workers.mlir --verify-diagnostics --mili-fuse-groups=workers=0
// RUN: mili-opt %t/launch.mlir --verify-diagnostics --mili-fuse-groups=launch-ns=-1
// RUN: mili-opt %t/report.mlir --verify-diagnostics --mili-fuse-groups=report=xml

//--- bucket.mlir
// expected-error @below {{mili-fuse-groups: the function has no mili.bucket; run mili-specialize-buckets first}}
func.func @forward() {
  return
}

//--- blocks.mlir
// expected-error @below {{mili-fuse-groups: expected a body of one block, found 2}}
func.func @forward() attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  cf.br ^bb1
^bb1:
  return
}

//--- fused.mlir
func.func @forward(%x: tensor<?x8xf32>) -> tensor<?x8xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  // expected-error @below {{mili-fuse-groups: the function is fused already}}
  %0 = mili.group "a" hero "mili.scale" ins(%x : tensor<?x8xf32>) -> tensor<?x8xf32> {
  ^bb0(%b: tensor<?x8xf32>):
    %1 = mili.scale %b by 2.0 : tensor<?x8xf32>
    mili.yield %1 : tensor<?x8xf32>
  }
  return %0 : tensor<?x8xf32>
}

//--- foreign.mlir
func.func @forward(%x: tensor<?x8xf32>) -> tensor<?x8xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  // expected-error @below {{mili-fuse-groups: cannot be part of a kernel: the op does not implement FusibleOp}}
  %0 = math.absf %x : tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

//--- dequant.mlir
func.func @forward() -> tensor<8x32xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %w = mili.weight "a" : tensor<8x32x!mili.block<q4_1>>
  // expected-error @below {{mili-fuse-groups: cannot lead a group and must run inside its consumer, which does not take it}}
  %0 = mili.dequant %w : tensor<8x32x!mili.block<q4_1>> -> tensor<8x32xf32>
  // expected-note @below {{the consumer is this func.return}}
  return %0 : tensor<8x32xf32>
}

//--- kind.mlir
// expected-error @below {{mili-fuse-groups: disable: unknown kind of fusion 'gate'; expected all, an op or producer-consumer, of the ops activation, add,}}
module {
}

//--- kinds.mlir
// expected-error @below {{mili-fuse-groups: disable: unknown kind of fusion 'rms_norm-linear-add'}}
module {
}

//--- workers.mlir
// expected-error @below {{mili-fuse-groups: workers must be positive and at most 2147483648, found 0}}
module {
}

//--- launch.mlir
// expected-error @below {{mili-fuse-groups: launch-ns must not be negative, found -1}}
module {
}

//--- report.mlir
// expected-error @below {{mili-fuse-groups: report must be table or json, found 'xml'}}
module {
}
