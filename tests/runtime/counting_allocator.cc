#include "counting_allocator.h"

#include <atomic>
#include <cstddef>

namespace {
std::atomic<uint64_t> allocations{0};
}  // namespace

uint64_t mili::toy::heap_allocations() {
  return allocations;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// The sanitizer owns malloc; it calls this after each allocation.
extern "C" __attribute__((visibility("default"))) void __sanitizer_malloc_hook(const volatile void *, size_t) {
  ++allocations;
}
#else
// glibc's own names for its functions; its free() takes what they return.
extern "C" {
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

__attribute__((visibility("default"))) void *malloc(size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
__attribute__((visibility("default"))) void *calloc(size_t count, size_t size) {
  ++allocations;
  return __libc_calloc(count, size);
}
__attribute__((visibility("default"))) void *realloc(void *memory, size_t size) {
  ++allocations;
  return __libc_realloc(memory, size);
}
}
#endif
