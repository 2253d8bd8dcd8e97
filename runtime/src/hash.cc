#include "mili/runtime/hash.h"

#include "mili/runtime/plan_writer.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace mili {

struct RunningHash::State {
  XXH3_state_t xxh;
};

RunningHash::RunningHash() : state_(new State) {
  XXH3_64bits_reset(&state_->xxh);
}
RunningHash::RunningHash(RunningHash &&) noexcept = default;
RunningHash &RunningHash::operator=(RunningHash &&) noexcept = default;
RunningHash::~RunningHash() = default;

void RunningHash::update(std::span<const std::byte> bytes) {
  XXH3_64bits_update(&state_->xxh, bytes.data(), bytes.size());
}

uint64_t RunningHash::digest() const {
  return XXH3_64bits_digest(&state_->xxh);
}

uint64_t section_hash(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace mili
