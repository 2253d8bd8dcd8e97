#include "FakeModel.h"

#include <algorithm>
#include <cstring>

using mili::ModelFileKind;
using mili::TensorFormat;
using mili::TensorInfo;
using nlohmann::json;

namespace mili_test {

void FakeModel::put(const std::string &name, std::vector<uint64_t> shape, TensorFormat format,
                    std::vector<float> values) {
  erase(name);
  TensorInfo tensor{.name = name, .format = format, .shape = std::move(shape)};
  const mili::TensorFormatInfo &info = mili::tensor_format_info(format);
  tensor.size = tensor.elements() / info.block_elements * info.block_bytes;
  auto place = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                [](const TensorInfo &a, const std::string &b) { return a.name < b; });
  tensors_.insert(place, std::move(tensor));
  values_[name] = std::move(values);
}

void FakeModel::erase(const std::string &name) {
  std::erase_if(tensors_, [&](const TensorInfo &tensor) { return tensor.name == name; });
}

mili::Status FakeModel::read(const TensorInfo &tensor, uint64_t offset, std::span<std::byte> out) const {
  const std::vector<float> &values = values_.at(tensor.name);
  if (offset + out.size() > values.size() * sizeof(float))
    return mili::data_loss("tensor '" + tensor.name + "': no bytes there");
  std::memcpy(out.data(), reinterpret_cast<const std::byte *>(values.data()) + offset, out.size());
  return mili::ok_status();
}

FakeModel tinyHuggingFace(const std::string &architecture, const char *extra) {
  json config = json::parse(R"({
    "vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "hidden_act": "silu", "tie_word_embeddings": false, "torch_dtype": "bfloat16", "bos_token_id": 1
  })");
  config["architectures"] = {architecture};
  config.merge_patch(json::parse(extra));
  FakeModel model(ModelFileKind::kHuggingFace, std::move(config));
  model.put("model.embed_tokens.weight", {32, 8});
  model.put("lm_head.weight", {32, 8});
  model.put("model.norm.weight", {8});
  for (int i = 0; i < 2; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    model.put(layer + "input_layernorm.weight", {8});
    model.put(layer + "self_attn.q_proj.weight", {8, 8});
    model.put(layer + "self_attn.k_proj.weight", {4, 8});
    model.put(layer + "self_attn.v_proj.weight", {4, 8});
    model.put(layer + "self_attn.o_proj.weight", {8, 8});
    model.put(layer + "post_attention_layernorm.weight", {8});
    model.put(layer + "mlp.gate_proj.weight", {16, 8});
    model.put(layer + "mlp.up_proj.weight", {16, 8});
    model.put(layer + "mlp.down_proj.weight", {8, 16});
  }
  return model;
}

FakeModel tinyGguf(const std::string &architecture, const char *extra) {
  json config = {{"general.architecture", architecture},
                 {"general.type", "model"},
                 {"general.name", "tiny"},
                 {"general.file_type", 3},
                 {"tokenizer.ggml.model", "gpt2"}};
  const std::string prefix = architecture + ".";
  config[prefix + "block_count"] = 2;
  config[prefix + "context_length"] = 64;
  config[prefix + "embedding_length"] = 32;
  config[prefix + "feed_forward_length"] = 64;
  config[prefix + "attention.head_count"] = 2;
  config[prefix + "attention.head_count_kv"] = 1;
  config[prefix + "attention.layer_norm_rms_epsilon"] = 1e-5;
  config[prefix + "rope.freq_base"] = 10000.0;
  config[prefix + "rope.dimension_count"] = 16;
  config.merge_patch(json::parse(extra));
  FakeModel model(ModelFileKind::kGguf, std::move(config));
  const TensorFormat blocks = TensorFormat::kQ4_1, plain = TensorFormat::kF32;
  model.put("token_embd.weight", {96, 32}, TensorFormat::kQ8_0);
  model.put("output_norm.weight", {32}, plain);
  for (int i = 0; i < 2; ++i) {
    const std::string layer = "blk." + std::to_string(i) + ".";
    model.put(layer + "attn_norm.weight", {32}, plain);
    model.put(layer + "attn_q.weight", {32, 32}, blocks);
    model.put(layer + "attn_k.weight", {16, 32}, blocks);
    model.put(layer + "attn_v.weight", {16, 32}, blocks);
    model.put(layer + "attn_output.weight", {32, 32}, blocks);
    model.put(layer + "ffn_norm.weight", {32}, plain);
    model.put(layer + "ffn_gate.weight", {64, 32}, blocks);
    model.put(layer + "ffn_up.weight", {64, 32}, blocks);
    model.put(layer + "ffn_down.weight", {32, 64}, blocks);
  }
  return model;
}

}  // namespace mili_test
