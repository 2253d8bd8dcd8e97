//===- SmolLM3.cpp - every fourth layer without RoPE ------------------------===//
#include "mili/Frontends/JsonFields.h"
#include "mili/Frontends/ModelBuilder.h"

using namespace mlir;
using namespace mlir::mili;

/// Layers 3, 7, 11, ... for an interval of 4.
static void setRotary(DecoderConfig &config, int64_t interval) {
  for (int64_t i = 0; i < config.layers; ++i)
    config.rotary[i] = (i + 1) % interval != 0;
}

static DecoderConfig readHuggingFace(::mili::JsonFields &fields) {
  HuggingFaceDefaults defaults = {.kvHeads = 4, .maxPositions = 32768, .tied = true};
  defaults.rope.theta = 2e6;
  DecoderConfig config = readHuggingFaceDecoder(fields, defaults);
  readAttentionBias(fields, config);
  readMlpBias(fields, config);

  setRotary(config, fields.positive_or("no_rope_layer_interval", 4));
  // Named after what it is not: 1 where the layer has RoPE. It may be longer than the model.
  if (std::optional<std::vector<int64_t>> flags = fields.optional_integers("no_rope_layers")) {
    if (static_cast<int64_t>(flags->size()) < config.layers) {
      fields.fail("no_rope_layers", "expected an entry for each of the " + std::to_string(config.layers) +
                                        " layers, found " + std::to_string(flags->size()));
      return config;
    }
    for (int64_t i = 0; i < config.layers; ++i)
      config.rotary[i] = (*flags)[i] != 0;
  }
  // Without layer_types, the layers without RoPE would have the window; no model was published so, and the general rule
  // of layer_types says it where one is.
  if (!fields.has("layer_types"))
    fields.only_boolean("use_sliding_window", false);
  readSlidingLayers(fields, config, 0);
  return config;
}

static DecoderConfig readGguf(const ::mili::ModelFile &model, ::mili::JsonFields &fields, const std::string &prefix) {
  DecoderConfig config = readGgufDecoder(model, fields, prefix);
  config.adjacentPairs = true;  // converters reorder the rows of q and k
  setRotary(config, 4);         // the format has no key for it
  return config;
}

static const RegisterArchitecture registration({.family = "smollm3",
                                                .classes = {"SmolLM3ForCausalLM"},
                                                .ggufNames = {"smollm3"},
                                                .readHuggingFace = readHuggingFace,
                                                .readGguf = readGguf,
                                                .build = buildPreNormDecoder});
