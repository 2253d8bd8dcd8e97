// RUN: mili-opt %s --mili-memory-plan='report=table' -o %t 2> %t.report
// RUN: FileCheck %s --input-file=%t
// RUN: FileCheck %s --input-file=%t.report --check-prefix=REPORT
// RUN: mili-opt %t | FileCheck %s
// RUN: mili-opt %s --mili-memory-plan='requests=4 context=65' | FileCheck %s --check-prefix=SIZES

// Two layers that differ in their weights' names alone, then the head. All slices are 256 bytes a row.
// Buffers of @forward_t2: four of 512, two scratches of 1024, 256 each for k and logits. Its worst step holds x, x1, scratch.
// REPORT: forward_t2: arena 2048 bytes, lower bound 2048 (100.0%), naive 4608, 7 groups
// REPORT: forward_t4: arena 1536 bytes, lower bound 1536 (100.0%), naive 1536, 2 groups

// Weights: 4 of 16384, k 4096, head 8192. KV: 2 requests of 2 pages + page 0, each (8 + 8) * 2 heads * 64 * 4 bytes. Six
// the batch itself (128 bytes with padding) and tables of at most 64 bytes. Scratch: 100 bytes rounded up to 64.
// CHECK: module attributes {mili.context = 128 : i64, mili.requests = 2 : i64, mili_plan.memory = {arena = 2048 : i64, context = 128 : i64, counters = 0 : i64, kv = 40960 : i64, kv_pages = 5 : i64, page_tables = [{pages = 5 : i64, ring = 2 : i64, window = 0 : i64}], requests = 2 : i64, tables = 640 : i64, weights = 77824 : i64, worker_scratch = 128 : i64}}
// SIZES: context = 65 : i64, counters = 0 : i64, kv = 73728 : i64, kv_pages = 9 : i64, page_tables = [{pages = 9 : i64, ring = 2 : i64, window = 0 : i64}], requests = 4 : i64
!x = tensor<?x64xf32>
!w = tensor<64x64xf32>
!kv = !mili.kv<heads = 2, k = 8, v = 8, f32>
module attributes {mili.context = 128 : i64, mili.requests = 2 : i64} {
  // CHECK: mili.state @kv
  mili.state @kv : !kv
  // CHECK-NOT: func.func
  // CHECK: mili_plan.weight @w0 "embed" layout "rows" : tensor<64x64xf32>
  // CHECK: mili_plan.weight @w1 "a0" layout "panel16" : tensor<64x64xf32>
  // CHECK: mili_plan.weight @w2 "b0" layout "panel16"
  // CHECK: mili_plan.weight @w3 "a1" layout "panel16"
  // CHECK: mili_plan.weight @w4 "k" layout "panel16"
  // CHECK: mili_plan.weight @w5 "head" layout "rows"
  // CHECK-NOT: mili_plan.weight
  // CHECK: mili_plan.kernel @embedding_t2 template "cpu.gather" hero "mili.embedding" stages [#mili.stage<"main", tiles = 1 per tokens by 1>] bucket <tokens = 2, sequences = 1, logit_rows = 1> layouts ["", "rows"] {
  // CHECK-NEXT: ^bb0(%{{.*}}: tensor<?xi32>, %{{.*}}: tensor<64x64xf32>):
  // CHECK: mili_plan.kernel @linear_add_t2 template "cpu.linear"
  // CHECK-SAME: layouts ["", "panel16", ""]
  // CHECK: mili_plan.kernel @linear_t2 {{.*}}tiles = 4
  // CHECK: mili_plan.kernel @linear_t2_2 {{.*}}tiles = 1
  // CHECK: mili_plan.kernel @kv_append_t2
  // CHECK: mili_plan.kernel @logits_t2
  // CHECK: mili_plan.kernel @embedding_t4
  // CHECK: mili_plan.kernel @logits_t4
  // CHECK-NOT: mili_plan.kernel

