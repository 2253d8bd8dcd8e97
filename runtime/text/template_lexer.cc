#include "template_lexer.h"

#include "template_ast.h"
#include "unicode.h"

#include <algorithm>

namespace mili::text {

namespace {

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<uint8_t>(c) >= 0x80;
}
bool is_decimal(char c) {
  return c >= '0' && c <= '9';
}

class Lexer {
public:
  explicit Lexer(const std::string &source) : source_(source) {}

  std::vector<Token> run() {
    while (pos_ < source_.size())
      text();
    tokens_.push_back({Token::Kind::kEnd, static_cast<uint32_t>(source_.size()), "", ""});
    return std::move(tokens_);
  }

private:
  [[noreturn]] void fail(size_t at, std::string message) const {
    throw TemplateError{StatusCode::kInvalidArgument, static_cast<uint32_t>(at), std::move(message)};
  }

  char peek(size_t ahead = 0) const { return pos_ + ahead < source_.size() ? source_[pos_ + ahead] : '\0'; }
  bool at(std::string_view text) const { return source_.compare(pos_, text.size(), text) == 0; }
  size_t skip_space(size_t pos) const {
    size_t length;
    while (pos < source_.size() && is_python_space(decode_utf8(std::string_view(source_).substr(pos), length)))
      pos += length;
    return pos;
  }

  void push(Token::Kind kind, size_t begin, size_t end, std::string value = {}) {
    tokens_.push_back(
        {kind, static_cast<uint32_t>(begin), std::string_view(source_).substr(begin, end - begin), std::move(value)});
  }

