// Plan: a plan file, mapped read-only and verified before anything in it is used.
//
//   StatusOr<Plan> plan = Plan::open("model.mili");
//   plan->meta().model()->vocab();            // include "mili/schema/plan_generated.h" for the accessors
//
// open() checks, in this order: the header (magic, major version, feature bits, sizes), the section table (hash,
// bounds, order, disjointness, alignment), every section's own hash, META's FlatBuffers structure, and then every
// index, range and size in META against what it refers to. A file that fails any of them is refused with the reason.
//
// The map: everything that open() checks is read through the descriptor, so that a file that shrinks meanwhile is an
// error. META and the tokenizer are kept as copies; host objects are copied when a device loads them. Weights are used
// in the map. Nobody can stop another process from shrinking the file later, which the kernel answers with SIGBUS on
// the pages that vanished; so the descriptor is kept and the engine calls check_unchanged() before every step. Replace
// a plan by renaming a new file over it, as PlanWriter does: the old one then stays whole for those who have it open.
#pragma once

#include "mili/runtime/memory.h"
#include "mili/runtime/plan_format.h"
#include "mili/runtime/status.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mili {

namespace plan {
struct Plan;
struct Bucket;
struct Weight;
}  // namespace plan

// Called now and then with a fraction in [0, 1] and what is going on; false cancels (the call returns kCancelled).
using Progress = std::function<bool(double fraction, std::string_view what)>;

struct PlanOptions {
  // Reads every weight once to compare its section's hash. Off: damage in the weights goes unnoticed.
  bool verify_weights = true;
  Progress progress;
};

class Plan {
public:
  static StatusOr<Plan> open(const std::string &path, const PlanOptions &options = {});
  // The same checks on bytes that the caller keeps alive and unchanged, 4096-byte aligned. `name` is used in messages.
  static StatusOr<Plan> from_memory(std::span<const std::byte> bytes, std::string name,
                                    const PlanOptions &options = {});

  Plan(Plan &&) noexcept;
  Plan &operator=(Plan &&) noexcept;
  ~Plan();

  const std::string &path() const;
  const FileHeader &header() const;
  std::span<const SectionEntry> sections() const;
  // META. Every index in it is in range; required strings and vectors are there.
  const plan::Plan &meta() const;
  // The bytes of tokenizer.fbs, empty where the plan has none.
  std::span<const std::byte> tokenizer() const;
  // A copy of a section, compared with its hash once more.
  StatusOr<std::vector<std::byte>> copy_section(uint32_t index) const;
  // In the map.
  std::span<const std::byte> weights() const;
  // The bytes of one weight of meta().weights().
  std::span<const std::byte> weight(uint32_t index) const;
  // What the engine will allocate; equals meta().memory().
  const MemoryFigures &memory() const;
  // DataLoss where the file is no longer as long as it was. One fstat.
  Status check_unchanged() const;

private:
  struct Impl;
  explicit Plan(std::unique_ptr<Impl> impl);
  static StatusOr<Plan> verify(std::unique_ptr<Impl> impl, const PlanOptions &options);
  std::unique_ptr<Impl> impl_;
};

// The inputs of plan_memory() as META states them. InvalidArgument where META is too strange to say.
StatusOr<MemoryInputs> memory_inputs(const plan::Plan &meta, uint64_t weight_bytes);

// Checks META alone, given the size of the WEIGHTS section and the kinds of the sections. What Plan::open calls; a
// compiler calls it on what it is about to write.
Status verify_meta(std::span<const std::byte> meta, std::span<const SectionEntry> sections);

}  // namespace mili
