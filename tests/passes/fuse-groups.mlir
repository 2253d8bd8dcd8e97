// RUN: mili-opt %s --split-input-file --mili-fuse-groups | FileCheck %s
// RUN: mili-opt %s --split-input-file --mili-fuse-groups=disable=all | FileCheck %s --check-prefix=ALL
// RUN: mili-opt %s --split-input-file --mili-fuse-groups=disable=rms_norm-linear,rope-kv_append,gated | FileCheck %s --check-prefix=SOME

#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5, 0.25, 0.125]>
!kv = !mili.kv<heads = 4, k = 8, v = 8, f32>
!q4 = !mili.block<q4_1>

module {
  mili.state @layers.0.kv : !kv

  // A decoder's layer for one token: five groups, as in the architecture; norms are recomputed in the products.
  // CHECK-LABEL: @forward_t1
  // CHECK: mili.group "embed" hero "mili.embedding"
  // CHECK-NEXT: ^bb0
  // CHECK-NEXT: mili.dequant
  // CHECK-NEXT: mili.embedding
  // CHECK-NEXT: %[[E:.*]] = mili.scale
  // CHECK-NEXT: mili.yield %[[E]]
  // CHECK: mili.group "layers.0.attn.qkv" hero "mili.linear"
  // CHECK: mili.rms_norm
  // CHECK-NEXT: mili.dequant
  // CHECK-NEXT: mili.linear
  // CHECK-NEXT: mili.split
  // CHECK-NEXT: %[[QN:.*]] = mili.rms_norm
  // CHECK-NEXT: %[[Q:.*]] = mili.rope %[[QN]]
  // CHECK-NEXT: %[[K:.*]] = mili.rope
  // CHECK-NEXT: %[[KV:.*]] = mili.kv_append %{{.*}}, %[[K]]
  // CHECK-NEXT: mili.yield %[[Q]], %[[KV]] :
  // CHECK: mili.state_set
  // CHECK: mili.group "layers.0.attn.core" hero "mili.attention"
  // CHECK: %[[X1:.*]] = mili.group "layers.0.attn.out" hero "mili.linear"
  // CHECK: mili.linear
  // CHECK-NEXT: mili.add
  // CHECK: mili.group "layers.0.mlp.gate_up" hero "mili.linear" ins(%[[X1]]
  // CHECK: mili.rms_norm
  // CHECK-NEXT: mili.linear
  // CHECK-NEXT: mili.split %{{.*}} interleave 16
  // CHECK-NEXT: mili.gated
  // CHECK-NEXT: mili.yield
  // CHECK: mili.group "layers.0.mlp.down" hero "mili.linear"
  // CHECK: mili.linear
  // CHECK-NEXT: mili.add
  // CHECK: %[[L:.*]] = mili.group "head" hero "mili.logits"
  // CHECK: mili.dequant
  // CHECK: mili.logits
  // CHECK: }
  // CHECK-NEXT: return %[[L]]

  // Each op by itself; what cannot be (dequantization) is still inside its consumers.
  // ALL-LABEL: @forward_t1
  // ALL: hero "mili.embedding"
  // ALL-NEXT: ^bb0
  // ALL-NEXT: mili.dequant
  // ALL-NEXT: mili.embedding
  // ALL-NEXT: mili.yield
  // ALL-COUNT-18: mili.group
  // ALL-NOT: mili.group
  // ALL: return

  // SOME-LABEL: @forward_t1
  // SOME: mili.group "layers.0.attn.norm" hero "mili.rms_norm"
  // SOME: mili.group "layers.0.attn.qkv" hero "mili.linear"
  // SOME-NOT: mili.kv_append
  // SOME: mili.yield
  // SOME: mili.group "layers.0.attn.core" hero "mili.attention"
  // SOME: mili.kv_append
  // SOME-NEXT: mili.attention
  // SOME: mili.group "layers.0.mlp.gate_up" hero "mili.linear"
  // SOME: mili.split
  // SOME-NEXT: mili.yield
  // SOME: mili.group "layers.0.mlp.gated" hero "mili.gated"
  func.func @forward_t1(%tokens: tensor<?xi32>, %batch: !mili.batch) -> tensor<?x256xf32>
      attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
    %es = mili.weight "embed" : tensor<256x64x!q4>
    %e = mili.dequant %es : tensor<256x64x!q4> -> tensor<256x64xf32>
    %x = mili.embedding %tokens, %e : tensor<?xi32>, tensor<256x64xf32> -> tensor<?x64xf32> loc("embed")
    %xs = mili.scale %x by 12.0 : tensor<?x64xf32> loc("embed.scale")
    %g = mili.weight "attn_norm" : tensor<64xf32>
    %n = mili.rms_norm %xs, %g eps 1.0e-6 : tensor<?x64xf32>, tensor<64xf32> loc("layers.0.attn.norm")
    %ws = mili.weight "q", "k", "v" : tensor<128x64x!q4>
    %w = mili.dequant %ws : tensor<128x64x!q4> -> tensor<128x64xf32>
    %qkv = mili.linear %n, %w : tensor<?x64xf32>, tensor<128x64xf32> -> tensor<?x128xf32> loc("layers.0.attn.qkv")
    %q, %k, %v = mili.split %qkv : tensor<?x128xf32> -> tensor<?x64xf32>, tensor<?x32xf32>, tensor<?x32xf32>
    %gq = mili.weight "q_norm" : tensor<8xf32>
    %qn = mili.rms_norm %q, %gq eps 1.0e-6 : tensor<?x64xf32>, tensor<8xf32> loc("layers.0.attn.q_norm")
    %qr = mili.rope %qn, %batch heads 8 #rope : tensor<?x64xf32> loc("layers.0.attn.q_rope")
    %kr = mili.rope %k, %batch heads 4 #rope : tensor<?x32xf32> loc("layers.0.attn.k_rope")
    %kv0 = mili.state_get @layers.0.kv : !kv
    %kv1 = mili.kv_append %kv0, %kr, %v, %batch : !kv, tensor<?x32xf32>, tensor<?x32xf32> loc("layers.0.attn.append")
    mili.state_set @layers.0.kv, %kv1 : !kv
    %a = mili.attention %qr, %kv1, %batch mask(#mili.causal) heads 8 scale 0.5 : tensor<?x64xf32>, !kv -> tensor<?x64xf32> loc("layers.0.attn.core")
    %wo = mili.weight "out" : tensor<64x64xf32>
    %o = mili.linear %a, %wo : tensor<?x64xf32>, tensor<64x64xf32> -> tensor<?x64xf32> loc("layers.0.attn.out")
    %x1 = mili.add %xs, %o : tensor<?x64xf32> loc("layers.0.attn.residual")
    %gm = mili.weight "mlp_norm" : tensor<64xf32>
    %m = mili.rms_norm %x1, %gm eps 1.0e-6 : tensor<?x64xf32>, tensor<64xf32> loc("layers.0.mlp.norm")
    %wgu = mili.weight "gate", "up", interleave = 16 : tensor<256x64xf32>
    %gu = mili.linear %m, %wgu : tensor<?x64xf32>, tensor<256x64xf32> -> tensor<?x256xf32> loc("layers.0.mlp.gate_up")
    %gate, %up = mili.split %gu interleave 16 : tensor<?x256xf32> -> tensor<?x128xf32>, tensor<?x128xf32>
    %h = mili.gated <silu> %gate, %up : tensor<?x128xf32> loc("layers.0.mlp.gated")
    %wd = mili.weight "down" : tensor<64x128xf32>
    %d = mili.linear %h, %wd : tensor<?x128xf32>, tensor<64x128xf32> -> tensor<?x64xf32> loc("layers.0.mlp.down")
    %x2 = mili.add %x1, %d : tensor<?x64xf32> loc("layers.0.mlp.residual")
    %l = mili.logits %x2, %e, %batch : tensor<?x64xf32>, tensor<256x64xf32> -> tensor<?x256xf32> loc("head")
    return %l : tensor<?x256xf32>
  }
}

