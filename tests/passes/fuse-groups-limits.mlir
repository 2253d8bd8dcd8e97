// What one tile of a product may have to hold, and who says so.
// RUN: mili-opt %s --mili-fuse-groups=report=table 2>&1 >/dev/null | FileCheck %s --check-prefix=FUSED
// RUN: mili-opt %s --mili-fuse-groups='granularity-limit=4 report=table' 2>&1 >/dev/null | FileCheck %s --check-prefix=LIMIT
// RUN: mili-opt %s --mili-fuse-groups='workers=64 report=table' 2>&1 >/dev/null | FileCheck %s --check-prefix=WORKERS
// RUN: mili-opt %s --mili-fuse-groups='disable=rope report=table' 2>&1 >/dev/null | FileCheck %s --check-prefix=OFF
// RUN: mili-opt %s --mili-fuse-groups='report=json' 2>&1 >/dev/null | FileCheck %s --check-prefix=JSON

// FUSED: edge {{ *}}kind {{ *}}tokens {{ *}}decision {{ *}}bytes saved {{ *}}times {{ *}}why
// FUSED: layers.*.q → layers.*.rope {{ *}}linear-rope {{ *}}any {{ *}}fused {{ *}}512 B/token {{ *}}2 {{ *}}epilogue
// LIMIT: linear-rope {{ *}}any {{ *}}separate {{ *}}– {{ *}}2 {{ *}}needs 8 features in one tile, the limit is 4
// WORKERS: linear-rope {{.*}}needs 8 of 64 features in one tile, which leaves 8 tiles for 64 workers
// OFF: linear-rope {{.*}}switched off
// OFF: rope-linear {{.*}}no kernel runs rope before this linear, or linear after this rope

// FUSED: function {{ *}}tokens {{ *}}ops {{ *}}groups {{ *}}recomputed {{ *}}fused edges {{ *}}bytes saved
// FUSED-NEXT: forward_t1 {{ *}}≤ 1 {{ *}}4 {{ *}}2 {{ *}}0 {{ *}}2 of 3 {{ *}}1.0 KB/step

// JSON: "merges": [],
// JSON: "ops": [
// JSON: "index": 1,
// JSON-NEXT: "name": "layers.0.rope",
// JSON-NEXT: "op": "mili.rope",
// JSON-NEXT: "groups": [
// JSON-NEXT: 0
// JSON-NEXT: ],
// JSON-NEXT: "recomputed": false
// JSON: "edges": [
// JSON: "function": "forward_t1",
// JSON-NEXT: "tokens": 1,
// JSON-NEXT: "producer": "layers.0.q",
// JSON-NEXT: "consumer": "layers.0.rope",
// JSON-NEXT: "producer_op": 0,
// JSON-NEXT: "consumer_op": 1,
// JSON-NEXT: "values": [
// JSON-NEXT: 0
// JSON-NEXT: ],
// JSON-NEXT: "kind": "linear-rope",
// JSON-NEXT: "fused": true,
// JSON-NEXT: "bytes_saved": 512,
// JSON-NEXT: "reason": "epilogue"
// JSON: "groups": [
// JSON: "name": "layers.0.q",
// JSON-NEXT: "hero": "mili.linear",
// JSON-NEXT: "ops": [
// JSON-NEXT: "layers.0.q",
// JSON-NEXT: "layers.0.rope"
#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5, 0.25, 0.125]>
func.func @forward_t1(%x: tensor<?x64xf32>, %batch: !mili.batch, %w: tensor<64x64xf32>) -> tensor<?x64xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
  %q = mili.linear %x, %w : tensor<?x64xf32>, tensor<64x64xf32> -> tensor<?x64xf32> loc("layers.0.q")
  %r = mili.rope %q, %batch heads 8 #rope : tensor<?x64xf32> loc("layers.0.rope")
  %q1 = mili.linear %r, %w : tensor<?x64xf32>, tensor<64x64xf32> -> tensor<?x64xf32> loc("layers.1.q")
  %r1 = mili.rope %q1, %batch heads 8 #rope : tensor<?x64xf32> loc("layers.1.rope")
  return %r1 : tensor<?x64xf32>
}
