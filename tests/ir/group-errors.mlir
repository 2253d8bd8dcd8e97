// RUN: mili-opt %s --verify-diagnostics --split-input-file

func.func @arguments(%x: tensor<?x8xf32>) {
  // expected-error@+1 {{'mili.group' op expected body arguments of the inputs' types 'tensor<?x8xf32>', found 'tensor<?x4xf32>'}}
  mili.group "g" hero "mili.scale" ins(%x : tensor<?x8xf32>) {
  ^bb0(%b: tensor<?x4xf32>):
    mili.yield
  }
  return
}

// -----

func.func @no_yield(%x: tensor<?x8xf32>) {
  // expected-error@+1 {{'mili.group' op expected a body that ends in mili.yield, found mili.scale}}
  mili.group "g" hero "mili.scale" ins(%x : tensor<?x8xf32>) {
  ^bb0(%b: tensor<?x8xf32>):
    %y = mili.scale %b by 2.0 : tensor<?x8xf32>
  }
  return
}

// -----

func.func @empty() {
  // expected-error@+1 {{'mili.group' op expected a body that ends in mili.yield, found an empty one}}
  mili.group "g" hero "mili.scale" ins() {
  ^bb0:
  }
  return
}

// -----

func.func @results(%x: tensor<?x8xf32>) -> tensor<?x4xf32> {
  // expected-error@+1 {{'mili.group' op expected mili.yield of the results' types 'tensor<?x4xf32>', found 'tensor<?x8xf32>'}}
  %r = mili.group "g" hero "mili.scale" ins(%x : tensor<?x8xf32>) -> tensor<?x4xf32> {
  ^bb0(%b: tensor<?x8xf32>):
    %y = mili.scale %b by 2.0 : tensor<?x8xf32>
    // expected-note@+1 {{yielded here}}
    mili.yield %y : tensor<?x8xf32>
  }
  return %r : tensor<?x4xf32>
}

// -----

func.func @nested(%x: tensor<?x8xf32>) {
  // expected-error@+1 {{'mili.group' op expected a body that only computes (states come in as operands), found mili.group}}
  mili.group "outer" hero "mili.scale" ins(%x : tensor<?x8xf32>) {
  ^bb0(%b: tensor<?x8xf32>):
    // expected-note@+1 {{found here}}
    mili.group "inner" hero "mili.scale" ins(%b : tensor<?x8xf32>) {
    ^bb0(%c: tensor<?x8xf32>):
      %y = mili.scale %c by 2.0 : tensor<?x8xf32>
      mili.yield
    }
    mili.yield
  }
  return
}

// -----

func.func @no_hero(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error@+1 {{'mili.group' op expected the hero "mili.linear" among the ops of the body, found none}}
  %r = mili.group "g" hero "mili.linear" ins(%x : tensor<?x8xf32>) -> tensor<?x8xf32> {
  ^bb0(%b: tensor<?x8xf32>):
    %y = mili.scale %b by 2.0 : tensor<?x8xf32>
    mili.yield %y : tensor<?x8xf32>
  }
  return %r : tensor<?x8xf32>
}

// -----

func.func @stages_without_kernel(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error@+1 {{'mili.group' op expected a kernel template beside its stages, found none}}
  %r = mili.group "g" hero "mili.scale" ins(%x : tensor<?x8xf32>) -> tensor<?x8xf32> stages [#mili.stage<"a", tiles = 1 per one by 1>] {
  ^bb0(%b: tensor<?x8xf32>):
    %y = mili.scale %b by 2.0 : tensor<?x8xf32>
    mili.yield %y : tensor<?x8xf32>
  }
  return %r : tensor<?x8xf32>
}

// -----

func.func @no_stage(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error@+1 {{'mili.group' op expected at least one stage, found none}}
  %r = mili.group "g" hero "mili.scale" ins(%x : tensor<?x8xf32>) -> tensor<?x8xf32> kernel "k" stages [] {
  ^bb0(%b: tensor<?x8xf32>):
    %y = mili.scale %b by 2.0 : tensor<?x8xf32>
    mili.yield %y : tensor<?x8xf32>
  }
  return %r : tensor<?x8xf32>
}

