#include "splitter.h"

#include "unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <chrono>
#include <string>

namespace mili::text {

namespace {

// One search from one start may backtrack this often, and four times per byte of its text: `\s*[\r\n]+` on a long run
// of spaces needs about one step a byte.
constexpr uint32_t kMatchSteps = 100'000;
constexpr uint32_t kMatchHeapKiB = 8 * 1024;
// Starts tried between two looks at the clock. PCRE2's limit counts from each start anew, so a pattern that stays just
// below it everywhere is ended by the clock.
constexpr size_t kWindowBytes = 256;
constexpr std::chrono::seconds kSplitTime{20};

struct CodeDeleter {
  void operator()(pcre2_code *code) const { pcre2_code_free(code); }
};
struct MatchDataDeleter {
  void operator()(pcre2_match_data *data) const { pcre2_match_data_free(data); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context *context) const { pcre2_match_context_free(context); }
};
using MatchData = std::unique_ptr<pcre2_match_data, MatchDataDeleter>;
using MatchContext = std::unique_ptr<pcre2_match_context, MatchContextDeleter>;

// Copies a pattern into PCRE2's dialect.
class Dialect {
public:
  explicit Dialect(std::string_view pattern) : in_(pattern) {}

  StatusOr<std::string> translate() {
    while (pos_ < in_.size()) {
      if (in_[pos_] == '\\') {
        MILI_RETURN_IF_ERROR(escape());
      } else if (in_class_) {
        MILI_RETURN_IF_ERROR(in_class());
      } else {
        MILI_RETURN_IF_ERROR(outside());
      }
    }
    return std::move(out_);
  }

private:
  bool at(std::string_view text) const { return in_.substr(pos_, text.size()) == text; }
  void copy(size_t n) {
    out_.append(in_.substr(pos_, n));
    pos_ += n;
  }

  Status refuse(size_t length, const char *why) const {
    return unimplemented("split pattern, byte " + std::to_string(pos_) + ": \"" +
                         std::string(in_.substr(pos_, length)) + "\" is not supported (" + why + ")");
  }

  Status escape() {
    const char c = pos_ + 1 < in_.size() ? in_[pos_ + 1] : '\0';
    if ((c == 'p' || c == 'P') && pos_ + 2 < in_.size() && in_[pos_ + 2] == '{') {
      const size_t end = in_.find('}', pos_);
      if (end == std::string_view::npos)
        return refuse(8, "no closing brace");
      std::string_view name = in_.substr(pos_ + 3, end - pos_ - 3);
      const bool negated = name.starts_with('^');
      name.remove_prefix(negated ? 1 : 0);
      out_.append(in_.substr(pos_, 2)).append("{").append(negated ? "^" : "");
      // A longer name is a script's; PCRE2 alone would take the Script_Extensions property.
      out_.append(name.size() > 2 ? "sc:" : "").append(name).append("}");
      pos_ = end + 1;
      return ok_status();
    }
    // What \s and \w mean in Oniguruma; PCRE2 adds U+180E to the first and leaves marks out of the second.
    std::string_view meaning;
    switch (c) {
    case 's': meaning = R"(\p{White_Space})"; break;
    case 'S': meaning = R"(\P{White_Space})"; break;
    case 'w': meaning = in_class_ ? kWord : kWordSet; break;
    case 'W':
      if (in_class_)
        return refuse(2, "the complement of a set inside a set");
      meaning = kNoWordSet;
      break;
    default: break;
    }
    if (!meaning.empty()) {
      out_.append(meaning);
      pos_ += 2;
      return ok_status();
    }
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (c == '\0' || (letter && std::string_view("dDpPnrtfxAz").find(c) == std::string_view::npos))
      return refuse(2, "this escape differs between regular expression engines");
    copy(2);
    return ok_status();
  }

