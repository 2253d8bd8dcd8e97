// RUN: mili-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(sharding-propagation,cse,shard-partition,canonicalize))' | FileCheck %s

// One annotation: the up projection's rows. The rest follows, column then row split, and one sum at the end.
shard.grid @ranks(shape = 2)
// CHECK-LABEL: func.func @ffn
// CHECK-SAME: (%[[X:.*]]: tensor<?x32xf32>
// CHECK-NEXT: %[[N:.*]] = mili.rms_norm %[[X]], %{{.*}} : tensor<?x32xf32>
// CHECK-NEXT: %[[UP:.*]] = mili.weight "up" : tensor<64x32xf32>
// CHECK-NEXT: %[[UPS:.*]] = shard.all_slice %[[UP]] on @ranks grid_axes = [0] slice_axis = 0 : tensor<64x32xf32> -> tensor<32x32xf32>
// CHECK-NEXT: %[[U:.*]] = mili.linear %[[N]], %[[UPS]] : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
// CHECK-NEXT: %[[H:.*]] = mili.activation <silu> %[[U]] : tensor<?x32xf32>
// CHECK-NEXT: %[[DOWN:.*]] = mili.weight "down" : tensor<32x64xf32>
// CHECK-NEXT: %[[DOWNS:.*]] = shard.all_slice %[[DOWN]] on @ranks grid_axes = [0] slice_axis = 1 : tensor<32x64xf32> -> tensor<32x32xf32>
// CHECK-NEXT: %[[D:.*]] = mili.linear %[[H]], %[[DOWNS]] : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
// CHECK-NEXT: %[[SUM:.*]] = shard.all_reduce %[[D]] on @ranks grid_axes = [0] : tensor<?x32xf32> -> tensor<?x32xf32>
// CHECK-NEXT: %[[R:.*]] = mili.add %[[X]], %[[SUM]]
// CHECK-NEXT: return %[[R]]
func.func @ffn(%x: tensor<?x32xf32>, %g: tensor<32xf32>) -> tensor<?x32xf32> {
  %n = mili.rms_norm %x, %g eps 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
  %wu = mili.weight "up" : tensor<64x32xf32>
  %s = shard.sharding @ranks split_axes = [[0]] : !shard.sharding
  %wus = shard.shard %wu to %s annotate_for_users : tensor<64x32xf32>
  %u = mili.linear %n, %wus : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  %h = mili.activation <silu> %u : tensor<?x64xf32>
  %wd = mili.weight "down" : tensor<32x64xf32>
  %d = mili.linear %h, %wd : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
  %r = mili.add %x, %d : tensor<?x32xf32>
  return %r : tensor<?x32xf32>
}

// -----

// Interleaved gate and up stay paired in a rank; quantized weights are split between blocks.
shard.grid @ranks(shape = 2)
// CHECK-LABEL: func.func @gated
// CHECK: %[[GU:.*]] = mili.linear %{{.*}} : tensor<?x128xf32>, tensor<128x128xf32> -> tensor<?x128xf32>
// CHECK-NEXT: %[[S:.*]]:2 = mili.split %[[GU]] interleave 16 : tensor<?x128xf32> -> tensor<?x64xf32>, tensor<?x64xf32>
// CHECK-NEXT: %[[H:.*]] = mili.gated <silu> %[[S]]#0, %[[S]]#1 : tensor<?x64xf32>
// CHECK-NEXT: %[[W:.*]] = mili.weight "down" : tensor<32x128x!mili.block<q8_0>>
// CHECK: %[[D:.*]] = mili.dequant %{{.*}} : tensor<32x64x!mili.block<q8_0>> -> tensor<32x64xf32>
// CHECK-NEXT: %[[Y:.*]] = mili.linear %[[H]], %[[D]]
// CHECK-NEXT: shard.all_reduce %[[Y]] on @ranks grid_axes = [0]
func.func @gated(%x: tensor<?x128xf32>) -> tensor<?x32xf32> {
  %wgu = mili.weight "gate", "up", interleave = 16 : tensor<256x128xf32>
  %s = shard.sharding @ranks split_axes = [[0]] : !shard.sharding
  %wgus = shard.shard %wgu to %s annotate_for_users : tensor<256x128xf32>
  %gu = mili.linear %x, %wgus : tensor<?x128xf32>, tensor<256x128xf32> -> tensor<?x256xf32>
  %g, %u = mili.split %gu interleave 16 : tensor<?x256xf32> -> tensor<?x128xf32>, tensor<?x128xf32>
  %h = mili.gated <silu> %g, %u : tensor<?x128xf32>
  %wd = mili.weight "down" : tensor<32x128x!mili.block<q8_0>>
  %wdf = mili.dequant %wd : tensor<32x128x!mili.block<q8_0>> -> tensor<32x128xf32>
  %d = mili.linear %h, %wdf : tensor<?x128xf32>, tensor<32x128xf32> -> tensor<?x32xf32>
  %r = mili.scale %d by 2.0 : tensor<?x32xf32>
  return %r : tensor<?x32xf32>
}

