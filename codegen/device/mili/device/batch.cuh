// A step's batch as device code sees it: the same 8-byte fields in the same order as the runtime's `mili::Batch`, generated
// from the one list that both share (runtime/include/mili/runtime/batch_fields.def, which NVRTC gets as a header of the
// same name). NVRTC has no <cstdint>, so the integer types are named here.

#ifndef MILI_DEVICE_BATCH_CUH
#define MILI_DEVICE_BATCH_CUH

#include "mili/device/common.cuh"

namespace mili {

using int32_t = int;
using int64_t = long;
using uint64_t = unsigned long;
static_assert(sizeof(int32_t) == 4 && sizeof(int64_t) == 8, "LP64");

/// Tokens of a page of the key/value pool.
constexpr int kPageTokens = 64;

struct SequenceSampling {
#define MILI_SAMPLING_FIELD(type, name, doc) type name;
#include "mili/runtime/batch_fields.def"
};
static_assert(sizeof(SequenceSampling) == 64, "as the runtime's");

struct Batch {
#define MILI_BATCH_COUNT(name, doc) int64_t name;
#define MILI_BATCH_TABLE(name, elem, doc) const elem *name;
#include "mili/runtime/batch_fields.def"
};

/// The pages of sequence `segment` in the plan's page table `table`, one for each 64 positions.
MILI_DEVICE const int32_t *pages_of(const Batch *batch, int table, int segment) {
  return batch->page_table + (table * batch->sequences + segment) * batch->pages_per_sequence;
}

}  // namespace mili

#endif  // MILI_DEVICE_BATCH_CUH