  // The residual stream stays where it is: read and written in one place. Both stages get the same arguments; the work is
  // the last one's. Of an embedding's table a row is read for each token, and a head works on the wanted rows. Token ids and batch are no arguments; states are updated in place.
  // CHECK: mili_plan.bucket @forward_t2 <tokens = 2, sequences = 1, logit_rows = 1> arena 2048 lower_bound 2048 naive 4608 logits [[LOGITS:[0-9]+]] attributes {function = "forward"} {
  // CHECK-NEXT: mili_plan.launch @embedding_t2 stage 0 "embed" [#mili_plan.weight_ref<@w0>, #mili_plan.arena<write [[X:[0-9]+]] + 512>] work <per = tokens, bytes_row = 512>{{$}}
  // CHECK-NEXT: mili_plan.launch @linear_add_t2 stage 0 "layers.0.a" [#mili_plan.arena<read [[X]] + 512>, #mili_plan.weight_ref<@w1>, #mili_plan.arena<read [[X]] + 512>, #mili_plan.arena<write [[X1:[0-9]+]] + 512>, #mili_plan.arena<readwrite {{[0-9]+}} + 1000>]{{$}}
  // CHECK-NEXT: mili_plan.launch @linear_add_t2 stage 1 "layers.0.a" {{.*}} work <per = tokens, bytes_fixed = 16384, bytes_row = 768, flops_row = 8256>{{$}}
  // CHECK-NEXT: mili_plan.launch @linear_t2 stage 0 "layers.0.b" [#mili_plan.arena<read [[X1]] + 512>, #mili_plan.weight_ref<@w2>, #mili_plan.arena<write [[Y:[0-9]+]] + 512>]
  // CHECK-NEXT: mili_plan.launch @linear_add_t2 stage 0 "layers.1.a" [#mili_plan.arena<read [[Y]] + 512>, #mili_plan.weight_ref<@w3>, #mili_plan.arena<read [[X1]] + 512>, #mili_plan.arena<write [[X1]] + 512>, #mili_plan.arena<readwrite {{[0-9]+}} + 1000>]
  // CHECK-NEXT: mili_plan.launch @linear_add_t2 stage 1 "layers.1.a"
  // CHECK-NEXT: mili_plan.launch @linear_t2_2 stage 0 "k" [#mili_plan.arena<read [[X1]] + 512>, #mili_plan.weight_ref<@w4>, #mili_plan.arena<write [[K:[0-9]+]] + 128>]
  // CHECK-NEXT: mili_plan.launch @kv_append_t2 stage 0 "append" [#mili_plan.state_ref<readwrite @kv>, #mili_plan.arena<read [[K]] + 128>]
  // CHECK-NEXT: mili_plan.launch @logits_t2 stage 0 "head" [#mili_plan.arena<read [[X1]] + 512>, #mili_plan.weight_ref<@w5>, #mili_plan.arena<write [[LOGITS]] + 128>] work <per = logit_rows, bytes_fixed = 8192, bytes_row = 384, flops_row = 4096>
  // CHECK-NEXT: }
  func.func @forward_t2(%tokens: tensor<?xi32>, %batch: !mili.batch) -> tensor<?x32xf32>
      attributes {mili.bucket = #mili.bucket<tokens = 2, sequences = 1, logit_rows = 1>, mili.function = "forward"} {
    %we = mili.weight "embed" layout "rows" : !w
    %x = mili.group "embed" hero "mili.embedding" ins(%tokens, %we : tensor<?xi32>, !w) -> !x
        kernel "cpu.gather" stages [#mili.stage<"main", tiles = 1 per tokens by 1>] {
    ^bb0(%t: tensor<?xi32>, %e: !w):
      %0 = mili.embedding %t, %e : tensor<?xi32>, !w -> !x
      mili.yield %0 : !x
    }
    %wa0 = mili.weight "a0" layout "panel16" : !w
    %x1 = mili.group "layers.0.a" hero "mili.linear" ins(%x, %wa0, %x : !x, !w, !x) -> !x
        kernel "cpu.linear" stages [#mili.stage<"quantize", tiles = 1 per tokens by 4>, #mili.stage<"product", tiles = 4 per one by 1, scratch = 100>] arena_scratch 1000 {
    ^bb0(%b: !x, %w: !w, %r: !x):
      %0 = mili.linear %b, %w : !x, !w -> !x
      %1 = mili.add %r, %0 : !x
      mili.yield %1 : !x
    }
    %wb0 = mili.weight "b0" layout "panel16" : !w
    %y = mili.group "layers.0.b" hero "mili.linear" ins(%x1, %wb0 : !x, !w) -> !x
        kernel "cpu.linear" stages [#mili.stage<"product", tiles = 4 per one by 1>] {
    ^bb0(%b: !x, %w: !w):
      %0 = mili.linear %b, %w : !x, !w -> !x
      mili.yield %0 : !x
    }
    %wa1 = mili.weight "a1" layout "panel16" : !w
    %x2 = mili.group "layers.1.a" hero "mili.linear" ins(%y, %wa1, %x1 : !x, !w, !x) -> !x
        kernel "cpu.linear" stages [#mili.stage<"quantize", tiles = 1 per tokens by 4>, #mili.stage<"product", tiles = 4 per one by 1, scratch = 100>] arena_scratch 1000 {
    ^bb0(%b: !x, %w: !w, %r: !x):
      %0 = mili.linear %b, %w : !x, !w -> !x
      %1 = mili.add %r, %0 : !x
      mili.yield %1 : !x
    }
    %wk = mili.weight "k" layout "panel16" : tensor<16x64xf32>
    %k = mili.group "k" hero "mili.linear" ins(%x2, %wk : !x, tensor<16x64xf32>) -> tensor<?x16xf32>
        kernel "cpu.linear" stages [#mili.stage<"product", tiles = 1 per one by 1>] {
    ^bb0(%b: !x, %w: tensor<16x64xf32>):
      %0 = mili.linear %b, %w : !x, tensor<16x64xf32> -> tensor<?x16xf32>
      mili.yield %0 : tensor<?x16xf32>
    }
    %kv0 = mili.state_get @kv : !kv
    %kv1 = mili.group "append" hero "mili.kv_append" ins(%kv0, %k, %batch : !kv, tensor<?x16xf32>, !mili.batch) -> !kv
        kernel "cpu.append" stages [#mili.stage<"main", tiles = 1 per tokens by 1>] {
    ^bb0(%s: !kv, %b: tensor<?x16xf32>, %t: !mili.batch):
      %0 = mili.kv_append %s, %b, %b, %t : !kv, tensor<?x16xf32>, tensor<?x16xf32>
      mili.yield %0 : !kv
    }
    mili.state_set @kv, %kv1 : !kv
    %wh = mili.weight "head" layout "rows" : tensor<32x64xf32>
    %l = mili.group "head" hero "mili.logits" ins(%x2, %wh, %batch : !x, tensor<32x64xf32>, !mili.batch) -> tensor<?x32xf32>
        kernel "cpu.linear" stages [#mili.stage<"product", tiles = 2 per one by 1>] {
    ^bb0(%b: !x, %w: tensor<32x64xf32>, %t: !mili.batch):
      %0 = mili.logits %b, %w, %t : !x, tensor<32x64xf32> -> tensor<?x32xf32>
      mili.yield %0 : tensor<?x32xf32>
    }
    return %l : tensor<?x32xf32>
  }

