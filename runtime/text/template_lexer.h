// Cuts a chat template into text and tokens, with Jinja's rules for white space (trim_blocks and lstrip_blocks on).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mili::text {

struct Token {
  enum class Kind : uint8_t {
    kText,
    kOutputBegin,
    kOutputEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kInt,
    kFloat,
    kString,
    kOp,
    kEnd
  };
  Kind kind;
  uint32_t at;            // byte of the source
  std::string_view text;  // as written
  std::string value;      // of a string, without quotes and escapes; of text, what is to be printed
};

// Throws TemplateError.
std::vector<Token> lex_template(const std::string &source);

}  // namespace mili::text
