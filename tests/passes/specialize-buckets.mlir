// RUN: mili-opt %s --mili-specialize-buckets=buckets=512:4:16,1:1:1,8:8:8 | FileCheck %s
// RUN: mili-opt %s --mili-specialize-buckets=buckets=8:8:8,8:1:1,8:1:8,1:1:0 | FileCheck %s --check-prefix=SAME
// RUN: mili-opt %s --mili-specialize-buckets='function=encode buckets=64:1:0' | FileCheck %s --check-prefix=OTHER

// Ascending by tokens; the original is gone, what else there is stays.
// CHECK-NOT: func.func @forward(
// CHECK: func.func @forward_t1(
// CHECK-SAME: mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>, mili.function = "forward"
// CHECK: mili.scale
// CHECK: func.func @forward_t8(
// CHECK-SAME: #mili.bucket<tokens = 8, sequences = 8, logit_rows = 8>
// CHECK: func.func @forward_t512(
// CHECK-SAME: #mili.bucket<tokens = 512, sequences = 4, logit_rows = 16>
// CHECK: func.func @encode(

// SAME: func.func @forward_t1(
// SAME: func.func @forward_t8_s1_r1(
// SAME: func.func @forward_t8_s1_r8(
// SAME: func.func @forward_t8_s8(

// OTHER: func.func @forward(
// OTHER: func.func @encode_t64(
module {
  func.func @forward(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
    %0 = mili.scale %x by 2.0 : tensor<?x32xf32>
    return %0 : tensor<?x32xf32>
  }
  func.func @encode(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
    return %x : tensor<?x32xf32>
  }
}
