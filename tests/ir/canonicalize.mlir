// RUN: mili-opt %s --canonicalize | FileCheck %s

// CHECK-LABEL: @scale_by_one
// CHECK-SAME: (%[[X:.*]]: tensor<?x8xf32>)
// CHECK-NEXT: return %[[X]]
func.func @scale_by_one(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = mili.scale %x by 1.0 : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// CHECK-LABEL: @scale_of_scale
// CHECK-SAME: (%[[X:.*]]: tensor<?x8xf32>)
// CHECK-NEXT: %[[Y:.*]] = mili.scale %[[X]] by 1.500000e+00
// CHECK-NEXT: return %[[Y]]
func.func @scale_of_scale(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = mili.scale %x by 0.5 : tensor<?x8xf32>
  %z = mili.scale %y by 3.0 : tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}

// The inner product is wanted as well: nothing to gain.
// CHECK-LABEL: @scale_of_shared_scale
// CHECK: mili.scale %{{.*}} by 5.000000e-01
// CHECK: mili.scale %{{.*}} by 3.000000e+00
func.func @scale_of_shared_scale(%x: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %y = mili.scale %x by 0.5 : tensor<?x8xf32>
  %z = mili.scale %y by 3.0 : tensor<?x8xf32>
  return %y, %z : tensor<?x8xf32>, tensor<?x8xf32>
}

// CHECK-LABEL: @split_into_one
// CHECK-SAME: (%[[X:.*]]: tensor<?x8xf32>)
// CHECK-NEXT: return %[[X]]
func.func @split_into_one(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = mili.split %x : tensor<?x8xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// Computations without a use go; the state's append stays, as its version is set.
mili.state @kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
// CHECK-LABEL: @dead_code
// CHECK-NEXT: mili.state_get
// CHECK-NEXT: mili.kv_append
// CHECK-NEXT: mili.state_set
// CHECK-NEXT: return
func.func @dead_code(%x: tensor<?x4xf32>, %batch: !mili.batch) {
  %w = mili.weight "unused" : tensor<4x4xf32>
  %y = mili.linear %x, %w : tensor<?x4xf32>, tensor<4x4xf32> -> tensor<?x4xf32>
  %kv0 = mili.state_get @kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  %kv1 = mili.kv_append %kv0, %x, %x, %batch : !mili.kv<heads = 1, k = 4, v = 4, f32>, tensor<?x4xf32>, tensor<?x4xf32>
  mili.state_set @kv, %kv1 : !mili.kv<heads = 1, k = 4, v = 4, f32>
  return
}
