// Attention of the CUDA target: steps of up to 256 tokens split the context over blocks, longer ones go over tiles of queries.
// RUN: sed -e 's/MODULE//' %s | mili-opt --mili-codegen-select-kernels=target=cuda | FileCheck %s --check-prefixes=CHECK,FAST
// RUN: sed -e 's/MODULE/, mili.deterministic/' %s | mili-opt --mili-codegen-select-kernels=target=cuda | FileCheck %s --check-prefixes=CHECK,SAME
// RUN: sed -e 's/MODULE//' -e 's/context = 4096/context = 64/' %s | mili-opt --mili-codegen-select-kernels=target=cuda | FileCheck %s --check-prefix=SHORT
#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5, 0.25, 0.125]>
!kv = !mili.kv<heads = 2, k = 64, v = 64, bf16>
!wide = !mili.kv<heads = 2, k = 128, v = 128, bf16>
!q = tensor<?x512xbf16>
!k = tensor<?x128xbf16>
#one = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>
#few = #mili.bucket<tokens = 256, sequences = 16, logit_rows = 16>
#many = #mili.bucket<tokens = 512, sequences = 4, logit_rows = 4>
module attributes {mili.context = 4096 : i64 MODULE} {
  mili.state @kv : !kv
  mili.state @wide : !wide
  func.func @appends(%q: !q, %k: !k, %v: !k, %batch: !mili.batch) -> !q attributes {mili.bucket = #one} {
    %kv0 = mili.state_get @kv : !kv
    %g = mili.weight "q_norm" : tensor<64xbf16>
    // Weights of norms are vectors of f32.
    // CHECK: mili.weight "q_norm" layout "vector_f32"
    // One query tile and two KV heads in 64 splits of a page, two blocks on a multiprocessor of sm_90. Scratch: 16 rows of 64 sums, a maximum and a weight in f32;
    // counters: a word for each KV head.
    // CHECK: mili.group "appends" {{.*}} kernel "cuda.attention" stages [#mili.stage<"decode", tiles = 128 per one by 1, cuda = [<arch = 80, threads = 128, shared = 65536>, <arch = 90, threads = 128, shared = 81920>, <arch = 100, threads = 128, shared = 65536>], config = {counters = 1 : i64, few_splits = 64 : i64, scratch = 1 : i64, splits = 64 : i64}>] arena_scratch 540672 counters 8 {
    // A context of one page is not split: no scratch, no counters.
    // SHORT: mili.group "appends" {{.*}} kernel "cuda.attention" stages [#mili.stage<"decode", tiles = 2 per one by 1, {{.*}} config = {counters = 0 : i64, few_splits = 1 : i64, scratch = 0 : i64, splits = 1 : i64}>] {
    %a:2 = mili.group "appends" hero "mili.attention" ins(%q, %g, %k, %v, %kv0, %batch : !q, tensor<64xbf16>, !k, !k, !kv, !mili.batch) -> !kv, !q {
    ^bb0(%q0: !q, %g0: tensor<64xbf16>, %k0: !k, %v0: !k, %s: !kv, %t: !mili.batch):
      %0 = mili.rms_norm %q0, %g0 eps 1.0e-6 : !q, tensor<64xbf16>
      %1 = mili.rope %0, %t heads 8 #rope : !q
      %2 = mili.rope %k0, %t heads 2 #rope : !k
      %3 = mili.kv_append %s, %2, %v0, %t : !kv, !k, !k
      %4 = mili.attention %1, %3, %t mask(#mili.causal) heads 8 scale 0.125 : !q, !kv -> !q
      mili.yield %3, %4 : !kv, !q
    }
    mili.state_set @kv, %a#0 : !kv
    return %a#1 : !q
  }
  func.func @few(%q: !q, %batch: !mili.batch) -> !q attributes {mili.bucket = #few} {
    %kv0 = mili.state_get @kv : !kv
    // 16 sequences fill the GPU with fewer splits: 256 tokens are 80 tiles of up to 4 tokens.
    // FAST: mili.group "few" {{.*}} stages [#mili.stage<"decode", tiles = 1280 per one by 1, {{.*}} config = {counters = 1 : i64, few_splits = 4 : i64, scratch = 1 : i64, splits = 8 : i64}>]
    // A deterministic plan sums every step like a prompt's.
    // SAME: mili.group "few" {{.*}} stages [#mili.stage<"prefill", tiles = 48 per one by 1,
    %a = mili.group "few" hero "mili.attention" ins(%q, %kv0, %batch : !q, !kv, !mili.batch) -> !q {
    ^bb0(%q0: !q, %s: !kv, %t: !mili.batch):
      %0 = mili.attention %q0, %s, %t mask(#mili.causal) heads 8 scale 0.125 : !q, !kv -> !q
      mili.yield %0 : !q
    }
    // Splits of what a window shows, its first page and the tile's own tokens included.
    // FAST: mili.group "few_window" {{.*}} stages [#mili.stage<"decode", {{.*}} config = {counters = 1 : i64, few_splits = 3 : i64, scratch = 1 : i64, splits = 3 : i64}>]
    %b = mili.group "few_window" hero "mili.attention" ins(%a, %kv0, %batch : !q, !kv, !mili.batch) -> !q {
    ^bb0(%q0: !q, %s: !kv, %t: !mili.batch):
      %0 = mili.attention %q0, %s, %t mask(#mili.window<64>) heads 8 scale 0.125 : !q, !kv -> !q
      mili.yield %0 : !q
    }
    return %b : !q
  }
  func.func @many(%q: !q, %batch: !mili.batch) -> !q attributes {mili.bucket = #many} {
    %kv0 = mili.state_get @kv : !kv
    // Tiles of 128 rows, 32 tokens of 4 heads each: 16 and one more for each sequence, times the KV heads.
    // sm_90 has two warpgroups that multiply and one that copies, a block on each multiprocessor.
    // CHECK: mili.group "many" {{.*}} kernel "cuda.attention" stages [#mili.stage<"prefill", tiles = 40 per one by 1, cuda = [<arch = 80, threads = 128, shared = 51728>, <arch = 90, threads = 384, shared = 165088, blocks_per_sm = 1>, <arch = 100, threads = 128, shared = 51728>], config = {counters = 0 : i64, scratch = 0 : i64, wgmma_tiles = 40 : i64}>] {
    %a = mili.group "many" hero "mili.attention" ins(%q, %kv0, %batch : !q, !kv, !mili.batch) -> !q {
    ^bb0(%q0: !q, %s: !kv, %t: !mili.batch):
      %0 = mili.attention %q0, %s, %t mask(#mili.causal) heads 8 scale 0.125 : !q, !kv -> !q
      mili.yield %0 : !q
    }
    %kv1 = mili.state_get @wide : !wide
    // CHECK: mili.group "many_wide" {{.*}} stages [#mili.stage<"prefill", tiles = {{[0-9]+}} per one by 1, cuda = [<arch = 80, threads = 128, shared = 68112>, <arch = 90, threads = 384, shared = 197792, blocks_per_sm = 1>, <arch = 100, threads = 128, shared = 68112>],
    %b = mili.group "many_wide" hero "mili.attention" ins(%a, %kv1, %batch : !q, !wide, !mili.batch) -> !q {
    ^bb0(%q0: !q, %s: !wide, %t: !mili.batch):
      %0 = mili.attention %q0, %s, %t mask(#mili.window<64>) heads 4 scale 0.125 : !q, !wide -> !q
      mili.yield %0 : !q
    }
    // Queries that are not final are finished by the decode kernel only, whatever the step's length.
    // CHECK: mili.group "many_rotated" {{.*}} stages [#mili.stage<"decode",
    %c = mili.group "many_rotated" hero "mili.attention" ins(%b, %kv0, %batch : !q, !kv, !mili.batch) -> !q {
    ^bb0(%q0: !q, %s: !kv, %t: !mili.batch):
      %1 = mili.rope %q0, %t heads 8 #rope : !q
      %0 = mili.attention %1, %s, %t mask(#mili.causal) heads 8 scale 0.125 : !q, !kv -> !q
      mili.yield %0 : !q
    }
    return %c : !q
  }

  // A row kernel splits, rotates and appends. Shared memory: a float of each warp (32), sines and cosines of 4 pairs, and the
  // row of 768, of which the split's pieces are parts and over which RoPE writes.
  // CHECK: mili.group "rotated" {{.*}} kernel "cuda.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1, cuda = [<arch = 80, threads = 64, shared = 3232>],
  func.func @rotated(%qkv: tensor<?x768xbf16>, %batch: !mili.batch) -> !q attributes {mili.bucket = #many} {
    %kv0 = mili.state_get @kv : !kv
    %a:2 = mili.group "rotated" hero "mili.split" ins(%qkv, %kv0, %batch : tensor<?x768xbf16>, !kv, !mili.batch) -> !q, !kv {
    ^bb0(%x: tensor<?x768xbf16>, %s: !kv, %t: !mili.batch):
      %q, %k, %v = mili.split %x : tensor<?x768xbf16> -> !q, !k, !k
      %qr = mili.rope %q, %t heads 8 #rope : !q
      %kr = mili.rope %k, %t heads 2 #rope : !k
      %new = mili.kv_append %s, %kr, %v, %t : !kv, !k, !k
      mili.yield %qr, %new : !q, !kv
    }
    mili.state_set @kv, %a#1 : !kv
    return %a#0 : !q
  }
}
