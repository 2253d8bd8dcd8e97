// What no kernel of the CUDA target can run.
// RUN: mili-opt %s --verify-diagnostics --split-input-file --mili-codegen-select-kernels=target=cuda

// Lanes read 8 elements of depth.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
func.func @f(%x: tensor<?x20xbf16>) attributes {mili.bucket = #one} {
  %w = mili.weight "w" : tensor<32x20xbf16>
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.linear}}
  %0 = mili.group "g" hero "mili.linear" ins(%x, %w : tensor<?x20xbf16>, tensor<32x20xbf16>) -> tensor<?x32xbf16> {
  ^bb0(%b: tensor<?x20xbf16>, %m: tensor<32x20xbf16>):
    %y = mili.linear %b, %m : tensor<?x20xbf16>, tensor<32x20xbf16> -> tensor<?x32xbf16>
    mili.yield %y : tensor<?x32xbf16>
  }
  return
}

// -----

// Gate and up alternate in runs of 8, which a thread holds.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
func.func @f(%x: tensor<?x64xbf16>) attributes {mili.bucket = #one} {
  %w = mili.weight "w" : tensor<64x64xbf16>
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.linear}}
  %0 = mili.group "g" hero "mili.linear" ins(%x, %w : tensor<?x64xbf16>, tensor<64x64xbf16>) -> tensor<?x32xbf16> {
  ^bb0(%b: tensor<?x64xbf16>, %m: tensor<64x64xbf16>):
    %y = mili.linear %b, %m : tensor<?x64xbf16>, tensor<64x64xbf16> -> tensor<?x64xbf16>
    %u, %v = mili.split %y interleave 16 : tensor<?x64xbf16> -> tensor<?x32xbf16>, tensor<?x32xbf16>
    %h = mili.gated <silu> %u, %v : tensor<?x32xbf16>
    mili.yield %h : tensor<?x32xbf16>
  }
  return
}

// -----

// Half of the pieces would begin within a unit.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
func.func @f(%x: tensor<?x64xbf16>) attributes {mili.bucket = #one} {
  %w = mili.weight "w" : tensor<24x64xbf16>
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.linear}}
  %0:2 = mili.group "g" hero "mili.linear" ins(%x, %w : tensor<?x64xbf16>, tensor<24x64xbf16>) -> tensor<?x12xbf16>, tensor<?x12xbf16> {
  ^bb0(%b: tensor<?x64xbf16>, %m: tensor<24x64xbf16>):
    %y = mili.linear %b, %m : tensor<?x64xbf16>, tensor<24x64xbf16> -> tensor<?x24xbf16>
    %u, %v = mili.split %y : tensor<?x24xbf16> -> tensor<?x12xbf16>, tensor<?x12xbf16>
    mili.yield %u, %v : tensor<?x12xbf16>, tensor<?x12xbf16>
  }
  return
}

// -----

// A unit of gate and up is 16 features.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
func.func @f(%x: tensor<?x64xbf16>) attributes {mili.bucket = #one} {
  %w = mili.weight "w" : tensor<40x64xbf16>
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.linear}}
  %0 = mili.group "g" hero "mili.linear" ins(%x, %w : tensor<?x64xbf16>, tensor<40x64xbf16>) -> tensor<?x20xbf16> {
  ^bb0(%b: tensor<?x64xbf16>, %m: tensor<40x64xbf16>):
    %y = mili.linear %b, %m : tensor<?x64xbf16>, tensor<40x64xbf16> -> tensor<?x40xbf16>
    %u, %v = mili.split %y interleave 4 : tensor<?x40xbf16> -> tensor<?x20xbf16>, tensor<?x20xbf16>
    %h = mili.gated <silu> %u, %v : tensor<?x20xbf16>
    mili.yield %h : tensor<?x20xbf16>
  }
  return
}

// -----

// RoPE needs the whole head.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5]>
func.func @f(%x: tensor<?x64xbf16>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %w = mili.weight "w" : tensor<32x64xbf16>
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.linear}}
  %0 = mili.group "g" hero "mili.linear" ins(%x, %w, %t : tensor<?x64xbf16>, tensor<32x64xbf16>, !mili.batch) -> tensor<?x32xbf16> {
  ^bb0(%b: tensor<?x64xbf16>, %m: tensor<32x64xbf16>, %i: !mili.batch):
    %y = mili.linear %b, %m : tensor<?x64xbf16>, tensor<32x64xbf16> -> tensor<?x32xbf16>
    %h = mili.rope %y, %i heads 4 #rope : tensor<?x32xbf16>
    mili.yield %h : tensor<?x32xbf16>
  }
  return
}

// -----

