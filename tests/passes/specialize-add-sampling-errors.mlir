// RUN: split-file %s %t
// RUN: mili-opt %t/missing.mlir --verify-diagnostics --mili-specialize-add-sampling
// RUN: mili-opt %t/named.mlir --verify-diagnostics --mili-specialize-add-sampling=function=step
// RUN: mili-opt %t/external.mlir --verify-diagnostics --mili-specialize-add-sampling
// RUN: mili-opt %t/blocks.mlir --verify-diagnostics --mili-specialize-add-sampling
// RUN: mili-opt %t/batch.mlir --verify-diagnostics --mili-specialize-add-sampling
// RUN: mili-opt %t/nothing.mlir --verify-diagnostics --mili-specialize-add-sampling
// RUN: mili-opt %t/again.mlir --verify-diagnostics --mili-specialize-add-sampling

//--- missing.mlir
// expected-error @below {{mili-specialize-add-sampling: the module has no function @forward with a body of one block}}
module {
}

//--- named.mlir
// expected-error @below {{mili-specialize-add-sampling: the module has no function @step with a body of one block}}
module {
  func.func @forward(%batch: !mili.batch, %l: tensor<?x8xf32>) -> tensor<?x8xf32> {
    return %l : tensor<?x8xf32>
  }
}

//--- external.mlir
// expected-error @below {{mili-specialize-add-sampling: the module has no function @forward with a body of one block}}
module {
  func.func private @forward(tensor<?xi32>, !mili.batch) -> tensor<?x8xf32>
}

//--- blocks.mlir
// expected-error @below {{mili-specialize-add-sampling: the module has no function @forward with a body of one block}}
module {
  func.func @forward(%batch: !mili.batch, %l: tensor<?x8xf32>) -> tensor<?x8xf32> {
    cf.br ^bb1
  ^bb1:
    return %l : tensor<?x8xf32>
  }
}

//--- batch.mlir
module {
  // expected-error @below {{mili-specialize-add-sampling: expected a batch among the arguments, found 1 others}}
  func.func @forward(%l: tensor<?x8xf32>) -> tensor<?x8xf32> {
    return %l : tensor<?x8xf32>
  }
}

//--- nothing.mlir
module {
  // expected-error @below {{mili-specialize-add-sampling: expected one returned value, the logits, found 0}}
  func.func @forward(%batch: !mili.batch) {
    return
  }
}

//--- again.mlir
// It samples already.
module {
  // expected-error @below {{mili-specialize-add-sampling: expected one returned value, the logits, found 2}}
  func.func @forward(%batch: !mili.batch, %l: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?xi32>) {
    %t = mili.sample %l, %batch : tensor<?x8xf32> -> tensor<?xi32>
    return %l, %t : tensor<?x8xf32>, tensor<?xi32>
  }
}
