#pragma once

#include "mili/Frontends/ModelFile.h"

namespace mili {

StatusOr<std::unique_ptr<ModelFile>> open_hf_folder(const std::string &folder, bool need_weights);

// The TOKENIZER section from tokenizer.json, tokenizer_config.json and chat_template.jinja of `folder`; the ids of
// special tokens that these do not give come from `config`. Errors: not found (no tokenizer), data loss, unimplemented
// (a kind of model, normalizer, pre-tokenizer, ... by name).
StatusOr<std::vector<uint8_t>> hf_tokenizer(const std::string &folder, const nlohmann::json &config);

}  // namespace mili
