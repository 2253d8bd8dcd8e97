// Batch: what one step runs on, as kernels see it. Pointers are in the device's memory.
#pragma once

#include <cstdint>

namespace mili {

// Tokens a KV page holds. Fixed: page offsets are compiled into kernels.
inline constexpr int64_t kPageTokens = 64;

struct SequenceSampling {
#define MILI_SAMPLING_FIELD(type, name, doc) type name;
#include "mili/runtime/batch_fields.def"
};
static_assert(sizeof(SequenceSampling) == 64);

struct Batch {
#define MILI_BATCH_COUNT(name, doc) int64_t name = 0;
#define MILI_BATCH_TABLE(name, elem, doc) const elem *name = nullptr;
#include "mili/runtime/batch_fields.def"
};

}  // namespace mili
