// RUN: mili-opt %s --verify-roundtrip | mili-opt | FileCheck %s
// The stages of a GPU, as kernel selection writes them: no scratch of workers, each of the other parts or none.
// CHECK-LABEL: @stages
func.func private @stages() attributes {
  // CHECK-SAME: a = #mili.stage<"rows", tiles = 1 per tokens by 1, cuda = [<arch = 80, threads = 64, shared = 1024>]>
  a = #mili.stage<"rows", tiles = 1 per tokens by 1, cuda = [<arch = 80, threads = 64, shared = 1024>]>,
  // CHECK-SAME: b = #mili.stage<"rows", tiles = 1 per tokens by 1, cuda = [<arch = 80, threads = 64, shared = 1024>], config = {threads = 64 : i64}>
  b = #mili.stage<"rows", tiles = 1 per tokens by 1, cuda = [<arch = 80, threads = 64, shared = 1024>], config = {threads = 64 : i64}>,
  // CHECK-SAME: c = #mili.stage<"product", tiles = 8 per tokens by 16, cuda = [<arch = 80, threads = 256, shared = 92160, blocks_per_sm = 1>], maps = [<arg = 1, rows = 64, columns = 96, box_rows = 64>], config = {splits = 2 : i64}>
  c = #mili.stage<"product", tiles = 8 per tokens by 16, cuda = [<arch = 80, threads = 256, shared = 92160, blocks_per_sm = 1>],
                  maps = [<arg = 1, rows = 64, columns = 96, box_rows = 64>], config = {splits = 2 : i64}>,
  // CHECK-SAME: d = #mili.stage<"all", tiles = 1 per one by 1, config = {splits = 1 : i64}>
  d = #mili.stage<"all", tiles = 1 per one by 1, config = {splits = 1 : i64}>}
