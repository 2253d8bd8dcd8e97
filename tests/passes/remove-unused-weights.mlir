// RUN: mili-opt %s --split-input-file --mili-optimize-remove-unused-weights | FileCheck %s

module {
  // CHECK: mili.state @used
  // CHECK-NOT: mili.state @unused
  mili.state @used : !mili.kv<heads = 1, k = 8, v = 8, f32>
  mili.state @unused : !mili.kv<heads = 1, k = 8, v = 8, f32>

  // The head is tied to the embedding: one weight with two uses.
  // CHECK: func.func @forward
  // CHECK: %[[E:.*]] = mili.weight "embed"
  // CHECK-NOT: mili.weight
  // CHECK: mili.embedding %{{.*}}, %[[E]]
  // CHECK: mili.state_get @used
  // CHECK: mili.logits %{{.*}}, %[[E]]
  func.func @forward(%tokens: tensor<?xi32>, %batch: !mili.batch) -> tensor<?x64xf32> {
    %e = mili.weight "embed" : tensor<64x32xf32>
    %x = mili.embedding %tokens, %e : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
    %unused = mili.weight "unused" : tensor<64x32xf32>
    %kv = mili.state_get @used : !mili.kv<heads = 1, k = 8, v = 8, f32>
    mili.state_set @used, %kv : !mili.kv<heads = 1, k = 8, v = 8, f32>
    %again = mili.weight "embed" : tensor<64x32xf32>
    %l = mili.logits %x, %again, %batch : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
    return %l : tensor<?x64xf32>
  }

  // Same name, another part or another type: two weights.
  // CHECK: func.func @different
  // CHECK-COUNT-3: mili.weight "a"
  func.func @different() -> (tensor<8xf32>, tensor<8xf32>, tensor<8xbf16>) {
    %0 = mili.weight "a"[0 : 8] : tensor<8xf32>
    %1 = mili.weight "a"[8 : 16] : tensor<8xf32>
    %2 = mili.weight "a"[0 : 8] : tensor<8xbf16>
    return %0, %1, %2 : tensor<8xf32>, tensor<8xf32>, tensor<8xbf16>
  }
}

// -----

// Tensors of one content become one weight, named as the first that the module reads, where they are equal as a whole.
// CHECK: module @copies {
module @copies attributes {mili.duplicates = {"b" = "a", "c" = "a", "q2" = "q1"}} {
  // CHECK: func.func @forward
  // CHECK: %[[B:.*]] = mili.weight "b" : tensor<8x4xf32>
  // CHECK-NEXT: %[[HALF:.*]] = mili.weight "b"[0 : 4] : tensor<4x4xf32>
  // CHECK-NEXT: %[[Q:.*]] = mili.weight "q2", "k1" : tensor<8x4xf32>
  // CHECK-NEXT: %[[K:.*]] = mili.weight "q2", "k2" : tensor<8x4xf32>
  // CHECK-NEXT: return %[[B]], %[[B]], %[[B]], %[[HALF]], %[[Q]], %[[Q]], %[[K]]
  func.func @forward() -> (tensor<8x4xf32>, tensor<8x4xf32>, tensor<8x4xf32>, tensor<4x4xf32>, tensor<8x4xf32>, tensor<8x4xf32>, tensor<8x4xf32>) {
    %0 = mili.weight "b" : tensor<8x4xf32>
    %1 = mili.weight "a" : tensor<8x4xf32>
    %2 = mili.weight "c" : tensor<8x4xf32>
    %3 = mili.weight "c"[0 : 4] : tensor<4x4xf32>
    %4 = mili.weight "q2", "k1" : tensor<8x4xf32>
    %5 = mili.weight "q1", "k1" : tensor<8x4xf32>
    %6 = mili.weight "q1", "k2" : tensor<8x4xf32>
    return %0, %1, %2, %3, %4, %5, %6 : tensor<8x4xf32>, tensor<8x4xf32>, tensor<8x4xf32>, tensor<4x4xf32>, tensor<8x4xf32>, tensor<8x4xf32>, tensor<8x4xf32>
  }
}
