// RUN: mili-opt %s --verify-roundtrip | mili-opt | FileCheck %s

module @tiny attributes {mili_plan.memory = {weights = 4096 : i64}} {
  mili.state @layers.0.kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  // CHECK: mili_plan.weight @w0 "a.weight" layout "panel16" : tensor<8x32x!mili.block<q4_1>>
  mili_plan.weight @w0 "a.weight" layout "panel16" : tensor<8x32x!mili.block<q4_1>>
  // CHECK: mili_plan.weight @w1 "g.weight", "u.weight", interleave = 2 layout "row_major" : tensor<8x32xf32>
  mili_plan.weight @w1 "g.weight", "u.weight", interleave = 2 layout "row_major" : tensor<8x32xf32>

  // CHECK: mili_plan.kernel @linear_0 template "cpu.linear" hero "mili.linear"
  // CHECK-SAME: stages [#mili.stage<"quantize", tiles = 1 per tokens by 1>, #mili.stage<"product", tiles = 1 per one by 1, scratch = 128>]
  // CHECK-SAME: bucket <tokens = 4, sequences = 1, logit_rows = 1> layouts ["", "panel16"] {
  mili_plan.kernel @linear_0 template "cpu.linear" hero "mili.linear"
      stages [#mili.stage<"quantize", tiles = 1 per tokens by 1>, #mili.stage<"product", tiles = 1 per one by 1, scratch = 128>]
      bucket <tokens = 4, sequences = 1, logit_rows = 1> layouts ["", "panel16"] {
  ^bb0(%x: tensor<?x32xf32>, %w: tensor<8x32x!mili.block<q4_1>>):
    %f = mili.dequant %w : tensor<8x32x!mili.block<q4_1>> -> tensor<8x32xf32>
    %y = mili.linear %x, %f : tensor<?x32xf32>, tensor<8x32xf32> -> tensor<?x8xf32>
    // CHECK: mili.yield
    mili.yield %y : tensor<?x8xf32>
  }

  mili_plan.kernel @append_0 template "cpu.append" hero "mili.kv_append" stages [#mili.stage<"append", tiles = 1 per tokens by 1>]
      bucket <tokens = 4, sequences = 1, logit_rows = 1> layouts ["", "", "", ""] {
  ^bb0(%kv: !mili.kv<heads = 1, k = 4, v = 4, f32>, %batch: !mili.batch, %x: tensor<?x4xf32>, %tokens: tensor<?xi32>):
    %new = mili.kv_append %kv, %x, %x, %batch : !mili.kv<heads = 1, k = 4, v = 4, f32>, tensor<?x4xf32>, tensor<?x4xf32>
    mili.yield %new : !mili.kv<heads = 1, k = 4, v = 4, f32>
  }

  // CHECK: mili_plan.bucket @forward_4 <tokens = 4, sequences = 1, logit_rows = 1> arena 1024 lower_bound 768 naive 2048 logits 512 {
  mili_plan.bucket @forward_4 <tokens = 4, sequences = 1, logit_rows = 1> arena 1024 lower_bound 768 naive 2048 logits 512 {
    // Inputs, results, scratch.
    // CHECK-NEXT: mili_plan.launch @linear_0 stage 0 "layers.0.mlp.up" [#mili_plan.arena<read 0 + 512>, #mili_plan.weight_ref<@w0>, #mili_plan.arena<write 512 + 128>, #mili_plan.arena<readwrite 768 + 256>]
    mili_plan.launch @linear_0 stage 0 "layers.0.mlp.up" [#mili_plan.arena<read 0 + 512>, #mili_plan.weight_ref<@w0>, #mili_plan.arena<write 512 + 128>, #mili_plan.arena<readwrite 768 + 256>]
    mili_plan.launch @linear_0 stage 1 "layers.0.mlp.up" [#mili_plan.arena<read 0 + 512>, #mili_plan.weight_ref<@w0>, #mili_plan.arena<write 512 + 128>] work <per = tokens, bytes_fixed = 160, flops_row = 2048>
    // Neither the batch nor its token ids are arguments, and the state is updated in place.
    // CHECK: mili_plan.launch @append_0 stage 0 "layers.0.attn.append" [#mili_plan.state_ref<readwrite @layers.0.kv>, #mili_plan.arena<read 0 + 64>] work <per = tokens, bytes_key = 32, flops_pair = 24, visible_base = 16, visible_every = 4>
    mili_plan.launch @append_0 stage 0 "layers.0.attn.append" [#mili_plan.state_ref<readwrite @layers.0.kv>, #mili_plan.arena<read 0 + 64>] work <per = tokens, bytes_key = 32, flops_pair = 24, visible_base = 16, visible_every = 4>
  }

  // Scratch, then counters, after what the body says; either may be missing.
  mili_plan.kernel @logits_0 template "cuda.linear" hero "mili.logits" stages [#mili.stage<"product", tiles = 1 per logit_rows by 16>]
      bucket <tokens = 4, sequences = 1, logit_rows = 1> layouts ["", "row_major", ""] {
  ^bb0(%x: tensor<?x32xf32>, %w: tensor<8x32xf32>, %batch: !mili.batch):
    %l = mili.logits %x, %w, %batch : tensor<?x32xf32>, tensor<8x32xf32> -> tensor<?x8xf32>
    mili.yield %l : tensor<?x8xf32>
  }
  mili_plan.kernel @sample_0 template "cuda.sample" hero "mili.sample" stages [#mili.stage<"sample", tiles = 2 per logit_rows by 1>]
      bucket <tokens = 4, sequences = 1, logit_rows = 1> layouts ["", ""] {
  ^bb0(%l: tensor<?x8xf32>, %batch: !mili.batch):
    // CHECK: mili.sample %{{.*}}, %{{.*}} : tensor<?x8xf32> -> tensor<?xi32>
    %t = mili.sample %l, %batch : tensor<?x8xf32> -> tensor<?xi32>
    mili.yield %t : tensor<?xi32>
  }
  // CHECK: mili_plan.bucket @decode_4 <tokens = 4, sequences = 1, logit_rows = 1> arena 2048 lower_bound 1024 naive 2048 logits 512 sampled 768 attributes {function = "forward"} {
  mili_plan.bucket @decode_4 <tokens = 4, sequences = 1, logit_rows = 1> arena 2048 lower_bound 1024 naive 2048 logits 512 sampled 768
      attributes {function = "forward"} {
    // CHECK-NEXT: mili_plan.launch @logits_0 stage 0 "head" [#mili_plan.arena<read 0 + 512>, #mili_plan.weight_ref<@w1>, #mili_plan.arena<write 512 + 32>, #mili_plan.counters<512>] work <per = logit_rows, bytes_fixed = 1024, bytes_row = 160, flops_row = 512>
    mili_plan.launch @logits_0 stage 0 "head" [#mili_plan.arena<read 0 + 512>, #mili_plan.weight_ref<@w1>, #mili_plan.arena<write 512 + 32>, #mili_plan.counters<512>] work <per = logit_rows, bytes_fixed = 1024, bytes_row = 160, flops_row = 512>
    // The tokens that are sampled are an argument like any other result.
    // CHECK-NEXT: mili_plan.launch @sample_0 stage 0 "sample" [#mili_plan.arena<read 512 + 32>, #mili_plan.arena<write 768 + 4>, #mili_plan.arena<readwrite 1024 + 16>, #mili_plan.counters<4>] work <per = logit_rows, bytes_row = 36, flops_row = 8>
    mili_plan.launch @sample_0 stage 0 "sample" [#mili_plan.arena<read 512 + 32>, #mili_plan.arena<write 768 + 4>, #mili_plan.arena<readwrite 1024 + 16>, #mili_plan.counters<4>] work <per = logit_rows, bytes_row = 36, flops_row = 8>
  }
}
