// JSON from files that may be hostile: bounded depth, number of values and length; a key given twice is an error, since
// readers that disagree about which one counts are a way to smuggle a second file past a check. No exceptions.
#pragma once

#include "mili/runtime/status.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace mili {

struct JsonLimits {
  uint64_t bytes = uint64_t{16} << 20;
  // Values of all kinds together: each costs the parser some 50 to 150 bytes of memory, a few bytes of text.
  uint64_t values = uint64_t{4} << 20;
  uint32_t depth = 64;
};

// `where` is the file's name for messages. Errors: data loss, with the byte.
StatusOr<nlohmann::json> parse_json(std::string_view text, const std::string &where, const JsonLimits &limits = {});
// Errors: not found, too.
StatusOr<nlohmann::json> read_json_file(const std::string &path, const JsonLimits &limits = {});

}  // namespace mili
