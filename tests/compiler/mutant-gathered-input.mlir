// A mutant that crashed emission: the product's input is computed, yet its stage says that none is gathered before it.
// RUN: mutate_modules --file %s 2>&1 | FileCheck %s
// CHECK: 1 mutants: 1 valid, {{.*}} 0 faults
module {
  mili_plan.kernel @linear_rms_norm_t16 template "cuda.linear" hero "mili.linear" stages [#mili.stage<"input", tiles = 1 per tokens by 1, cuda = [<arch = 80, threads = 64, shared = 0>], config = {counters = 0 : i64, scratch = 1 : i64, threads = 64 : i64}>, #mili.stage<"product", tiles = 4 per tokens by 16, cuda = [<arch = 80, threads = 256, shared = 51200, blocks_per_sm = 1>, <arch = 90, threads = 160, shared = 169216, blocks_per_sm = 1>, <arch = 100, threads = 256, shared = 51200, blocks_per_sm = 1>], maps = [<arg = 2, rows = 256, columns = 128, box_rows = 64>, <arg = 6, rows = 16, columns = 128, box_rows = 16>], config = {blocks = 1 : i64, counters = 0 : i64, gathered = 0 : i64, input_bytes = 4096 : i64, scratch = 1 : i64, splits = 1 : i64, stages = 16 : i64, stages_mma = 4 : i64, tile_features = 64 : i64, tile_rows = 16 : i64, tile_rows_mma = 16 : i64}>] bucket <tokens = 16, sequences = 1, logit_rows = 16> layouts ["", "vector_f32", "rows_bf16"] {
  ^bb0(%embed: tensor<?x128xbf16>, %layers.0.attn.norm.weight: tensor<128xbf16>, %layers.0.attn.qkv: tensor<256x128xbf16>):
    %layers.0.attn.norm = mili.rms_norm %embed, %layers.0.attn.norm.weight eps 9.99999997E-7 : tensor<?x128xbf16>, tensor<128xbf16>
    %layers.0.attn.qkv_0 = mili.linear %layers.0.attn.norm, %layers.0.attn.qkv : tensor<?x128xbf16>, tensor<256x128xbf16> -> tensor<?x256xbf16>
    %layers.0.attn.qkv_1:3 = mili.split %layers.0.attn.qkv_0 : tensor<?x256xbf16> -> tensor<?x128xbf16>, tensor<?x64xbf16>, tensor<?x64xbf16>
    mili.yield %layers.0.attn.qkv_1#0, %layers.0.attn.qkv_1#1, %layers.0.attn.qkv_1#2 : tensor<?x128xbf16>, tensor<?x64xbf16>, tensor<?x64xbf16>
  }
}
