// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=dense' 2>&1 | FileCheck %s --check-prefix=E0
// E0: error: mili-attention-set-pattern: pattern "dense": expected causal, window, strided, local, global, random, bigbird or seed, found "dense"
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=window' 2>&1 | FileCheck %s --check-prefix=E1
// E1: error: mili-attention-set-pattern: pattern "window": expected a count: window=N
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=window=0' 2>&1 | FileCheck %s --check-prefix=E2
// E2: error: mili-attention-set-pattern: pattern "window=0": window mask: tokens must be positive and at most 2147483648, found 0
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=window=x' 2>&1 | FileCheck %s --check-prefix=E3
// E3: error: mili-attention-set-pattern: pattern "window=x": expected a count after 'window=', found "x"
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=window=-4' 2>&1 | FileCheck %s --check-prefix=E4
// E4: error: mili-attention-set-pattern: pattern "window=-4": expected a count after 'window=', found "-4"
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=window=99999999999999999999' 2>&1 | FileCheck %s --check-prefix=E5
// E5: error: mili-attention-set-pattern: pattern "window=99999999999999999999": expected a count after 'window='
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=window=64+global=64' 2>&1 | FileCheck %s --check-prefix=E6
// E6: error: mili-attention-set-pattern: pattern "window=64+global=64": a window stands alone; blocks of the last tokens are local=N
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=local=100' 2>&1 | FileCheck %s --check-prefix=E7
// E7: error: mili-attention-set-pattern: pattern "local=100": block_sparse mask: local must be a multiple of 64 tokens, at most 16777216, found 100
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=local=0' 2>&1 | FileCheck %s --check-prefix=E8
// E8: error: mili-attention-set-pattern: pattern "local=0": block_sparse mask: local must be positive
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=local=64+local=64' 2>&1 | FileCheck %s --check-prefix=E9
// E9: error: mili-attention-set-pattern: pattern "local=64+local=64": local is given twice
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=bigbird+random=2' 2>&1 | FileCheck %s --check-prefix=E10
// E10: error: mili-attention-set-pattern: pattern "bigbird+random=2": random is given twice
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=strided=128+random=2' 2>&1 | FileCheck %s --check-prefix=E11
// E11: error: mili-attention-set-pattern: pattern "strided=128+random=2": block_sparse mask: stride and random do not combine
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=random=65' 2>&1 | FileCheck %s --check-prefix=E12
// E12: error: mili-attention-set-pattern: pattern "random=65": block_sparse mask: random must be 0 to 64 blocks, found 65
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=seed=1k+random=1+' 2>&1 | FileCheck %s --check-prefix=E13
// E13: error: mili-attention-set-pattern: pattern "seed=1k+random=1+": expected causal, window, strided, local, global, random, bigbird or seed, found ""
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=causal@2' 2>&1 | FileCheck %s --check-prefix=E14
// E14: error: mili-attention-set-pattern: pattern "causal@2": layer 2, the model has 1
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=causal@1-0' 2>&1 | FileCheck %s --check-prefix=E15
// E15: error: mili-attention-set-pattern: pattern "causal@1-0": expected layers like 0-3:7 after '@', found "1-0"
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=causal@' 2>&1 | FileCheck %s --check-prefix=E16
// E16: error: mili-attention-set-pattern: pattern "causal@": expected layers like 0-3:7 after '@', found ""
// RUN: not mili-opt %s --mili-attention-set-pattern='patterns=causal@0-' 2>&1 | FileCheck %s --check-prefix=E17
// E17: error: mili-attention-set-pattern: pattern "causal@0-": expected layers like 0-3:7 after '@', found "0-"

// An option that does not exist.
// RUN: not mili-opt %s --mili-attention-set-pattern=masks=causal 2>&1 | FileCheck %s --check-prefix=OPTION
// OPTION: no such option masks

module {
  mili.state @layers.0.kv : !mili.kv<heads = 1, k = 8, v = 8, f32>
}