  Status in_class() {
    if (at("&&"))
      return refuse(2, "set operations");
    if (at("[") && !at("[:"))
      return refuse(2, "nested sets; write \\[ for the character");
    if (at("[:")) {
      const size_t end = in_.find(":]", pos_);
      if (end == std::string_view::npos)
        return refuse(2, "no closing :]");
      copy(end + 2 - pos_);
      return ok_status();
    }
    if (in_[pos_] == ']' && pos_ > class_start_)
      in_class_ = false;
    copy(1);
    return ok_status();
  }

  Status outside() {
    if (in_[pos_] == '[') {
      in_class_ = true;
      copy(pos_ + 1 < in_.size() && in_[pos_ + 1] == '^' ? 2 : 1);
      class_start_ = pos_;
      return ok_status();
    }
    if (at("(*"))
      return refuse(2, "verbs");
    if (at("{,"))
      return refuse(2, "write {0,n}");
    if (at("}+"))
      return refuse(2, "possessive in some engines, repeated in others");
    if (at("(?") && !at("(?:") && !at("(?i:") && !at("(?=") && !at("(?!") && !at("(?<=") && !at("(?<!") && !at("(?>") &&
        !at("(?i)"))
      return refuse(4, "supported are (?: (?i: (?i) (?> and look-around");
    copy(1);
    return ok_status();
  }

  static constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{N}\p{Pc})";
  static constexpr std::string_view kWordSet = R"([\p{Alphabetic}\p{M}\p{N}\p{Pc}])";
  static constexpr std::string_view kNoWordSet = R"([^\p{Alphabetic}\p{M}\p{N}\p{Pc}])";

  std::string_view in_;
  std::string out_;
  size_t pos_ = 0, class_start_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string_view gpt2_pattern() {
  return R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
}

struct Splitter::Impl {
  std::unique_ptr<pcre2_code, CodeDeleter> code;
  SplitBehavior behavior;
  bool invert;

  // One pass over a text: the matches, in order.
  class Search {
  public:
    Search(const Impl &impl, std::string_view text)
        : impl_(impl), text_(text), data_(pcre2_match_data_create(1, nullptr)),
          context_(pcre2_match_context_create(nullptr)), end_time_(std::chrono::steady_clock::now() + kSplitTime) {
      if (!context_)
        return;
      pcre2_set_match_limit(context_.get(), static_cast<uint32_t>(kMatchSteps + 4 * text.size()));
      pcre2_set_heap_limit(context_.get(), kMatchHeapKiB);
    }

    // The next match, or begin == npos when there is none.
    Status next(Piece &match) {
      match = {std::string_view::npos, 0};
      if (!data_ || !context_)
        return resource_exhausted("no memory to match a split pattern");
      while (pos_ <= text_.size()) {
        MILI_RETURN_IF_ERROR(find(match));
        if (match.begin == std::string_view::npos)
          return ok_status();
        // An empty match right after the last one is none.
        if (match.begin == match.end && match.end == last_end_) {
          size_t length = 1;
          if (pos_ < text_.size())
            decode_utf8(text_.substr(pos_), length);
          pos_ += length;
          match.begin = std::string_view::npos;
          continue;
        }
        pos_ = last_end_ = match.end;
        return ok_status();
      }
      return ok_status();
    }

  private:
    Status find(Piece &match) {
      size_t start = pos_;
      while (true) {
        const size_t limit = std::min(text_.size(), start + kWindowBytes);
        pcre2_set_offset_limit(context_.get(), limit);
        const int rc = pcre2_match(impl_.code.get(), reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(), start,
                                   PCRE2_NO_UTF_CHECK, data_.get(), context_.get());
        // 0: the pattern has groups of its own, for which there is no room in data_; the match itself is there.
        if (rc >= 0) {
          const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(data_.get());
          match = {bounds[0], bounds[1]};
          // Look-behind patterns cannot set these out of order, but the text's bounds are what everything rests on.
          if (match.begin < start || match.end < match.begin || match.end > text_.size())
            return internal_error("a split pattern matched outside its text");
          return ok_status();
        }
        if (rc != PCRE2_ERROR_NOMATCH) {
          PCRE2_UCHAR message[128];
          pcre2_get_error_message(rc, message, sizeof message);
          return resource_exhausted("split pattern: " + std::string(reinterpret_cast<const char *>(message)) +
                                    " on a text of " + std::to_string(text_.size()) + " bytes");
        }
        if (limit == text_.size())
          return ok_status();
        if (std::chrono::steady_clock::now() > end_time_)
          return resource_exhausted("split pattern: no end after " + std::to_string(kSplitTime.count()) +
                                    " seconds on a text of " + std::to_string(text_.size()) + " bytes");
        start = limit;
        while (start < text_.size() && (static_cast<uint8_t>(text_[start]) & 0xC0) == 0x80)
          ++start;
      }
    }