// -----

// Half a block cannot be on a rank: the inner dimension of 32 stays whole on 2 ranks.
shard.grid @ranks(shape = 2)
// CHECK-LABEL: func.func @whole_blocks
// CHECK: mili.dequant %{{.*}} : tensor<8x32x!mili.block<q8_0>> -> tensor<8x32xf32>
// CHECK: shard.all_slice %{{.*}} on @ranks grid_axes = [0] slice_axis = 1 : tensor<8x32xf32> -> tensor<8x16xf32>
func.func @whole_blocks(%x: tensor<?x32xf32>) -> tensor<?x8xf32> {
  %s = shard.sharding @ranks split_axes = [[], [0]] : !shard.sharding
  %xs = shard.shard %x to %s annotate_for_users : tensor<?x32xf32>
  %w = mili.weight "w" : tensor<8x32x!mili.block<q8_0>>
  %f = mili.dequant %w : tensor<8x32x!mili.block<q8_0>> -> tensor<8x32xf32>
  %y = mili.linear %xs, %f : tensor<?x32xf32>, tensor<8x32xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// Heads split over ranks take their count with them; norms of heads stay local.
#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5]>
shard.grid @ranks(shape = 2)
// CHECK-LABEL: func.func @heads
// CHECK: %[[Q:.*]] = mili.linear %{{.*}} bias %{{.*}} : tensor<?x16xf32>, tensor<16x16xf32>, tensor<16xf32> -> tensor<?x16xf32>
// CHECK-NOT: shard.all_gather
// CHECK: %[[N:.*]] = mili.rms_norm %[[Q]], %{{.*}} : tensor<?x16xf32>, tensor<4xf32>
// CHECK: mili.rope %[[N]], %{{.*}} heads 4 #rope : tensor<?x16xf32>
func.func @heads(%x: tensor<?x16xf32>, %batch: !mili.batch) -> tensor<?x32xf32> {
  %w = mili.weight "q" : tensor<32x16xf32>
  %s = shard.sharding @ranks split_axes = [[0]] : !shard.sharding
  %ws = shard.shard %w to %s annotate_for_users : tensor<32x16xf32>
  %b = mili.weight "b" : tensor<32xf32>
  %q = mili.linear %x, %ws bias %b : tensor<?x16xf32>, tensor<32x16xf32>, tensor<32xf32> -> tensor<?x32xf32>
  %g = mili.weight "g" : tensor<4xf32>
  %n = mili.rms_norm %q, %g eps 1.0e-5 : tensor<?x32xf32>, tensor<4xf32>
  %r = mili.rope %n, %batch heads 8 #rope : tensor<?x32xf32>
  return %r : tensor<?x32xf32>
}

// -----

// A bias must be added once, so its product is not split along the input: gathered, no sum.
shard.grid @ranks(shape = 2)
// CHECK-LABEL: func.func @bias_of_a_row_split
// CHECK-NOT: shard.all_reduce
// CHECK: mili.linear %{{.*}} bias %{{.*}} : tensor<?x16xf32>, tensor<8x16xf32>, tensor<8xf32> -> tensor<?x8xf32>
// CHECK-NOT: shard.all_reduce
func.func @bias_of_a_row_split(%x: tensor<?x16xf32>) -> tensor<?x8xf32> {
  %s = shard.sharding @ranks split_axes = [[], [0]] : !shard.sharding
  %xs = shard.shard %x to %s annotate_for_users : tensor<?x16xf32>
  %w = mili.weight "w" : tensor<8x16xf32>
  %b = mili.weight "b" : tensor<8xf32>
  %y = mili.linear %xs, %w bias %b : tensor<?x16xf32>, tensor<8x16xf32>, tensor<8xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// State is replicated: what goes into it is gathered, and nothing is lost on the way.
#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5]>
!kv = !mili.kv<heads = 2, k = 4, v = 4, f32>
shard.grid @ranks(shape = 2)
mili.state @kv : !kv
// CHECK-LABEL: func.func @attention
// CHECK: %[[QKV:.*]] = mili.linear %{{.*}} -> tensor<?x16xf32>
// CHECK-NEXT: %[[ALL:.*]] = shard.all_gather %[[QKV]] on @ranks grid_axes = [0] gather_axis = 1 : tensor<?x16xf32> -> tensor<?x32xf32>
// CHECK-NEXT: mili.split %[[ALL]]
// CHECK: %[[KV0:.*]] = mili.state_get @kv
// CHECK-NEXT: %[[KV1:.*]] = mili.kv_append %[[KV0]]
// CHECK-NEXT: mili.state_set @kv, %[[KV1]]
// CHECK-NEXT: %[[A:.*]] = mili.attention
// CHECK: %[[AS:.*]] = shard.all_slice %[[A]]
// CHECK-NEXT: %[[O:.*]] = mili.linear %[[AS]], %{{.*}} : tensor<?x8xf32>, tensor<16x8xf32> -> tensor<?x16xf32>
// CHECK-NEXT: shard.all_reduce %[[O]]
func.func @attention(%x: tensor<?x16xf32>, %batch: !mili.batch) -> tensor<?x16xf32> {
  %w = mili.weight "q", "k", "v" : tensor<32x16xf32>
  %s = shard.sharding @ranks split_axes = [[0]] : !shard.sharding
  %ws = shard.shard %w to %s annotate_for_users : tensor<32x16xf32>
  %qkv = mili.linear %x, %ws : tensor<?x16xf32>, tensor<32x16xf32> -> tensor<?x32xf32>
  %q, %k, %v = mili.split %qkv : tensor<?x32xf32> -> tensor<?x16xf32>, tensor<?x8xf32>, tensor<?x8xf32>
  %qr = mili.rope %q, %batch heads 4 #rope : tensor<?x16xf32>
  %kr = mili.rope %k, %batch heads 2 #rope : tensor<?x8xf32>
  %kv0 = mili.state_get @kv : !kv
  %kv1 = mili.kv_append %kv0, %kr, %v, %batch : !kv, tensor<?x8xf32>, tensor<?x8xf32>
  mili.state_set @kv, %kv1 : !kv
  %a = mili.attention %qr, %kv1, %batch mask(#mili.causal) heads 4 scale 0.5 : tensor<?x16xf32>, !kv -> tensor<?x16xf32>
  %wo = mili.weight "o" : tensor<16x16xf32>
  %s1 = shard.sharding @ranks split_axes = [[], [0]] : !shard.sharding
  %wos = shard.shard %wo to %s1 annotate_for_users : tensor<16x16xf32>
  %o = mili.linear %a, %wos : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %x1 = mili.add %x, %o : tensor<?x16xf32>
  return %x1 : tensor<?x16xf32>
}

// -----

// The head is split over the vocabulary, the embedding over its features.
shard.grid @ranks(shape = 2)
// CHECK-LABEL: func.func @ends
// CHECK: mili.embedding %{{.*}} : tensor<?xi32>, tensor<64x16xf32> -> tensor<?x16xf32>
// CHECK: shard.all_gather
// CHECK: mili.logits %{{.*}} : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
func.func @ends(%tokens: tensor<?xi32>, %batch: !mili.batch) -> tensor<?x64xf32> {
  %e = mili.weight "embed" : tensor<64x32xf32>
  %s = shard.sharding @ranks split_axes = [[], [0]] : !shard.sharding
  %es = shard.shard %e to %s annotate_for_users : tensor<64x32xf32>
  %x = mili.embedding %tokens, %es : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
  %h = mili.weight "head" : tensor<64x32xf32>
  %s1 = shard.sharding @ranks split_axes = [[0]] : !shard.sharding
  %hs = shard.shard %h to %s1 annotate_for_users : tensor<64x32xf32>
  %l = mili.logits %x, %hs, %batch : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  return %l : tensor<?x64xf32>
}
