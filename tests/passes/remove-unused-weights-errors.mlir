// RUN: split-file %s %t
// RUN: mili-opt %t/copies.mlir --split-input-file --verify-diagnostics
// RUN: not mili-opt %t/good.mlir --pass-pipeline='builtin.module(mili-optimize-remove-unused-weights{keep=a})' 2>&1 | FileCheck %s --check-prefix=OPTION
// RUN: not mili-opt %t/good.mlir --pass-pipeline='builtin.module(func.func(mili-optimize-remove-unused-weights))' 2>&1 | FileCheck %s --check-prefix=ANCHOR

// OPTION: no such option keep
// ANCHOR: Can't add pass 'RemoveUnusedWeights' restricted to 'builtin.module'

//--- good.mlir
func.func @forward() {
  return
}

//--- copies.mlir
// A copy of a copy: which of the three is the first?
// expected-error @below {{expected a dictionary of names that are no keys of it as mili.duplicates, found {a = "b", b = "c"}}}
module attributes {mili.duplicates = {a = "b", b = "c"}} {
}

// -----

// expected-error @below {{expected a dictionary of names that are no keys of it as mili.duplicates, found {a = 1 : i64}}}
module attributes {mili.duplicates = {a = 1}} {
}
