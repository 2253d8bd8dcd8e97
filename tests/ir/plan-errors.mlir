// RUN: mili-opt %s --verify-diagnostics --split-input-file

// expected-error@+1 {{'mili_plan.weight' op expected pieces of 8 rows in all for 'tensor<8x32xf32>', found 4 rows}}
mili_plan.weight @w0 "a.weight"[0 : 4] layout "row_major" : tensor<8x32xf32>

// -----

// expected-error@+1 {{'mili_plan.kernel' op expected at least one stage, found none}}
mili_plan.kernel @k template "t" hero "mili.scale" stages [] bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts [""] {
^bb0(%x: tensor<?x8xf32>):
  %y = mili.scale %x by 2.0 : tensor<?x8xf32>
  mili.yield %y : tensor<?x8xf32>
}

// -----

// expected-error@+1 {{'mili_plan.kernel' op expected layouts that are strings, found 1 : i64}}
mili_plan.kernel @k template "t" hero "mili.scale" stages [#mili.stage<"a", tiles = 1 per one by 1>] bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts [1] {
^bb0(%x: tensor<?x8xf32>):
  %y = mili.scale %x by 2.0 : tensor<?x8xf32>
  mili.yield %y : tensor<?x8xf32>
}

// -----

// expected-error@+1 {{'mili_plan.kernel' op expected a body that ends in mili.yield, found mili.scale}}
mili_plan.kernel @k template "t" hero "mili.scale" stages [#mili.stage<"a", tiles = 1 per one by 1>] bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts [""] {
^bb0(%x: tensor<?x8xf32>):
  %y = mili.scale %x by 2.0 : tensor<?x8xf32>
}

// -----

// expected-error@+1 {{'mili_plan.kernel' op expected the hero "mili.linear" among the ops of the body, found none}}
mili_plan.kernel @k template "t" hero "mili.linear" stages [#mili.stage<"a", tiles = 1 per one by 1>] bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts [""] {
^bb0(%x: tensor<?x8xf32>):
  mili.yield %x : tensor<?x8xf32>
}

// -----

// expected-error@+1 {{'mili_plan.bucket' op expected 0 <= lower_bound <= arena bytes, found lower_bound = 2048, arena = 1024}}
mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 2048 naive 4096 logits 0 {
}

// -----

// expected-error@+1 {{'mili_plan.bucket' op expected logits at a multiple of 256 within the arena of 1024 bytes, found offset 1024}}
mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 1024 {
}

// -----

// expected-error@+1 {{'mili_plan.bucket' op expected only mili_plan.launch in its body, found mili.weight}}
mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
  // expected-note@+1 {{found here}}
  %w = mili.weight "a" : tensor<4xf32>
}

// -----

mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
  // expected-error@+1 {{'mili_plan.launch' op refers to @k, which is not a mili_plan.kernel of this module}}
  mili_plan.launch @k stage 0 "g" []
}

// -----

// expected-error@+1 {{'mili_plan.kernel' op expected a layout (empty for what is not a weight) for each of the 1 body arguments, found 2}}
mili_plan.kernel @k template "t" hero "mili.scale" stages [#mili.stage<"a", tiles = 1 per one by 1>] bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", ""] {
^bb0(%x: tensor<?x8xf32>):
  %y = mili.scale %x by 2.0 : tensor<?x8xf32>
  mili.yield %y : tensor<?x8xf32>
}

// -----

module {
  mili.state @kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  mili.state @other : !mili.kv<heads = 2, k = 4, v = 4, f32>
  mili_plan.weight @w "w" layout "row_major" : tensor<4x8xf32>
  mili_plan.weight @v "v" layout "panel16" : tensor<4x8xf32>
  mili_plan.kernel @k template "t" hero "mili.kv_append" stages [#mili.stage<"a", tiles = 1 per one by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", "row_major", "", ""] {
  ^bb0(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %kv: !mili.kv<heads = 1, k = 4, v = 4, f32>, %batch: !mili.batch):
    %y = mili.linear %x, %w : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
    %new = mili.kv_append %kv, %y, %y, %batch : !mili.kv<heads = 1, k = 4, v = 4, f32>, tensor<?x4xf32>, tensor<?x4xf32>
    mili.yield %y, %new : tensor<?x4xf32>, !mili.kv<heads = 1, k = 4, v = 4, f32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op expected a stage of @k below 1, found 1}}
    mili_plan.launch @k stage 1 "g" [#mili_plan.arena<read 0 + 32>, #mili_plan.weight_ref<@w>, #mili_plan.state_ref<readwrite @kv>, #mili_plan.arena<write 256 + 16>]
  }
}

