//===- Mistral.cpp - Llama's layer with a sliding window on every layer -----===//
//
// GGUF files of Mistral models call themselves "llama".
//
//===------------------------------------------------------------------------===//
#include "mili/Frontends/JsonFields.h"
#include "mili/Frontends/ModelBuilder.h"

using namespace mlir;
using namespace mlir::mili;

static DecoderConfig readHuggingFace(::mili::JsonFields &fields) {
  DecoderConfig config = readHuggingFaceDecoder(fields, {.kvHeads = 8, .maxPositions = 131072});
  // Left out, the class's default holds; null, as later releases have it, means no window.
  int64_t window = fields.contains("sliding_window") ? 0 : 4096;
  if (fields.has("sliding_window"))
    window = fields.positive("sliding_window");
  fields.ignore({"sliding_window"});
  config.windows.assign(config.layers, window);
  return config;
}

static const RegisterArchitecture registration({.family = "mistral",
                                                .classes = {"MistralForCausalLM"},
                                                .ggufNames = {},
                                                .readHuggingFace = readHuggingFace,
                                                .build = buildPreNormDecoder});