// -----

func.func @scratch(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error@+1 {{'mili.group' op expected 0 to 1099511627776 bytes of arena_scratch, found -4}}
  %r = mili.group "g" hero "mili.scale" ins(%x : tensor<?x8xf32>) -> tensor<?x8xf32> kernel "k" arena_scratch -4 {
  ^bb0(%b: tensor<?x8xf32>):
    %y = mili.scale %b by 2.0 : tensor<?x8xf32>
    mili.yield %y : tensor<?x8xf32>
  }
  return %r : tensor<?x8xf32>
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 4, f32>
func.func @forked(%kv: !kv, %k: tensor<?x8xf32>, %batch: !mili.batch) -> (!kv, !kv) {
  // expected-error@+1 {{'mili.group' op expected one append per version of the state, found 2}}
  %kv1 = mili.group "g" hero "mili.kv_append" ins(%kv, %k, %batch : !kv, tensor<?x8xf32>, !mili.batch) -> !kv {
  ^bb0(%s: !kv, %bk: tensor<?x8xf32>, %bb: !mili.batch):
    %new = mili.kv_append %s, %bk, %bk, %bb : !kv, tensor<?x8xf32>, tensor<?x8xf32>
    mili.yield %new : !kv
  }
  // expected-error@+1 {{'mili.group' op expected one append per version of the state, found 2}}
  %kv2 = mili.group "h" hero "mili.kv_append" ins(%kv, %k, %batch : !kv, tensor<?x8xf32>, !mili.batch) -> !kv {
  ^bb0(%s: !kv, %bk: tensor<?x8xf32>, %bb: !mili.batch):
    %new = mili.kv_append %s, %bk, %bk, %bb : !kv, tensor<?x8xf32>, tensor<?x8xf32>
    mili.yield %new : !kv
  }
  return %kv1, %kv2 : !kv, !kv
}

// -----

// A group that only reads does not keep a version.
!kv = !mili.kv<heads = 2, k = 4, v = 4, f32>
func.func @dropped(%kv: !kv, %k: tensor<?x8xf32>, %batch: !mili.batch) -> tensor<?x8xf32> {
  // expected-error@+1 {{'mili.group' op expected mili.state_set or a further append to use the new version of the state, found only reads}}
  %kv1 = mili.group "g" hero "mili.kv_append" ins(%kv, %k, %batch : !kv, tensor<?x8xf32>, !mili.batch) -> !kv {
  ^bb0(%s: !kv, %bk: tensor<?x8xf32>, %bb: !mili.batch):
    %new = mili.kv_append %s, %bk, %bk, %bb : !kv, tensor<?x8xf32>, tensor<?x8xf32>
    mili.yield %new : !kv
  }
  %a = mili.group "h" hero "mili.attention" ins(%kv1, %k, %batch : !kv, tensor<?x8xf32>, !mili.batch) -> tensor<?x8xf32> {
  ^bb0(%s: !kv, %bq: tensor<?x8xf32>, %bb: !mili.batch):
    %y = mili.attention %bq, %s, %bb mask(#mili.causal) heads 2 scale 1.0 : tensor<?x8xf32>, !kv -> tensor<?x8xf32>
    mili.yield %y : tensor<?x8xf32>
  }
  return %a : tensor<?x8xf32>
}

// -----

func.func @yield_outside() {
  // expected-error@+1 {{'mili.yield' op expected to end a mili.group or mili_plan.kernel, found it in func.func}}
  mili.yield
}

// -----

// A value that is used before the group and defined in it; what follows does not parse. The user outlives the body.
func.func @unfinished(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %s = mili.scale %b by 2.0 : tensor<?x8xf32>
  %g = mili.group "g" hero "mili.scale" ins(%x : tensor<?x8xf32>) -> tensor<?x8xf32> {
  ^bb0(%b: tensor<?x8xf32>):
    // expected-error@+1 {{expected 'by'}}
    %y = mili.scale %b : tensor<?x8xf32>
    mili.yield %y : tensor<?x8xf32>
  }
  return %g : tensor<?x8xf32>
}
