// PlanWriter: writes a plan file front to back with little memory.
//
//   MILI_ASSIGN_OR_RETURN(PlanWriter writer, PlanWriter::create("model.mili"));
//   MILI_ASSIGN_OR_RETURN(uint32_t object, writer.add_section(SectionKind::kHostObject, elf));   // Variant.section
//   MILI_ASSIGN_OR_RETURN(uint32_t meta, writer.add_section(SectionKind::kMeta, flatbuffer));
//   MILI_RETURN_IF_ERROR(writer.begin_weights());
//   for (each weight, ascending by offset) {
//     MILI_RETURN_IF_ERROR(writer.pad_weights_to(weight.offset));
//     MILI_RETURN_IF_ERROR(writer.append_weights(piece));                 // as often as needed
//   }
//   MILI_RETURN_IF_ERROR(writer.finish());
//
// It writes to a temporary file in the same folder and renames it over `path` in finish(); a writer that is destroyed
// before that removes the temporary file and leaves `path` as it was.
#pragma once

#include "mili/runtime/plan_format.h"
#include "mili/runtime/status.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace mili {

// XXH3_64bits, the hash of plan sections.
uint64_t section_hash(std::span<const std::byte> bytes);

class PlanWriter {
public:
  static StatusOr<PlanWriter> create(const std::string &path);
  PlanWriter(PlanWriter &&) noexcept;
  PlanWriter &operator=(PlanWriter &&) noexcept;
  ~PlanWriter();

  // Writes a whole section and returns its index in the section table. Any kind but weights, before begin_weights().
  StatusOr<uint32_t> add_section(SectionKind kind, std::span<const std::byte> bytes);

  // Begins the WEIGHTS section, the last.
  Status begin_weights();
  Status append_weights(std::span<const std::byte> bytes);
  // Appends zeros until the section is `offset` bytes long; InvalidArgument where it is longer already.
  Status pad_weights_to(uint64_t offset);
  uint64_t weights_size() const;

  // Completes header and section table, flushes, renames. The writer is spent.
  Status finish();

private:
  struct Impl;
  explicit PlanWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mili