// -----

// By cost: the norm is recomputed by every worker for a few tokens, and a kernel of its own for many.
// CHECK-LABEL: @few
// CHECK: mili.group "up" hero "mili.linear"
// CHECK: mili.rms_norm
// CHECK-NEXT: mili.linear
// CHECK-LABEL: @many
// CHECK: mili.group "norm" hero "mili.rms_norm"
// CHECK: mili.group "up" hero "mili.linear"
func.func @few(%x: tensor<?x1024xf32>, %g: tensor<1024xf32>, %w: tensor<512x1024xf32>) -> tensor<?x512xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 16, sequences = 1, logit_rows = 1>} {
  %n = mili.rms_norm %x, %g eps 1.0e-6 : tensor<?x1024xf32>, tensor<1024xf32> loc("norm")
  %y = mili.linear %n, %w : tensor<?x1024xf32>, tensor<512x1024xf32> -> tensor<?x512xf32> loc("up")
  return %y : tensor<?x512xf32>
}
func.func @many(%x: tensor<?x1024xf32>, %g: tensor<1024xf32>, %w: tensor<512x1024xf32>) -> tensor<?x512xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 512, sequences = 1, logit_rows = 1>} {
  %n = mili.rms_norm %x, %g eps 1.0e-6 : tensor<?x1024xf32>, tensor<1024xf32> loc("norm")
  %y = mili.linear %n, %w : tensor<?x1024xf32>, tensor<512x1024xf32> -> tensor<?x512xf32> loc("up")
  return %y : tensor<?x512xf32>
}

