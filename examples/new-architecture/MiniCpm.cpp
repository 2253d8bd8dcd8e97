// MiniCPM (openbmb): Llama's layers, with scales on the embedding, on what each block adds to the stream, and on the
// logits, from config.json's scale_emb, scale_depth and dim_model_base (arXiv 2404.06395, section 4).
#include "mili/Compiler/Plugin.h"
#include "mili/Frontends/JsonFields.h"
#include "mili/Frontends/ModelBuilder.h"

#include <cmath>

using namespace mlir;
using namespace mlir::mili;

static DecoderConfig readHuggingFace(::mili::JsonFields &fields) {
  DecoderConfig config = readHuggingFaceDecoder(fields, {.tied = true});
  readAttentionBias(fields, config);
  config.embeddingMultiplier = fields.positive_number_or("scale_emb", 1.0);
  const double depth = fields.positive_number_or("scale_depth", 1.0);
  config.residualMultiplier = depth / std::sqrt(static_cast<double>(config.layers));
  const int64_t base = fields.positive_or("dim_model_base", 1);
  config.logitsDivisor = static_cast<double>(config.hidden) / static_cast<double>(base);
  return config;
}

// The body is written out, though buildPreNormDecoder is the same: a family whose layers differ begins here.
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

MILI_PLUGIN("new-architecture", registration) {
  registration.addArchitecture(
      {.family = "minicpm", .classes = {"MiniCPMForCausalLM"}, .readHuggingFace = readHuggingFace, .build = build});
}
