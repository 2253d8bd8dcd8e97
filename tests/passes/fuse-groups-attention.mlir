// What runs before attention, and what follows a split that leads its group. The options are those of a GPU: many workers,
// tiles of 16 features.
// RUN: mili-opt %s --split-input-file --mili-fuse-groups='tile-features=16 workers=132 launch-ns=2000 report=table' -o %t 2> %t.report
// RUN: FileCheck %s --input-file=%t
// RUN: FileCheck %s --input-file=%t.report --check-prefix=REPORT
// RUN: mili-opt %s --split-input-file --mili-fuse-groups='tile-features=16 workers=132 launch-ns=2000 disable=linear-split,rope-attention,kv_append-attention' | FileCheck %s --check-prefix=SPLIT
// RUN: mili-opt %s --split-input-file --mili-fuse-groups='tile-features=16 workers=132 launch-ns=2000 disable=rms_norm' | FileCheck %s --check-prefix=NORMS
// RUN: mili-opt %s --split-input-file --mili-fuse-groups='tile-features=1 workers=132 report=table' 2>&1 >/dev/null | FileCheck %s --check-prefix=ONE

#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5, 0.25, 0.125]>
!kv = !mili.kv<heads = 4, k = 64, v = 64, bf16>
!q = tensor<?x512xbf16>
!k = tensor<?x256xbf16>
module {
  mili.state @kv : !kv

  // Norms of heads, RoPE and the append run in attention's kernel. The new version of the state leaves it; nothing else of
  // the prologue does.
  // CHECK-LABEL: @heads
  // CHECK: %[[QKV:.*]]:3 = mili.group "qkv" hero "mili.linear"
  // CHECK: mili.linear
  // CHECK-NEXT: mili.split
  // CHECK-NEXT: mili.yield
  // CHECK: %[[A:.*]]:2 = mili.group "core" hero "mili.attention" ins(%[[QKV]]#0, {{.*}}%[[QKV]]#1, {{.*}}%[[QKV]]#2 : {{.*}}) -> !mili.kv<heads = 4, k = 64, v = 64, bf16>, tensor<?x512xbf16> {
  // CHECK-NEXT: ^bb0(%[[Q:[^:]*]]: tensor<?x512xbf16>, %{{[^:]*}}: tensor<64xf32>, %[[K:[^:]*]]: tensor<?x256xbf16>, %{{[^:]*}}: tensor<64xf32>, %{{[^:]*}}: !mili.batch, %[[KV:[^:]*]]: !mili.kv<{{[^>]*}}>, %[[V:[^:]*]]: tensor<?x256xbf16>):
  // CHECK-NEXT: %[[QN:.*]] = mili.rms_norm %[[Q]]
  // CHECK-NEXT: %[[KN:.*]] = mili.rms_norm %[[K]]
  // CHECK-NEXT: %[[QR:.*]] = mili.rope %[[QN]]
  // CHECK-NEXT: %[[KR:.*]] = mili.rope %[[KN]]
  // CHECK-NEXT: %[[NEW:.*]] = mili.kv_append %[[KV]], %[[KR]], %[[V]]
  // CHECK-NEXT: %[[O:.*]] = mili.attention %[[QR]], %[[NEW]]
  // CHECK-NEXT: mili.yield %[[NEW]], %[[O]] :
  // CHECK: mili.state_set @kv, %[[A]]#0
  // CHECK: return %[[A]]#1

  // REPORT: split → q_norm {{.*}} separate {{.*}} needs 64 of 1024 features in one tile, which leaves 16 tiles for 132 workers
  // REPORT: q_norm → q_rope {{.*}} fused {{.*}} prologue, finished by the tiles that read it: {{.*}} us against {{.*}} us for a kernel of its own
  // REPORT: k_rope → append {{.*}} fused {{.*}} prologue, finished by the tiles that read it
  // REPORT: append → core {{.*}} fused {{.*}} prologue, finished by the tiles that read it

  // NORMS-LABEL: @heads
  // NORMS: mili.group "q_norm" hero "mili.rms_norm"
  // NORMS: mili.group "k_norm" hero "mili.rms_norm"
  // NORMS: mili.group "core" hero "mili.attention"
  // NORMS-NOT: mili.rms_norm
  // NORMS: mili.rope
  // NORMS-NEXT: mili.rope
  // NORMS-NEXT: mili.kv_append
  // NORMS-NEXT: mili.attention
  func.func @heads(%x: !q, %batch: !mili.batch) -> !q
      attributes {mili.bucket = #mili.bucket<tokens = 4, sequences = 4, logit_rows = 4>} {
    %w = mili.weight "q", "k", "v" : tensor<1024x512xbf16>
    %qkv = mili.linear %x, %w : !q, tensor<1024x512xbf16> -> tensor<?x1024xbf16> loc("qkv")
    %q, %k, %v = mili.split %qkv : tensor<?x1024xbf16> -> !q, !k, !k loc("split")
    %gq = mili.weight "q_norm" : tensor<64xf32>
    %gk = mili.weight "k_norm" : tensor<64xf32>
    %qn = mili.rms_norm %q, %gq eps 1.0e-6 : !q, tensor<64xf32> loc("q_norm")
    %kn = mili.rms_norm %k, %gk eps 1.0e-6 : !k, tensor<64xf32> loc("k_norm")
    %qr = mili.rope %qn, %batch heads 8 #rope : !q loc("q_rope")
    %kr = mili.rope %kn, %batch heads 4 #rope : !k loc("k_rope")
    %kv0 = mili.state_get @kv : !kv
    %kv1 = mili.kv_append %kv0, %kr, %v, %batch : !kv, !k, !k loc("append")
    mili.state_set @kv, %kv1 : !kv
    %a = mili.attention %qr, %kv1, %batch mask(#mili.causal) heads 8 scale 0.125 : !q, !kv -> !q loc("core")
    return %a : !q
  }

  // A norm over all of the keys is none of a head: it has a kernel of its own; what follows it still runs in attention's.
  // CHECK-LABEL: @full_width
  // CHECK: mili.group "k_norm" hero "mili.rms_norm"
  // CHECK: mili.rms_norm
  // CHECK-NEXT: mili.yield
  // CHECK: mili.group "core" hero "mili.attention"
  // CHECK-NOT: mili.rms_norm
  // CHECK: mili.rope
  // CHECK-NEXT: mili.rope
  // CHECK-NEXT: mili.kv_append
  // CHECK-NEXT: mili.attention
  func.func @full_width(%batch: !mili.batch, %q: !q, %k: !k, %v: !k) -> !q
      attributes {mili.bucket = #mili.bucket<tokens = 4, sequences = 4, logit_rows = 4>} {
    %gk = mili.weight "k_norm" : tensor<256xf32>
    %kn = mili.rms_norm %k, %gk eps 1.0e-6 : !k, tensor<256xf32> loc("k_norm")
    %qr = mili.rope %q, %batch heads 8 #rope : !q loc("q_rope")
    %kr = mili.rope %kn, %batch heads 4 #rope : !k loc("k_rope")
    %kv0 = mili.state_get @kv : !kv
    %kv1 = mili.kv_append %kv0, %kr, %v, %batch : !kv, !k, !k loc("append")
    mili.state_set @kv, %kv1 : !kv
    %a = mili.attention %qr, %kv1, %batch mask(#mili.causal) heads 8 scale 0.125 : !q, !kv -> !q loc("core")
    return %a : !q
  }

  // Without the product and without attention, the split leads what follows it: rotated queries, and the append of rotated
  // keys and values.
  // SPLIT-LABEL: @rotated
  // SPLIT: mili.group "qkv" hero "mili.linear"
  // SPLIT: mili.linear
  // SPLIT-NEXT: mili.yield
  // SPLIT: %[[S:.*]]:2 = mili.group "split" hero "mili.split"
  // SPLIT-NEXT: ^bb0
  // SPLIT-NEXT: %[[P:.*]]:3 = mili.split
  // SPLIT-NEXT: %[[Q:.*]] = mili.rope %[[P]]#0
  // SPLIT-NEXT: %[[K:.*]] = mili.rope %[[P]]#1
  // SPLIT-NEXT: %[[NEW:.*]] = mili.kv_append %{{.*}}, %[[K]], %[[P]]#2
  // SPLIT-NEXT: mili.yield %[[Q]], %[[NEW]] :
  // SPLIT: mili.state_set @kv, %[[S]]#1
  // SPLIT: mili.group "core" hero "mili.attention" ins(%[[S]]#0, %[[S]]#1,
  // SPLIT-NEXT: ^bb0
  // SPLIT-NEXT: mili.attention
  func.func @rotated(%x: !q, %batch: !mili.batch) -> !q
      attributes {mili.bucket = #mili.bucket<tokens = 512, sequences = 4, logit_rows = 4>} {
    %w = mili.weight "q", "k", "v" : tensor<1024x512xbf16>
    %qkv = mili.linear %x, %w : !q, tensor<1024x512xbf16> -> tensor<?x1024xbf16> loc("qkv")
    %q, %k, %v = mili.split %qkv : tensor<?x1024xbf16> -> !q, !k, !k loc("split")
    %qr = mili.rope %q, %batch heads 8 #rope : !q loc("q_rope")
    %kr = mili.rope %k, %batch heads 4 #rope : !k loc("k_rope")
    %kv0 = mili.state_get @kv : !kv
    %kv1 = mili.kv_append %kv0, %kr, %v, %batch : !kv, !k, !k loc("append")
    mili.state_set @kv, %kv1 : !kv
    %a = mili.attention %qr, %kv1, %batch mask(#mili.causal) heads 8 scale 0.125 : !q, !kv -> !q loc("core")
    return %a : !q
  }
}

// -----

// Two groups read the new version: it is made once, in a group of its own. Their queries are rotated in each.
#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5, 0.25, 0.125]>
!kv = !mili.kv<heads = 4, k = 64, v = 64, bf16>
!q = tensor<?x512xbf16>
!k = tensor<?x256xbf16>
module {
  mili.state @kv : !kv
  // CHECK-LABEL: @twice
  // CHECK: %[[KV:.*]] = mili.group "append" hero "mili.kv_append"
  // CHECK: mili.group "first" hero "mili.attention" ins(%{{.*}}, %[[KV]]
  // CHECK-NEXT: ^bb0
  // CHECK-NEXT: mili.rope
  // CHECK-NEXT: mili.attention
  // CHECK: mili.group "second" hero "mili.attention" ins(%{{.*}}, %[[KV]]
  // CHECK-NEXT: ^bb0
  // CHECK-NEXT: mili.rope
  // CHECK-NEXT: mili.attention
  // REPORT: q_rope → first {{.*}} fused {{.*}} prologue, finished by the tiles that read it
  // REPORT: append → first {{.*}} separate {{.*}} a state is appended to once, and several groups read the new version
  // REPORT: q_rope → second {{.*}} fused {{.*}} prologue, finished by the tiles that read it
  // REPORT: append → second {{.*}} separate {{.*}} a state is appended to once, and several groups read the new version
  func.func @twice(%batch: !mili.batch, %q: !q, %k: !k) -> (!q, !q)
      attributes {mili.bucket = #mili.bucket<tokens = 4, sequences = 4, logit_rows = 4>} {
    %qr = mili.rope %q, %batch heads 8 #rope : !q loc("q_rope")
    %kv0 = mili.state_get @kv : !kv
    %kv1 = mili.kv_append %kv0, %k, %k, %batch : !kv, !k, !k loc("append")
    mili.state_set @kv, %kv1 : !kv
    %a = mili.attention %qr, %kv1, %batch mask(#mili.causal) heads 8 scale 0.125 : !q, !kv -> !q loc("first")
    %b = mili.attention %qr, %kv1, %batch mask(#mili.causal) heads 8 scale 0.25 : !q, !kv -> !q loc("second")
    return %a, %b : !q, !q
  }

  // Queries that something else reads too are rotated by a kernel of their own.
  // CHECK-LABEL: @kept
  // CHECK: %[[Q:.*]] = mili.group "q_rope" hero "mili.rope"
  // CHECK: %[[A:.*]]:2 = mili.group "core" hero "mili.attention"
  // CHECK: mili.kv_append
  // CHECK-NEXT: mili.attention
  // CHECK: return %[[A]]#1, %[[Q]]
  // REPORT: q_rope → core {{.*}} separate {{.*}} return reads it from memory
  func.func @kept(%batch: !mili.batch, %q: !q, %k: !k) -> (!q, !q)
      attributes {mili.bucket = #mili.bucket<tokens = 4, sequences = 4, logit_rows = 4>} {
    %qr = mili.rope %q, %batch heads 8 #rope : !q loc("q_rope")
    %kv0 = mili.state_get @kv : !kv
    %kv1 = mili.kv_append %kv0, %k, %k, %batch : !kv, !k, !k loc("append")
    mili.state_set @kv, %kv1 : !kv
    %a = mili.attention %qr, %kv1, %batch mask(#mili.causal) heads 8 scale 0.125 : !q, !kv -> !q loc("core")
    return %a, %qr : !q, !q
  }
}

// -----

// Any tile holds 16 features: gate and up of 8 alternating features cost no tiles, RoPE of heads of 32 does.
#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5, 0.25, 0.125]>
// CHECK-LABEL: @tiles
// CHECK: mili.group "gate_up" hero "mili.linear"
// CHECK: mili.linear
// CHECK-NEXT: mili.split %{{.*}} interleave 8
// CHECK-NEXT: mili.gated
// CHECK-NEXT: mili.yield
// CHECK: mili.group "down" hero "mili.linear"
// CHECK: mili.linear
// CHECK-NEXT: mili.yield
// CHECK: mili.group "rope" hero "mili.rope"
// REPORT: gate_up → split {{.*}} fused {{.*}} epilogue
// REPORT: split → gated {{.*}} fused {{.*}} epilogue
// REPORT: down → rope {{.*}} separate {{.*}} needs 32 of 256 features in one tile, which leaves 8 tiles for 132 workers
// ONE: gate_up → split {{.*}} separate {{.*}} needs 16 of 512 features in one tile, which leaves 32 tiles for 132 workers
// ONE: down → rope {{.*}} separate {{.*}} needs 32 of 256 features in one tile, which leaves 8 tiles for 132 workers
func.func @tiles(%x: tensor<?x256xbf16>, %batch: !mili.batch) -> tensor<?x256xbf16>
    attributes {mili.bucket = #mili.bucket<tokens = 4, sequences = 4, logit_rows = 4>} {
  %w = mili.weight "gate", "up", interleave = 8 : tensor<512x256xbf16>
  %gu = mili.linear %x, %w : tensor<?x256xbf16>, tensor<512x256xbf16> -> tensor<?x512xbf16> loc("gate_up")
  %gate, %up = mili.split %gu interleave 8 : tensor<?x512xbf16> -> tensor<?x256xbf16>, tensor<?x256xbf16> loc("split")
  %h = mili.gated <silu> %gate, %up : tensor<?x256xbf16> loc("gated")
  %wd = mili.weight "down" : tensor<256x256xbf16>
  %d = mili.linear %h, %wd : tensor<?x256xbf16>, tensor<256x256xbf16> -> tensor<?x256xbf16> loc("down")
  %r = mili.rope %d, %batch heads 8 #rope : tensor<?x256xbf16> loc("rope")
  return %r : tensor<?x256xbf16>
}