  // Text up to the next tag, then the tag.
  void text() {
    size_t tag = pos_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        emit_text(pos_, source_.size());
        pos_ = source_.size();
        return;
      }
      const char c = source_[tag + 1];
      if (c == '{' || c == '%' || c == '#')
        break;
      ++tag;
    }
    const char type = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    size_t end = tag;
    if (sign == '-') {
      while (end > pos_) {
        size_t begin;
        if (!is_python_space(decode_utf8_before(source_, end, begin)))
          break;
        end = std::max(begin, pos_);
      }
    } else if (sign != '+' && type != '{') {
      // lstrip_blocks: the white space before a tag that begins its line.
      const size_t newline = tag > pos_ ? source_.rfind('\n', tag - 1) : std::string::npos;
      const bool in_text = newline != std::string::npos && newline >= pos_;
      const size_t line = in_text ? newline + 1 : pos_;
      if ((in_text || pos_ == 0 || source_[pos_ - 1] == '\n') && skip_space(line) >= tag)
        end = line;
    }
    emit_text(pos_, end);
    pos_ = tag + 2 + (sign == '-' || sign == '+' ? 1 : 0);
    if (type == '#')
      comment(tag);
    else if (type == '{')
      tokens(tag, Token::Kind::kOutputBegin);
    else if (!raw(tag))
      tokens(tag, Token::Kind::kBlockBegin);
  }

  void emit_text(size_t begin, size_t end) {
    if (begin < end)
      push(Token::Kind::kText, begin, end, source_.substr(begin, end - begin));
  }

  void comment(size_t tag) {
    const size_t end = source_.find("#}", pos_);
    if (end == std::string::npos)
      fail(tag, "a comment without its end, expected \"#}\"");
    close(end > pos_ ? source_[end - 1] : '\0', end + 2, true);
  }

  // After an end of a tag: "-" takes all white space with it, trim_blocks one line end.
  void close(char sign, size_t end, bool trim) {
    pos_ = end;
    if (sign == '-')
      pos_ = skip_space(pos_);
    else if (sign != '+' && trim && peek() == '\n')
      ++pos_;
  }

  bool raw(size_t tag) {
    size_t pos = skip_space(pos_);
    if (source_.compare(pos, 3, "raw") != 0)
      return false;
    pos = skip_space(pos + 3);
    const bool strip = source_.compare(pos, 3, "-%}") == 0;
    if (!strip && source_.compare(pos, 2, "%}") != 0)
      return false;
    pos += strip ? 3 : 2;
    const size_t begin = strip ? skip_space(pos) : pos;
    for (size_t end = source_.find("{%", begin); end != std::string::npos; end = source_.find("{%", end + 1)) {
      size_t after = end + 2;
      const char sign = after < source_.size() ? source_[after] : '\0';
      after = skip_space(after + (sign == '-' || sign == '+' ? 1 : 0));
      if (source_.compare(after, 6, "endraw") != 0)
        continue;
      after = skip_space(after + 6);
      const char end_sign = after < source_.size() ? source_[after] : '\0';
      after += end_sign == '-' || end_sign == '+' ? 1 : 0;
      if (source_.compare(after, 2, "%}") != 0)
        continue;
      size_t text_end = end;
      if (sign == '-') {
        while (text_end > begin && is_python_space(static_cast<uint8_t>(source_[text_end - 1])))
          --text_end;
      } else if (sign != '+') {
        const size_t newline = end > begin ? source_.rfind('\n', end - 1) : std::string::npos;
        if (newline != std::string::npos && newline >= begin && skip_space(newline + 1) >= end)
          text_end = newline + 1;
      }
      emit_text(begin, text_end);
      close(end_sign, after + 2, true);
      return true;
    }
    fail(tag, "a raw block without its end, expected \"{% endraw %}\"");
  }

  // The inside of {{ }} or {% %}.
  void tokens(size_t tag, Token::Kind begin) {
    push(begin, tag, pos_);
    const bool output = begin == Token::Kind::kOutputBegin;
    const std::string_view end = output ? "}}" : "%}";
    std::vector<std::pair<char, size_t>> open;
    while (true) {
      pos_ = skip_space(pos_);
      if (pos_ >= source_.size())
        fail(tag, "a tag without its end, expected \"" + std::string(end) + "\"");
      if (open.empty()) {
        const char sign = peek();
        const size_t ahead = sign == '-' || (sign == '+' && !output) ? 1 : 0;
        if (source_.compare(pos_ + ahead, 2, end) == 0) {
          push(output ? Token::Kind::kOutputEnd : Token::Kind::kBlockEnd, pos_, pos_ + ahead + 2);
          close(ahead ? sign : '\0', pos_ + ahead + 2, !output);
          return;
        }
      }
      token(open);
    }
  }

  void token(std::vector<std::pair<char, size_t>> &open) {
    const size_t begin = pos_;
    const char c = peek();
    if (is_name_start(c)) {
      while (is_name_start(peek()) || is_decimal(peek()))
        ++pos_;
      push(Token::Kind::kName, begin, pos_);
    } else if (is_decimal(c)) {
      number(begin);
    } else if (c == '\'' || c == '"') {
      string(begin);
    } else {
      static constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
      size_t length = 1;
      for (std::string_view op : kTwo)
        if (at(op))
          length = 2;
      if (length == 1 && std::string_view("+-/*%~[](){}><=.:|,").find(c) == std::string_view::npos)
        fail(begin, "unexpected character '" + std::string(1, c) + "' in a tag");
      if (c == '(' || c == '[' || c == '{')
        open.emplace_back(c, begin);
      if (c == ')' || c == ']' || c == '}') {
        const char wanted = c == ')' ? '(' : c == ']' ? '[' : '{';
        if (open.empty() || open.back().first != wanted)
          fail(begin, "found '" + std::string(1, c) + "' without its '" + std::string(1, wanted) + "'");
        open.pop_back();
      }
      pos_ += length;
      push(Token::Kind::kOp, begin, pos_);
    }
  }

  void number(size_t begin) {
    const auto digits = [&] {
      while (is_decimal(peek()) || (peek() == '_' && is_decimal(peek(1))))
        ++pos_;
    };
    digits();
    // In "a.0.1" the dots select.
    const bool selector = begin > 0 && source_[begin - 1] == '.';
    bool real = false;
    if (!selector && peek() == '.' && is_decimal(peek(1))) {
      real = true;
      ++pos_;
      digits();
    }
    if (!selector && (peek() == 'e' || peek() == 'E')) {
      const size_t sign = peek(1) == '+' || peek(1) == '-' ? 2 : 1;
      if (is_decimal(peek(sign))) {
        real = true;
        pos_ += sign;
        digits();
      }
    }
    std::string value = source_.substr(begin, pos_ - begin);
    std::erase(value, '_');
    push(real ? Token::Kind::kFloat : Token::Kind::kInt, begin, pos_, std::move(value));
  }

  void string(size_t begin) {
    const char quote = source_[pos_++];
    std::string value;
    while (true) {
      if (pos_ >= source_.size())
        fail(begin, "a string without its end, expected " + std::string(1, quote));
      const char c = source_[pos_++];
      if (c == quote)
        break;
      if (c == '\\' && pos_ < source_.size())
        escape(value);
      else
        value += c;
    }
    push(Token::Kind::kString, begin, pos_, std::move(value));
  }

  // Python's escapes; an unknown one stays as it is written.
  void escape(std::string &value) {
    const char c = source_[pos_++];
    static constexpr std::string_view kNames = "ntrabfv\\'\"", kValues = "\n\t\r\a\b\f\v\\'\"";
    if (const size_t i = kNames.find(c); i != std::string_view::npos) {
      value += kValues[i];
      return;
    }
    if (c == '\n')
      return;
    const int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    const bool octal = c >= '0' && c <= '7';
    if (digits == 0 && !octal) {
      value += '\\';
      value += c;
      return;
    }
    if (octal)
      --pos_;
    int64_t code = 0;
    for (int i = 0; i < (octal ? 3 : digits); ++i) {
      const char d = peek();
      const int digit = is_decimal(d)            ? d - '0'
                        : (d >= 'a' && d <= 'f') ? d - 'a' + 10
                        : (d >= 'A' && d <= 'F') ? d - 'A' + 10
                                                 : 99;
      if (digit >= (octal ? 8 : 16)) {
        if (octal)
          break;
        fail(pos_, "expected " + std::to_string(digits) + " hexadecimal digits in an escape");
      }
      code = code * (octal ? 8 : 16) + digit;
      ++pos_;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      fail(pos_, "an escape that is no character");
    append_utf8(value, static_cast<int32_t>(code));
  }

  const std::string &source_;
  size_t pos_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> lex_template(const std::string &source) {
  return Lexer(source).run();
}

std::string normalize_template(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else {
      out += '\n';
      i += i + 1 < source.size() && source[i + 1] == '\n' ? 1 : 0;
    }
  }
  if (out.ends_with('\n'))
    out.pop_back();
  return out;
}

}  // namespace mili::text
