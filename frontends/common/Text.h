// Small text helpers of the parsers.
#pragma once

#include <string>
#include <string_view>

namespace mili {

// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

// `text` in quotation marks as messages show it: control characters escaped, invalid UTF-8 replaced, shortened to about
// 60 bytes. Names from files go through this before they reach a terminal.
std::string quote(std::string_view text);

// Calls `visit(code_point)` for each code point of valid UTF-8; stops and returns false when visit does.
template <typename Visit>
bool for_each_code_point(std::string_view text, Visit visit) {
  for (size_t i = 0; i < text.size();) {
    const unsigned char lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t value = length == 1 ? lead : lead & (0xFF >> (length + 1));
    for (size_t k = 1; k < length && i + k < text.size(); ++k)
      value = (value << 6) | (static_cast<unsigned char>(text[i + k]) & 0x3F);
    if (!visit(value))
      return false;
    i += length;
  }
  return true;
}

}  // namespace mili
