// How the runtime calls a kernel of a CPU plan. Fixed by the plan's major version.
//
// A plan's host object exports one function per kernel of this type. The device splits the launch's tiles into one
// contiguous range per worker and calls the function once per worker, so work that a group recomputes per worker (a
// fused prologue) is done once at the start of the call. A barrier separates launches.
#pragma once

#include "mili/runtime/batch.h"

#include <cstdint>

namespace mili {

// args:    one address per argument of the launch, in order: arena slices, weights, state pools.
// batch:   the step.
// begin, end: the tiles to do, begin < end.
// scratch: memory of this worker alone, 64-byte aligned, of the size that the plan's kernel record states.
using CpuKernel = void (*)(void *const *args, const Batch *batch, uint64_t begin, uint64_t end, void *scratch);

}  // namespace mili
