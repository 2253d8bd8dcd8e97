// The pre-tokenizer: regular expressions that cut text into the pieces within which BPE merges.
//
// Patterns come from model files, written for Oniguruma (Ruby syntax) or Rust's regex crates; PCRE2 matches them here.
// Where the two read the same characters differently the pattern is refused, and PCRE2's features beyond them
// (recursion, callouts, verbs) with it. Matching is bounded in steps, memory and time.
#pragma once

#include "mili/runtime/status.h"

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

namespace mili::text {

enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct Piece {
  size_t begin, end;  // bytes of the text
};

// The pattern of GPT-2's ByteLevel pre-tokenizer.
std::string_view gpt2_pattern();

class Splitter {
public:
  static StatusOr<Splitter> create(std::string_view pattern, SplitBehavior behavior, bool invert);
  Splitter(Splitter &&) noexcept;
  Splitter &operator=(Splitter &&) noexcept;
  ~Splitter();

  // Appends the pieces of `text` (well-formed UTF-8) to `pieces`, moved by `base`. Errors: resource exhausted.
  Status split(std::string_view text, size_t base, std::vector<Piece> &pieces) const;

  size_t memory_bytes() const;

private:
  struct Impl;
  explicit Splitter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mili::text
