// RUN: mili-opt %s --verify-roundtrip | mili-opt | FileCheck %s

// Long rope attributes print once, behind an alias.
// CHECK: #rope = #mili.rope<"llama3", pairing = half, amplitude = 1.250000e+00 : f32, frequencies = [1.000000e+00, 2.500000e-01]>
// CHECK: #rope1 = #mili.rope<"default", pairing = adjacent, amplitude = 1.000000e+00 : f32, frequencies = [1.000000e+00]>

// CHECK-LABEL: @types
func.func private @types(
  // CHECK-SAME: !mili.batch
  !mili.batch,
  // CHECK-SAME: !mili.kv<heads = 3, k = 64, v = 32, f32>
  !mili.kv<heads = 3, k = 64, v = 32, f32>,
  // CHECK-SAME: !mili.kv<heads = 8, k = 128, v = 128, bf16, window = 4096>
  !mili.kv<heads = 8, k = 128, v = 128, bf16, window = 4096>,
  // CHECK-SAME: !mili.recurrent<16x128x128xf32>
  !mili.recurrent<16x128x128xf32>,
  // CHECK-SAME: !mili.recurrent<4x8xbf16, snapshots = 2>
  !mili.recurrent<4x8xbf16, snapshots = 2>,
  // CHECK-SAME: tensor<4x32x!mili.block<q4_0>>, tensor<4x32x!mili.block<q4_1>>, tensor<4x32x!mili.block<q8_0>>, tensor<4x256x!mili.block<q6_k>>
  tensor<4x32x!mili.block<q4_0>>, tensor<4x32x!mili.block<q4_1>>, tensor<4x32x!mili.block<q8_0>>,
  tensor<4x256x!mili.block<q6_k>>)

// CHECK-LABEL: @attributes
func.func private @attributes() attributes {
  // CHECK-SAME: a = #mili.piece<"whole">, b = #mili.piece<"part"[128 : 256]>
  a = #mili.piece<"whole">, b = #mili.piece<"part"[128 : 256]>,
  // CHECK-SAME: c = #mili.param<"gate", "up", interleave = 16>, d = #mili.param<"q"[0 : 4], "k", "v">
  c = #mili.param<"gate", "up", interleave = 16>, d = #mili.param<"q"[0 : 4], "k", "v">,
  // CHECK-SAME: e = #rope, f = #rope1
  e = #mili.rope<"llama3", pairing = half, amplitude = 1.25 : f32, frequencies = [1.0, 0.25]>,
  f = #mili.rope<"default", pairing = adjacent, amplitude = 1.0 : f32, frequencies = [1.0]>,
  // CHECK-SAME: g = #mili.causal, h = #mili.window<4096>
  g = #mili.causal, h = #mili.window<4096>,
  // CHECK-SAME: h1 = #mili.block_sparse<local = 64>, h2 = #mili.block_sparse<local = 192, global = 128, random = 3, seed = 4294967295>
  h1 = #mili.block_sparse<local = 64>, h2 = #mili.block_sparse<seed = 4294967295, local = 192, random = 3, global = 128>,
  // CHECK-SAME: h3 = #mili.block_sparse<local = 512, stride = 1024>
  h3 = #mili.block_sparse<local = 512, global = 0, stride = 1024>,
  // CHECK-SAME: i = #mili.activation<silu>, j = #mili.activation<gelu>, k = #mili.activation<gelu_tanh>, l = #mili.activation<relu>
  i = #mili.activation<silu>, j = #mili.activation<gelu>, k = #mili.activation<gelu_tanh>, l = #mili.activation<relu>,
  // CHECK-SAME: m = #mili.bucket<tokens = 8, sequences = 4, logit_rows = 2>
  m = #mili.bucket<tokens = 8, sequences = 4, logit_rows = 2>,
  // CHECK-SAME: n = #mili.stage<"quantize", tiles = 1 per tokens by 4, scratch = 4096>
  n = #mili.stage<"quantize", tiles = 1 per tokens by 4, scratch = 4096>,
  // CHECK-SAME: o = #mili.stage<"a", tiles = 60 per one by 1>, p = #mili.stage<"b", tiles = 2 per logit_rows by 1>, q = #mili.stage<"c", tiles = 2 per sequences by 1>
  o = #mili.stage<"a", tiles = 60 per one by 1>, p = #mili.stage<"b", tiles = 2 per logit_rows by 1>,
  q = #mili.stage<"c", tiles = 2 per sequences by 1>,
  // CHECK-SAME: r = #mili.cuda_launch<arch = 80, threads = 256, shared = 0>, s = #mili.cuda_launch<arch = 90, threads = 384, shared = 197632, blocks_per_sm = 1>
  r = #mili.cuda_launch<arch = 80, threads = 256, shared = 0>,
  s = #mili.cuda_launch<arch = 90, threads = 384, shared = 197632, blocks_per_sm = 1>,
  // CHECK-SAME: t = #mili.tensor_map<arg = 1, rows = 4096, columns = 2048, box_rows = 128>
  t = #mili.tensor_map<arg = 1, rows = 4096, columns = 2048, box_rows = 128>,
  // CHECK-SAME: u = #mili.stage<"rows", tiles = 1 per tokens by 1, scratch = 64, cuda = [<arch = 80, threads = 64, shared = 1024>]>
  u = #mili.stage<"rows", tiles = 1 per tokens by 1, scratch = 64, cuda = [<arch = 80, threads = 64, shared = 1024>]>,
  // CHECK-SAME: v = #mili.stage<"product", tiles = 32 per tokens by 16, scratch = 64, cuda = [<arch = 80, threads = 256, shared = 92160, blocks_per_sm = 1>, <arch = 90, threads = 160, shared = 98304, blocks_per_sm = 2>], maps = [<arg = 1, rows = 64, columns = 96, box_rows = 64>, <arg = 0, rows = 16, columns = 96, box_rows = 16>], config = {splits = 2 : i64}>
  v = #mili.stage<"product", tiles = 32 per tokens by 16, scratch = 64,
                  cuda = [<arch = 80, threads = 256, shared = 92160, blocks_per_sm = 1>, <arch = 90, threads = 160, shared = 98304, blocks_per_sm = 2>],
                  maps = [<arg = 1, rows = 64, columns = 96, box_rows = 64>, <arg = 0, rows = 16, columns = 96, box_rows = 16>],
                  config = {splits = 2 : i64}>}
