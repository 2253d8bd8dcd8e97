// RUN: mili-opt %s --mili-codegen-select-kernels=target=cpu | FileCheck %s

!x = tensor<?x64xf32>
!w = tensor<32x64xf32>
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
#many = #mili.bucket<tokens = 32, sequences = 1, logit_rows = 1>

// The table is gathered from and multiplied with: the only layout that both read is the product's, in every bucket.
// CHECK-LABEL: func.func @forward_t1
func.func @forward_t1(%tokens: tensor<?xi32>, %batch: !mili.batch) -> tensor<?x32xf32> attributes {mili.bucket = #one} {
  // CHECK: mili.weight "embed" layout "panel16"
  %w = mili.weight "embed" : !w
  // CHECK: mili.group "embed" {{.*}} kernel "cpu.embedding" stages [#mili.stage<"gather", tiles = 1 per tokens by 1
  %x = mili.group "embed" hero "mili.embedding" ins(%tokens, %w : tensor<?xi32>, !w) -> !x {
  ^bb0(%t: tensor<?xi32>, %e: !w):
    %0 = mili.embedding %t, %e : tensor<?xi32>, !w -> !x
    mili.yield %0 : !x
  }
  // Two units of 16 rows of the weight.
  // CHECK: mili.group "head" {{.*}} kernel "cpu.linear" stages [#mili.stage<"product", tiles = 2 per one by 1
  %l = mili.group "head" hero "mili.logits" ins(%x, %w, %batch : !x, !w, !mili.batch) -> tensor<?x32xf32> {
  ^bb0(%b: !x, %h: !w, %t: !mili.batch):
    %0 = mili.logits %b, %h, %t : !x, !w -> tensor<?x32xf32>
    mili.yield %0 : tensor<?x32xf32>
  }
  // What follows logits has one row per wanted row.
  // CHECK: mili.group "scaled" {{.*}} kernel "cpu.rows" stages [#mili.stage<"rows", tiles = 1 per logit_rows by 1
  %s = mili.group "scaled" hero "mili.scale" ins(%l : tensor<?x32xf32>) -> tensor<?x32xf32> {
  ^bb0(%b: tensor<?x32xf32>):
    %0 = mili.scale %b by 2.0 : tensor<?x32xf32>
    mili.yield %0 : tensor<?x32xf32>
  }
  return %s : tensor<?x32xf32>
}

// A table that is only gathered from stays as the file has it. A product of many bf16 rows prepares them in a stage of
// its own, 32 rows of 64 f32 in the arena; the last panel of 20 rows is padded to 32.
// CHECK-LABEL: func.func @forward_t32
func.func @forward_t32(%tokens: tensor<?xi32>) -> tensor<?x20xbf16> attributes {mili.bucket = #many} {
  // CHECK: mili.weight "table" layout "row_major"
  %w = mili.weight "table" : !w
  %x = mili.group "embed" hero "mili.embedding" ins(%tokens, %w : tensor<?xi32>, !w) -> tensor<?x64xbf16> {
  ^bb0(%t: tensor<?xi32>, %e: !w):
    %0 = mili.embedding %t, %e : tensor<?xi32>, !w -> tensor<?x64xbf16>
    mili.yield %0 : tensor<?x64xbf16>
  }
  // CHECK: mili.weight "odd" layout "panel16" {{.*}}8192
  %o = mili.weight "odd" : tensor<20x64xf32>
  // CHECK: mili.group "odd" {{.*}} stages [#mili.stage<"prepare", tiles = 1 per tokens by 1{{.*}}>, #mili.stage<"product", tiles = 2 per one by 1{{.*}}>] arena_scratch 8192
  %y = mili.group "odd" hero "mili.linear" ins(%x, %o : tensor<?x64xbf16>, tensor<20x64xf32>) -> tensor<?x20xbf16> {
  ^bb0(%b: tensor<?x64xbf16>, %h: tensor<20x64xf32>):
    %0 = mili.linear %b, %h : tensor<?x64xbf16>, tensor<20x64xf32> -> tensor<?x20xbf16>
    mili.yield %0 : tensor<?x20xbf16>
  }
  return %y : tensor<?x20xbf16>
}
