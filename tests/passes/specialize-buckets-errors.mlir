// RUN: split-file %s %t
// RUN: mili-opt %t/missing.mlir --verify-diagnostics --mili-specialize-buckets=buckets=1:1:1
// RUN: mili-opt %t/external.mlir --verify-diagnostics --mili-specialize-buckets=buckets=1:1:1
// RUN: mili-opt %t/again.mlir --verify-diagnostics --mili-specialize-buckets=buckets=1:1:1
// RUN: mili-opt %t/taken.mlir --verify-diagnostics --mili-specialize-buckets=buckets=1:1:1
// RUN: mili-opt %t/none.mlir --verify-diagnostics --mili-specialize-buckets
// RUN: mili-opt %t/syntax.mlir --verify-diagnostics --mili-specialize-buckets=buckets=1:1
// RUN: mili-opt %t/number.mlir --verify-diagnostics --mili-specialize-buckets=buckets=1:x:1
// RUN: mili-opt %t/bounds.mlir --verify-diagnostics --mili-specialize-buckets=buckets=1:2:1
// RUN: mili-opt %t/twice.mlir --verify-diagnostics --mili-specialize-buckets=buckets=1:1:1,2:1:1,1:1:1

//--- missing.mlir
// expected-error @below {{mili-specialize-buckets: the module has no function @forward}}
module {
}

//--- external.mlir
module {
  // expected-error @below {{mili-specialize-buckets: the function has no body}}
  func.func private @forward(tensor<?x32xf32>) -> tensor<?x32xf32>
}

//--- again.mlir
module {
  // expected-error @below {{mili-specialize-buckets: the function is specialized already}}
  func.func @forward() attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
    return
  }
}

//--- taken.mlir
// expected-error @below {{mili-specialize-buckets: the module has a symbol @forward_t1 already}}
module {
  func.func @forward() {
    return
  }
  func.func @forward_t1() {
    return
  }
}

//--- none.mlir
// expected-error @below {{mili-specialize-buckets: no buckets given, e.g. buckets=1:1:1,512:1:1}}
module {
  func.func @forward() {
    return
  }
}

//--- syntax.mlir
// expected-error @below {{mili-specialize-buckets: bucket '1:1': expected tokens:sequences:logit_rows, three integers}}
module {
  func.func @forward() {
    return
  }
}

//--- number.mlir
// expected-error @below {{mili-specialize-buckets: bucket '1:x:1': expected tokens:sequences:logit_rows, three integers}}
module {
  func.func @forward() {
    return
  }
}

//--- bounds.mlir
// expected-error @below {{mili-specialize-buckets: bucket '1:2:1': bucket: sequences and logit_rows cannot exceed tokens = 1}}
module {
  func.func @forward() {
    return
  }
}

//--- twice.mlir
// expected-error @below {{is given twice}}
module {
  func.func @forward() {
    return
  }
}
