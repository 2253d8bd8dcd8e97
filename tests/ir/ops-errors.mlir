// RUN: mili-opt %s --verify-diagnostics --split-input-file

// expected-error@+1 {{'mili.weight' op expected a weight of rank 1 or more, found 'tensor<f32>'}}
%w = mili.weight "a" : tensor<f32>

// -----

// expected-error@+1 {{'mili.weight' op result #0 must be statically shaped tensor of floating-point or block elements, dimensions of 1 to 2^24 and 2^40 elements at most}}
%w = mili.weight "a" : tensor<?x8xf32>

// -----

// expected-error@+1 {{'mili.weight' op expected an innermost dimension that is a multiple of the '!mili.block<q6_k>' block's 256 elements, found 'tensor<4x128x!mili.block<q6_k>>'}}
%w = mili.weight "a" : tensor<4x128x!mili.block<q6_k>>

// -----

// expected-error@+1 {{'mili.weight' op expected pieces of 4 rows in all for 'tensor<4x8xf32>', found 3 rows}}
%w = mili.weight "a"[0 : 3] : tensor<4x8xf32>

// -----

// expected-error@+1 {{'mili.weight' op expected pieces of 4 rows in all for 'tensor<4x8xf32>', found 4 rows in ranges beside whole tensors}}
%w = mili.weight "a"[0 : 4], "b" : tensor<4x8xf32>

// -----

// expected-error@+1 {{'mili.weight' op expected rows that are a multiple of 2 * interleave = 8, found 12}}
%w = mili.weight "a", "b", interleave = 4 : tensor<12x8xf32>

// -----

// expected-error@+1 {{'mili.weight' op expected interleaved pieces of 4 rows each, found 2 in "a"}}
%w = mili.weight "a"[0 : 2], "b"[0 : 6], interleave = 2 : tensor<8x8xf32>

// -----

func.func @f(%w: tensor<4x32xf32>) {
  // expected-error@+1 {{'mili.dequant' op expected storage of a !mili.block element type, found 'tensor<4x32xf32>'}}
  %d = mili.dequant %w : tensor<4x32xf32> -> tensor<4x32xf32>
  return
}

// -----

func.func @f(%w: tensor<4x32x!mili.block<q8_0>>) {
  // expected-error@+1 {{'mili.dequant' op expected a result of the storage's shape, found 'tensor<4x32x!mili.block<q8_0>>' and 'tensor<32x4xf32>'}}
  %d = mili.dequant %w : tensor<4x32x!mili.block<q8_0>> -> tensor<32x4xf32>
  return
}

// -----

func.func @f(%w: tensor<4x48x!mili.block<q8_0>>) {
  // expected-error@+1 {{'mili.dequant' op expected an innermost dimension that is a multiple of the '!mili.block<q8_0>' block's 32 elements, found 'tensor<4x48x!mili.block<q8_0>>'}}
  %d = mili.dequant %w : tensor<4x48x!mili.block<q8_0>> -> tensor<4x48xf32>
  return
}

// -----

func.func @f(%w: tensor<4x32x!mili.block<q8_0>>) -> tensor<4x32xf32> {
  // expected-error@+1 {{'mili.dequant' op expected only mili.linear, mili.logits or mili.embedding to use the result as their weight, found mili.add operand #1}}
  %d = mili.dequant %w : tensor<4x32x!mili.block<q8_0>> -> tensor<4x32xf32>
  // expected-note@+1 {{used here}}
  %s = mili.add %d, %d : tensor<4x32xf32>
  return %s : tensor<4x32xf32>
}

// -----

