#include "added_tokens.h"

#include "unicode.h"

#include <algorithm>

namespace mili::text {

namespace {

bool starts_with_word(std::string_view s) {
  size_t length;
  return !s.empty() && is_word(decode_utf8(s, length));
}

bool ends_with_word(std::string_view s) {
  size_t begin;
  return !s.empty() && is_word(decode_utf8_before(s, s.size(), begin));
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), by_first_(256, {0, 0}) {
  std::sort(tokens_.begin(), tokens_.end(), [](const auto &a, const auto &b) { return a.text < b.text; });
  for (uint32_t i = 0; i < tokens_.size(); ++i) {
    auto &[begin, end] = by_first_[static_cast<uint8_t>(tokens_[i].text[0])];
    if (end == 0)
      begin = i;
    end = i + 1;
  }
}

const AddedToken *AddedTokens::find(std::string_view text) const {
  auto it = std::lower_bound(tokens_.begin(), tokens_.end(), text,
                             [](const AddedToken &token, std::string_view t) { return token.text < t; });
  return it != tokens_.end() && it->text == text ? &*it : nullptr;
}

// Narrows the range of tokens that agree with the text byte by byte; in it, a token that ends here sorts first.
const AddedToken *AddedTokens::longest_at(std::string_view text) const {
  auto [begin, end] = by_first_[static_cast<uint8_t>(text[0])];
  const AddedToken *best = nullptr;
  for (size_t depth = 1; begin < end; ++depth) {
    if (tokens_[begin].text.size() == depth)
      best = &tokens_[begin++];
    if (depth == text.size())
      break;
    const auto first = tokens_.begin() + begin, last = tokens_.begin() + end;
    const uint8_t wanted = static_cast<uint8_t>(text[depth]);
    const auto at = [depth](const AddedToken &token) { return static_cast<uint8_t>(token.text[depth]); };
    const auto low = std::partition_point(first, last, [&](const AddedToken &t) { return at(t) < wanted; });
    const auto high = std::partition_point(low, last, [&](const AddedToken &t) { return at(t) <= wanted; });
    begin = static_cast<uint32_t>(low - tokens_.begin());
    end = static_cast<uint32_t>(high - tokens_.begin());
  }
  return best;
}

void AddedTokens::segment(std::string_view text, bool parse_special, std::vector<Segment> &out) const {
  size_t done = 0;
  for (size_t pos = 0; pos < text.size();) {
    const auto &[first, last] = by_first_[static_cast<uint8_t>(text[pos])];
    const AddedToken *token = first == last ? nullptr : longest_at(text.substr(pos));
    if (!token) {
      ++pos;
      continue;
    }
    size_t begin = pos, end = pos + token->text.size();
    pos = end;  // whatever comes of the match, the search goes on after it
    if (token->special && !parse_special)
      continue;
    if (token->single_word && (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end))))
      continue;
    if (token->lstrip) {
      while (begin > done) {
        size_t before;
        if (!is_white_space(decode_utf8_before(text, begin, before)))
          break;
        begin = before;
      }
    }
    if (token->rstrip) {
      size_t length;
      while (end < text.size() && is_white_space(decode_utf8(text.substr(end), length)))
        end += length;
    }
    // The spaces that the last token took may contain this one.
    begin = std::max(begin, done);
    if (done < begin)
      out.push_back({done, begin, -1});
    out.push_back({begin, std::max(begin, end), token->id});
    done = std::max(done, end);
  }
  if (done < text.size())
    out.push_back({done, text.size(), -1});
}

size_t AddedTokens::memory_bytes() const {
  size_t bytes = tokens_.capacity() * sizeof(AddedToken) + by_first_.capacity() * sizeof(by_first_[0]);
  for (const AddedToken &token : tokens_)
    bytes += token.text.capacity() > 15 ? token.text.capacity() + 1 : 0;
  return bytes;
}

}  // namespace mili::text
