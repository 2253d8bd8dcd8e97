// RUN: mili-opt %s --split-input-file --verify-roundtrip | mili-opt --split-input-file | FileCheck %s

#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5]>

// A layer with every op, as a frontend writes it.
// CHECK: module @tiny attributes {mili.context = 128 : i64, mili.family = "llama"}
module @tiny attributes {mili.family = "llama", mili.context = 128 : i64} {
  // CHECK: mili.state @layers.0.kv : !mili.kv<heads = 2, k = 4, v = 4, f32>
  mili.state @layers.0.kv : !mili.kv<heads = 2, k = 4, v = 4, f32>
  // CHECK: mili.state @layers.1.ssm : !mili.recurrent<4x8x8xf32, snapshots = 1>
  mili.state @layers.1.ssm : !mili.recurrent<4x8x8xf32, snapshots = 1>

  // CHECK: func.func @forward(%[[TOKENS:.*]]: tensor<?xi32>, %[[BATCH:.*]]: !mili.batch)
  func.func @forward(%tokens: tensor<?xi32>, %batch: !mili.batch) -> tensor<?x64xf32> {
    // Weights are named after the last two components of the tensor's name.
    // CHECK: %token_embd.weight = mili.weight "token_embd.weight" : tensor<64x32x!mili.block<q4_1>>
    %e = mili.weight "token_embd.weight" : tensor<64x32x!mili.block<q4_1>>
    // CHECK: %[[TABLE:.*]] = mili.dequant %token_embd.weight : tensor<64x32x!mili.block<q4_1>> -> tensor<64x32xf32>
    %table = mili.dequant %e : tensor<64x32x!mili.block<q4_1>> -> tensor<64x32xf32>
    // CHECK: %[[X:.*]] = mili.embedding %[[TOKENS]], %[[TABLE]] : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
    %x = mili.embedding %tokens, %table : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
    // CHECK: %[[XS:.*]] = mili.scale %[[X]] by 1.200000e+01 : tensor<?x32xf32>
    %xs = mili.scale %x by 12.0 : tensor<?x32xf32>
    // CHECK: %attn_norm.weight = mili.weight "blk.0.attn_norm.weight" : tensor<32xf32>
    %g = mili.weight "blk.0.attn_norm.weight" : tensor<32xf32>
    // CHECK: %[[N:.*]] = mili.rms_norm %[[XS]], %attn_norm.weight eps 9.99999997E-7 : tensor<?x32xf32>, tensor<32xf32>
    %n = mili.rms_norm %xs, %g eps 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
    // Merged weights after their pieces.
    // CHECK: %attn_q.attn_k.attn_v = mili.weight "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight" layout "panel16" : tensor<32x32xf32>
    %w = mili.weight "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight" layout "panel16" : tensor<32x32xf32>
    // CHECK: %attn_qkv.bias = mili.weight "blk.0.attn_qkv.bias"[32 : 64] : tensor<32xf32>
    %b = mili.weight "blk.0.attn_qkv.bias"[32 : 64] : tensor<32xf32>
    // CHECK: %[[QKV:.*]] = mili.linear %[[N]], %attn_q.attn_k.attn_v bias %attn_qkv.bias : tensor<?x32xf32>, tensor<32x32xf32>, tensor<32xf32> -> tensor<?x32xf32>
    %qkv = mili.linear %n, %w bias %b : tensor<?x32xf32>, tensor<32x32xf32>, tensor<32xf32> -> tensor<?x32xf32>
    // CHECK: %[[S:.*]]:3 = mili.split %[[QKV]] : tensor<?x32xf32> -> tensor<?x16xf32>, tensor<?x8xf32>, tensor<?x8xf32>
    %q, %k, %v = mili.split %qkv : tensor<?x32xf32> -> tensor<?x16xf32>, tensor<?x8xf32>, tensor<?x8xf32>
    // CHECK: %[[QR:.*]] = mili.rope %[[S]]#0, %[[BATCH]] heads 4 #rope : tensor<?x16xf32>
    %qr = mili.rope %q, %batch heads 4 #rope : tensor<?x16xf32>
    // CHECK: %[[KR:.*]] = mili.rope %[[S]]#1, %[[BATCH]] heads 2 #rope : tensor<?x8xf32>
    %kr = mili.rope %k, %batch heads 2 #rope : tensor<?x8xf32>
    // CHECK: %kv = mili.state_get @layers.0.kv : !mili.kv<heads = 2, k = 4, v = 4, f32>
    %kv0 = mili.state_get @layers.0.kv : !mili.kv<heads = 2, k = 4, v = 4, f32>
    // CHECK: %kv_0 = mili.kv_append %kv, %[[KR]], %[[S]]#2, %[[BATCH]] : <heads = 2, k = 4, v = 4, f32>, tensor<?x8xf32>, tensor<?x8xf32>
    %kv1 = mili.kv_append %kv0, %kr, %v, %batch : !mili.kv<heads = 2, k = 4, v = 4, f32>, tensor<?x8xf32>, tensor<?x8xf32>
    // CHECK: mili.state_set @layers.0.kv, %kv_0 : !mili.kv<heads = 2, k = 4, v = 4, f32>
    mili.state_set @layers.0.kv, %kv1 : !mili.kv<heads = 2, k = 4, v = 4, f32>
    // CHECK: %[[A:.*]] = mili.attention %[[QR]], %kv_0, %[[BATCH]] mask(#mili.window<16>) heads 4 scale 5.000000e-01 : tensor<?x16xf32>, <heads = 2, k = 4, v = 4, f32> -> tensor<?x16xf32>
    %a = mili.attention %qr, %kv1, %batch mask(#mili.window<16>) heads 4 scale 0.5 : tensor<?x16xf32>, !mili.kv<heads = 2, k = 4, v = 4, f32> -> tensor<?x16xf32>
    %wo = mili.weight "blk.0.attn_output.weight" : tensor<32x16xf32>
    %o = mili.linear %a, %wo : tensor<?x16xf32>, tensor<32x16xf32> -> tensor<?x32xf32>
    // CHECK: %[[X1:.*]] = mili.add %[[XS]], %{{.*}} : tensor<?x32xf32>
    %x1 = mili.add %xs, %o : tensor<?x32xf32>
    // CHECK: %ffn_gate.ffn_up = mili.weight "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", interleave = 16 : tensor<64x32xf32>
    %wgu = mili.weight "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", interleave = 16 : tensor<64x32xf32>
    %gu = mili.linear %x1, %wgu : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
    // CHECK: %[[GU:.*]]:2 = mili.split %{{.*}} interleave 16 : tensor<?x64xf32> -> tensor<?x32xf32>, tensor<?x32xf32>
    %gate, %up = mili.split %gu interleave 16 : tensor<?x64xf32> -> tensor<?x32xf32>, tensor<?x32xf32>
    // CHECK: %[[H:.*]] = mili.gated <silu> %[[GU]]#0, %[[GU]]#1 : tensor<?x32xf32>
    %h = mili.gated <silu> %gate, %up : tensor<?x32xf32>
    // CHECK: mili.activation <gelu_tanh> %[[H]] : tensor<?x32xf32>
    %h1 = mili.activation <gelu_tanh> %h : tensor<?x32xf32>
    // CHECK: mili.logits %{{.*}}, %[[TABLE]], %[[BATCH]] : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
    %l = mili.logits %h1, %table, %batch : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
    return %l : tensor<?x64xf32>
  }
}

// -----

// CHECK-LABEL: @sampled
// CHECK-SAME: (%[[L:.*]]: tensor<?x64xf32>, %[[BATCH:.*]]: !mili.batch)
func.func @sampled(%l: tensor<?x64xf32>, %batch: !mili.batch) -> tensor<?xi32> {
  // CHECK-NEXT: %[[T:.*]] = mili.sample %[[L]], %[[BATCH]] : tensor<?x64xf32> -> tensor<?xi32>
  // CHECK-NEXT: return %[[T]]
  %t = mili.sample %l, %batch : tensor<?x64xf32> -> tensor<?xi32>
  return %t : tensor<?xi32>
}

// -----

// Names of a group's body are its own: those outside can be the same, and are not meant.
// CHECK-LABEL: @names
func.func @names(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // CHECK: %[[Y:.*]] = mili.group "a"
  %y = mili.group "a" hero "mili.scale" ins(%x : tensor<?x8xf32>) -> tensor<?x8xf32> {
  ^bb0(%x: tensor<?x8xf32>):
    %y = mili.scale %x by 2.0 : tensor<?x8xf32>
    mili.yield %y : tensor<?x8xf32>
  }
  // CHECK: return %[[Y]]
  return %y : tensor<?x8xf32>
}

// A group before and after kernel selection.
// CHECK-LABEL: @groups
// CHECK-SAME: (%[[X:.*]]: tensor<?x32xf32>, %[[W:.*]]: tensor<8x32xf32>)
func.func @groups(%x: tensor<?x32xf32>, %w: tensor<8x32xf32>) -> tensor<?x8xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 4, sequences = 1, logit_rows = 1>} {
  // CHECK: mili.group "layers.0.mlp.up" hero "mili.linear" ins(%[[X]], %[[W]] : tensor<?x32xf32>, tensor<8x32xf32>) -> tensor<?x8xf32> {
  %h = mili.group "layers.0.mlp.up" hero "mili.linear" ins(%x, %w : tensor<?x32xf32>, tensor<8x32xf32>) -> tensor<?x8xf32> {
  // CHECK-NEXT: ^bb0(%[[BX:.*]]: tensor<?x32xf32>, %[[BW:.*]]: tensor<8x32xf32>):
  ^bb0(%bx: tensor<?x32xf32>, %bw: tensor<8x32xf32>):
    // CHECK-NEXT: %[[Y:.*]] = mili.linear %[[BX]], %[[BW]]
    %y = mili.linear %bx, %bw : tensor<?x32xf32>, tensor<8x32xf32> -> tensor<?x8xf32>
    // CHECK-NEXT: mili.yield %[[Y]] : tensor<?x8xf32>
    mili.yield %y : tensor<?x8xf32>
  }
  // CHECK: hero "mili.scale" ins(%{{.*}} : tensor<?x8xf32>) -> tensor<?x8xf32> kernel "cpu.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1>] arena_scratch 4096 attributes {note = "kept"} {
  %s = mili.group "layers.0.mlp.scale" hero "mili.scale" ins(%h : tensor<?x8xf32>) -> tensor<?x8xf32>
       kernel "cpu.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1>] arena_scratch 4096
       attributes {note = "kept"} {
  ^bb0(%bx: tensor<?x8xf32>):
    %y = mili.scale %bx by 2.0 : tensor<?x8xf32>
    mili.yield %y : tensor<?x8xf32>
  }
  // Counters follow the scratch, and may be there without it.
  // CHECK: hero "mili.scale" {{.*}} arena_scratch 1024 counters 512 {
  %c = mili.group "both" hero "mili.scale" ins(%s : tensor<?x8xf32>) -> tensor<?x8xf32>
       kernel "cuda.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1>] arena_scratch 1024 counters 512 {
  ^bb0(%bx: tensor<?x8xf32>):
    %y = mili.scale %bx by 2.0 : tensor<?x8xf32>
    mili.yield %y : tensor<?x8xf32>
  }
  // CHECK: hero "mili.scale" {{.*}} by 1>] counters 4 {
  %d = mili.group "alone" hero "mili.scale" ins(%c : tensor<?x8xf32>) -> tensor<?x8xf32>
       kernel "cuda.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1>] counters 4 {
  ^bb0(%bx: tensor<?x8xf32>):
    %y = mili.scale %bx by 2.0 : tensor<?x8xf32>
    mili.yield %y : tensor<?x8xf32>
  }
  return %d : tensor<?x8xf32>
}
