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
  config.adjacentPairs = true;  // converters reorder the rows of q and k
  return config;
}

static const RegisterArchitecture registration({.family = "llama",
                                                .classes = {"LlamaForCausalLM"},
                                                .ggufNames = {"llama"},
                                                .readHuggingFace = readHuggingFace,
                                                .readGguf = readGguf,
                                                .build = buildPreNormDecoder});
