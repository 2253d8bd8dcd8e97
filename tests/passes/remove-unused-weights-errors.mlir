// RUN: not mili-opt %s --pass-pipeline='builtin.module(mili-optimize-remove-unused-weights{keep=a})' 2>&1 | FileCheck %s --check-prefix=OPTION
// RUN: not mili-opt %s --pass-pipeline='builtin.module(func.func(mili-optimize-remove-unused-weights))' 2>&1 | FileCheck %s --check-prefix=ANCHOR

// OPTION: no such option keep
// ANCHOR: Can't add pass 'RemoveUnusedWeights' restricted to 'builtin.module'
func.func @forward() {
  return
}