// And so it does before the product.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5]>
func.func @f(%x: tensor<?x64xbf16>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %w = mili.weight "w" : tensor<32x64xbf16>
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.linear}}
  %0 = mili.group "g" hero "mili.linear" ins(%x, %w, %t : tensor<?x64xbf16>, tensor<32x64xbf16>, !mili.batch) -> tensor<?x32xbf16> {
  ^bb0(%b: tensor<?x64xbf16>, %m: tensor<32x64xbf16>, %i: !mili.batch):
    %b0 = mili.rope %b, %i heads 8 #rope : tensor<?x64xbf16>
    %y = mili.linear %b0, %m : tensor<?x64xbf16>, tensor<32x64xbf16> -> tensor<?x32xbf16>
    mili.yield %y : tensor<?x32xbf16>
  }
  return
}

// -----

// A norm of heads is none of the row.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
func.func @f(%x: tensor<?x64xbf16>) attributes {mili.bucket = #one} {
  %g = mili.weight "norm" : tensor<16xbf16>
  %w = mili.weight "w" : tensor<32x64xbf16>
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.linear}}
  %0 = mili.group "g" hero "mili.linear" ins(%x, %g, %w : tensor<?x64xbf16>, tensor<16xbf16>, tensor<32x64xbf16>) -> tensor<?x32xbf16> {
  ^bb0(%b: tensor<?x64xbf16>, %n: tensor<16xbf16>, %m: tensor<32x64xbf16>):
    %b0 = mili.rms_norm %b, %n eps 1.0e-6 : tensor<?x64xbf16>, tensor<16xbf16>
    %y = mili.linear %b0, %m : tensor<?x64xbf16>, tensor<32x64xbf16> -> tensor<?x32xbf16>
    mili.yield %y : tensor<?x32xbf16>
  }
  return
}

// -----

// Pages hold bf16.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
!kv = !mili.kv<heads = 2, k = 64, v = 64, f32>
mili.state @kv : !kv
func.func @f(%q: tensor<?x128xf32>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %kv = mili.state_get @kv : !kv
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.attention}}
  %0 = mili.group "g" hero "mili.attention" ins(%q, %kv, %t : tensor<?x128xf32>, !kv, !mili.batch) -> tensor<?x128xf32> {
  ^bb0(%q0: tensor<?x128xf32>, %s: !kv, %i: !mili.batch):
    %a = mili.attention %q0, %s, %i mask(#mili.causal) heads 2 scale 0.5 : tensor<?x128xf32>, !kv -> tensor<?x128xf32>
    mili.yield %a : tensor<?x128xf32>
  }
  return
}

// -----

// Nor f16.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
!kv = !mili.kv<heads = 2, k = 64, v = 64, f16>
mili.state @kv : !kv
func.func @f(%q: tensor<?x128xf16>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %kv = mili.state_get @kv : !kv
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.attention}}
  %0 = mili.group "g" hero "mili.attention" ins(%q, %kv, %t : tensor<?x128xf16>, !kv, !mili.batch) -> tensor<?x128xf16> {
  ^bb0(%q0: tensor<?x128xf16>, %s: !kv, %i: !mili.batch):
    %a = mili.attention %q0, %s, %i mask(#mili.causal) heads 2 scale 0.5 : tensor<?x128xf16>, !kv -> tensor<?x128xf16>
    mili.yield %a : tensor<?x128xf16>
  }
  return
}

// -----

// Nor 8 bits.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
!kv = !mili.kv<heads = 2, k = 64, v = 64, f8E4M3FN>
mili.state @kv : !kv
func.func @f(%q: tensor<?x128xbf16>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %kv = mili.state_get @kv : !kv
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.attention}}
  %0 = mili.group "g" hero "mili.attention" ins(%q, %kv, %t : tensor<?x128xbf16>, !kv, !mili.batch) -> tensor<?x128xbf16> {
  ^bb0(%q0: tensor<?x128xbf16>, %s: !kv, %i: !mili.batch):
    %a = mili.attention %q0, %s, %i mask(#mili.causal) heads 2 scale 0.5 : tensor<?x128xbf16>, !kv -> tensor<?x128xbf16>
    mili.yield %a : tensor<?x128xbf16>
  }
  return
}

// -----

// Keys and values of one width.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
!kv = !mili.kv<heads = 2, k = 64, v = 32, bf16>
mili.state @kv : !kv
func.func @f(%q: tensor<?x128xbf16>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %kv = mili.state_get @kv : !kv
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.attention}}
  %0 = mili.group "g" hero "mili.attention" ins(%q, %kv, %t : tensor<?x128xbf16>, !kv, !mili.batch) -> tensor<?x64xbf16> {
  ^bb0(%q0: tensor<?x128xbf16>, %s: !kv, %i: !mili.batch):
    %a = mili.attention %q0, %s, %i mask(#mili.causal) heads 2 scale 0.5 : tensor<?x128xbf16>, !kv -> tensor<?x64xbf16>
    mili.yield %a : tensor<?x64xbf16>
  }
  return
}

