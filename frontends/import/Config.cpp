//===- Config.cpp - the registry and config.json ----------------------------===//
#include "HeadSizes.h"
#include "mili/Frontends/JsonFields.h"

#include <cmath>
#include <deque>
#include <map>

using ::mili::JsonFields;

namespace mlir::mili {

namespace {
struct Registry {
  std::deque<Architecture> architectures;  // addresses stay
  std::map<std::string, const Architecture *, std::less<>> byClass;
  std::map<std::string, const Architecture *, std::less<>> byGgufName;
};
}  // namespace

static Registry &registry() {
  static Registry instance;
  return instance;
}

RegisterArchitecture::RegisterArchitecture(Architecture architecture) {
  Registry &all = registry();
  const Architecture &stored = all.architectures.emplace_back(std::move(architecture));
  for (const std::string &name : stored.classes)
    all.byClass[name] = &stored;
  for (const std::string &name : stored.ggufNames)
    all.byGgufName[name] = &stored;
}

const Architecture *findArchitectureByClass(std::string_view name) {
  auto it = registry().byClass.find(name);
  return it == registry().byClass.end() ? nullptr : it->second;
}

const Architecture *findArchitectureByGgufName(std::string_view name) {
  auto it = registry().byGgufName.find(name);
  return it == registry().byGgufName.end() ? nullptr : it->second;
}

std::vector<std::string> knownArchitectureClasses() {
  std::vector<std::string> names;
  for (const auto &entry : registry().byClass)
    names.push_back(entry.first);
  return names;
}

std::vector<std::string> knownGgufArchitectures() {
  std::vector<std::string> names;
  for (const auto &entry : registry().byGgufName)
    names.push_back(entry.first);
  return names;
}

//===- config.json -----------------------------------------------------------===//

static std::string readActivation(JsonFields &fields, const char *key) {
  if (!fields.has(key)) {
    fields.ignore({key});
    return "silu";
  }
  const std::string name =
      fields.one_of(key, {"silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_tanh", "relu"});
  if (name == "swish")
    return "silu";
  if (name == "gelu_new" || name == "gelu_pytorch_tanh")
    return "gelu_tanh";
  return name;
}

void checkHeads(JsonFields &fields, DecoderConfig &config, const std::string &headsField,
                const std::string &kvHeadsField, const std::string &headDimField) {
  // Published heads have at most 512 elements.
  constexpr int64_t maxHeadDim = 16384;
  if (config.heads % config.kvHeads)
    fields.fail(kvHeadsField, "must divide " + headsField + " " + std::to_string(config.heads) + ", found " +
                                  std::to_string(config.kvHeads));
  if (config.headDim < 1 || config.headDim > maxHeadDim)
    fields.fail(headDimField, "a head must have 1 to " + std::to_string(maxHeadDim) + " elements, found " +
                                  std::to_string(config.headDim));
  else if (config.heads > JsonFields::kMaxSize / config.headDim)
    fields.fail(headsField, std::to_string(config.heads) + " heads of " + std::to_string(config.headDim) +
                                " elements are more than " + std::to_string(JsonFields::kMaxSize));
  if (!fields.status().ok())
    config.heads = config.kvHeads = config.headDim = 1;
}

DecoderConfig readHuggingFaceDecoder(JsonFields &fields, const HuggingFaceDefaults &defaults) {
  DecoderConfig config;
  config.vocab = fields.positive("vocab_size");
  config.hidden = fields.positive("hidden_size");
  config.intermediate = fields.positive("intermediate_size");
  // A bound on what is built before the tensors are looked at; the deepest published models have some 130 layers.
  config.layers = fields.integer("num_hidden_layers", 1, 4096);
  config.heads = fields.positive("num_attention_heads");
  config.kvHeads = fields.positive_or("num_key_value_heads", defaults.kvHeads ? defaults.kvHeads : config.heads);
  const int64_t headDim = defaults.headDim ? defaults.headDim : config.hidden / config.heads;
  config.headDim = fields.positive_or("head_dim", headDim);
  if (!defaults.headDim && !fields.has("head_dim") && config.hidden % config.heads)
    fields.fail("num_attention_heads", "must divide hidden_size " + std::to_string(config.hidden) +
                                           " where head_dim is not given, found " + std::to_string(config.heads));
  checkHeads(fields, config, "num_attention_heads", "num_key_value_heads", "head_dim");
  config.trainedContext = fields.positive_or("max_position_embeddings", defaults.maxPositions);
  config.epsilon = fields.positive_number_or("rms_norm_eps", defaults.epsilon);
  config.activation = readActivation(fields, "hidden_act");
  config.tied = fields.boolean_or("tie_word_embeddings", defaults.tied);
  config.rope = readRopeParameters(fields, config.headDim, config.trainedContext, defaults.rope);
  config.attentionScale = 1.0 / std::sqrt(static_cast<double>(config.headDim));
  config.windows.assign(config.layers, 0);
  config.rotary.assign(config.layers, true);

  // Features that decoders of this kind never have, or that only one value is known of.
  fields.only_boolean("is_encoder_decoder", false);
  fields.only_boolean("rope_interleaved", false);
  // Without influence on the graph: training, names, sampling, caching, other libraries.
  fields.ignore({"architectures",
                 "model_type",
                 "_name_or_path",
                 "name_or_path",
                 "auto_map",
                 "dtype",
                 "torch_dtype",
                 "transformers_version",
                 "transformers.js_config",
                 "bos_token_id",
                 "eos_token_id",
                 "pad_token_id",
                 "unk_token_id",
                 "initializer_range",
                 "use_cache",
                 "attention_dropout",
                 "hidden_dropout",
                 "resid_pdrop",
                 "embd_pdrop",
                 "pretraining_tp",
                 "is_llama_config",
                 "return_dict",
                 "output_attentions",
                 "output_hidden_states",
                 "chunk_size_feed_forward",
                 "problem_type",
                 "id2label",
                 "label2id",
                 "attn_implementation",
                 "_attn_implementation",
                 "_attn_implementation_autoset",
                 "_flash_attn_2_enabled",
                 "unsloth_fixed",
                 "unsloth_version"});
  return config;
}

void readAttentionBias(JsonFields &fields, DecoderConfig &config) {
  const Bias bias = fields.boolean_or("attention_bias", false) ? Bias::kRequired : Bias::kNone;
  config.queryKeyValueBias = bias;
  config.outputBias = bias;
}

void readMlpBias(JsonFields &fields, DecoderConfig &config) {
  config.mlpBias = fields.boolean_or("mlp_bias", false) ? Bias::kRequired : Bias::kNone;
}

void readSlidingLayers(JsonFields &fields, DecoderConfig &config, int64_t defaultWindow) {
  const bool use = fields.boolean_or("use_sliding_window", false);
  // transformers lets null stand for the absence of a window, and an absent field for the class's default.
  const bool none = fields.contains("sliding_window") && !fields.has("sliding_window");
  const int64_t window = fields.positive_or("sliding_window", none ? 0 : defaultWindow);
  const int64_t first = fields.integer_or("max_window_layers", 28, 0, JsonFields::kMaxSize);
  const std::optional<std::vector<std::string>> types = fields.optional_strings("layer_types");
  if (types && static_cast<int64_t>(types->size()) != config.layers) {
    fields.fail("layer_types", "expected one entry for each of the " + std::to_string(config.layers) +
                                   " layers, found " + std::to_string(types->size()));
    return;
  }
  for (int64_t i = 0; i < config.layers; ++i) {
    bool sliding = use && window > 0 && i >= first;
    if (types) {
      const std::string &type = (*types)[i];
      if (type != "full_attention" && type != "sliding_attention") {
        fields.fail("layer_types", "supported: \"full_attention\", \"sliding_attention\"; found \"" + type + "\"",
                    ::mili::StatusCode::kUnimplemented);
        return;
      }
      sliding = type == "sliding_attention";
      if (sliding && (!use || window <= 0)) {
        fields.fail("layer_types", "layer " + std::to_string(i) +
                                       " is \"sliding_attention\", but use_sliding_window and sliding_window "
                                       "give no window");
        return;
      }
    }
    config.windows[i] = sliding ? window : 0;
  }
}

}  // namespace mlir::mili
