#include "common/Text.h"

#include "mili/Frontends/JsonFields.h"

#include <nlohmann/json.hpp>

namespace mili {

bool is_utf8(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    const unsigned char lead = byte(i);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    size_t length;
    unsigned char low = 0x80, high = 0xBF;  // limits of the second byte; the table of RFC 3629, section 4
    if (lead >= 0xC2 && lead <= 0xDF) {
      length = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      length = 3;
      if (lead == 0xE0)
        low = 0xA0;
      if (lead == 0xED)
        high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      length = 4;
      if (lead == 0xF0)
        low = 0x90;
      if (lead == 0xF4)
        high = 0x8F;
    } else {
      return false;
    }
    if (text.size() - i < length || byte(i + 1) < low || byte(i + 1) > high)
      return false;
    for (size_t k = 2; k < length; ++k)
      if (byte(i + k) < 0x80 || byte(i + k) > 0xBF)
        return false;
    i += length;
  }
  return true;
}

std::string quote(std::string_view text) {
  constexpr size_t kLimit = 60;
  std::string shown =
      nlohmann::json(std::string(text.substr(0, kLimit))).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kLimit)
    shown += "...";
  return shown;
}

}  // namespace mili