// -----

// A width that the matrix instructions cut evenly.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
!kv = !mili.kv<heads = 2, k = 24, v = 24, bf16>
mili.state @kv : !kv
func.func @f(%q: tensor<?x48xbf16>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %kv = mili.state_get @kv : !kv
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.attention}}
  %0 = mili.group "g" hero "mili.attention" ins(%q, %kv, %t : tensor<?x48xbf16>, !kv, !mili.batch) -> tensor<?x48xbf16> {
  ^bb0(%q0: tensor<?x48xbf16>, %s: !kv, %i: !mili.batch):
    %a = mili.attention %q0, %s, %i mask(#mili.causal) heads 2 scale 0.5 : tensor<?x48xbf16>, !kv -> tensor<?x48xbf16>
    mili.yield %a : tensor<?x48xbf16>
  }
  return
}

// -----

// At most 256.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
!kv = !mili.kv<heads = 1, k = 272, v = 272, bf16>
mili.state @kv : !kv
func.func @f(%q: tensor<?x272xbf16>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %kv = mili.state_get @kv : !kv
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.attention}}
  %0 = mili.group "g" hero "mili.attention" ins(%q, %kv, %t : tensor<?x272xbf16>, !kv, !mili.batch) -> tensor<?x272xbf16> {
  ^bb0(%q0: tensor<?x272xbf16>, %s: !kv, %i: !mili.batch):
    %a = mili.attention %q0, %s, %i mask(#mili.causal) heads 1 scale 0.5 : tensor<?x272xbf16>, !kv -> tensor<?x272xbf16>
    mili.yield %a : tensor<?x272xbf16>
  }
  return
}

// -----

// A tile of a prompt holds all query heads of a KV head: at most 128 rows.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
!kv = !mili.kv<heads = 1, k = 16, v = 16, bf16>
mili.state @kv : !kv
func.func @f(%q: tensor<?x2064xbf16>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %kv = mili.state_get @kv : !kv
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.attention}}
  %0 = mili.group "g" hero "mili.attention" ins(%q, %kv, %t : tensor<?x2064xbf16>, !kv, !mili.batch) -> tensor<?x2064xbf16> {
  ^bb0(%q0: tensor<?x2064xbf16>, %s: !kv, %i: !mili.batch):
    %a = mili.attention %q0, %s, %i mask(#mili.causal) heads 129 scale 0.5 : tensor<?x2064xbf16>, !kv -> tensor<?x2064xbf16>
    mili.yield %a : tensor<?x2064xbf16>
  }
  return
}

// -----

// Of wide heads 64.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
!kv = !mili.kv<heads = 1, k = 144, v = 144, bf16>
mili.state @kv : !kv
func.func @f(%q: tensor<?x9360xbf16>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %kv = mili.state_get @kv : !kv
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.attention}}
  %0 = mili.group "g" hero "mili.attention" ins(%q, %kv, %t : tensor<?x9360xbf16>, !kv, !mili.batch) -> tensor<?x9360xbf16> {
  ^bb0(%q0: tensor<?x9360xbf16>, %s: !kv, %i: !mili.batch):
    %a = mili.attention %q0, %s, %i mask(#mili.causal) heads 65 scale 0.5 : tensor<?x9360xbf16>, !kv -> tensor<?x9360xbf16>
    mili.yield %a : tensor<?x9360xbf16>
  }
  return
}

// -----

// Nothing follows attention.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
!kv = !mili.kv<heads = 2, k = 64, v = 64, bf16>
mili.state @kv : !kv
func.func @f(%q: tensor<?x128xbf16>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %kv = mili.state_get @kv : !kv
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.attention}}
  %0 = mili.group "g" hero "mili.attention" ins(%q, %kv, %t : tensor<?x128xbf16>, !kv, !mili.batch) -> tensor<?x128xbf16> {
  ^bb0(%q0: tensor<?x128xbf16>, %s: !kv, %i: !mili.batch):
    %a = mili.attention %q0, %s, %i mask(#mili.causal) heads 2 scale 0.5 : tensor<?x128xbf16>, !kv -> tensor<?x128xbf16>
    %r = mili.add %a, %q0 : tensor<?x128xbf16>
    mili.yield %r : tensor<?x128xbf16>
  }
  return
}

// -----