func.func @f(%t: tensor<?xi32>, %w: tensor<64x32xf32>) {
  // expected-error@+1 {{'mili.embedding' op expected 32 features in result (of the table), found 'tensor<?x16xf32>'}}
  %x = mili.embedding %t, %w : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @f(%t: tensor<?xi32>, %w: tensor<64x32xf32>) {
  // expected-error@+1 {{'mili.embedding' op expected as many rows in tokens and result, found 'tensor<?xi32>' and 'tensor<4x32xf32>'}}
  %x = mili.embedding %t, %w : tensor<?xi32>, tensor<64x32xf32> -> tensor<4x32xf32>
  return
}

// -----

func.func @f(%t: tensor<?x1xi32>, %w: tensor<64x32xf32>) {
  // expected-error@+1 {{'mili.embedding' op operand #0 must be 1D tensor of 32-bit signless integer values, but got 'tensor<?x1xi32>'}}
  %x = mili.embedding %t, %w : tensor<?x1xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
  return
}

// -----

func.func @f(%x: tensor<?x16xf32>, %w: tensor<8x32xf32>) {
  // expected-error@+1 {{'mili.linear' op expected 32 features in input (columns of the weight), found 'tensor<?x16xf32>'}}
  %y = mili.linear %x, %w : tensor<?x16xf32>, tensor<8x32xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x32xf32>, %w: tensor<8x32xf32>) {
  // expected-error@+1 {{'mili.linear' op expected 8 features in result (rows of the weight), found 'tensor<?x16xf32>'}}
  %y = mili.linear %x, %w : tensor<?x32xf32>, tensor<8x32xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @f(%x: tensor<?x32xf32>, %w: tensor<8x32xf32>) {
  // expected-error@+1 {{'mili.linear' op expected as many rows in input and result, found 'tensor<?x32xf32>' and 'tensor<1x8xf32>'}}
  %y = mili.linear %x, %w : tensor<?x32xf32>, tensor<8x32xf32> -> tensor<1x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x32xf32>, %w: tensor<8x32xf32>, %b: tensor<4xf32>) {
  // expected-error@+1 {{'mili.linear' op expected 8 features in bias (of the result), found 'tensor<4xf32>'}}
  %y = mili.linear %x, %w bias %b : tensor<?x32xf32>, tensor<8x32xf32>, tensor<4xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x32xf32>, %w: tensor<8x32x!mili.block<q8_0>>) {
  // expected-error@+1 {{'mili.linear' op operand #1 must be static [out][in] matrix}}
  %y = mili.linear %x, %w : tensor<?x32xf32>, tensor<8x32x!mili.block<q8_0>> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x?xf32>, %w: tensor<8x32xf32>) {
  // expected-error@+1 {{'mili.linear' op operand #0 must be [rows][features] tensor with static features}}
  %y = mili.linear %x, %w : tensor<?x?xf32>, tensor<8x32xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x16xf32>, %w: tensor<64x32xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.logits' op expected 32 features in input (columns of the weight), found 'tensor<?x16xf32>'}}
  %y = mili.logits %x, %w, %batch : tensor<?x16xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @f(%x: tensor<?x32xf32>, %w: tensor<64x32xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.logits' op expected 64 features in result (rows of the weight), found 'tensor<?x32xf32>'}}
  %y = mili.logits %x, %w, %batch : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x32xf32>
  return
}

// -----

func.func @f(%x: tensor<?x32xf32>, %w: tensor<64x32xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.logits' op result #0 must be [rows][vocab] tensor with a static vocabulary of 1 to 2^24 of 32-bit float values, but got 'tensor<?x64xbf16>'}}
  %y = mili.logits %x, %w, %batch : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xbf16>
  return
}

// -----

#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5]>
func.func @f(%x: tensor<?x16xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.rope' op expected features that 3 heads divide, found 'tensor<?x16xf32>'}}
  %y = mili.rope %x, %batch heads 3 #rope : tensor<?x16xf32>
  return
}

// -----

#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5]>
func.func @f(%x: tensor<?x16xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.rope' op expected features that 0 heads divide, found 'tensor<?x16xf32>'}}
  %y = mili.rope %x, %batch heads 0 #rope : tensor<?x16xf32>
  return
}

// -----

#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5]>
func.func @f(%x: tensor<?x16xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.rope' op expected heads of an even width of at least 4 (two elements a frequency), found width 2}}
  %y = mili.rope %x, %batch heads 8 #rope : tensor<?x16xf32>
  return
}

// -----

#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5]>
func.func @f(%x: tensor<?x15xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.rope' op expected heads of an even width of at least 4 (two elements a frequency), found width 5}}
  %y = mili.rope %x, %batch heads 3 #rope : tensor<?x15xf32>
  return
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 8, f32>
func.func @f(%q: tensor<?x12xf32>, %kv: !kv, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.attention' op expected at most 16384 query heads that are a multiple of the state's 2 heads, found 3}}
  %a = mili.attention %q, %kv, %batch mask(#mili.causal) heads 3 scale 1.0 : tensor<?x12xf32>, !kv -> tensor<?x24xf32>
  return
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 8, f32>
func.func @f(%q: tensor<?x12xf32>, %kv: !kv, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.attention' op expected 16 features in query (heads * k of the state), found 'tensor<?x12xf32>'}}
  %a = mili.attention %q, %kv, %batch mask(#mili.causal) heads 4 scale 1.0 : tensor<?x12xf32>, !kv -> tensor<?x32xf32>
  return
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 8, f32>
func.func @f(%q: tensor<?x16xf32>, %kv: !kv, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.attention' op expected 32 features in result (heads * v of the state), found 'tensor<?x16xf32>'}}
  %a = mili.attention %q, %kv, %batch mask(#mili.causal) heads 4 scale 1.0 : tensor<?x16xf32>, !kv -> tensor<?x16xf32>
  return
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 4, f32>
func.func @f(%q: tensor<?x16xf32>, %kv: !kv, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.attention' op expected as many rows in query and result, found 'tensor<?x16xf32>' and 'tensor<2x16xf32>'}}
  %a = mili.attention %q, %kv, %batch mask(#mili.causal) heads 4 scale 1.0 : tensor<?x16xf32>, !kv -> tensor<2x16xf32>
  return
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 4, f32, window = 64>
func.func @f(%q: tensor<?x16xf32>, %kv: !kv, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.attention' op expected a window mask of at most the 64 tokens that the state keeps, found #mili.causal}}
  %a = mili.attention %q, %kv, %batch mask(#mili.causal) heads 4 scale 1.0 : tensor<?x16xf32>, !kv -> tensor<?x16xf32>
  return
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 4, f32, window = 64>
func.func @f(%q: tensor<?x16xf32>, %kv: !kv, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.attention' op expected a window mask of at most the 64 tokens that the state keeps, found #mili.window<65>}}
  %a = mili.attention %q, %kv, %batch mask(#mili.window<65>) heads 4 scale 1.0 : tensor<?x16xf32>, !kv -> tensor<?x16xf32>
  return
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 4, f32>
func.func @f(%q: tensor<?x16xf32>, %kv: !kv, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.attention' op attribute 'mask' failed to satisfy constraint: attention mask}}
  %a = mili.attention %q, %kv, %batch mask("all") heads 4 scale 1.0 : tensor<?x16xf32>, !kv -> tensor<?x16xf32>
  return
}

// -----

func.func @f(%x: tensor<?x16xf32>, %g: tensor<6xf32>) {
  // expected-error@+1 {{'mili.rms_norm' op expected features that are a multiple of the weight's 6, found 'tensor<?x16xf32>'}}
  %y = mili.rms_norm %x, %g eps 1.0e-5 : tensor<?x16xf32>, tensor<6xf32>
  return
}

// -----

func.func @f(%x: tensor<?x16xf32>, %g: tensor<16xf32>) {
  // expected-error@+1 {{'mili.rms_norm' op expected a finite eps of at least 0, found -1}}
  %y = mili.rms_norm %x, %g eps -1.0 : tensor<?x16xf32>, tensor<16xf32>
  return
}

// -----

func.func @f(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{'mili.split' op expected at least one result, found none}}
  "mili.split"(%x) : (tensor<?x16xf32>) -> ()
  return
}

// -----

func.func @f(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{'mili.split' op expected results of 16 features in all, found 12}}
  %a, %b = mili.split %x : tensor<?x16xf32> -> tensor<?x8xf32>, tensor<?x4xf32>
  return
}

// -----

func.func @f(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{'mili.split' op expected as many rows in input and results, found 'tensor<?x16xf32>' and 'tensor<1x8xf32>'}}
  %a, %b = mili.split %x : tensor<?x16xf32> -> tensor<?x8xf32>, tensor<1x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{'mili.split' op expected results of the input's element type, found 'tensor<?x16xf32>' and 'tensor<?x8xbf16>'}}
  %a, %b = mili.split %x : tensor<?x16xf32> -> tensor<?x8xf32>, tensor<?x8xbf16>
  return
}

// -----

func.func @f(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{'mili.split' op expected an interleave of at least 0, found -1}}
  %a, %b = mili.split %x interleave -1 : tensor<?x16xf32> -> tensor<?x8xf32>, tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{'mili.split' op expected two results of equal width with an interleave, found 'tensor<?x4xf32>', 'tensor<?x12xf32>'}}
  %a, %b = mili.split %x interleave 4 : tensor<?x16xf32> -> tensor<?x4xf32>, tensor<?x12xf32>
  return
}

// -----

func.func @f(%x: tensor<?x16xf32>) {
  // expected-error@+1 {{'mili.split' op expected results whose width is a multiple of the interleave 3, found 'tensor<?x8xf32>'}}
  %a, %b = mili.split %x interleave 3 : tensor<?x16xf32> -> tensor<?x8xf32>, tensor<?x8xf32>
  return
}

// -----

func.func @f(%l: tensor<?x64xbf16>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.sample' op operand #0 must be [rows][vocab] tensor with a static vocabulary of 1 to 2^24 of 32-bit float values, but got 'tensor<?x64xbf16>'}}
  %t = mili.sample %l, %batch : tensor<?x64xbf16> -> tensor<?xi32>
  return
}

// -----

func.func @f(%l: tensor<?x?xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.sample' op operand #0 must be [rows][vocab] tensor with a static vocabulary of 1 to 2^24 of 32-bit float values, but got 'tensor<?x?xf32>'}}
  %t = mili.sample %l, %batch : tensor<?x?xf32> -> tensor<?xi32>
  return
}

// -----

func.func @f(%l: tensor<?x64xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.sample' op result #0 must be 1D tensor of 32-bit signless integer values, but got 'tensor<?xi64>'}}
  %t = mili.sample %l, %batch : tensor<?x64xf32> -> tensor<?xi64>
  return
}

// -----

func.func @f(%l: tensor<?x64xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.sample' op result #0 must be 1D tensor of 32-bit signless integer values, but got 'tensor<?x1xi32>'}}
  %t = mili.sample %l, %batch : tensor<?x64xf32> -> tensor<?x1xi32>
  return
}
