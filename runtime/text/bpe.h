// Byte-pair merging over the vocabulary of a TOKENIZER section, which stays where it is: beside it there is one 32-bit
// slot per merge in a hash table.
#pragma once

#include "mili/runtime/status.h"
#include "mili/schema/tokenizer_generated.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mili::text {

// GPT-2's byte alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards in order.
class ByteAlphabet {
public:
  ByteAlphabet();
  int32_t code_point(uint8_t byte) const { return code_points_[byte]; }
  // -1 for a character that stands for no byte.
  int byte(int32_t code_point) const {
    return code_point >= 0 && code_point < static_cast<int32_t>(bytes_.size()) ? bytes_[code_point] : -1;
  }

private:
  std::array<int16_t, 256> code_points_;
  std::array<int16_t, 256 + 68> bytes_;
};

const ByteAlphabet &byte_alphabet();

// The bytes of a token spelled in the alphabet. False if a character is outside it.
bool append_spelled_bytes(std::string_view spelled, std::string &out);

class Bpe {
public:
  // `section` passed check_tokenizer(). `unk` takes the place of bytes without a token; -1 drops them.
  Bpe(const tok::Tokenizer &section, int32_t unk);

  // Working memory of encode, kept between pieces; one per thread.
  struct Scratch;

  // Appends the ids of one piece (bytes, not empty).
  void encode(std::string_view piece, std::vector<int32_t> &ids, Scratch &scratch) const;
  size_t memory_bytes() const { return (merge_slots_.capacity() + word_slots_.capacity()) * sizeof(uint32_t); }

private:
  // Rank of a pair, or kNone.
  uint32_t find_merge(uint32_t left, uint32_t right) const;
  int32_t find_word(std::string_view piece, std::string &spelled) const;

  static constexpr uint32_t kNone = 0xFFFFFFFF;
  const tok::Tokenizer *section_;
  const uint32_t *merges_ = nullptr, *merged_ = nullptr;
  std::array<int32_t, 256> byte_ids_;
  int32_t unk_;
  std::vector<uint32_t> merge_slots_;  // open addressing: rank + 1, 0 for a free slot
  std::vector<uint32_t> word_slots_;   // the same with ids, of Normal tokens; only with ignore_merges
};

struct Bpe::Scratch {
  struct Symbol {
    uint32_t id;
    int32_t previous, next;  // -1 at the ends
  };
  struct Candidate {
    uint32_t rank;
    int32_t left;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::string spelled;
};

}  // namespace mili::text
