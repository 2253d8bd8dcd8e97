// Counters, and tokens that the bucket samples itself.
// RUN: mili-opt %s --mili-memory-plan | FileCheck %s
// RUN: mili-opt %s --mili-memory-plan=reuse=false | FileCheck %s --check-prefix=APART

// One block of counters serves all launches, each from its beginning: as many bytes as the hungriest wants, 520, rounded up
// to 256.
// CHECK: mili_plan.memory = {arena = {{[0-9]+}} : i64, context = 64 : i64, counters = 768 : i64,
!x = tensor<?x64xf32>
!l = tensor<?x32xf32>
#bucket = #mili.bucket<tokens = 4, sequences = 2, logit_rows = 2>
module attributes {mili.context = 64 : i64, mili.requests = 2 : i64} {
  // Counters are part of what a kernel is: two groups that differ in them alone are two kernels.
  // CHECK: mili_plan.kernel @embedding_t4
  // CHECK: mili_plan.kernel @scale_t4 template
  // CHECK: mili_plan.kernel @scale_t4_2 template
  // CHECK: mili_plan.kernel @logits_t4
  // CHECK: mili_plan.kernel @sample_t4 template "cuda.sample" hero "mili.sample"
  // CHECK-NOT: mili_plan.kernel

  // CHECK: mili_plan.bucket @forward_t4 <tokens = 4, sequences = 2, logit_rows = 2> arena [[#ARENA:]] lower_bound [[#]] naive [[#]] logits [[#LOGITS:]] sampled [[#SAMPLED:]] attributes {function = "forward"} {
  // CHECK-NEXT: mili_plan.launch @embedding_t4 {{.*}} [#mili_plan.weight_ref<@w0>, #mili_plan.arena<write [[#X:]] + 1024>] work
  // Counters without scratch follow the results; the result took over its operand's buffer.
  // CHECK-NEXT: mili_plan.launch @scale_t4 stage 0 "a" [#mili_plan.arena<read [[#X]] + 1024>, #mili_plan.arena<write [[#X]] + 1024>, #mili_plan.counters<8>] work
  // CHECK-NEXT: mili_plan.launch @scale_t4_2 stage 0 "b" [#mili_plan.arena<read [[#X]] + 1024>, #mili_plan.arena<write [[#X]] + 1024>] work
  // Every stage of a group gets the scratch and the counters.
  // CHECK-NEXT: mili_plan.launch @logits_t4 stage 0 "head" [#mili_plan.arena<read [[#X]] + 1024>, #mili_plan.weight_ref<@w1>, #mili_plan.arena<write [[#LOGITS]] + 256>, #mili_plan.arena<readwrite [[#]] + 100>, #mili_plan.counters<520>]{{$}}
  // CHECK-NEXT: mili_plan.launch @logits_t4 stage 1 "head" [#mili_plan.arena<read [[#X]] + 1024>, #mili_plan.weight_ref<@w1>, #mili_plan.arena<write [[#LOGITS]] + 256>, #mili_plan.arena<readwrite [[#]] + 100>, #mili_plan.counters<520>] work <per = logit_rows, bytes_fixed = 8192, bytes_row = 384, flops_row = 4096>
  // A token is 4 bytes for each wanted row.
  // CHECK-NEXT: mili_plan.launch @sample_t4 stage 0 "sample" [#mili_plan.arena<read [[#LOGITS]] + 256>, #mili_plan.arena<write [[#SAMPLED]] + 8>, #mili_plan.arena<readwrite [[#]] + 16>, #mili_plan.counters<8>] work <per = logit_rows, bytes_row = 132, flops_row = 32>
  // CHECK-NEXT: }

  // A slice for each: x, a, b of 1024; logits, scratch, tokens, scratch of at most 256.
  // APART: mili_plan.bucket @forward_t4 <tokens = 4, sequences = 2, logit_rows = 2> arena 4096 lower_bound 4096 naive 4096 logits
  // APART: mili_plan.launch @scale_t4 {{.*}}#mili_plan.arena<read [[#A:]] + 1024>
  // APART-NOT: #mili_plan.arena<write [[#A]] + 1024>
  // APART: mili_plan.launch @logits_t4
  func.func @forward_t4(%tokens: tensor<?xi32>, %batch: !mili.batch) -> (!l, tensor<?xi32>)
      attributes {mili.bucket = #bucket, mili.function = "forward"} {
    %we = mili.weight "embed" layout "rows_bf16" : tensor<32x64xf32>
    %x = mili.group "embed" hero "mili.embedding" ins(%tokens, %we : tensor<?xi32>, tensor<32x64xf32>) -> !x
        kernel "cuda.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1>] {
    ^bb0(%t: tensor<?xi32>, %e: tensor<32x64xf32>):
      %0 = mili.embedding %t, %e : tensor<?xi32>, tensor<32x64xf32> -> !x
      mili.yield %0 : !x
    }
    %a = mili.group "a" hero "mili.scale" ins(%x : !x) -> !x
        kernel "cuda.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1>] counters 8 {
    ^bb0(%b: !x):
      %0 = mili.scale %b by 2.0 : !x
      mili.yield %0 : !x
    }
    %b = mili.group "b" hero "mili.scale" ins(%a : !x) -> !x
        kernel "cuda.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1>] {
    ^bb0(%b: !x):
      %0 = mili.scale %b by 2.0 : !x
      mili.yield %0 : !x
    }
    %wh = mili.weight "head" layout "rows_bf16" : tensor<32x64xf32>
    %l = mili.group "head" hero "mili.logits" ins(%b, %wh, %batch : !x, tensor<32x64xf32>, !mili.batch) -> !l
        kernel "cuda.linear" stages [#mili.stage<"input", tiles = 1 per logit_rows by 1>, #mili.stage<"product", tiles = 2 per logit_rows by 16>]
        arena_scratch 100 counters 520 {
    ^bb0(%b0: !x, %w: tensor<32x64xf32>, %t: !mili.batch):
      %0 = mili.logits %b0, %w, %t : !x, tensor<32x64xf32> -> !l
      mili.yield %0 : !l
    }
    %next = mili.group "sample" hero "mili.sample" ins(%l, %batch : !l, !mili.batch) -> tensor<?xi32>
        kernel "cuda.sample" stages [#mili.stage<"sample", tiles = 1 per logit_rows by 1>] arena_scratch 16 counters 8 {
    ^bb0(%b0: !l, %t: !mili.batch):
      %0 = mili.sample %b0, %t : !l -> tensor<?xi32>
      mili.yield %0 : tensor<?xi32>
    }
    return %l, %next : !l, tensor<?xi32>
  }
}
