// Counts the host's heap allocations of a test program that compiles counting_allocator.cc into it.
#pragma once

#include <cstdint>

namespace mili::toy {

// Calls of malloc, calloc and realloc (and so of operator new) since the program began, by all threads.
uint64_t heap_allocations();

}  // namespace mili::toy
