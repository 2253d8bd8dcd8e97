#include "bpe.h"

#include "unicode.h"

#include <algorithm>
#include <bit>

namespace mili::text {

ByteAlphabet::ByteAlphabet() {
  bytes_.fill(-1);
  int16_t next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    code_points_[b] = printable ? static_cast<int16_t>(b) : next++;
    bytes_[code_points_[b]] = static_cast<int16_t>(b);
  }
}

const ByteAlphabet &byte_alphabet() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

bool append_spelled_bytes(std::string_view spelled, std::string &out) {
  for (size_t length; !spelled.empty(); spelled.remove_prefix(length)) {
    const int byte = byte_alphabet().byte(decode_utf8(spelled, length));
    if (byte < 0)
      return false;
    out += static_cast<char>(byte);
  }
  return true;
}

namespace {

uint64_t mix(uint64_t x) {  // the finalizer of MurmurHash3
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

uint64_t hash_pair(uint32_t left, uint32_t right) {
  return mix((uint64_t{left} << 32) | right);
}

uint64_t hash_text(std::string_view text) {
  uint64_t h = 0xcbf29ce484222325ULL;  // FNV-1a
  for (char c : text)
    h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3ULL;
  return mix(h);
}

// A power of two at most 3/4 full.
size_t slots_for(size_t entries) {
  return std::bit_ceil(entries + entries / 3 + 1);
}

}  // namespace

Bpe::Bpe(const tok::Tokenizer &section, int32_t unk) : section_(&section), unk_(unk) {
  const auto &tokens = *section.tokens();
  const auto &types = *section.types();
  byte_ids_.fill(-1);
  for (uint32_t id = 0; id < tokens.size(); ++id) {
    const std::string_view token(tokens[id]->c_str(), tokens[id]->size());
    if (types[id] != tok::TokenType::Normal || token.empty() || token.size() > 2)
      continue;
    size_t length;
    const int byte = byte_alphabet().byte(decode_utf8(token, length));
    if (byte >= 0 && length == token.size())
      byte_ids_[byte] = static_cast<int32_t>(id);
  }
  if (section.merges() && section.merged()) {
    merges_ = section.merges()->data();
    merged_ = section.merged()->data();
    const uint32_t count = section.merged()->size();
    merge_slots_.resize(slots_for(count));
    const size_t mask = merge_slots_.size() - 1;
    for (uint32_t rank = 0; rank < count; ++rank) {
      const uint32_t left = merges_[2 * rank], right = merges_[2 * rank + 1];
      // Plain text must never become a control token.
      if (types[merged_[rank]] == tok::TokenType::Control || find_merge(left, right) != kNone)
        continue;
      size_t slot = hash_pair(left, right) & mask;
      while (merge_slots_[slot] != 0)
        slot = (slot + 1) & mask;
      merge_slots_[slot] = rank + 1;
    }
  }
  if (section.ignore_merges()) {
    word_slots_.resize(slots_for(tokens.size()));
    const size_t mask = word_slots_.size() - 1;
    for (uint32_t id = 0; id < tokens.size(); ++id) {
      if (types[id] != tok::TokenType::Normal)
        continue;
      size_t slot = hash_text({tokens[id]->c_str(), tokens[id]->size()}) & mask;
      while (word_slots_[slot] != 0)
        slot = (slot + 1) & mask;
      word_slots_[slot] = id + 1;
    }
  }
}

uint32_t Bpe::find_merge(uint32_t left, uint32_t right) const {
  if (merge_slots_.empty())
    return kNone;
  const size_t mask = merge_slots_.size() - 1;
  for (size_t slot = hash_pair(left, right) & mask; merge_slots_[slot] != 0; slot = (slot + 1) & mask) {
    const uint32_t rank = merge_slots_[slot] - 1;
    if (merges_[2 * size_t{rank}] == left && merges_[2 * size_t{rank} + 1] == right)
      return rank;
  }
  return kNone;
}

int32_t Bpe::find_word(std::string_view piece, std::string &spelled) const {
  spelled.clear();
  for (char c : piece)
    append_utf8(spelled, byte_alphabet().code_point(static_cast<uint8_t>(c)));
  const size_t mask = word_slots_.size() - 1;
  const auto &tokens = *section_->tokens();
  for (size_t slot = hash_text(spelled) & mask; word_slots_[slot] != 0; slot = (slot + 1) & mask) {
    const flatbuffers::String *token = tokens[word_slots_[slot] - 1];
    if (std::string_view(token->c_str(), token->size()) == spelled)
      return static_cast<int32_t>(word_slots_[slot] - 1);
  }
  return -1;
}

void Bpe::encode(std::string_view piece, std::vector<int32_t> &ids, Scratch &scratch) const {
  if (!word_slots_.empty()) {
    const int32_t id = find_word(piece, scratch.spelled);
    if (id >= 0) {
      ids.push_back(id);
      return;
    }
  }
  auto &symbols = scratch.symbols;
  auto &heap = scratch.heap;
  symbols.clear();
  heap.clear();
  for (char c : piece) {
    int32_t id = byte_ids_[static_cast<uint8_t>(c)];
    if (id < 0)
      id = unk_;
    if (id < 0)
      continue;
    const int32_t index = static_cast<int32_t>(symbols.size());
    symbols.push_back({static_cast<uint32_t>(id), index - 1, index + 1});
  }
  if (symbols.empty())
    return;
  symbols.back().next = -1;

  // Of all adjacent pairs the best rank is merged first, the leftmost of equals; a binary heap instead of a scan makes
  // long pieces n log n. A merge leaves stale candidates behind, recognized because their pair has changed.
  const auto worse = [](const Scratch::Candidate &a, const Scratch::Candidate &b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  };
  const auto consider = [&](int32_t left) {
    const uint32_t rank = find_merge(symbols[left].id, symbols[symbols[left].next].id);
    if (rank != kNone) {
      heap.push_back({rank, left});
      return true;
    }
    return false;
  };
  for (int32_t i = 0; symbols[i].next >= 0; ++i)
    consider(i);
  std::make_heap(heap.begin(), heap.end(), worse);
  constexpr uint32_t kGone = 0xFFFFFFFF;
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), worse);
    const auto [rank, left] = heap.back();
    heap.pop_back();
    Scratch::Symbol &symbol = symbols[left];
    if (symbol.id != merges_[2 * size_t{rank}] || symbol.next < 0)
      continue;
    Scratch::Symbol &right = symbols[symbol.next];
    if (right.id != merges_[2 * size_t{rank} + 1])
      continue;
    symbol.id = merged_[rank];
    symbol.next = right.next;
    right.id = kGone;
    if (symbol.next >= 0) {
      symbols[symbol.next].previous = left;
      if (consider(left))
        std::push_heap(heap.begin(), heap.end(), worse);
    }
    if (symbol.previous >= 0 && consider(symbol.previous))
      std::push_heap(heap.begin(), heap.end(), worse);
  }
  for (int32_t i = 0; i >= 0; i = symbols[i].next)
    ids.push_back(static_cast<int32_t>(symbols[i].id));
}

}  // namespace mili::text
