// UTF-8 and the character properties that tokenizers and templates need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mili::text {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// The code point at the start of `s`. `length` is its bytes; for an ill-formed start it is those of the maximal
// ill-formed part (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts") and the result is negative:
// kIncomplete when more bytes could complete it, kIllFormed otherwise. `s` is not empty.
inline constexpr int32_t kIllFormed = -1, kIncomplete = -2;
int32_t decode_utf8(std::string_view s, size_t &length);

// The code point that ends at `end` (> 0) of well-formed `s`, and where it begins.
int32_t decode_utf8_before(std::string_view s, size_t end, size_t &begin);

void append_utf8(std::string &out, int32_t code_point);

bool is_utf8(std::string_view s);

// Appends `s` to `out`, each maximal ill-formed part as U+FFFD. With `keep_incomplete`, a beginning of a character at
// the end of `s` is left out. Returns the bytes of `s` consumed.
size_t append_well_formed(std::string &out, std::string_view s, bool keep_incomplete);

// Number of code points in well-formed `s`.
size_t count_code_points(std::string_view s);

// Normalization form C of well-formed `s`.
std::string nfc(std::string_view s);

bool is_white_space(int32_t c);   // the property White_Space
bool is_python_space(int32_t c);  // str.isspace(): White_Space and U+001C to U+001F
bool is_printable(int32_t c);     // str.isprintable()
bool is_word(int32_t c);          // \w: Alphabetic, M, Nd, Pc (UTS 18)
bool is_alpha(int32_t c);         // general category L
bool is_digit(int32_t c);         // general category Nd
bool is_upper(int32_t c);
bool is_lower(int32_t c);
bool is_cased(int32_t c);

// Case mapping of well-formed text; one code point to one, but for U+00DF, whose upper case is "SS".
void append_upper(std::string &out, int32_t c);
void append_lower(std::string &out, int32_t c);
void append_title(std::string &out, int32_t c);
std::string to_upper(std::string_view s);
std::string to_lower(std::string_view s);

}  // namespace mili::text
