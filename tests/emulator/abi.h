// What an emulated kernel and the emulated driver know of each other. The kernel's side is compiled without any
// standard header, so nothing is included here.
#pragma once

struct MiliDim3 {
  unsigned x, y, z;
};

// A tensor map: what the 128 bytes of a CUtensorMap hold. A matrix of bf16, and the box that a copy takes of it.
struct MiliTensorMap {
  const void *address;
  unsigned long columns, rows, row_bytes;
  unsigned box_columns, box_rows;
};

enum MiliShuffle { kMiliShuffleIndex, kMiliShuffleXor, kMiliShuffleUp, kMiliShuffleDown };

// What a CUDA thread asks of its block. Functions that take a mask are called by all lanes of it, and return when all
// have arrived; a lane that asks for something else at the same time is a fault.
struct MiliEmulator {
  void (*barrier)();
  void (*sync_warp)(unsigned mask);
  unsigned long (*shuffle)(unsigned mask, MiliShuffle kind, unsigned long value, int argument);
  unsigned (*ballot)(unsigned mask, bool vote);
  // Instructions of the whole warp, as mili/device/ptx.cuh describes them; `count` matrices of ldmatrix.
  void (*load_matrix)(unsigned *registers, int count, bool transposed, unsigned address);
  void (*mma)(float *d, const unsigned *a, unsigned b0, unsigned b1);
  // Addresses in shared memory, and back: a fault where `bytes` are not in the block's dynamic shared memory.
  unsigned (*shared_address)(const void *pointer);
  void *(*shared_pointer)(unsigned address, unsigned bytes);
  // cp.async of 16 bytes: arrives only when a wait covers its group.
  void (*copy_async)(unsigned to, const void *from, bool valid);
  void (*commit)();
  void (*wait)(int pending);
  // mbarrier; `bytes` more are expected in the phase. A box arrives when a thread waits for its barrier, or none can
  // run.
  void (*barrier_init)(unsigned barrier, unsigned arrivals);
  void (*barrier_arrive)(unsigned barrier, unsigned bytes);
  // The thread's copies so far arrive, then the thread at the barrier.
  void (*copies_arrive)(unsigned barrier);
  void (*barrier_wait)(unsigned barrier, unsigned parity);
  void (*copy_box)(unsigned to, const MiliTensorMap *map, int column, int row, unsigned barrier);
  // wgmma: products are made when a wait covers their group.
  void (*wgmma)(float *d, int columns, unsigned long a, unsigned long b, bool accumulate);
  // The same with the thread's part of a in registers; b's columns rather than its depth contiguous if `transposed`.
  void (*wgmma_registers)(float *d, int columns, const unsigned *a, unsigned long b, bool transposed, bool accumulate);
  void (*wgmma_commit)();
  void (*wgmma_wait)(int pending);
};

// A kernel: what its shared object exports under the name mili_emulated_kernel.
struct MiliKernel {
  const char *name;
  void (*call)(void **parameters);  // one CUDA thread
  const unsigned *parameter_bytes;
  unsigned parameters;
  // Set before a thread runs or goes on.
  const MiliEmulator **emulator;
  MiliDim3 *thread, *block, *block_size, *grid;
  unsigned char **dynamic_shared;
  // The kernel's __shared__ variables.
  unsigned char *static_shared_begin, *static_shared_end;
};
