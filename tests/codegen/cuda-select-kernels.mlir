// Kernels of the CUDA target. Tile sizes come from a cost model; what is checked here is what kernels and launches rely on.
// RUN: sed -e 's/MODULE//' -e 's/BUCKET/tokens = 1, sequences = 1, logit_rows = 1/' %s | mili-opt --mili-codegen-select-kernels=target=cuda | FileCheck %s --check-prefixes=ALL,FEW,ONE
// RUN: sed -e 's/MODULE//' -e 's/BUCKET/tokens = 4, sequences = 4, logit_rows = 4/' %s | mili-opt --mili-codegen-select-kernels=target=cuda | FileCheck %s --check-prefixes=ALL,FEW,FOUR
// RUN: sed -e 's/MODULE//' -e 's/BUCKET/tokens = 5, sequences = 5, logit_rows = 1/' %s | mili-opt --mili-codegen-select-kernels=target=cuda | FileCheck %s --check-prefixes=ALL,FIVE
// RUN: sed -e 's/MODULE//' -e 's/BUCKET/tokens = 16, sequences = 16, logit_rows = 16/' %s | mili-opt --mili-codegen-select-kernels=target=cuda | FileCheck %s --check-prefixes=ALL,MMA
// RUN: sed -e 's/MODULE//' -e 's/BUCKET/tokens = 2048, sequences = 4, logit_rows = 16/' %s | mili-opt --mili-codegen-select-kernels=target=cuda | FileCheck %s --check-prefixes=ALL,LONG
// RUN: sed -e 's/MODULE/mili.deterministic/' -e 's/BUCKET/tokens = 1, sequences = 1, logit_rows = 1/' %s | mili-opt --mili-codegen-select-kernels=target=cuda | FileCheck %s --check-prefixes=ALL,SAME
!x = tensor<?x512xbf16>
!l = tensor<?x4096xf32>
module attributes {MODULE} {
  func.func @forward(%tokens: tensor<?xi32>, %batch: !mili.batch) -> (!l, tensor<?xi32>, !x) attributes {mili.bucket = #mili.bucket<BUCKET>} {
    // Matrices are stored as rows of bf16, vectors as f32, whatever the file has.
    // ALL: mili.weight "embed" layout "rows_bf16" : {{.*}} {packed_bytes = 4194304 : i64}
    %we = mili.weight "embed" : tensor<4096x512x!mili.block<q8_0>>
    // A block a row: no blocks_per_sm, so as many blocks as tiles; one launch for every architecture. Shared memory: a float
    // of each warp, then the row.
    // ALL: mili.group "embed" {{.*}} kernel "cuda.rows" stages [#mili.stage<"rows", tiles = 1 per tokens by 1, cuda = [<arch = 80, threads = 64, shared = 2176>], config = {counters = 0 : i64, scratch = 0 : i64, threads = 64 : i64, wanted = 0 : i64}>] {
    %x = mili.group "embed" hero "mili.embedding" ins(%tokens, %we : tensor<?xi32>, tensor<4096x512x!mili.block<q8_0>>) -> !x {
    ^bb0(%t: tensor<?xi32>, %s: tensor<4096x512x!mili.block<q8_0>>):
      %e = mili.dequant %s : tensor<4096x512x!mili.block<q8_0>> -> tensor<4096x512xf32>
      %0 = mili.embedding %t, %e : tensor<?xi32>, tensor<4096x512xf32> -> !x
      mili.yield %0 : !x
    }
    // ALL: mili.weight "norm" layout "vector_f32" : tensor<512xbf16> {packed_bytes = 2048 : i64}
    %g = mili.weight "norm" : tensor<512xbf16>
    // Only a norm: the row stays in registers, 16 elements a thread.
    // ALL: mili.group "norm" {{.*}} kernel "cuda.rows" stages [#mili.stage<"row", tiles = 1 per tokens by 1, cuda = [<arch = 80, threads = 32, shared = 0>], config = {counters = 0 : i64, scratch = 0 : i64, threads = 32 : i64}>] {
    %n = mili.group "norm" hero "mili.rms_norm" ins(%x, %g : !x, tensor<512xbf16>) -> !x {
    ^bb0(%b: !x, %w: tensor<512xbf16>):
      %0 = mili.rms_norm %b, %w eps 1.0e-6 : !x, tensor<512xbf16>
      mili.yield %0 : !x
    }
    %wgu = mili.weight "gate", "up", interleave = 8 : tensor<4096x512xbf16>
    // A matrix-vector product runs its norm itself. A warp a feature; units of 16 features, gate and up in runs of 8. Shared
    // memory: the rows in bf16, then two rounds of 16 sums for each row.
    // FEW: mili.group "gate_up" {{.*}} kernel "cuda.linear" stages [#mili.stage<"gemv", tiles = 256 per one by 1,
    // ONE-SAME: cuda = [<arch = 80, threads = 512, shared = 1152, blocks_per_sm = 2>], config = {{[{].*}}rows = 1 : i64, scratch = 0 : i64, threads = 512 : i64, unroll = 2 : i64}>] {
    // FOUR-SAME: cuda = [<arch = 80, threads = 512, shared = 4608, blocks_per_sm = 1>], config = {{[{].*}}rows = 4 : i64, scratch = 0 : i64, threads = 512 : i64, unroll = 2 : i64}>] {
    // From 5 rows on, or where all buckets must sum alike, tensor cores: a stage gathers what the norm gives into the scratch,
    // argument 4, after input, norm, weight and result.
    // FIVE: mili.group "gate_up" {{.*}} stages [#mili.stage<"input", {{.*}}#mili.stage<"product",
    // FIVE-SAME: arena_scratch 5120 {
    // SAME: mili.group "gate_up" {{.*}} stages [#mili.stage<"input", {{.*}}#mili.stage<"product",
    // MMA: mili.group "gate_up" {{.*}} kernel "cuda.linear" stages [#mili.stage<"input", tiles = 1 per tokens by 1, cuda = [<arch = 80, threads = 64, shared = 0>], config = {counters = 0 : i64, scratch = 1 : i64, threads = 64 : i64}>, #mili.stage<"product", tiles = [[#TILES:]] per tokens by [[#ROWS:]],
    // sm_90 has warpgroups of consumers and one warp that copies; sm_100 runs what sm_80 does.
    // MMA-SAME: cuda = [<arch = 80, threads = 256, shared = [[SHARED:[0-9]+]], blocks_per_sm = 1>, <arch = 90, threads = {{160|384}}, shared = {{[0-9]+}}, blocks_per_sm = {{[12]}}>, <arch = 100, threads = 256, shared = [[SHARED]], blocks_per_sm = 1>],
    // MMA-SAME: maps = [<arg = 2, rows = 4096, columns = 512, box_rows = [[#FEATURES:]]>, <arg = 4, rows = 16, columns = 512, box_rows = [[#ROWS]]>],
    // MMA-SAME: config = {{[{].*}}counters = 0 : i64, gathered = 1 : i64, input_bytes = 16384 : i64, scratch = 1 : i64, splits = 1 : i64, {{.*}}tile_features = [[#div(4096,TILES)]] : i64, tile_rows = [[#ROWS]] : i64, {{.*}}}>] arena_scratch 16384 {
    %h = mili.group "gate_up" hero "mili.linear" ins(%n, %g, %wgu : !x, tensor<512xbf16>, tensor<4096x512xbf16>) -> tensor<?x2048xbf16> {
    ^bb0(%b: !x, %w: tensor<512xbf16>, %m: tensor<4096x512xbf16>):
      %0 = mili.rms_norm %b, %w eps 1.0e-6 : !x, tensor<512xbf16>
      %1 = mili.linear %0, %m : !x, tensor<4096x512xbf16> -> tensor<?x4096xbf16>
      %2, %3 = mili.split %1 interleave 8 : tensor<?x4096xbf16> -> tensor<?x2048xbf16>, tensor<?x2048xbf16>
      %4 = mili.gated <silu> %2, %3 : tensor<?x2048xbf16>
      mili.yield %4 : tensor<?x2048xbf16>
    }
    // ALL: mili.weight "down" layout "rows_bf16" : tensor<512x2048xbf16>{{$}}
    // ALL: mili.weight "down_bias" layout "vector_f32"
    %wd = mili.weight "down" : tensor<512x2048xbf16>
    %bd = mili.weight "down_bias" : tensor<512xbf16>
    // Few features: smaller blocks, so that there are more of them.
    // FEW: mili.group "down" {{.*}} kernel "cuda.linear" stages [#mili.stage<"gemv", tiles = 64 per one by 1, cuda = [<arch = 80, threads = 256,
    // The input lies in memory already: one stage, which reads it by its own argument.
    // MMA: mili.group "down" {{.*}} kernel "cuda.linear" stages [#mili.stage<"product", tiles = {{[0-9]+}} per tokens by [[#ROWS:]],
    // MMA-SAME: maps = [<arg = 1, rows = 512, columns = 2048, box_rows = {{64|128}}>, <arg = 0, rows = 16, columns = 2048, box_rows = [[#ROWS]]>], config = {{[{].*}}gathered = 0 : i64, input_bytes = 0 : i64, {{.*}}}>]
    %d = mili.group "down" hero "mili.linear" ins(%h, %wd, %bd, %n : tensor<?x2048xbf16>, tensor<512x2048xbf16>, tensor<512xbf16>, !x) -> !x {
    ^bb0(%b: tensor<?x2048xbf16>, %m: tensor<512x2048xbf16>, %c: tensor<512xbf16>, %r: !x):
      %0 = mili.linear %b, %m bias %c : tensor<?x2048xbf16>, tensor<512x2048xbf16>, tensor<512xbf16> -> !x
      %1 = mili.add %r, %0 : !x
      mili.yield %1 : !x
    }
    %ws = mili.weight "wide" : tensor<16384x512xbf16>
    // A long step: two warpgroups, tiles of 128 features and 256 rows, on sm_80 in two halves of 128 rows.
    // LONG: mili.group "wide" {{.*}} stages [#mili.stage<"product", tiles = 128 per tokens by 256, cuda = [<arch = 80, threads = 256, shared = {{[0-9]+}}, blocks_per_sm = 1>, <arch = 90, threads = 384, shared = {{[0-9]+}}, blocks_per_sm = 1>, <arch = 100, {{.*}}], maps = [<arg = 1, rows = 16384, columns = 512, box_rows = 128>, <arg = 0, rows = 2048, columns = 512, box_rows = 256>], config = {{[{].*}}splits = 1 : i64, {{.*}}tile_features = 128 : i64, tile_rows = 256 : i64, tile_rows_mma = 128 : i64}>] {
    %wide = mili.group "wide" hero "mili.linear" ins(%d, %ws : !x, tensor<16384x512xbf16>) -> tensor<?x16384xbf16> {
    ^bb0(%b: !x, %m: tensor<16384x512xbf16>):
      %0 = mili.linear %b, %m : !x, tensor<16384x512xbf16> -> tensor<?x16384xbf16>
      mili.yield %0 : tensor<?x16384xbf16>
    }
    %wp = mili.weight "deep" : tensor<512x16384xbf16>
    // ONE: mili.group "deep" {{.*}} stages [#mili.stage<"gemv", tiles = 64 per one by 1, cuda = [<arch = 80, threads = 256, shared = 32832,
    // Four rows of 16384 do not fit beside one another in shared memory.
    // FOUR: mili.group "deep" {{.*}} stages [#mili.stage<"product",
    // Few tiles and much depth: split. Scratch: a tile of f32 for each split; counters: 8 words for each tile.
    // MMA: mili.group "deep" {{.*}} stages [#mili.stage<"product", tiles = [[#TILES:]] per tokens by 16,
    // MMA-SAME: maps = [<arg = 1, rows = 512, columns = 16384, box_rows = [[#FEATURES:]]>, <arg = 0, rows = 16, columns = 16384, box_rows = 16>],
    // MMA-SAME: config = {{[{].*}}counters = 1 : i64, gathered = 0 : i64, input_bytes = 0 : i64, scratch = 1 : i64, splits = [[#div(mul(TILES,FEATURES),512)]] : i64, {{.*}}tile_features = [[#FEATURES]] : i64,
    // MMA-SAME: arena_scratch [[#mul(mul(TILES,FEATURES),64)]] counters [[#div(16384,FEATURES)]] {
    // With more rows there are tiles enough, and a deterministic plan never splits.
    // LONG: mili.group "deep" {{.*}} config = {{[{].*}}counters = 0 : i64, gathered = 0 : i64, input_bytes = 0 : i64, scratch = 0 : i64, splits = 1 : i64, {{.*}}}>] {
    // SAME: mili.group "deep" {{.*}} config = {{[{].*}}counters = 0 : i64, gathered = 0 : i64, input_bytes = 0 : i64, scratch = 0 : i64, splits = 1 : i64, {{.*}}}>] {
    %deep = mili.group "deep" hero "mili.linear" ins(%wide, %wp : tensor<?x16384xbf16>, tensor<512x16384xbf16>) -> !x {
    ^bb0(%b: tensor<?x16384xbf16>, %m: tensor<512x16384xbf16>):
      %0 = mili.linear %b, %m : tensor<?x16384xbf16>, tensor<512x16384xbf16> -> !x
      mili.yield %0 : !x
    }
    // The head counts wanted rows, and gathers them.
    // FEW: mili.group "head" {{.*}} stages [#mili.stage<"gemv", tiles = 256 per one by 1,
    // FIVE: mili.group "head" {{.*}} stages [#mili.stage<"gemv", tiles = 256 per one by 1, {{.*}}rows = 1 : i64,
    // MMA: mili.group "head" {{.*}} stages [#mili.stage<"input", tiles = 1 per logit_rows by 1, {{.*}}#mili.stage<"product", tiles = {{[0-9]+}} per logit_rows by 16, {{.*}}<arg = 3, rows = 16, columns = 512, box_rows = 16>], {{.*}}gathered = 1 : i64,
    // LONG: mili.group "head" {{.*}} stages [#mili.stage<"input", tiles = 1 per logit_rows by 1, {{.*}}<arg = 3, rows = 16, columns = 512,
    %l = mili.group "head" hero "mili.logits" ins(%deep, %we, %batch : !x, tensor<4096x512x!mili.block<q8_0>>, !mili.batch) -> !l {
    ^bb0(%b: !x, %s: tensor<4096x512x!mili.block<q8_0>>, %t: !mili.batch):
      %m = mili.dequant %s : tensor<4096x512x!mili.block<q8_0>> -> tensor<4096x512xf32>
      %0 = mili.logits %b, %m, %t : !x, tensor<4096x512xf32> -> !l
      mili.yield %0 : !l
    }
    // What follows logits has one row per wanted row.
    // ALL: mili.group "scaled" {{.*}} kernel "cuda.rows" stages [#mili.stage<"rows", tiles = 1 per logit_rows by 1, cuda = [<arch = 80, threads = 256, shared = 16512>], config = {{[{].*}}wanted = 1 : i64}>] {
    %scaled = mili.group "scaled" hero "mili.scale" ins(%l : !l) -> !l {
    ^bb0(%b: !l):
      %0 = mili.scale %b by 2.0 : !l
      mili.yield %0 : !l
    }
    // Blocks of about 2000 logits; a pair of value and token for each, and a counter for each row.
    // ALL: mili.group "sample" {{.*}} kernel "cuda.sample" stages [#mili.stage<"sample", tiles = 2 per logit_rows by 1, cuda = [<arch = 80, threads = 256, shared = 0>], config = {counters = 1 : i64, parts = 2 : i64, scratch = 1 : i64}>]
    // ONE-SAME: arena_scratch 16 counters 4 {
    // MMA-SAME: arena_scratch 256 counters 64 {
    %next = mili.group "sample" hero "mili.sample" ins(%scaled, %batch : !l, !mili.batch) -> tensor<?xi32> {
    ^bb0(%b: !l, %t: !mili.batch):
      %0 = mili.sample %b, %t : !l -> tensor<?xi32>
      mili.yield %0 : tensor<?xi32>
    }
    return %scaled, %next, %deep : !l, tensor<?xi32>, !x
  }
}