  // Another bucket shares weights, not kernels. Logits have one row per wanted row: 3, not 4.
  // CHECK: mili_plan.bucket @forward_t4 <tokens = 4, sequences = 1, logit_rows = 3>
  // CHECK-NEXT: mili_plan.launch @embedding_t4 stage 0 "embed" [#mili_plan.weight_ref<@w0>, #mili_plan.arena<write [[X4:[0-9]+]] + 1024>]
  // CHECK-NEXT: mili_plan.launch @logits_t4 stage 0 "head" [#mili_plan.arena<read [[X4]] + 1024>, #mili_plan.weight_ref<@w5>, #mili_plan.arena<write {{[0-9]+}} + 384>]
  func.func @forward_t4(%tokens: tensor<?xi32>, %batch: !mili.batch) -> tensor<?x32xf32>
      attributes {mili.bucket = #mili.bucket<tokens = 4, sequences = 1, logit_rows = 3>, mili.function = "forward"} {
    %we = mili.weight "embed" layout "rows" : !w
    %x = mili.group "embed" hero "mili.embedding" ins(%tokens, %we : tensor<?xi32>, !w) -> !x
        kernel "cpu.gather" stages [#mili.stage<"main", tiles = 1 per tokens by 1>] {
    ^bb0(%t: tensor<?xi32>, %e: !w):
      %0 = mili.embedding %t, %e : tensor<?xi32>, !w -> !x
      mili.yield %0 : !x
    }
    %wh = mili.weight "head" layout "rows" : tensor<32x64xf32>
    %l = mili.group "head" hero "mili.logits" ins(%x, %wh, %batch : !x, tensor<32x64xf32>, !mili.batch) -> tensor<?x32xf32>
        kernel "cpu.linear" stages [#mili.stage<"product", tiles = 2 per one by 1>] {
    ^bb0(%b: !x, %w: tensor<32x64xf32>, %t: !mili.batch):
      %0 = mili.logits %b, %w, %t : !x, tensor<32x64xf32> -> tensor<?x32xf32>
      mili.yield %0 : tensor<?x32xf32>
    }
    return %l : tensor<?x32xf32>
  }
}
