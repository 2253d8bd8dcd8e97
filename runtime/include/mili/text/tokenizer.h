// Text to token ids and back, from the TOKENIZER section of a plan (runtime/schema/tokenizer.fbs).
//
//   auto tokenizer = Tokenizer::create(section);            // verifies every byte it will rely on
//   auto ids = tokenizer->encode("Hello", {.add_special = true});
//   StreamDecoder stream(*tokenizer);
//   for (int32_t id : generated) out << stream.put(id);     // never half a character
//   out << stream.finish();
//
// Byte-level BPE (Sennrich et al. 2016, arXiv 1508.07909, over bytes as in GPT-2), with the results of Hugging Face's
// tokenizers library. All members are safe to call from several threads at once.
#pragma once

#include "mili/runtime/status.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mili {

// Texts longer than this are refused by encode (invalid argument).
inline constexpr size_t kMaxEncodeBytes = size_t{64} << 20;

struct EncodeOptions {
  // Put the tokenizer's prefix (BOS) and suffix around the text.
  bool add_special = true;
  // Recognize special tokens written in the text ("<|im_start|>"). Off for text from strangers: then the characters
  // are encoded as any other text, and no special token comes out.
  bool parse_special = false;
};

class Tokenizer {
public:
  // `section` must stay in memory as long as the tokenizer and start at a multiple of 8 bytes. Nothing in it is
  // trusted. Errors: data loss (malformed or contradictory), unimplemented (a split pattern outside the supported
  // regular expressions), invalid argument (misaligned).
  static StatusOr<Tokenizer> create(std::span<const uint8_t> section);

  Tokenizer(Tokenizer &&) noexcept;
  Tokenizer &operator=(Tokenizer &&) noexcept;
  ~Tokenizer();

  // Ids of `text`. Invalid UTF-8 is read as U+FFFD, one for each maximal ill-formed part. A byte that no token spells
  // becomes `unk` if that is an ordinary token, and is dropped otherwise.
  // Errors: invalid argument (too long), resource exhausted (a split pattern that backtracks without end).
  StatusOr<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions &options = {}) const;

  // The text of `ids`; ids outside the vocabulary are skipped (models have more rows than the tokenizer has tokens), as
  // are special tokens if asked for. Ill-formed parts become U+FFFD.
  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const;

  // The bytes that a token stands for, perhaps part of a character; empty for ids outside the vocabulary.
  std::string token_text(int32_t id) const;
  // Appends the same to `out`.
  void append_token_text(int32_t id, std::string &out) const;

  // The id of an added token ("<|im_end|>"), or of none.
  std::optional<int32_t> find_added(std::string_view text) const;
  bool is_special(int32_t id) const;

  int32_t vocab_size() const;
  // -1 when the model has none.
  int32_t bos() const;
  int32_t eos() const;
  int32_t unk() const;
  int32_t pad() const;
  std::span<const int32_t> prefix() const;
  std::span<const int32_t> suffix() const;
  // Jinja source; empty when the model has none. Lies in the section.
  std::string_view chat_template() const;
  // What the tokenizer allocated beside the section.
  size_t memory_bytes() const;

private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Decodes token by token. The pieces that put() and finish() return, joined, are decode() of all the ids, and each is
// valid UTF-8 by itself.
class StreamDecoder {
public:
  // The tokenizer must outlive the decoder.
  explicit StreamDecoder(const Tokenizer &tokenizer, bool skip_special = true)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // The text that `id` completes, perhaps empty.
  std::string put(int32_t id);
  // U+FFFD for a character left incomplete, otherwise empty. The decoder can be used again.
  std::string finish();

private:
  const Tokenizer *tokenizer_;
  bool skip_special_;
  std::string pending_;  // the beginning of a character, at most 3 bytes between calls
};

}  // namespace mili
