// Finds added tokens in text: at each place the longest that matches, as the leftmost-longest search of Hugging Face's
// tokenizers library does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mili::text {

inline constexpr size_t kMaxAddedTokenBytes = 1024;

struct AddedToken {
  std::string text;  // not empty, at most kMaxAddedTokenBytes
  int32_t id = -1;
  bool special = false, lstrip = false, rstrip = false, single_word = false;
};

// A stretch of text that is one added token (id >= 0) or none (-1).
struct Segment {
  size_t begin, end;
  int32_t id;
};

class AddedTokens {
public:
  explicit AddedTokens(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }
  const std::vector<AddedToken> &tokens() const { return tokens_; }  // sorted by text
  const AddedToken *find(std::string_view text) const;

  // Appends the segments of `text`, well-formed UTF-8. Without `parse_special`, special tokens are passed over.
  void segment(std::string_view text, bool parse_special, std::vector<Segment> &out) const;
  size_t memory_bytes() const;

private:
  const AddedToken *longest_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;
  // By first byte: the range of tokens_.
  std::vector<std::pair<uint32_t, uint32_t>> by_first_;
};

}  // namespace mili::text
