#include "gguf/GgufModelFile.h"

#include "common/TensorLayout.h"

#include <nlohmann/json.hpp>

#include <filesystem>

using nlohmann::json;

namespace mili {

namespace {

// Longer arrays (vocabularies, merges) stay out of the configuration.
constexpr uint64_t kMaxConfigArray = 4096;

json to_json(const GgufArray &array) {
  json list = json::array();
  for (uint64_t i = 0; i < array.count; ++i) {
    if (array.type == GgufType::kString)
      list.push_back(array.strings[i]);
    else if (array.type == GgufType::kArray)
      list.push_back(to_json(array.arrays[i]));
    else if (array.type == GgufType::kBool)
      list.push_back(array.integer(i) != 0);
    else if (array.type == GgufType::kUint64)
      list.push_back(static_cast<uint64_t>(array.integer(i)));
    else if (array.is_integer())
      list.push_back(array.integer(i));
    else
      list.push_back(array.number(i));
  }
  return list;
}

bool is_small(const GgufArray &array) {
  uint64_t total = array.count;
  for (const GgufArray &nested : array.arrays) {
    if (!is_small(nested))
      return false;
    total += nested.count;
  }
  return total <= kMaxConfigArray;
}

class GgufModelFile final : public ModelFile {
public:
  GgufModelFile(File file, GgufHeader header)
      : file_(std::move(file)), header_(std::move(header)), config_(json::object()), generation_(json::object()) {
    for (const auto &[key, value] : header_.metadata) {
      if (const GgufArray *array = std::get_if<GgufArray>(&value)) {
        if (is_small(*array))
          config_[key] = to_json(*array);
      } else {
        std::visit(
            [&, &name = key](const auto &v) {
              if constexpr (!std::is_same_v<std::decay_t<decltype(v)>, GgufArray>)
                config_[name] = v;
            },
            value);
      }
    }
    // Ends of a text, a turn and a message, as chat models of this format give them; what generation_config.json calls
    // eos_token_id.
    json ends = json::array();
    for (const char *key : {"eos", "eot", "eom"}) {
      auto it = config_.find("tokenizer.ggml." + std::string(key) + "_token_id");
      if (it != config_.end() && std::find(ends.begin(), ends.end(), *it) == ends.end())
        ends.push_back(*it);
    }
    if (!ends.empty())
      generation_["eos_token_id"] = std::move(ends);
  }

  ModelFileKind kind() const override { return ModelFileKind::kGguf; }

  std::string name() const override {
    const GgufValue *value = header_.find("general.name");
    const std::string *text = value ? std::get_if<std::string>(value) : nullptr;
    return text && !text->empty() ? *text : std::filesystem::path(file_.path()).stem().string();
  }

  const json &config() const override { return config_; }
  const json &generation_config() const override { return generation_; }
  const std::vector<TensorInfo> &tensors() const override { return header_.tensors; }

  Status read(const TensorInfo &tensor, uint64_t offset, std::span<std::byte> out) const override {
    return read_tensor(std::span(&file_, 1), tensor, offset, out);
  }

  StatusOr<std::vector<uint8_t>> tokenizer() const override { return gguf_tokenizer(header_, file_.path()); }

private:
  File file_;
  GgufHeader header_;
  json config_;
  json generation_;
};

}  // namespace

StatusOr<std::unique_ptr<ModelFile>> open_gguf(File file) {
  MILI_ASSIGN_OR_RETURN(GgufHeader header, read_gguf_header(file));
  return std::unique_ptr<ModelFile>(std::make_unique<GgufModelFile>(std::move(file), std::move(header)));
}

}  // namespace mili
