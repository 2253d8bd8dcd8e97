// RUN: mili-opt %s --verify-diagnostics --pass-pipeline='builtin.module(func.func(mili-optimize-merge-projections{interleave=0}))'
// RUN: not mili-opt %s --pass-pipeline='builtin.module(func.func(mili-optimize-merge-projections{qvk=1}))' 2>&1 | FileCheck %s --check-prefix=OPTION
// RUN: not mili-opt %s --pass-pipeline='builtin.module(mili-optimize-merge-projections)' 2>&1 | FileCheck %s --check-prefix=ANCHOR

// OPTION: no such option qvk
// ANCHOR: Can't add pass 'MergeProjections' restricted to 'func.func'

// expected-error @below {{mili-optimize-merge-projections: interleave must be positive, found 0}}
func.func @forward(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  return %x : tensor<?x32xf32>
}