// -----

// A norm that is needed in memory anyway is not recomputed: nothing would be saved.
// CHECK-LABEL: @also_returned
// CHECK: %[[N:.*]] = mili.group "norm" hero "mili.rms_norm"
// CHECK: %[[Y:.*]] = mili.group "up" hero "mili.linear" ins(%[[N]]
// CHECK: return %[[Y]], %[[N]]
func.func @also_returned(%x: tensor<?x64xf32>, %g: tensor<64xf32>, %w: tensor<64x64xf32>) -> (tensor<?x64xf32>, tensor<?x64xf32>)
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %n = mili.rms_norm %x, %g eps 1.0e-6 : tensor<?x64xf32>, tensor<64xf32> loc("norm")
  %y = mili.linear %n, %w : tensor<?x64xf32>, tensor<64x64xf32> -> tensor<?x64xf32> loc("up")
  return %y, %n : tensor<?x64xf32>, tensor<?x64xf32>
}

// -----

// Convexity: the sum cannot join the first product, whose result the second one reads; it joins the second. Names that
// are missing fall back to the op's own.
// CHECK-LABEL: @convex
// CHECK: %[[A:.*]] = mili.group "a" hero "mili.linear"
// CHECK: mili.linear
// CHECK-NEXT: mili.yield
// CHECK: mili.group "linear" hero "mili.linear"
// CHECK: mili.linear
// CHECK-NEXT: mili.add
// CHECK-NEXT: mili.yield
func.func @convex(%x: tensor<?x64xf32>, %w0: tensor<64x64xf32>, %w1: tensor<64x64xf32>) -> tensor<?x64xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %a = mili.linear %x, %w0 : tensor<?x64xf32>, tensor<64x64xf32> -> tensor<?x64xf32> loc("a")
  %b = mili.linear %a, %w1 : tensor<?x64xf32>, tensor<64x64xf32> -> tensor<?x64xf32>
  %c = mili.add %a, %b : tensor<?x64xf32>
  return %c : tensor<?x64xf32>
}

// -----

// A norm over all of the queries needs every tile of the product: a row kernel of its own, which RoPE and the append join.
#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5, 0.25, 0.125]>
!kv = !mili.kv<heads = 4, k = 8, v = 8, f32>
module {
  mili.state @layers.0.kv : !kv
  // CHECK-LABEL: @full_width_norm
  // CHECK: %[[QKV:.*]]:3 = mili.group "qkv" hero "mili.linear"
  // CHECK: mili.split
  // CHECK-NEXT: mili.yield
  // CHECK: mili.group "k_norm" hero "mili.rms_norm"
  // CHECK: mili.rms_norm
  // CHECK-NEXT: mili.rope
  // CHECK-NEXT: mili.kv_append
  // CHECK-NEXT: mili.yield
  func.func @full_width_norm(%x: tensor<?x64xf32>, %batch: !mili.batch, %w: tensor<128x64xf32>, %g: tensor<32xf32>) -> tensor<?x64xf32>
      attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
    %qkv = mili.linear %x, %w : tensor<?x64xf32>, tensor<128x64xf32> -> tensor<?x128xf32> loc("qkv")
    %q, %k, %v = mili.split %qkv : tensor<?x128xf32> -> tensor<?x64xf32>, tensor<?x32xf32>, tensor<?x32xf32>
    %kn = mili.rms_norm %k, %g eps 1.0e-6 : tensor<?x32xf32>, tensor<32xf32> loc("k_norm")
    %kr = mili.rope %kn, %batch heads 4 #rope : tensor<?x32xf32>
    %kv0 = mili.state_get @layers.0.kv : !kv
    %kv1 = mili.kv_append %kv0, %kr, %v, %batch : !kv, tensor<?x32xf32>, tensor<?x32xf32>
    mili.state_set @layers.0.kv, %kv1 : !kv
    return %q : tensor<?x64xf32>
  }
}
