// RUN: mili-opt %s --verify-diagnostics --split-input-file

!kv = !mili.kv<heads = 2, k = 4, v = 8, f32>
func.func @unknown_state() {
  // expected-error@+1 {{'mili.state_get' op refers to @nothing, which is not a mili.state of this module}}
  %kv = mili.state_get @nothing : !kv
  return
}

// -----

// expected-note@+1 {{declared here}}
mili.state @kv : !mili.kv<heads = 2, k = 4, v = 8, f32>
func.func @wrong_type() {
  // expected-error@+1 {{'mili.state_get' op expected the state's type '!mili.kv<heads = 2, k = 4, v = 8, f32>', found '!mili.kv<heads = 2, k = 4, v = 8, bf16>'}}
  %kv = mili.state_get @kv : !mili.kv<heads = 2, k = 4, v = 8, bf16>
  return
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 8, f32>
mili.state @kv : !kv
func.func @older_version(%k: tensor<?x8xf32>, %v: tensor<?x16xf32>, %batch: !mili.batch) -> !kv {
  %kv0 = mili.state_get @kv : !kv
  %kv1 = mili.kv_append %kv0, %k, %v, %batch : !kv, tensor<?x8xf32>, tensor<?x16xf32>
  // expected-error@+1 {{'mili.state_set' op expected the last version of @kv, found one that was appended to afterwards}}
  mili.state_set @kv, %kv0 : !kv
  return %kv1 : !kv
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 8, f32>
mili.state @a : !kv
mili.state @b : !kv
func.func @crossed(%k: tensor<?x8xf32>, %v: tensor<?x16xf32>, %batch: !mili.batch) {
  // expected-note@+1 {{began here}}
  %kv0 = mili.state_get @a : !kv
  %kv1 = mili.kv_append %kv0, %k, %v, %batch : !kv, tensor<?x8xf32>, tensor<?x16xf32>
  // expected-error@+1 {{'mili.state_set' op expected a version of @b, found one of @a}}
  mili.state_set @b, %kv1 : !kv
  return
}

// -----

// Versions are followed through groups.
!kv = !mili.kv<heads = 2, k = 4, v = 8, f32>
mili.state @a : !kv
mili.state @b : !kv
func.func @crossed_by_group(%k: tensor<?x8xf32>, %v: tensor<?x16xf32>, %batch: !mili.batch) {
  // expected-note@+1 {{began here}}
  %kv0 = mili.state_get @a : !kv
  %kv1 = mili.group "append" hero "mili.kv_append" ins(%kv0, %k, %v, %batch : !kv, tensor<?x8xf32>, tensor<?x16xf32>, !mili.batch) -> !kv {
  ^bb0(%s: !kv, %bk: tensor<?x8xf32>, %bv: tensor<?x16xf32>, %bb: !mili.batch):
    %new = mili.kv_append %s, %bk, %bv, %bb : !kv, tensor<?x8xf32>, tensor<?x16xf32>
    mili.yield %new : !kv
  }
  // expected-error@+1 {{'mili.state_set' op expected a version of @b, found one of @a}}
  mili.state_set @b, %kv1 : !kv
  return
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 8, f32>
mili.state @kv : !kv
func.func @set_twice() {
  %kv0 = mili.state_get @kv : !kv
  // expected-error@+1 {{'mili.state_set' op expected one mili.state_set of @kv, found two}}
  mili.state_set @kv, %kv0 : !kv
  // expected-note@+1 {{the other is here}}
  mili.state_set @kv, %kv0 : !kv
  return
}

// -----

func.func @rows(%kv: !mili.kv<heads = 2, k = 4, v = 8, f32>, %k: tensor<?x8xf32>, %v: tensor<2x16xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.kv_append' op expected as many rows in key and value, found 'tensor<?x8xf32>' and 'tensor<2x16xf32>'}}
  %kv1 = mili.kv_append %kv, %k, %v, %batch : !mili.kv<heads = 2, k = 4, v = 8, f32>, tensor<?x8xf32>, tensor<2x16xf32>
  return
}

// -----

func.func @key(%kv: !mili.kv<heads = 2, k = 4, v = 8, f32>, %k: tensor<?x16xf32>, %v: tensor<?x16xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.kv_append' op expected 8 features in key (heads * k of the state), found 'tensor<?x16xf32>'}}
  %kv1 = mili.kv_append %kv, %k, %v, %batch : !mili.kv<heads = 2, k = 4, v = 8, f32>, tensor<?x16xf32>, tensor<?x16xf32>
  return
}

// -----

func.func @value(%kv: !mili.kv<heads = 2, k = 4, v = 8, f32>, %k: tensor<?x8xf32>, %v: tensor<?x8xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.kv_append' op expected 16 features in value (heads * v of the state), found 'tensor<?x8xf32>'}}
  %kv1 = mili.kv_append %kv, %k, %v, %batch : !mili.kv<heads = 2, k = 4, v = 8, f32>, tensor<?x8xf32>, tensor<?x8xf32>
  return
}

// -----

func.func @mixed(%kv: !mili.kv<heads = 2, k = 4, v = 8, f32>, %k: tensor<?x8xf32>, %v: tensor<?x16xbf16>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.kv_append' op expected key and value of one element type, found 'f32' and 'bf16'}}
  %kv1 = mili.kv_append %kv, %k, %v, %batch : !mili.kv<heads = 2, k = 4, v = 8, f32>, tensor<?x8xf32>, tensor<?x16xbf16>
  return
}

// -----

func.func @element(%kv: !mili.kv<heads = 2, k = 4, v = 8, bf16>, %k: tensor<?x8xf32>, %v: tensor<?x16xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.kv_append' op expected key and value of the state's element type 'bf16', found 'f32'}}
  %kv1 = mili.kv_append %kv, %k, %v, %batch : !mili.kv<heads = 2, k = 4, v = 8, bf16>, tensor<?x8xf32>, tensor<?x16xf32>
  return
}

// -----

// A state narrower than 16 bits takes any activations.
!kv = !mili.kv<heads = 2, k = 4, v = 8, f8E4M3FN>
func.func @quantized(%kv: !kv, %k: tensor<?x8xf32>, %v: tensor<?x16xf32>, %batch: !mili.batch) -> !kv {
  %kv1 = mili.kv_append %kv, %k, %v, %batch : !kv, tensor<?x8xf32>, tensor<?x16xf32>
  return %kv1 : !kv
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 8, f32>
func.func @forked(%kv: !kv, %k: tensor<?x8xf32>, %v: tensor<?x16xf32>, %batch: !mili.batch) -> (!kv, !kv) {
  // expected-error@+1 {{'mili.kv_append' op expected one append per version of the state, found 2}}
  %kv1 = mili.kv_append %kv, %k, %v, %batch : !kv, tensor<?x8xf32>, tensor<?x16xf32>
  %kv2 = mili.kv_append %kv, %k, %v, %batch : !kv, tensor<?x8xf32>, tensor<?x16xf32>
  return %kv1, %kv2 : !kv, !kv
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 8, f32>
func.func @dropped(%kv: !kv, %k: tensor<?x8xf32>, %v: tensor<?x16xf32>, %batch: !mili.batch) {
  // expected-error@+1 {{'mili.kv_append' op expected mili.state_set or a further append to use the new version of the state, found no use}}
  %kv1 = mili.kv_append %kv, %k, %v, %batch : !kv, tensor<?x8xf32>, tensor<?x16xf32>
  return
}

// -----

!kv = !mili.kv<heads = 2, k = 4, v = 8, f32>
func.func @only_read(%kv: !kv, %k: tensor<?x8xf32>, %v: tensor<?x16xf32>, %batch: !mili.batch) -> tensor<?x16xf32> {
  // expected-error@+1 {{'mili.kv_append' op expected mili.state_set or a further append to use the new version of the state, found only reads}}
  %kv1 = mili.kv_append %kv, %k, %v, %batch : !kv, tensor<?x8xf32>, tensor<?x16xf32>
  %a = mili.attention %k, %kv1, %batch mask(#mili.causal) heads 2 scale 1.0 : tensor<?x8xf32>, !kv -> tensor<?x16xf32>
  return %a : tensor<?x16xf32>
}
