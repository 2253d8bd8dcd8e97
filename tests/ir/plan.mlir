// RUN: mili-opt %s --verify-roundtrip | mili-opt | FileCheck %s

module @tiny attributes {mili_plan.memory = {weights = 4096 : i64}} {
  mili.state @layers.0.kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  // CHECK: mili_plan.weight @w0 "a.weight" layout "panel16" : tensor<8x32x!mili.block<q4_1>>
  mili_plan.weight @w0 "a.weight" layout "panel16" : tensor<8x32x!mili.block<q4_1>>
  // CHECK: mili_plan.weight @w1 "g.weight", "u.weight", interleave = 2 layout "row_major" : tensor<8x32xf32>
  mili_plan.weight @w1 "g.weight", "u.weight", interleave = 2 layout "row_major" : tensor<8x32xf32>

  // CHECK: mili_plan.kernel @linear_0 template "cpu.linear" hero "mili.linear"
  // CHECK-SAME: stages [#mili.stage<"quantize", tiles = 1 per tokens by 1>, #mili.stage<"product", tiles = 1 per one by 1, scratch = 128>]
  // CHECK-SAME: bucket <tokens = 4, sequences = 1, logit_rows = 1> layouts ["panel16"] {
  mili_plan.kernel @linear_0 template "cpu.linear" hero "mili.linear"
      stages [#mili.stage<"quantize", tiles = 1 per tokens by 1>, #mili.stage<"product", tiles = 1 per one by 1, scratch = 128>]
      bucket <tokens = 4, sequences = 1, logit_rows = 1> layouts ["panel16"] {
  ^bb0(%x: tensor<?x32xf32>, %w: tensor<8x32x!mili.block<q4_1>>):
    %f = mili.dequant %w : tensor<8x32x!mili.block<q4_1>> -> tensor<8x32xf32>
    %y = mili.linear %x, %f : tensor<?x32xf32>, tensor<8x32xf32> -> tensor<?x8xf32>
    // CHECK: mili.yield
    mili.yield %y : tensor<?x8xf32>
  }

  // CHECK: mili_plan.bucket @forward_4 <tokens = 4, sequences = 1, logit_rows = 1> arena 1024 lower_bound 768 naive 2048 logits 512 {
  mili_plan.bucket @forward_4 <tokens = 4, sequences = 1, logit_rows = 1> arena 1024 lower_bound 768 naive 2048 logits 512 {
    // CHECK-NEXT: mili_plan.launch @linear_0 stage 0 "layers.0.mlp.up" [#mili_plan.arena<read 0 + 512>, #mili_plan.weight_ref<@w0>, #mili_plan.arena<write 512 + 128>, #mili_plan.arena<readwrite 768 + 256>] bytes 160 flops 0
    mili_plan.launch @linear_0 stage 0 "layers.0.mlp.up" [#mili_plan.arena<read 0 + 512>, #mili_plan.weight_ref<@w0>, #mili_plan.arena<write 512 + 128>, #mili_plan.arena<readwrite 768 + 256>] bytes 160 flops 0
    // CHECK-NEXT: mili_plan.launch @linear_0 stage 1 "layers.0.mlp.up" [#mili_plan.state_ref<readwrite @layers.0.kv>, #mili_plan.state_ref<read @layers.0.kv>] bytes 160 flops 2048
    mili_plan.launch @linear_0 stage 1 "layers.0.mlp.up" [#mili_plan.state_ref<readwrite @layers.0.kv>, #mili_plan.state_ref<read @layers.0.kv>] bytes 160 flops 2048
  }
}