// -----

module {
  mili.state @kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  mili.state @other : !mili.kv<heads = 2, k = 4, v = 4, f32>
  mili_plan.weight @w "w" layout "row_major" : tensor<4x8xf32>
  mili_plan.weight @v "v" layout "panel16" : tensor<4x8xf32>
  mili_plan.kernel @k template "t" hero "mili.kv_append" stages [#mili.stage<"a", tiles = 1 per one by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", "row_major", "", ""] {
  ^bb0(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %kv: !mili.kv<heads = 1, k = 4, v = 4, f32>, %batch: !mili.batch):
    %y = mili.linear %x, %w : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
    %new = mili.kv_append %kv, %y, %y, %batch : !mili.kv<heads = 1, k = 4, v = 4, f32>, tensor<?x4xf32>, tensor<?x4xf32>
    mili.yield %y, %new : tensor<?x4xf32>, !mili.kv<heads = 1, k = 4, v = 4, f32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op expected 4 arguments for @k (then scratch and counters, if any), found 3}}
    mili_plan.launch @k stage 0 "g" [#mili_plan.arena<read 0 + 32>, #mili_plan.weight_ref<@w>, #mili_plan.state_ref<readwrite @kv>]
  }
}

// -----

module {
  mili.state @kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  mili.state @other : !mili.kv<heads = 2, k = 4, v = 4, f32>
  mili_plan.weight @w "w" layout "row_major" : tensor<4x8xf32>
  mili_plan.weight @v "v" layout "panel16" : tensor<4x8xf32>
  mili_plan.kernel @k template "t" hero "mili.kv_append" stages [#mili.stage<"a", tiles = 1 per one by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", "row_major", "", ""] {
  ^bb0(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %kv: !mili.kv<heads = 1, k = 4, v = 4, f32>, %batch: !mili.batch):
    %y = mili.linear %x, %w : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
    %new = mili.kv_append %kv, %y, %y, %batch : !mili.kv<heads = 1, k = 4, v = 4, f32>, tensor<?x4xf32>, tensor<?x4xf32>
    mili.yield %y, %new : tensor<?x4xf32>, !mili.kv<heads = 1, k = 4, v = 4, f32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op expected argument #0 to be an arena slice for 'tensor<?x8xf32>', found #mili_plan.weight_ref<@w>}}
    mili_plan.launch @k stage 0 "g" [#mili_plan.weight_ref<@w>, #mili_plan.weight_ref<@w>, #mili_plan.state_ref<readwrite @kv>, #mili_plan.arena<write 256 + 16>]
  }
}

// -----

module {
  mili.state @kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  mili.state @other : !mili.kv<heads = 2, k = 4, v = 4, f32>
  mili_plan.weight @w "w" layout "row_major" : tensor<4x8xf32>
  mili_plan.weight @v "v" layout "panel16" : tensor<4x8xf32>
  mili_plan.kernel @k template "t" hero "mili.kv_append" stages [#mili.stage<"a", tiles = 1 per one by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", "row_major", "", ""] {
  ^bb0(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %kv: !mili.kv<heads = 1, k = 4, v = 4, f32>, %batch: !mili.batch):
    %y = mili.linear %x, %w : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
    %new = mili.kv_append %kv, %y, %y, %batch : !mili.kv<heads = 1, k = 4, v = 4, f32>, tensor<?x4xf32>, tensor<?x4xf32>
    mili.yield %y, %new : tensor<?x4xf32>, !mili.kv<heads = 1, k = 4, v = 4, f32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op expected argument #1 to be a weight_ref for 'tensor<4x8xf32>', found #mili_plan.arena<read 0 + 32>}}
    mili_plan.launch @k stage 0 "g" [#mili_plan.arena<read 0 + 32>, #mili_plan.arena<read 0 + 32>, #mili_plan.state_ref<readwrite @kv>, #mili_plan.arena<write 256 + 16>]
  }
}

// -----

module {
  mili.state @kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  mili.state @other : !mili.kv<heads = 2, k = 4, v = 4, f32>
  mili_plan.weight @w "w" layout "row_major" : tensor<4x8xf32>
  mili_plan.weight @v "v" layout "panel16" : tensor<4x8xf32>
  mili_plan.kernel @k template "t" hero "mili.kv_append" stages [#mili.stage<"a", tiles = 1 per one by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", "row_major", "", ""] {
  ^bb0(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %kv: !mili.kv<heads = 1, k = 4, v = 4, f32>, %batch: !mili.batch):
    %y = mili.linear %x, %w : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
    %new = mili.kv_append %kv, %y, %y, %batch : !mili.kv<heads = 1, k = 4, v = 4, f32>, tensor<?x4xf32>, tensor<?x4xf32>
    mili.yield %y, %new : tensor<?x4xf32>, !mili.kv<heads = 1, k = 4, v = 4, f32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op expected argument #2 to be a state_ref for '!mili.kv<heads = 1, k = 4, v = 4, f32>', found #mili_plan.arena<read 0 + 32>}}
    mili_plan.launch @k stage 0 "g" [#mili_plan.arena<read 0 + 32>, #mili_plan.weight_ref<@w>, #mili_plan.arena<read 0 + 32>, #mili_plan.arena<write 256 + 16>]
  }
}

// -----

module {
  mili.state @kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  mili.state @other : !mili.kv<heads = 2, k = 4, v = 4, f32>
  mili_plan.weight @w "w" layout "row_major" : tensor<4x8xf32>
  mili_plan.weight @v "v" layout "panel16" : tensor<4x8xf32>
  mili_plan.kernel @k template "t" hero "mili.kv_append" stages [#mili.stage<"a", tiles = 1 per one by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", "row_major", "", ""] {
  ^bb0(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %kv: !mili.kv<heads = 1, k = 4, v = 4, f32>, %batch: !mili.batch):
    %y = mili.linear %x, %w : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
    %new = mili.kv_append %kv, %y, %y, %batch : !mili.kv<heads = 1, k = 4, v = 4, f32>, tensor<?x4xf32>, tensor<?x4xf32>
    mili.yield %y, %new : tensor<?x4xf32>, !mili.kv<heads = 1, k = 4, v = 4, f32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op argument #1 refers to @nothing, which is not a mili_plan.weight of this module}}
    mili_plan.launch @k stage 0 "g" [#mili_plan.arena<read 0 + 32>, #mili_plan.weight_ref<@nothing>, #mili_plan.state_ref<readwrite @kv>, #mili_plan.arena<write 256 + 16>]
  }
}

// -----

module {
  mili.state @kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  mili.state @other : !mili.kv<heads = 2, k = 4, v = 4, f32>
  mili_plan.weight @w "w" layout "row_major" : tensor<4x8xf32>
  mili_plan.weight @v "v" layout "panel16" : tensor<4x8xf32>
  mili_plan.kernel @k template "t" hero "mili.kv_append" stages [#mili.stage<"a", tiles = 1 per one by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", "row_major", "", ""] {
  ^bb0(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %kv: !mili.kv<heads = 1, k = 4, v = 4, f32>, %batch: !mili.batch):
    %y = mili.linear %x, %w : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
    %new = mili.kv_append %kv, %y, %y, %batch : !mili.kv<heads = 1, k = 4, v = 4, f32>, tensor<?x4xf32>, tensor<?x4xf32>
    mili.yield %y, %new : tensor<?x4xf32>, !mili.kv<heads = 1, k = 4, v = 4, f32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op expected argument #1 to be a weight of 'tensor<4x8xf32>' in layout "row_major", found 'tensor<4x8xf32>' in layout "panel16"}}
    mili_plan.launch @k stage 0 "g" [#mili_plan.arena<read 0 + 32>, #mili_plan.weight_ref<@v>, #mili_plan.state_ref<readwrite @kv>, #mili_plan.arena<write 256 + 16>]
  }
}

// -----

module {
  mili.state @kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  mili.state @other : !mili.kv<heads = 2, k = 4, v = 4, f32>
  mili_plan.weight @w "w" layout "row_major" : tensor<4x8xf32>
  mili_plan.weight @v "v" layout "panel16" : tensor<4x8xf32>
  mili_plan.kernel @k template "t" hero "mili.kv_append" stages [#mili.stage<"a", tiles = 1 per one by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", "row_major", "", ""] {
  ^bb0(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %kv: !mili.kv<heads = 1, k = 4, v = 4, f32>, %batch: !mili.batch):
    %y = mili.linear %x, %w : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
    %new = mili.kv_append %kv, %y, %y, %batch : !mili.kv<heads = 1, k = 4, v = 4, f32>, tensor<?x4xf32>, tensor<?x4xf32>
    mili.yield %y, %new : tensor<?x4xf32>, !mili.kv<heads = 1, k = 4, v = 4, f32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op argument #2 refers to @nothing, which is not a mili.state of this module}}
    mili_plan.launch @k stage 0 "g" [#mili_plan.arena<read 0 + 32>, #mili_plan.weight_ref<@w>, #mili_plan.state_ref<read @nothing>, #mili_plan.arena<write 256 + 16>]
  }
}

// -----

module {
  mili.state @kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  mili.state @other : !mili.kv<heads = 2, k = 4, v = 4, f32>
  mili_plan.weight @w "w" layout "row_major" : tensor<4x8xf32>
  mili_plan.weight @v "v" layout "panel16" : tensor<4x8xf32>
  mili_plan.kernel @k template "t" hero "mili.kv_append" stages [#mili.stage<"a", tiles = 1 per one by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", "row_major", "", ""] {
  ^bb0(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %kv: !mili.kv<heads = 1, k = 4, v = 4, f32>, %batch: !mili.batch):
    %y = mili.linear %x, %w : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
    %new = mili.kv_append %kv, %y, %y, %batch : !mili.kv<heads = 1, k = 4, v = 4, f32>, tensor<?x4xf32>, tensor<?x4xf32>
    mili.yield %y, %new : tensor<?x4xf32>, !mili.kv<heads = 1, k = 4, v = 4, f32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op expected argument #2 to be a state of '!mili.kv<heads = 1, k = 4, v = 4, f32>', found '!mili.kv<heads = 2, k = 4, v = 4, f32>'}}
    mili_plan.launch @k stage 0 "g" [#mili_plan.arena<read 0 + 32>, #mili_plan.weight_ref<@w>, #mili_plan.state_ref<read @other>, #mili_plan.arena<write 256 + 16>]
  }
}

// -----

module {
  mili.state @kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
  mili.state @other : !mili.kv<heads = 2, k = 4, v = 4, f32>
  mili_plan.weight @w "w" layout "row_major" : tensor<4x8xf32>
  mili_plan.weight @v "v" layout "panel16" : tensor<4x8xf32>
  mili_plan.kernel @k template "t" hero "mili.kv_append" stages [#mili.stage<"a", tiles = 1 per one by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", "row_major", "", ""] {
  ^bb0(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %kv: !mili.kv<heads = 1, k = 4, v = 4, f32>, %batch: !mili.batch):
    %y = mili.linear %x, %w : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
    %new = mili.kv_append %kv, %y, %y, %batch : !mili.kv<heads = 1, k = 4, v = 4, f32>, tensor<?x4xf32>, tensor<?x4xf32>
    mili.yield %y, %new : tensor<?x4xf32>, !mili.kv<heads = 1, k = 4, v = 4, f32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op expected scratch in the arena, then counters, as the arguments after #3, found #mili_plan.weight_ref<@w>}}
    mili_plan.launch @k stage 0 "g" [#mili_plan.arena<read 0 + 32>, #mili_plan.weight_ref<@w>, #mili_plan.state_ref<readwrite @kv>, #mili_plan.arena<write 256 + 16>, #mili_plan.weight_ref<@w>]
  }
}

// -----

mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
  // expected-error@+1 {{'mili_plan.launch' op expected argument #0 to be an arena slice, a weight_ref or a state_ref, found "x"}}
  mili_plan.launch @k stage 0 "g" ["x"]
}

// -----

mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
  // expected-error@+1 {{'mili_plan.launch' op expected argument #1 at an offset that is a multiple of 256 bytes, found 128}}
  mili_plan.launch @k stage 0 "g" [#mili_plan.arena<read 0 + 128>, #mili_plan.arena<write 128 + 128>]
}

// -----

mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
  // expected-error@+1 {{'mili_plan.launch' op expected argument #0 within the bucket's arena of 1024 bytes, found 768 + 512}}
  mili_plan.launch @k stage 0 "g" [#mili_plan.arena<read 768 + 512>]
}

// -----

// The sum of offset and size overflows.
mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
  // expected-error@+1 {{'mili_plan.launch' op expected argument #0 within the bucket's arena of 1024 bytes, found 256 + 9223372036854775807}}
  mili_plan.launch @k stage 0 "g" [#mili_plan.arena<read 256 + 9223372036854775807>]
}

// -----

module {
  mili_plan.kernel @k template "t" hero "mili.sample" stages [#mili.stage<"a", tiles = 1 per logit_rows by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", ""] {
  ^bb0(%l: tensor<?x8xf32>, %batch: !mili.batch):
    %t = mili.sample %l, %batch : tensor<?x8xf32> -> tensor<?xi32>
    mili.yield %t : tensor<?xi32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op expected scratch in the arena, then counters, as the arguments after #1, found #mili_plan.arena<readwrite 512 + 16>}}
    mili_plan.launch @k stage 0 "sample" [#mili_plan.arena<read 0 + 32>, #mili_plan.arena<write 256 + 4>, #mili_plan.counters<4>, #mili_plan.arena<readwrite 512 + 16>]
  }
}

// -----

module {
  mili_plan.kernel @k template "t" hero "mili.sample" stages [#mili.stage<"a", tiles = 1 per logit_rows by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", ""] {
  ^bb0(%l: tensor<?x8xf32>, %batch: !mili.batch):
    %t = mili.sample %l, %batch : tensor<?x8xf32> -> tensor<?xi32>
    mili.yield %t : tensor<?xi32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op expected scratch in the arena, then counters, as the arguments after #1, found #mili_plan.counters<4>}}
    mili_plan.launch @k stage 0 "sample" [#mili_plan.arena<read 0 + 32>, #mili_plan.arena<write 256 + 4>, #mili_plan.counters<4>, #mili_plan.counters<4>]
  }
}

// -----

module {
  mili_plan.kernel @k template "t" hero "mili.sample" stages [#mili.stage<"a", tiles = 1 per logit_rows by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", ""] {
  ^bb0(%l: tensor<?x8xf32>, %batch: !mili.batch):
    %t = mili.sample %l, %batch : tensor<?x8xf32> -> tensor<?xi32>
    mili.yield %t : tensor<?xi32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op expected 2 arguments for @k (then scratch and counters, if any), found 5}}
    mili_plan.launch @k stage 0 "sample" [#mili_plan.arena<read 0 + 32>, #mili_plan.arena<write 256 + 4>, #mili_plan.arena<readwrite 512 + 16>, #mili_plan.counters<4>, #mili_plan.counters<4>]
  }
}

// -----

module {
  mili_plan.kernel @k template "t" hero "mili.sample" stages [#mili.stage<"a", tiles = 1 per logit_rows by 1>]
      bucket <tokens = 1, sequences = 1, logit_rows = 1> layouts ["", ""] {
  ^bb0(%l: tensor<?x8xf32>, %batch: !mili.batch):
    %t = mili.sample %l, %batch : tensor<?x8xf32> -> tensor<?xi32>
    mili.yield %t : tensor<?xi32>
  }
  mili_plan.bucket @b <tokens = 1, sequences = 1, logit_rows = 1> arena 1024 lower_bound 512 naive 4096 logits 0 {
    // expected-error@+1 {{'mili_plan.launch' op expected 2 arguments for @k (then scratch and counters, if any), found 1}}
    mili_plan.launch @k stage 0 "sample" [#mili_plan.arena<read 0 + 32>]
  }
}

// -----

// expected-error@+1 {{work: expected figures that are not negative, found -1}}
#negative = #mili_plan.work<per = tokens, bytes_row = -1>

// -----

// expected-error@+1 {{work: expected visible keys just where keys or pairs count, found bytes_key = 0, flops_pair = 8, visible_base = 0, visible_every = 0}}
#blind = #mili_plan.work<per = tokens, flops_pair = 8>

// -----

// expected-error@+1 {{work: expected visible keys just where keys or pairs count, found bytes_key = 0, flops_pair = 0, visible_base = 64, visible_every = 0}}
#keyless = #mili_plan.work<per = tokens, bytes_fixed = 8, visible_base = 64>
