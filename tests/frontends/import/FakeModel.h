// A model file in memory: a configuration and tensors without bytes, small enough to be read in a test.
#pragma once

#include "mili/Frontends/ModelFile.h"

#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace mili_test {

class FakeModel final : public mili::ModelFile {
public:
  FakeModel(mili::ModelFileKind kind, nlohmann::json config) : kind_(kind), config_(std::move(config)) {}

  nlohmann::json &edit() { return config_; }
  // Adds a tensor, or replaces the one of that name. `values` are its bytes where the importer reads them.
  void put(const std::string &name, std::vector<uint64_t> shape, mili::TensorFormat format = mili::TensorFormat::kBF16,
           std::vector<float> values = {});
  void erase(const std::string &name);

  mili::ModelFileKind kind() const override { return kind_; }
  std::string name() const override { return "tiny"; }
  const nlohmann::json &config() const override { return config_; }
  const nlohmann::json &generation_config() const override { return generation_; }
  const std::vector<mili::TensorInfo> &tensors() const override { return tensors_; }
  mili::Status read(const mili::TensorInfo &tensor, uint64_t offset, std::span<std::byte> out) const override;
  mili::StatusOr<std::vector<uint8_t>> tokenizer() const override { return mili::not_found("no tokenizer"); }

private:
  mili::ModelFileKind kind_;
  nlohmann::json config_;
  nlohmann::json generation_ = nlohmann::json::object();
  std::vector<mili::TensorInfo> tensors_;
  std::map<std::string, std::vector<float>> values_;
};

// Decoders of 2 layers, 8 features, 2 heads (1 KV head) of 4 elements, an MLP of 16 and 32 tokens of vocabulary, with
// the tensors of Llama. `extra` is merged into the configuration (null removes a field).
FakeModel tinyHuggingFace(const std::string &architecture, const char *extra = "{}");
// The same as GGUF: matrices in q4_1 blocks would need wider rows, so 32 features, heads of 16, an MLP of 64.
FakeModel tinyGguf(const std::string &architecture, const char *extra = "{}");

}  // namespace mili_test
