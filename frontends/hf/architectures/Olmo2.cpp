//===- Olmo2.cpp - norms after attention and MLP, q and k normed as wholes --===//
#include "mili/Frontends/JsonFields.h"
#include "mili/Frontends/ModelBuilder.h"

using namespace mlir;
using namespace mlir::mili;

static DecoderConfig readHuggingFace(::mili::JsonFields &fields) {
  DecoderConfig config = readHuggingFaceDecoder(fields, {.epsilon = 1e-5});
  readAttentionBias(fields, config);
  return config;
}

static void build(ModelBuilder &b) {
  const DecoderConfig &c = b.config();
  Value x = b.embedding();
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    b.enterLayer(layer);
    ModelBuilder::Projections p = b.project(x);
    p.q = b.rmsNorm(p.q, "attn.q_norm", c.heads * c.headDim);
    p.k = b.rmsNorm(p.k, "attn.k_norm", c.kvHeads * c.headDim);
    x = b.residual(x, b.rmsNorm(b.attention(p), "attn.post_norm", c.hidden), "attn.add");
    x = b.residual(x, b.rmsNorm(b.gatedMlp(x), "mlp.post_norm", c.hidden), "mlp.add");
  }
  b.head(x);
}

static const RegisterArchitecture
    registration({.family = "olmo2",
                  .classes = {"Olmo2ForCausalLM"},
                  .ggufNames = {"olmo2"},
                  .readHuggingFace = readHuggingFace,
                  .readGguf = readGgufDecoder,
                  .build = build,
                  .roles = {{"attn.post_norm", "post_attention_layernorm", "post_attention_norm"},
                            {"mlp.post_norm", "post_feedforward_layernorm", "post_ffw_norm"}}});