// Sums do not finish queries.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
!kv = !mili.kv<heads = 2, k = 64, v = 64, bf16>
mili.state @kv : !kv
func.func @f(%q: tensor<?x128xbf16>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %kv = mili.state_get @kv : !kv
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.attention}}
  %0 = mili.group "g" hero "mili.attention" ins(%q, %kv, %t : tensor<?x128xbf16>, !kv, !mili.batch) -> tensor<?x128xbf16> {
  ^bb0(%q0: tensor<?x128xbf16>, %s: !kv, %i: !mili.batch):
    %q1 = mili.add %q0, %q0 : tensor<?x128xbf16>
    %a = mili.attention %q1, %s, %i mask(#mili.causal) heads 2 scale 0.5 : tensor<?x128xbf16>, !kv -> tensor<?x128xbf16>
    mili.yield %a : tensor<?x128xbf16>
  }
  return
}

// -----

// One append.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
!kv = !mili.kv<heads = 2, k = 64, v = 64, bf16>
mili.state @kv : !kv
func.func @f(%q: tensor<?x128xbf16>, %t: !mili.batch) attributes {mili.bucket = #one} {
  %kv = mili.state_get @kv : !kv
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.attention}}
  %0:2 = mili.group "g" hero "mili.attention" ins(%q, %kv, %t : tensor<?x128xbf16>, !kv, !mili.batch) -> !kv, tensor<?x128xbf16> {
  ^bb0(%q0: tensor<?x128xbf16>, %s: !kv, %i: !mili.batch):
    %s1 = mili.kv_append %s, %q0, %q0, %i : !kv, tensor<?x128xbf16>, tensor<?x128xbf16>
    %s2 = mili.kv_append %s1, %q0, %q0, %i : !kv, tensor<?x128xbf16>, tensor<?x128xbf16>
    %a = mili.attention %q0, %s2, %i mask(#mili.causal) heads 2 scale 0.5 : tensor<?x128xbf16>, !kv -> tensor<?x128xbf16>
    mili.yield %s2, %a : !kv, tensor<?x128xbf16>
  }
  mili.state_set @kv, %0#0 : !kv
  return
}

// -----

// Logits lie in memory when tokens are sampled.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
func.func @f(%l: tensor<?x64xf32>, %t: !mili.batch) attributes {mili.bucket = #one} {
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.sample}}
  %0 = mili.group "g" hero "mili.sample" ins(%l, %t : tensor<?x64xf32>, !mili.batch) -> tensor<?xi32> {
  ^bb0(%b: tensor<?x64xf32>, %i: !mili.batch):
    %b0 = mili.scale %b by 2.0 : tensor<?x64xf32>
    %s = mili.sample %b0, %i : tensor<?x64xf32> -> tensor<?xi32>
    mili.yield %s : tensor<?xi32>
  }
  return
}

// -----

// A row kernel keeps its rows in the shared memory that every part has.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
func.func @f(%x: tensor<?x32768xbf16>) attributes {mili.bucket = #one} {
  // expected-error @below {{mili-codegen: a row kernel of this group needs 262272 bytes of shared memory, the limit is 101376}}
  %0:2 = mili.group "g" hero "mili.scale" ins(%x : tensor<?x32768xbf16>) -> tensor<?x32768xbf16>, tensor<?x32768xbf16> {
  ^bb0(%b: tensor<?x32768xbf16>):
    %y = mili.scale %b by 2.0 : tensor<?x32768xbf16>
    %z = mili.scale %y by 2.0 : tensor<?x32768xbf16>
    mili.yield %y, %z : tensor<?x32768xbf16>, tensor<?x32768xbf16>
  }
  return
}

// -----

// Every group that cannot run is named, not only the first.
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
func.func @f(%x: tensor<?x20xbf16>) attributes {mili.bucket = #one} {
  %w = mili.weight "w" : tensor<20x20xbf16>
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.linear}}
  %0 = mili.group "first" hero "mili.linear" ins(%x, %w : tensor<?x20xbf16>, tensor<20x20xbf16>) -> tensor<?x20xbf16> {
  ^bb0(%b: tensor<?x20xbf16>, %m: tensor<20x20xbf16>):
    %y = mili.linear %b, %m : tensor<?x20xbf16>, tensor<20x20xbf16> -> tensor<?x20xbf16>
    mili.yield %y : tensor<?x20xbf16>
  }
  // expected-error @below {{mili-codegen-select-kernels: no kernel of target 'cuda' can run this group, led by mili.linear}}
  %1 = mili.group "second" hero "mili.linear" ins(%0, %w : tensor<?x20xbf16>, tensor<20x20xbf16>) -> tensor<?x20xbf16> {
  ^bb0(%b: tensor<?x20xbf16>, %m: tensor<20x20xbf16>):
    %y = mili.linear %b, %m : tensor<?x20xbf16>, tensor<20x20xbf16> -> tensor<?x20xbf16>
    mili.yield %y : tensor<?x20xbf16>
  }
  return
}
