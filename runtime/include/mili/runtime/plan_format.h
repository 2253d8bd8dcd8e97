// The container of a plan file (.mili): a fixed header, a section table, sections. Little-endian.
//
//   [FileHeader][SectionEntry x section_count][padding][section 0][padding][section 1] ...
//
// A reader checks magic, major version, file size against the real file, the table's hash, every section's bounds,
// alignment, order and mutual disjointness, and then each section's own hash, before it uses a byte of it.
#pragma once

#include <cstdint>

namespace mili {

inline constexpr char kPlanMagic[8] = {'M', 'I', 'L', 'I', 'P', 'L', 'A', 'N'};
// Major: a reader refuses a newer one. Minor: additions that an older reader can ignore.
inline constexpr uint16_t kPlanMajor = 1;
inline constexpr uint16_t kPlanMinor = 0;

struct FileHeader {
  char magic[8];
  uint16_t major;
  uint16_t minor;
  uint32_t section_count;  // at most kMaxSections
  uint64_t features;       // bit set: a reader that does not know the bit refuses the plan. None yet.
  uint64_t file_size;      // of the whole file
  uint64_t table_hash;     // XXH3_64bits of the section table
  uint64_t reserved[3];    // zero
};
static_assert(sizeof(FileHeader) == 64);

enum class SectionKind : uint32_t {
  kMeta = 1,        // FlatBuffers, plan.fbs; exactly one
  kTokenizer = 2,   // FlatBuffers, tokenizer.fbs; at most one
  kHostObject = 3,  // an ELF shared object; one per variant
  kCudaSource = 5,  // FlatBuffers, cuda.fbs: CudaSources; at most one
  kCubins = 6,      // FlatBuffers, cuda.fbs: Cubins; one per architecture
  kWeights = 4,     // raw, kWeightSectionAlign-aligned in the file; exactly one, last
};

struct SectionEntry {
  uint32_t kind;
  uint32_t alignment;  // power of two; offset is a multiple of it
  uint64_t offset;
  uint64_t size;
  uint64_t hash;  // XXH3_64bits of the section's bytes
};
static_assert(sizeof(SectionEntry) == 32);

inline constexpr uint32_t kMaxSections = 256;
inline constexpr uint64_t kSectionAlign = 64;
inline constexpr uint64_t kWeightSectionAlign = 4096;
inline constexpr uint64_t kWeightAlign = 256;
inline constexpr uint64_t kArenaAlign = 256;

}  // namespace mili
