//===- Llama.cpp - Llama 1 to 3, SmolLM 1 and 2, and everything saved as one ===//
#include "mili/Frontends/JsonFields.h"
#include "mili/Frontends/ModelBuilder.h"

using namespace mlir;
using namespace mlir::mili;

static DecoderConfig readHuggingFace(::mili::JsonFields &fields) {
  DecoderConfig config = readHuggingFaceDecoder(fields, {});
  readAttentionBias(fields, config);
  readMlpBias(fields, config);
  return config;
}

static DecoderConfig readGguf(const ::mili::ModelFile &model, ::mili::JsonFields &fields, const std::string &prefix) {
  DecoderConfig config = readGgufDecoder(model, fields, prefix);
  config.adjacentPairs = true; // converters reorder the rows of q and k
  return config;
}

static void build(ModelBuilder &b) {
  const DecoderConfig &c = b.config();
  Value x = b.embedding();
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    b.enterLayer(layer);
    x = b.residual(x, b.attention(b.project(b.rmsNorm(x, "attn.norm", c.hidden))), "attn.add");
    x = b.residual(x, b.gatedMlp(b.rmsNorm(x, "mlp.norm", c.hidden)), "mlp.add");
  }
  b.head(x);
}

static const RegisterArchitecture registration({.family = "llama",
                                                .classes = {"LlamaForCausalLM"},
                                                .ggufNames = {"llama"},
                                                .readHuggingFace = readHuggingFace,
                                                .readGguf = readGguf,
                                                .build = build});
