// RUN: mili-opt %s --verify-diagnostics --split-input-file

// expected-error@+1 {{weight piece: the tensor's name is empty}}
func.func private @f() attributes {a = #mili.piece<"">}

// -----

// expected-error@+1 {{weight piece "q": expected 0 <= begin < end, found [4 : 4]}}
func.func private @f() attributes {a = #mili.piece<"q"[4 : 4]>}

// -----

// expected-error@+1 {{weight piece "q": a range needs both ends}}
func.func private @f() attributes {a = #mili.piece<"q"[4 : -1]>}

// -----

// expected-error@+1 {{weight param: needs at least one piece}}
func.func private @f() attributes {a = #mili.param<interleave = 2>}

// -----

// expected-error@+1 {{weight param: interleave must not be negative and at most 16777216, found -2}}
func.func private @f() attributes {a = #mili.param<"g", "u", interleave = -2>}

// -----

// expected-error@+1 {{weight param: interleave needs exactly two pieces, found 3}}
func.func private @f() attributes {a = #mili.param<"a", "b", "c", interleave = 2>}

// -----

// expected-error@+1 {{rope: needs at least one frequency}}
func.func private @f() attributes {a = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = []>}

// -----

// expected-error@+1 {{rope: amplitude must be f32, found 'f64'}}
func.func private @f() attributes {a = #mili.rope<"default", pairing = half, amplitude = 1.0 : f64, frequencies = [1.0]>}

// -----

// expected-error@+1 {{rope: amplitude and frequencies must be finite}}
func.func private @f() attributes {a = #mili.rope<"default", pairing = half, amplitude = 0x7F800000 : f32, frequencies = [1.0]>}

// -----

// expected-error@+1 {{window mask: tokens must be positive and at most 2147483648, found 0}}
func.func private @f() attributes {a = #mili.window<0>}

// -----

// expected-error@+1 {{block_sparse mask: local must be positive: a token sees its own block}}
func.func private @f() attributes {a = #mili.block_sparse<local = 0>}

// -----

// expected-error@+1 {{block_sparse mask: stride must be a multiple of 64 tokens, at most 16777216, found 100}}
func.func private @f() attributes {a = #mili.block_sparse<local = 64, stride = 100>}

// -----

// expected-error@+1 {{block_sparse mask: global must be a multiple of 64 tokens, at most 16777216, found -64}}
func.func private @f() attributes {a = #mili.block_sparse<local = 64, global = -64>}

// -----

// expected-error@+1 {{block_sparse mask: local must be a multiple of 64 tokens, at most 16777216, found 16777280}}
func.func private @f() attributes {a = #mili.block_sparse<local = 16777280>}

// -----

// expected-error@+1 {{block_sparse mask: random must be 0 to 64 blocks, found -1}}
func.func private @f() attributes {a = #mili.block_sparse<local = 64, random = -1>}

// -----

// expected-error@+1 {{block_sparse mask: stride and random do not combine}}
func.func private @f() attributes {a = #mili.block_sparse<local = 64, stride = 64, random = 1>}

// -----

// expected-error@+1 {{block_sparse mask: seed must be 0 to 2^32 - 1, found 4294967296}}
func.func private @f() attributes {a = #mili.block_sparse<local = 64, random = 1, seed = 4294967296>}

// -----

// expected-error@+1 {{bucket: tokens and sequences must be positive and logit_rows not negative, found tokens = 4, sequences = 0, logit_rows = 1}}
func.func private @f() attributes {a = #mili.bucket<tokens = 4, sequences = 0, logit_rows = 1>}

// -----

// expected-error@+1 {{bucket: sequences and logit_rows cannot exceed tokens = 4, found sequences = 5, logit_rows = 1}}
func.func private @f() attributes {a = #mili.bucket<tokens = 4, sequences = 5, logit_rows = 1>}

// -----

// expected-error@+1 {{stage: its name is empty}}
func.func private @f() attributes {a = #mili.stage<"", tiles = 1 per one by 1>}

// -----

// expected-error@+1 {{stage "rows": tiles and rows per tile must be positive and scratch not negative, found tiles = 0, rows per tile = 1, scratch = 0}}
func.func private @f() attributes {a = #mili.stage<"rows", tiles = 0 per one by 1>}

// -----

// expected-error@+1 {{expected 'box_rows'}}
func.func private @f() attributes {a = #mili.tensor_map<arg = 0, rows = 8, columns = 8, rows = 8>}

// -----

// expected-error@+1 {{stage "rows": CUDA launches ascend by arch and have 1 to 1024 threads, 0 to 16777216 bytes of shared memory and 0 to 1024 blocks_per_sm, found #mili.cuda_launch<arch = 0, threads = 64, shared = 0>}}
func.func private @f() attributes {a = #mili.stage<"rows", tiles = 1 per one by 1, scratch = 0, cuda = [<arch = 0, threads = 64, shared = 0>]>}

// -----

// expected-error@+1 {{stage "rows": CUDA launches ascend by arch and have 1 to 1024 threads, 0 to 16777216 bytes of shared memory and 0 to 1024 blocks_per_sm, found #mili.cuda_launch<arch = 80, threads = 64, shared = 0>}}
func.func private @f() attributes {a = #mili.stage<"rows", tiles = 1 per one by 1, scratch = 0, cuda = [<arch = 80, threads = 64, shared = 0>, <arch = 80, threads = 64, shared = 0>]>}

// -----

// expected-error@+1 {{stage "rows": CUDA launches ascend by arch and have 1 to 1024 threads, 0 to 16777216 bytes of shared memory and 0 to 1024 blocks_per_sm, found #mili.cuda_launch<arch = 80, threads = 32, shared = 0>}}
func.func private @f() attributes {a = #mili.stage<"rows", tiles = 1 per one by 1, scratch = 0, cuda = [<arch = 90, threads = 32, shared = 0>, <arch = 80, threads = 32, shared = 0>]>}

// -----

// expected-error@+1 {{stage "rows": CUDA launches ascend by arch and have 1 to 1024 threads, 0 to 16777216 bytes of shared memory and 0 to 1024 blocks_per_sm, found #mili.cuda_launch<arch = 80, threads = 0, shared = 0>}}
func.func private @f() attributes {a = #mili.stage<"rows", tiles = 1 per one by 1, scratch = 0, cuda = [<arch = 80, threads = 0, shared = 0>]>}

// -----

// expected-error@+1 {{stage "rows": CUDA launches ascend by arch and have 1 to 1024 threads, 0 to 16777216 bytes of shared memory and 0 to 1024 blocks_per_sm, found #mili.cuda_launch<arch = 90, threads = 1025, shared = 0>}}
func.func private @f() attributes {a = #mili.stage<"rows", tiles = 1 per one by 1, scratch = 0, cuda = [<arch = 80, threads = 64, shared = 0>, <arch = 90, threads = 1025, shared = 0>]>}

// -----

// expected-error@+1 {{stage "rows": CUDA launches ascend by arch and have 1 to 1024 threads, 0 to 16777216 bytes of shared memory and 0 to 1024 blocks_per_sm, found #mili.cuda_launch<arch = 80, threads = 64, shared = -1>}}
func.func private @f() attributes {a = #mili.stage<"rows", tiles = 1 per one by 1, scratch = 0, cuda = [<arch = 80, threads = 64, shared = -1>]>}

// -----

// expected-error@+1 {{kv state: heads, k and v must be positive, found heads = 0, k = 4, v = 4}}
func.func private @f(!mili.kv<heads = 0, k = 4, v = 4, f32>)

// -----

// expected-error@+1 {{kv state: window must not be negative and at most 2147483648, found -1}}
func.func private @f(!mili.kv<heads = 1, k = 4, v = 4, f32, window = -1>)

// -----

// expected-error@+1 {{recurrent state: needs at least one dimension}}
func.func private @f(!mili.recurrent<f32>)

// -----

// expected-error@+1 {{recurrent state: dimensions must be positive, found 0}}
func.func private @f(!mili.recurrent<4x0xf32>)

// -----

// expected-error@+1 {{recurrent state: snapshots must not be negative and at most 16384, found -1}}
func.func private @f(!mili.recurrent<4xf32, snapshots = -1>)
