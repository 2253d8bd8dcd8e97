// Verifies a TOKENIZER section: after this, every id, length and string in it can be used without another look.
#pragma once

#include "mili/runtime/status.h"
#include "mili/schema/tokenizer_generated.h"

#include <cstdint>
#include <span>

namespace mili::text {

// Errors: data loss, unimplemented, invalid argument; each names the field and what was found.
StatusOr<const tok::Tokenizer *> check_tokenizer(std::span<const uint8_t> section);

}  // namespace mili::text
