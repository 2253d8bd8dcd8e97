// RUN: mili-opt %s --mili-specialize-add-sampling | FileCheck %s
// RUN: mili-opt %s --mili-specialize-add-sampling=function=other | FileCheck %s --check-prefix=OTHER
// RUN: mili-opt %s --mili-specialize-add-sampling --mili-specialize-buckets=buckets=1:1:1,16:4:8 | FileCheck %s --check-prefix=BUCKETS

module {
  // The logits stay the first result; the tokens drawn from them are the second. The batch is found wherever it is.
  // CHECK-LABEL: func.func @forward
  // CHECK-SAME: (%[[TOKENS:.*]]: tensor<?xi32>, %[[BATCH:.*]]: !mili.batch) -> (tensor<?x32xf32>, tensor<?xi32>) {
  // CHECK: %[[L:.*]] = mili.logits
  // CHECK-NEXT: %[[NEXT:.*]] = mili.sample %[[L]], %[[BATCH]] : tensor<?x32xf32> -> tensor<?xi32>
  // CHECK-NEXT: return %[[L]], %[[NEXT]] : tensor<?x32xf32>, tensor<?xi32>
  // OTHER-LABEL: func.func @forward
  // OTHER-SAME: -> tensor<?x32xf32> {
  // OTHER-NOT: mili.sample
  // Each bucket samples for itself.
  // BUCKETS-LABEL: func.func @forward_t1(
  // BUCKETS-SAME: -> (tensor<?x32xf32>, tensor<?xi32>)
  // BUCKETS: mili.sample
  // BUCKETS-LABEL: func.func @forward_t16(
  // BUCKETS-SAME: -> (tensor<?x32xf32>, tensor<?xi32>)
  // BUCKETS: mili.sample
  func.func @forward(%tokens: tensor<?xi32>, %batch: !mili.batch) -> tensor<?x32xf32> {
    %w = mili.weight "embed" : tensor<32x64xf32>
    %x = mili.embedding %tokens, %w : tensor<?xi32>, tensor<32x64xf32> -> tensor<?x64xf32>
    %l = mili.logits %x, %w, %batch : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
    return %l : tensor<?x32xf32>
  }

  // CHECK-LABEL: func.func @other
  // CHECK-SAME: -> tensor<?x8xf32> {
  // CHECK-NOT: mili.sample
  // OTHER-LABEL: func.func @other
  // OTHER-SAME: (%[[BATCH:.*]]: !mili.batch, %[[L:.*]]: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?xi32>) {
  // OTHER-NEXT: %[[NEXT:.*]] = mili.sample %[[L]], %[[BATCH]] : tensor<?x8xf32> -> tensor<?xi32>
  // OTHER-NEXT: return %[[L]], %[[NEXT]]
  func.func @other(%batch: !mili.batch, %l: tensor<?x8xf32>) -> tensor<?x8xf32> {
    return %l : tensor<?x8xf32>
  }
}