    const Impl &impl_;
    std::string_view text_;
    MatchData data_;
    MatchContext context_;
    std::chrono::steady_clock::time_point end_time_;
    size_t pos_ = 0;
    size_t last_end_ = std::string_view::npos;
  };
};

Splitter::Splitter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Splitter::Splitter(Splitter &&) noexcept = default;
Splitter &Splitter::operator=(Splitter &&) noexcept = default;
Splitter::~Splitter() = default;

StatusOr<Splitter> Splitter::create(std::string_view pattern, SplitBehavior behavior, bool invert) {
  MILI_ASSIGN_OR_RETURN(const std::string translated, Dialect(pattern).translate());
  int error = 0;
  PCRE2_SIZE offset = 0;
  std::unique_ptr<pcre2_code, CodeDeleter> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT, &error,
                    &offset, nullptr));
  if (!code) {
    PCRE2_UCHAR message[128];
    pcre2_get_error_message(error, message, sizeof message);
    return data_loss("split pattern, near byte " + std::to_string(offset) + ": " +
                     reinterpret_cast<const char *>(message));
  }
  auto impl = std::make_unique<Impl>();
  impl->code = std::move(code);
  impl->behavior = behavior;
  impl->invert = invert;
  return Splitter(std::move(impl));
}

size_t Splitter::memory_bytes() const {
  size_t size = 0;
  pcre2_pattern_info(impl_->code.get(), PCRE2_INFO_SIZE, &size);
  return size;
}

Status Splitter::split(std::string_view text, size_t base, std::vector<Piece> &pieces) const {
  if (text.empty())
    return ok_status();
  Impl::Search search(*impl_, text);
  const size_t first = pieces.size();
  const SplitBehavior behavior = impl_->behavior;
  bool previous = false;  // whether the last part was a delimiter
  const auto part = [&](size_t begin, size_t end, bool match) {
    const bool delimiter = match != impl_->invert;
    bool extend = false;
    switch (behavior) {
    case SplitBehavior::kIsolated: break;
    case SplitBehavior::kRemoved:
      if (delimiter)
        return;
      break;
    case SplitBehavior::kContiguous: extend = delimiter == previous; break;
    case SplitBehavior::kMergedWithPrevious: extend = delimiter && !previous; break;
    // Of a run of delimiters only the last joins what follows.
    case SplitBehavior::kMergedWithNext: extend = !delimiter && previous; break;
    }
    previous = delimiter;
    if (extend && pieces.size() > first)
      pieces.back().end = base + end;
    else
      pieces.push_back({base + begin, base + end});
  };
  size_t done = 0;
  while (true) {
    Piece match;
    MILI_RETURN_IF_ERROR(search.next(match));
    if (match.begin == std::string_view::npos)
      break;
    if (match.begin > done)
      part(done, match.begin, false);
    part(match.begin, match.end, true);
    done = match.end;
  }
  if (done < text.size())
    part(done, text.size(), false);
  // Empty matches cut the text, but are no pieces.
  const auto empty = [](const Piece &piece) { return piece.begin == piece.end; };
  pieces.erase(std::remove_if(pieces.begin() + static_cast<ptrdiff_t>(first), pieces.end(), empty), pieces.end());
  return ok_status();
}

}  // namespace mili::text
