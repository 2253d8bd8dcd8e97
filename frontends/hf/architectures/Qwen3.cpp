//===- Qwen3.cpp - a norm on each head of q and k, before RoPE --------------===//
#include "mili/Frontends/JsonFields.h"
#include "mili/Frontends/ModelBuilder.h"

using namespace mlir;
using namespace mlir::mili;

static DecoderConfig readHuggingFace(::mili::JsonFields &fields) {
  DecoderConfig config = readHuggingFaceDecoder(fields, {.kvHeads = 32, .headDim = 128, .maxPositions = 32768});
  readAttentionBias(fields, config);
  readSlidingLayers(fields, config, 4096);
  return config;
}

static void build(ModelBuilder &b) {
  const DecoderConfig &c = b.config();
  Value x = b.embedding();
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    b.enterLayer(layer);
    ModelBuilder::Projections p = b.project(b.rmsNorm(x, "attn.norm", c.hidden));
    p.q = b.rmsNorm(p.q, "attn.q_norm", c.headDim);
    p.k = b.rmsNorm(p.k, "attn.k_norm", c.headDim);
    x = b.residual(x, b.attention(p), "attn.add");
    x = b.residual(x, b.gatedMlp(b.rmsNorm(x, "mlp.norm", c.hidden)), "mlp.add");
  }
  b.head(x);
}

static const RegisterArchitecture registration({.family = "qwen3",
                                                .classes = {"Qwen3ForCausalLM"},
                                                .ggufNames = {"qwen3"},
                                                .readHuggingFace = readHuggingFace,
                                                .readGguf = readGgufDecoder,
                                                .build = build});
