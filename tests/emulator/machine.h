// Runs kernels: a block at a time, each CUDA thread a fiber with its own stack that runs until it waits for others. So
// a missing barrier shows: the threads that run first read what the others have not written yet, which is NaN.
#pragma once

#include "abi.h"

#include <cstddef>
#include <string>

namespace mili::emulator {

constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kWarp = 32;
// What a block may have at most on the largest part; addresses in shared memory begin above zero.
constexpr unsigned kMaxShared = 227 * 1024;
constexpr unsigned kSharedBase = 1024;

struct LaunchShape {
  MiliDim3 grid, block;
  unsigned shared_bytes = 0;
};

// Runs all blocks, in the order of their index, or from the last to the first (and warps and lanes likewise) if
// `reverse`. Empty, or what went wrong: a fault of a thread, threads that wait for each other forever, a write past
// shared memory. One launch at a time; call it under a lock.
std::string run_kernel(const MiliKernel &kernel, const LaunchShape &shape, void **parameters, bool reverse);

}  // namespace mili::emulator
