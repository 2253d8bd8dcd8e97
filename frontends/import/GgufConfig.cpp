//===- GgufConfig.cpp - GGUF metadata of decoders ---------------------------===//
//
// Keys and their meaning: the GGUF specification in ggml's repository, and what llama.cpp makes of them.
//
//===------------------------------------------------------------------------===//
#include "HeadSizes.h"
#include "mili/Frontends/JsonFields.h"
#include "mili/Frontends/ModelFile.h"

#include <cmath>

using ::mili::JsonFields;
using ::mili::ModelFile;
using ::mili::StatusOr;
using ::mili::TensorInfo;

namespace mlir::mili {

/// The whole of a small f32 vector.
static StatusOr<std::vector<double>> readVector(const ModelFile &model, const TensorInfo &tensor) {
  // Half of the largest head that anyone would use; keeps a hostile file from asking for memory.
  constexpr uint64_t kMaxElements = 4096;
  if (tensor.format != ::mili::TensorFormat::kF32 || tensor.shape.size() != 1 || tensor.elements() > kMaxElements)
    return ::mili::data_loss("tensor '" + tensor.name + "': expected at most " + std::to_string(kMaxElements) +
                             " numbers of f32 in one dimension");
  std::vector<float> values(tensor.elements());
  MILI_RETURN_IF_ERROR(model.read(tensor, 0, std::as_writable_bytes(std::span(values))));
  return std::vector<double>(values.begin(), values.end());
}

/// RoPE divisors that converters store as tensors.
static void readRopeTensors(const ModelFile &model, JsonFields &fields, const std::string &scalingKey,
                            RopeParameters &rope) {
  auto read = [&](const char *name, std::vector<double> &out) {
    const TensorInfo *tensor = model.find(name);
    if (!tensor)
      return false;
    StatusOr<std::vector<double>> values = readVector(model, *tensor);
    if (values.ok())
      out = std::move(*values);
    else
      fields.fail(scalingKey, values.status().message(), values.status().code());
    return true;
  };
  auto claim = [&](RopeScaling scaling) {
    if (rope.scaling != RopeScaling::kDefault && rope.scaling != scaling)
      fields.fail(scalingKey, "the file also has tensors of RoPE divisors, which belong to another scaling");
    rope.scaling = scaling;
  };
  if (read("rope_freqs.weight", rope.shortFactors))
    claim(RopeScaling::kDivisors);
  const bool hasShort = read("rope_factors_short.weight", rope.shortFactors);
  const bool hasLong = read("rope_factors_long.weight", rope.longFactors);
  if (hasShort || hasLong)
    claim(RopeScaling::kLongRope);
}

static RopeParameters readRope(const ModelFile &model, JsonFields &fields, const std::string &prefix,
                               const DecoderConfig &config) {
  RopeParameters rope;
  rope.trainedContext = config.trainedContext;
  rope.theta = fields.positive_number_or(prefix + "rope.freq_base", 10000.0);
  rope.rotaryDims = fields.positive_or(prefix + "rope.dimension_count", config.headDim);
  if (rope.rotaryDims > config.headDim)
    fields.fail(prefix + "rope.dimension_count", "must not exceed the head's " + std::to_string(config.headDim) +
                                                     " elements, found " + std::to_string(rope.rotaryDims));

  const std::string scaling = prefix + "rope.scaling.";
  rope.originalContext = fields.positive_or(scaling + "original_context_length", config.trainedContext);
  // Absent means linear, by a factor that is absent too.
  const std::string type = fields.has(scaling + "type")
                               ? fields.one_of(scaling + "type", {"none", "linear", "yarn", "longrope"})
                               : std::string("linear");
  // Files of 2023 have the older key; 0 stands for "not set".
  const double older = fields.number_or(prefix + "rope.scale_linear", 0);
  const double factor = fields.number_or(scaling + "factor", older);
  if (factor < 0)
    fields.fail(scaling + "factor", "must not be negative");
  const double attention = fields.number_or(scaling + "attn_factor", 1.0);
  fields.ignore({scaling + "finetuned"});  // about how the model was trained; the values are the same

  if (type == "linear" && factor > 0 && factor != 1) {
    rope.scaling = RopeScaling::kLinear;
    rope.factor = factor;
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::kYarn;
    if (factor > 0)
      rope.factor = factor;
    rope.betaFast = fields.positive_number_or(scaling + "yarn_beta_fast", 32.0);
    rope.betaSlow = fields.positive_number_or(scaling + "yarn_beta_slow", 1.0);
    fields.only_number(scaling + "yarn_ext_factor", 1.0);
    fields.only_number(scaling + "yarn_attn_factor", 1.0);
    // ggml multiplies its own factor with the file's.
    const double scale =
        rope.factor.value_or(static_cast<double>(rope.trainedContext) / static_cast<double>(rope.originalContext));
    rope.attentionFactor = attention * (scale > 1 ? 0.1 * std::log(scale) + 1.0 : 1.0);
  } else if (type == "longrope") {
    rope.scaling = RopeScaling::kLongRope;
  }
  readRopeTensors(model, fields, scaling + "type", rope);
  if (rope.scaling == RopeScaling::kLongRope)
    rope.attentionFactor = attention;
  else if (attention != 1 && rope.scaling != RopeScaling::kYarn)
    fields.fail(scaling + "attn_factor", "only YaRN and LongRoPE have one, and this file has neither");
  return rope;
}

DecoderConfig readGgufDecoder(const ModelFile &model, JsonFields &fields, const std::string &prefix) {
  DecoderConfig config;
  config.hidden = fields.positive(prefix + "embedding_length");
  config.intermediate = fields.positive(prefix + "feed_forward_length");
  config.layers = fields.integer(prefix + "block_count", 1, 4096);
  config.heads = fields.positive(prefix + "attention.head_count");
  config.kvHeads = fields.positive_or(prefix + "attention.head_count_kv", config.heads);
  const std::string keyLength = prefix + "attention.key_length";
  if (!fields.has(keyLength) && config.hidden % config.heads)
    fields.fail(prefix + "attention.head_count", "must divide embedding_length " + std::to_string(config.hidden) +
                                                     " where attention.key_length is not given, found " +
                                                     std::to_string(config.heads));
  config.headDim = fields.positive_or(keyLength, config.hidden / config.heads);
  checkHeads(fields, config, prefix + "attention.head_count", prefix + "attention.head_count_kv", keyLength);
  const int64_t valueDim = fields.positive_or(prefix + "attention.value_length", config.headDim);
  if (valueDim != config.headDim)
    fields.fail(prefix + "attention.value_length",
                "only widths equal to attention.key_length " + std::to_string(config.headDim) +
                    " are supported, found " + std::to_string(valueDim),
                ::mili::StatusCode::kUnimplemented);
  config.trainedContext = fields.positive(prefix + "context_length");
  config.epsilon = fields.positive_number(prefix + "attention.layer_norm_rms_epsilon");
  config.attentionScale = 1.0 / std::sqrt(static_cast<double>(config.headDim));
  config.rope = readRope(model, fields, prefix, config);

  // The vocabulary's size is the table's; a key that says otherwise is a contradiction.
  if (const TensorInfo *table = model.find("token_embd.weight"); table && table->shape.size() == 2)
    config.vocab = static_cast<int64_t>(table->shape[0]);
  const int64_t vocab = fields.positive_or(prefix + "vocab_size", config.vocab ? config.vocab : 1);
  if (config.vocab && vocab != config.vocab)
    fields.fail(prefix + "vocab_size", "the table of embeddings has " + std::to_string(config.vocab) + " rows, found " +
                                           std::to_string(vocab));
  config.vocab = vocab;
  config.tied = model.find("output.weight") == nullptr;
  config.queryKeyValueBias = Bias::kIfPresent;
  config.outputBias = Bias::kIfPresent;
  config.mlpBias = Bias::kIfPresent;
  config.windows.assign(config.layers, 0);
  config.rotary.assign(config.layers, true);

  // Features that files of these families could have in principle; only their absence is known.
  fields.only_string("general.type", {"model"});
  fields.only_boolean(prefix + "attention.causal", true);
  fields.only_number(prefix + "expert_count", 0);
  fields.only_number(prefix + "expert_used_count", 0);
  fields.only_number("split.count", 1);
  // About the file, the text and how it was quantized.
  fields.ignore(
      {"general.*", "tokenizer.*", "quantize.*", "split.no", "split.tensors.count", prefix + "tensor_data_layout"});
  return config;
}

}  // namespace mlir::mili
