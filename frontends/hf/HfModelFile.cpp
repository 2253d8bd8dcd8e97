#include "hf/HfModelFile.h"

#include "common/File.h"
#include "common/JsonFile.h"
#include "common/TensorLayout.h"
#include "mili/Frontends/JsonFields.h"
#include "safetensors/Safetensors.h"

#include <nlohmann/json.hpp>

#include <filesystem>

using nlohmann::json;

namespace mili {

namespace {

class HfModelFile final : public ModelFile {
public:
  HfModelFile(std::string folder, json config, json generation, std::vector<File> files,
              std::vector<TensorInfo> tensors)
      : folder_(std::move(folder)), config_(std::move(config)), generation_(std::move(generation)),
        files_(std::move(files)), tensors_(std::move(tensors)) {}

  ModelFileKind kind() const override { return ModelFileKind::kHuggingFace; }

  std::string name() const override {
    std::error_code error;
    const std::filesystem::path full = std::filesystem::weakly_canonical(folder_, error);
    return error || full.filename().empty() ? folder_ : full.filename().string();
  }

  const json &config() const override { return config_; }
  const json &generation_config() const override { return generation_; }
  const std::vector<TensorInfo> &tensors() const override { return tensors_; }

  Status read(const TensorInfo &tensor, uint64_t offset, std::span<std::byte> out) const override {
    return read_tensor(files_, tensor, offset, out);
  }

  StatusOr<std::vector<uint8_t>> tokenizer() const override { return hf_tokenizer(folder_, config_); }

private:
  std::string folder_;
  json config_;
  json generation_;
  std::vector<File> files_;
  std::vector<TensorInfo> tensors_;
};

StatusOr<json> read_object(const std::string &path) {
  MILI_ASSIGN_OR_RETURN(json value, read_json_file(path));
  if (!value.is_object())
    return data_loss(path + ": expected a JSON object, found " + json_excerpt(value));
  return value;
}

}  // namespace

StatusOr<std::unique_ptr<ModelFile>> open_hf_folder(const std::string &folder, bool need_weights) {
  const std::string config_path = folder + "/config.json", generation_path = folder + "/generation_config.json";
  if (!is_regular_file(config_path))
    return not_found(folder +
                     ": expected a Hugging Face model folder, but it has no config.json (a GGUF model is named "
                     "by its file)");
  MILI_ASSIGN_OR_RETURN(json config, read_object(config_path));
  json generation = json::object();
  if (is_regular_file(generation_path)) {
    MILI_ASSIGN_OR_RETURN(generation, read_object(generation_path));
  }
  std::vector<File> files;
  MILI_ASSIGN_OR_RETURN(std::vector<TensorInfo> tensors, read_safetensors_folder(folder, need_weights, files));
  return std::unique_ptr<ModelFile>(std::make_unique<HfModelFile>(folder, std::move(config), std::move(generation),
                                                                  std::move(files), std::move(tensors)));
}

}  // namespace mili
