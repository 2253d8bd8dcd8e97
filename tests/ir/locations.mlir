// RUN: mili-opt %s --mlir-print-debuginfo | mili-opt --mlir-print-debuginfo | FileCheck %s --check-prefix=LOC
// RUN: mili-opt %s --mlir-use-nameloc-as-prefix | FileCheck %s --check-prefix=PREFIX

// Names from the model stay attached, and values can be named after them.
// LOC: mili.linear {{.*}} loc(#[[UP:.*]])
// LOC: #[[UP]] = loc("layers.0.mlp.up")
// PREFIX: %layers.0.mlp.up = mili.linear %{{.*}}, %up_proj.weight
func.func @f(%x: tensor<?x8xf32>) -> tensor<?x4xf32> {
  %w = mili.weight "layers.0.mlp.up_proj.weight" : tensor<4x8xf32>
  %y = mili.linear %x, %w : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32> loc("layers.0.mlp.up")
  return %y : tensor<?x4xf32>
}
