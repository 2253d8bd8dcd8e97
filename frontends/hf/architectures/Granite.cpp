//===- Granite.cpp - multipliers on embedding, scores, residuals, logits ----===//
#include "mili/Frontends/JsonFields.h"
#include "mili/Frontends/ModelBuilder.h"

using namespace mlir;
using namespace mlir::mili;

static DecoderConfig readHuggingFace(::mili::JsonFields &fields) {
  DecoderConfig config = readHuggingFaceDecoder(fields, {});
  readAttentionBias(fields, config);
  readMlpBias(fields, config);
  config.embeddingMultiplier = fields.positive_number_or("embedding_multiplier", 1.0);
  config.attentionScale = fields.positive_number_or("attention_multiplier", 1.0);
  config.residualMultiplier = fields.positive_number_or("residual_multiplier", 1.0);
  config.logitsDivisor = fields.positive_number_or("logits_scaling", 1.0);
  return config;
}

static DecoderConfig readGguf(const ::mili::ModelFile &model, ::mili::JsonFields &fields, const std::string &prefix) {
  DecoderConfig config = readGgufDecoder(model, fields, prefix);
  config.adjacentPairs = true;  // converters reorder the rows of q and k
  // llama.cpp takes this flag, for this family alone, as whether there is RoPE at all.
  fields.only_boolean(prefix + "rope.scaling.finetuned", true);
  config.embeddingMultiplier = fields.positive_number_or(prefix + "embedding_scale", 1.0);
  config.attentionScale = fields.positive_number_or(prefix + "attention.scale", config.attentionScale);
  config.residualMultiplier = fields.positive_number_or(prefix + "residual_scale", 1.0);
  config.logitsDivisor = fields.positive_number_or(prefix + "logit_scale", 1.0);
  return config;
}

static const RegisterArchitecture registration({.family = "granite",
                                                .classes = {"GraniteForCausalLM"},
                                                .ggufNames = {"granite"},
                                                .readHuggingFace = readHuggingFace,
                                                .readGguf = readGguf,
                                                .build = buildPreNormDecoder});
