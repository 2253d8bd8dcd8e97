// XXH3_64bits as plans use it: whole, and piece by piece. The implementation is compiled into hash.cc alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace mili {

class RunningHash {
public:
  RunningHash();
  RunningHash(RunningHash &&) noexcept;
  RunningHash &operator=(RunningHash &&) noexcept;
  ~RunningHash();

  void update(std::span<const std::byte> bytes);
  uint64_t digest() const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mili
