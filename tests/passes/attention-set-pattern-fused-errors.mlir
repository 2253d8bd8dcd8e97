// RUN: mili-opt %s --mili-attention-set-pattern=patterns=causal --verify-diagnostics

// Patterns are set on the whole function, before fusion takes states apart.
mili.state @layers.0.kv : !mili.kv<heads = 1, k = 8, v = 8, f32>
func.func @forward(%x: tensor<?x8xf32>, %kv: !mili.kv<heads = 1, k = 8, v = 8, f32>, %batch: !mili.batch) -> tensor<?x8xf32> {
  // expected-error @+1 {{mili-attention-set-pattern: expected a version of a state that mili.state_get entered; run it before fusion}}
  %a = mili.attention %x, %kv, %batch mask(#mili.causal) heads 1 scale 1.0 : tensor<?x8xf32>, !mili.kv<heads = 1, k = 8, v = 8, f32> -> tensor<?x8xf32>
  return %a : tensor<?x8xf32>
}
