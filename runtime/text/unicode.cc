#include "unicode.h"

#include <utf8proc.h>

#include <cstdlib>

namespace mili::text {

namespace {

// The range that the second byte must lie in, by the first (Unicode 15, table 3-7).
struct Lead {
  uint8_t length;  // 0: never begins a character
  uint8_t low, high;
};

Lead lead(uint8_t b) {
  if (b < 0x80)
    return {1, 0, 0};
  if (b < 0xC2)
    return {0, 0, 0};
  if (b < 0xE0)
    return {2, 0x80, 0xBF};
  if (b < 0xF0)
    return {3, static_cast<uint8_t>(b == 0xE0 ? 0xA0 : 0x80), static_cast<uint8_t>(b == 0xED ? 0x9F : 0xBF)};
  if (b < 0xF5)
    return {4, static_cast<uint8_t>(b == 0xF0 ? 0x90 : 0x80), static_cast<uint8_t>(b == 0xF4 ? 0x8F : 0xBF)};
  return {0, 0, 0};
}

}  // namespace

int32_t decode_utf8(std::string_view s, size_t &length) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const Lead first = lead(byte(0));
  length = 1;
  if (first.length == 1)
    return byte(0);
  if (first.length == 0)
    return kIllFormed;
  int32_t c = byte(0) & (0x7F >> first.length);
  for (; length < first.length; ++length) {
    if (length == s.size())
      return kIncomplete;
    const uint8_t low = length == 1 ? first.low : 0x80, high = length == 1 ? first.high : 0xBF;
    if (byte(length) < low || byte(length) > high)
      return kIllFormed;
    c = (c << 6) | (byte(length) & 0x3F);
  }
  return c;
}

int32_t decode_utf8_before(std::string_view s, size_t end, size_t &begin) {
  begin = end - 1;
  while (begin > 0 && (static_cast<uint8_t>(s[begin]) & 0xC0) == 0x80)
    --begin;
  size_t length;
  return decode_utf8(s.substr(begin, end - begin), length);
}

void append_utf8(std::string &out, int32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

bool is_utf8(std::string_view s) {
  for (size_t length; !s.empty(); s.remove_prefix(length))
    if (decode_utf8(s, length) < 0)
      return false;
  return true;
}

size_t append_well_formed(std::string &out, std::string_view s, bool keep_incomplete) {
  size_t pos = 0, copied = 0, length;
  while (pos < s.size()) {
    const int32_t c = decode_utf8(s.substr(pos), length);
    if (c < 0) {
      out.append(s.substr(copied, pos - copied));
      if (c == kIncomplete && keep_incomplete)
        return pos;
      out.append(kReplacement);
      copied = pos + length;
    }
    pos += length;
  }
  out.append(s.substr(copied));
  return pos;
}

size_t count_code_points(std::string_view s) {
  size_t count = 0;
  for (char c : s)
    count += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  return count;
}

std::string nfc(std::string_view s) {
  // Every character below U+0300 is its own normal form, alone and in sequence.
  bool plain = true;
  for (char c : s)
    plain &= static_cast<uint8_t>(c) < 0xCC;
  if (plain)
    return std::string(s);
  utf8proc_uint8_t *mapped = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t *>(s.data()), static_cast<utf8proc_ssize_t>(s.size()),
                   &mapped, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0)  // out of memory: the text as it is
    return std::string(s);
  std::string result(reinterpret_cast<const char *>(mapped), static_cast<size_t>(size));
  std::free(mapped);
  return result;
}

bool is_white_space(int32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_python_space(int32_t c) {
  return is_white_space(c) || (c >= 0x1C && c <= 0x1F);
}

bool is_printable(int32_t c) {
  if (c == ' ')
    return true;
  switch (utf8proc_category(c)) {
  case UTF8PROC_CATEGORY_CN:
  case UTF8PROC_CATEGORY_CC:
  case UTF8PROC_CATEGORY_CF:
  case UTF8PROC_CATEGORY_CS:
  case UTF8PROC_CATEGORY_CO:
  case UTF8PROC_CATEGORY_ZS:
  case UTF8PROC_CATEGORY_ZL:
  case UTF8PROC_CATEGORY_ZP: return false;
  default: return true;
  }
}

bool is_alpha(int32_t c) {
  const utf8proc_category_t category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_digit(int32_t c) {
  return utf8proc_category(c) == UTF8PROC_CATEGORY_ND;
}

bool is_word(int32_t c) {
  const utf8proc_category_t category = utf8proc_category(c);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) || category == UTF8PROC_CATEGORY_PC ||
         (c >= 0x24B6 && c <= 0x24E9);  // circled letters: Alphabetic, though symbols
}

bool is_upper(int32_t c) {
  return utf8proc_isupper(c) != 0;
}
bool is_lower(int32_t c) {
  return utf8proc_islower(c) != 0;
}
bool is_cased(int32_t c) {
  return is_upper(c) || is_lower(c) || utf8proc_category(c) == UTF8PROC_CATEGORY_LT;
}

void append_upper(std::string &out, int32_t c) {
  if (c == 0xDF)
    out += "SS";
  else
    append_utf8(out, utf8proc_toupper(c));
}

void append_lower(std::string &out, int32_t c) {
  append_utf8(out, utf8proc_tolower(c));
}

void append_title(std::string &out, int32_t c) {
  if (c == 0xDF)
    out += "Ss";
  else
    append_utf8(out, utf8proc_totitle(c));
}

std::string to_upper(std::string_view s) {
  std::string out;
  for (size_t length; !s.empty(); s.remove_prefix(length))
    append_upper(out, decode_utf8(s, length));
  return out;
}

std::string to_lower(std::string_view s) {
  std::string out;
  for (size_t length; !s.empty(); s.remove_prefix(length))
    append_lower(out, decode_utf8(s, length));
  return out;
}

}  // namespace mili::text
