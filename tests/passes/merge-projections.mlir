// RUN: mili-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(mili-optimize-merge-projections))' | FileCheck %s
// RUN: mili-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(mili-optimize-merge-projections{qkv=false gate-up=false}))' | FileCheck %s --check-prefix=OFF
// RUN: mili-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(mili-optimize-merge-projections{interleave=8}))' | FileCheck %s --check-prefix=RUNS

// OFF-NOT: mili.split

#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5]>
!kv = !mili.kv<heads = 2, k = 4, v = 4, f32>
mili.state @kv : !kv

// Q, K and V reach one attention: pieces in program order, then a split; the old weights are gone.
// CHECK-LABEL: @qkv
// CHECK: %[[W:.*]] = mili.weight "q", "k", "v" : tensor<32x32xf32>
// CHECK-NEXT: %[[Y:.*]] = mili.linear %{{.*}}, %[[W]] : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
// CHECK-NEXT: %[[S:.*]]:3 = mili.split %[[Y]] : tensor<?x32xf32> -> tensor<?x16xf32>, tensor<?x8xf32>, tensor<?x8xf32>
// CHECK-NOT: mili.weight
// CHECK-NOT: mili.linear
// CHECK: mili.rope %[[S]]#0
// CHECK: mili.rope %[[S]]#1
// CHECK: mili.kv_append %{{.*}}, %{{.*}}, %[[S]]#2
func.func @qkv(%x: tensor<?x32xf32>, %batch: !mili.batch) -> tensor<?x16xf32> {
  %wq = mili.weight "q" : tensor<16x32xf32>
  %q = mili.linear %x, %wq : tensor<?x32xf32>, tensor<16x32xf32> -> tensor<?x16xf32>
  %wk = mili.weight "k" : tensor<8x32xf32>
  %k = mili.linear %x, %wk : tensor<?x32xf32>, tensor<8x32xf32> -> tensor<?x8xf32>
  %wv = mili.weight "v" : tensor<8x32xf32>
  %v = mili.linear %x, %wv : tensor<?x32xf32>, tensor<8x32xf32> -> tensor<?x8xf32>
  %qr = mili.rope %q, %batch heads 4 #rope : tensor<?x16xf32>
  %kr = mili.rope %k, %batch heads 2 #rope : tensor<?x8xf32>
  %kv0 = mili.state_get @kv : !kv
  %kv1 = mili.kv_append %kv0, %kr, %v, %batch : !kv, tensor<?x8xf32>, tensor<?x8xf32>
  mili.state_set @kv, %kv1 : !kv
  %a = mili.attention %qr, %kv1, %batch mask(#mili.causal) heads 4 scale 0.5 : tensor<?x16xf32>, !kv -> tensor<?x16xf32>
  return %a : tensor<?x16xf32>
}

// -----

#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5]>
!kv = !mili.kv<heads = 2, k = 32, v = 32, f32>
mili.state @kv : !kv

// Through dequantization, with biases. V is stored in another format and stays apart.
// CHECK-LABEL: @mixed
// CHECK: %[[W:.*]] = mili.weight "q", "k" : tensor<192x64x!mili.block<q4_1>>
// CHECK-NEXT: %[[D:.*]] = mili.dequant %[[W]] : tensor<192x64x!mili.block<q4_1>> -> tensor<192x64xf32>
// CHECK-NEXT: %[[B:.*]] = mili.weight "qb", "kb" : tensor<192xf32>
// CHECK-NEXT: %[[Y:.*]] = mili.linear %{{.*}}, %[[D]] bias %[[B]]
// CHECK-NEXT: mili.split %[[Y]] : tensor<?x192xf32> -> tensor<?x128xf32>, tensor<?x64xf32>
// CHECK: mili.weight "v" : tensor<64x64x!mili.block<q8_0>>
func.func @mixed(%x: tensor<?x64xf32>, %batch: !mili.batch) -> tensor<?x128xf32> {
  %wq = mili.weight "q" : tensor<128x64x!mili.block<q4_1>>
  %dq = mili.dequant %wq : tensor<128x64x!mili.block<q4_1>> -> tensor<128x64xf32>
  %bq = mili.weight "qb" : tensor<128xf32>
  %q = mili.linear %x, %dq bias %bq : tensor<?x64xf32>, tensor<128x64xf32>, tensor<128xf32> -> tensor<?x128xf32>
  %wk = mili.weight "k" : tensor<64x64x!mili.block<q4_1>>
  %dk = mili.dequant %wk : tensor<64x64x!mili.block<q4_1>> -> tensor<64x64xf32>
  %bk = mili.weight "kb" : tensor<64xf32>
  %k = mili.linear %x, %dk bias %bk : tensor<?x64xf32>, tensor<64x64xf32>, tensor<64xf32> -> tensor<?x64xf32>
  %wv = mili.weight "v" : tensor<64x64x!mili.block<q8_0>>
  %dv = mili.dequant %wv : tensor<64x64x!mili.block<q8_0>> -> tensor<64x64xf32>
  %bv = mili.weight "vb" : tensor<64xf32>
  %v = mili.linear %x, %dv bias %bv : tensor<?x64xf32>, tensor<64x64xf32>, tensor<64xf32> -> tensor<?x64xf32>
  %qr = mili.rope %q, %batch heads 4 #rope : tensor<?x128xf32>
  %kr = mili.rope %k, %batch heads 2 #rope : tensor<?x64xf32>
  %kv0 = mili.state_get @kv : !kv
  %kv1 = mili.kv_append %kv0, %kr, %v, %batch : !kv, tensor<?x64xf32>, tensor<?x64xf32>
  mili.state_set @kv, %kv1 : !kv
  %a = mili.attention %qr, %kv1, %batch mask(#mili.causal) heads 4 scale 0.5 : tensor<?x128xf32>, !kv -> tensor<?x128xf32>
  return %a : tensor<?x128xf32>
}

// -----

// Gate and up alternate in runs, gate first, though up comes first in the program.
// CHECK-LABEL: @gate_up
// CHECK: %[[W:.*]] = mili.weight "gate", "up", interleave = 16 : tensor<64x32xf32>
// CHECK-NEXT: %[[Y:.*]] = mili.linear %{{.*}}, %[[W]]
// CHECK-NEXT: %[[S:.*]]:2 = mili.split %[[Y]] interleave 16 : tensor<?x64xf32> -> tensor<?x32xf32>, tensor<?x32xf32>
// CHECK-NEXT: mili.gated <silu> %[[S]]#0, %[[S]]#1
// RUNS-LABEL: @gate_up
// RUNS: mili.weight "gate", "up", interleave = 8
// RUNS: mili.split %{{.*}} interleave 8
func.func @gate_up(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %wu = mili.weight "up" : tensor<32x32xf32>
  %u = mili.linear %x, %wu : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %wg = mili.weight "gate" : tensor<32x32xf32>
  %g = mili.linear %x, %wg : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %h = mili.gated <silu> %g, %u : tensor<?x32xf32>
  return %h : tensor<?x32xf32>
}

// -----

// Halves of one tensor of the file become the whole range again.
// CHECK-LABEL: @slices
// CHECK: mili.weight "qkv"[0 : 24] : tensor<24x32xf32>
!kv = !mili.kv<heads = 2, k = 4, v = 4, f32>
mili.state @kv : !kv
func.func @slices(%x: tensor<?x32xf32>, %batch: !mili.batch) -> tensor<?x8xf32> {
  %wq = mili.weight "qkv"[0 : 8] : tensor<8x32xf32>
  %q = mili.linear %x, %wq : tensor<?x32xf32>, tensor<8x32xf32> -> tensor<?x8xf32>
  %wk = mili.weight "qkv"[8 : 16] : tensor<8x32xf32>
  %k = mili.linear %x, %wk : tensor<?x32xf32>, tensor<8x32xf32> -> tensor<?x8xf32>
  %wv = mili.weight "qkv"[16 : 24] : tensor<8x32xf32>
  %v = mili.linear %x, %wv : tensor<?x32xf32>, tensor<8x32xf32> -> tensor<?x8xf32>
  %kv0 = mili.state_get @kv : !kv
  %kv1 = mili.kv_append %kv0, %k, %v, %batch : !kv, tensor<?x8xf32>, tensor<?x8xf32>
  mili.state_set @kv, %kv1 : !kv
  %a = mili.attention %q, %kv1, %batch mask(#mili.causal) heads 2 scale 0.5 : tensor<?x8xf32>, !kv -> tensor<?x8xf32>
  return %a : tensor<?x8xf32>
}

// -----

// Not merged: a weight with another use, a width that is no multiple of the runs, inputs that differ, no common consumer.
// CHECK-LABEL: @apart
// CHECK-NOT: mili.split
func.func @apart(%x: tensor<?x32xf32>, %y: tensor<?x32xf32>) -> (tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x24xf32>, tensor<?x32xf32>) {
  %w0 = mili.weight "a" : tensor<32x32xf32>
  %w1 = mili.weight "b" : tensor<32x32xf32>
  %g = mili.linear %x, %w0 : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %u = mili.linear %x, %w1 : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %h = mili.gated <silu> %g, %u : tensor<?x32xf32>
  %other = mili.linear %y, %w1 : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %w2 = mili.weight "c" : tensor<24x32xf32>
  %w3 = mili.weight "d" : tensor<24x32xf32>
  %g1 = mili.linear %x, %w2 : tensor<?x32xf32>, tensor<24x32xf32> -> tensor<?x24xf32>
  %u1 = mili.linear %x, %w3 : tensor<?x32xf32>, tensor<24x32xf32> -> tensor<?x24xf32>
  %h1 = mili.gated <silu> %g1, %u1 : tensor<?x24xf32>
  %w4 = mili.weight "e" : tensor<32x32xf32>
  %w5 = mili.weight "f" : tensor<32x32xf32>
  %g2 = mili.linear %x, %w4 : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %u2 = mili.linear %y, %w5 : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %h2 = mili.gated <silu> %g2, %u2 : tensor<?x32xf32>
  return %h, %other, %h1, %h2 : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x24xf32>, tensor<?x32xf32>
}
