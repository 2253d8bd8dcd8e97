#pragma once

#include "common/File.h"
#include "gguf/GgufHeader.h"
#include "mili/Frontends/ModelFile.h"

namespace mili {

StatusOr<std::unique_ptr<ModelFile>> open_gguf(File file);

// The TOKENIZER section from the metadata under "tokenizer.". `where` is the file's name for messages.
StatusOr<std::vector<uint8_t>> gguf_tokenizer(const GgufHeader &header, const std::string &where);

}  // namespace mili
