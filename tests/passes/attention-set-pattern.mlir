// RUN: mili-opt %s --mili-attention-set-pattern=patterns=window=100 | FileCheck %s --check-prefix=WINDOW
// RUN: mili-opt %s --mili-attention-set-pattern=patterns=strided=1k | FileCheck %s --check-prefix=STRIDED
// RUN: mili-opt %s --mili-attention-set-pattern=patterns=local+random | FileCheck %s --check-prefix=RANDOM
// RUN: mili-opt %s --mili-attention-set-pattern='patterns=bigbird,bigbird=5+seed=3+global=64@1' | FileCheck %s --check-prefix=BIGBIRD
// RUN: mili-opt %s --mili-attention-set-pattern='patterns=local=128+global=64@0,causal@1' | FileCheck %s --check-prefix=LAYERS
// RUN: mili-opt %s --mili-attention-set-pattern='patterns=window=64,causal@1' | FileCheck %s --check-prefix=LAST
// RUN: mili-opt %s --mili-attention-set-pattern | FileCheck %s --check-prefix=NONE

// A window becomes part of the state's type, on every version.
// WINDOW: mili.state @layers.0.kv : !mili.kv<heads = 1, k = 8, v = 8, f32, window = 100>
// WINDOW: mili.state @layers.1.kv : !mili.kv<heads = 1, k = 8, v = 8, f32, window = 100>
// WINDOW: mili.state_get @layers.0.kv : !mili.kv<heads = 1, k = 8, v = 8, f32, window = 100>
// WINDOW: mili.kv_append {{.*}} : <heads = 1, k = 8, v = 8, f32, window = 100>
// WINDOW: mili.attention {{.*}} mask(#mili.window<100>)
// WINDOW: mili.state_set @layers.0.kv, {{.*}} : !mili.kv<heads = 1, k = 8, v = 8, f32, window = 100>
// WINDOW: mili.attention {{.*}} mask(#mili.window<100>)

// STRIDED-COUNT-2: mask(#mili.block_sparse<local = 1024, stride = 1024>)
// RANDOM-COUNT-2: mask(#mili.block_sparse<local = 512, random = 8>)
// BIGBIRD: mask(#mili.block_sparse<local = 192, global = 128, random = 3>)
// BIGBIRD: mask(#mili.block_sparse<local = 192, global = 64, random = 5, seed = 3>)
// LAYERS: mask(#mili.block_sparse<local = 128, global = 64>)
// LAYERS: mask(#mili.causal)

// The last pattern of a layer holds, and a state that kept a window keeps all again.
// LAST: mili.state @layers.0.kv : !mili.kv<heads = 1, k = 8, v = 8, f32, window = 64>
// LAST: mili.state @layers.1.kv : !mili.kv<heads = 1, k = 8, v = 8, f32>
// LAST: mask(#mili.window<64>)
// LAST: mask(#mili.causal)

// NONE: mask(#mili.causal)
// NONE: mask(#mili.window<32>)

module {
  mili.state @layers.0.kv : !mili.kv<heads = 1, k = 8, v = 8, f32>
  mili.state @layers.1.kv : !mili.kv<heads = 1, k = 8, v = 8, f32, window = 32>
  func.func @forward(%x: tensor<?x8xf32>, %batch: !mili.batch) -> tensor<?x8xf32> {
    %0 = mili.state_get @layers.0.kv : !mili.kv<heads = 1, k = 8, v = 8, f32>
    %1 = mili.kv_append %0, %x, %x, %batch : !mili.kv<heads = 1, k = 8, v = 8, f32>, tensor<?x8xf32>, tensor<?x8xf32>
    %2 = mili.attention %x, %1, %batch mask(#mili.causal) heads 1 scale 1.0 : tensor<?x8xf32>, !mili.kv<heads = 1, k = 8, v = 8, f32> -> tensor<?x8xf32>
    mili.state_set @layers.0.kv, %1 : !mili.kv<heads = 1, k = 8, v = 8, f32>
    %3 = mili.state_get @layers.1.kv : !mili.kv<heads = 1, k = 8, v = 8, f32, window = 32>
    %4 = mili.kv_append %3, %2, %2, %batch : !mili.kv<heads = 1, k = 8, v = 8, f32, window = 32>, tensor<?x8xf32>, tensor<?x8xf32>
    %5 = mili.attention %2, %4, %batch mask(#mili.window<32>) heads 1 scale 1.0 : tensor<?x8xf32>, !mili.kv<heads = 1, k = 8, v = 8, f32, window = 32> -> tensor<?x8xf32>
    mili.state_set @layers.1.kv, %4 : !mili.kv<heads = 1, k = 8, v = 8, f32, window = 32>
    return %5 : tensor<?x8xf32>
  }
}
