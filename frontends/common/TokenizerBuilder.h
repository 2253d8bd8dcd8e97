// Builds the TOKENIZER section (runtime/schema/tokenizer.fbs) from what a format's reader found, and checks everything
// that formats have in common: ids within the vocabulary, merges that exist, one token for one spelling.
#pragma once

#include "mili/runtime/status.h"
#include "mili/schema/tokenizer_generated.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mili {

inline constexpr uint64_t kMaxTokens = uint64_t{1} << 22;
inline constexpr size_t kMaxChatTemplateBytes = size_t{1} << 20;
inline constexpr size_t kMaxPatternBytes = size_t{1} << 16;
inline constexpr size_t kMaxTokenBytes = size_t{1} << 16;
inline constexpr size_t kMaxAddedTokenBytes = 1024;
inline constexpr size_t kMaxSplits = 32;
inline constexpr size_t kMaxAffix = 64;

struct TokenizerSpec {
  struct Added {
    uint32_t id = 0;
    std::string text;
    bool special = false, lstrip = false, rstrip = false, single_word = false, normalized = false;
  };
  struct Split {
    std::string pattern;
    tok::SplitBehavior behavior = tok::SplitBehavior::Isolated;
    bool invert = false;
  };

  std::vector<std::string> tokens;    // by id; an id that no token has is empty and of type Unused
  std::vector<tok::TokenType> types;  // as long as tokens
  // Both halves of a pair must be tokens, and so must their concatenation.
  std::vector<std::pair<std::string_view, std::string_view>> merges;
  std::vector<Added> added;
  std::vector<Split> splits;
  bool byte_level_splits = false;
  bool add_prefix_space = false;
  bool ignore_merges = false;
  bool normalizer_nfc = false;
  std::vector<int32_t> prefix, suffix;
  int64_t bos = -1, eos = -1, unk = -1, pad = -1;
  std::string chat_template;
};

// Checks `spec` and writes the section. `where` is the file's name for messages. A Normal token with a character
// outside the byte-level alphabet cannot be produced and stands for its own text; it becomes UserDefined without being
// added. Errors: data loss.
StatusOr<std::vector<uint8_t>> build_tokenizer(TokenizerSpec spec, const std::string &where);

// Splits "left right" at its only space; nullopt if there is none or more than one.
std::optional<std::pair<std::string_view, std::string_view>> split_merge(std::string_view text);

}  // namespace mili
