//===- Phi3.cpp - Phi 3 and 4 mini: q, k, v in one tensor, gate and up too --===//
//
// The merged tensors are read as ranges of rows, so that the graph looks like every other family's; the optimizer
// merges them again as its target likes.
//
//===------------------------------------------------------------------------===//
#include "mili/Frontends/JsonFields.h"
#include "mili/Frontends/ModelBuilder.h"

using namespace mlir;
using namespace mlir::mili;

static DecoderConfig readHuggingFace(::mili::JsonFields &fields) {
  HuggingFaceDefaults defaults = {.maxPositions = 4096, .epsilon = 1e-5};
  defaults.rope.originalContext = 4096;
  defaults.rope.longRopeNames = {"su", "yarn"};
  DecoderConfig config = readHuggingFaceDecoder(fields, defaults);
  // Null and absent both mean no window.
  if (fields.has("sliding_window"))
    config.windows.assign(config.layers, fields.positive("sliding_window"));
  fields.ignore({"sliding_window"});
  fields.only_boolean("attention_bias", false);
  return config;
}

static DecoderConfig readGguf(const ::mili::ModelFile &model, ::mili::JsonFields &fields, const std::string &prefix) {
  DecoderConfig config = readGgufDecoder(model, fields, prefix);
  // Zero stands for none.
  config.windows.assign(config.layers,
                        fields.integer_or(prefix + "attention.sliding_window", 0, 0, ::mili::JsonFields::kMaxSize));
  return config;
}

static void build(ModelBuilder &b) {
  const DecoderConfig &c = b.config();
  Value x = b.embedding();
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    b.enterLayer(layer);
    x = b.residual(x, b.attention(b.projectMerged(b.rmsNorm(x, "attn.norm", c.hidden))), "attn.add");
    x = b.residual(x, b.gatedMlpMerged(b.rmsNorm(x, "mlp.norm", c.hidden)), "mlp.add");
  }
  b.head(x);
}

static const RegisterArchitecture registration({.family = "phi3",
                                                .classes = {"Phi3ForCausalLM"},
                                                .ggufNames = {"phi3"},
                                                .readHuggingFace = readHuggingFace,
                                                .readGguf = readGguf,
                                                .build = build});
