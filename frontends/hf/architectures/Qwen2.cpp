//===- Qwen2.cpp - Qwen 2 and 2.5: biases on q, k and v ---------------------===//
#include "mili/Frontends/JsonFields.h"
#include "mili/Frontends/ModelBuilder.h"

using namespace mlir;
using namespace mlir::mili;

static DecoderConfig readHuggingFace(::mili::JsonFields &fields) {
  DecoderConfig config = readHuggingFaceDecoder(fields, {.kvHeads = 32, .maxPositions = 32768});
  config.queryKeyValueBias = Bias::kRequired;
  readSlidingLayers(fields, config, 4096);
  return config;
}

static DecoderConfig readGguf(const ::mili::ModelFile &model, ::mili::JsonFields &fields, const std::string &prefix) {
  DecoderConfig config = readGgufDecoder(model, fields, prefix);
  config.queryKeyValueBias = Bias::kRequired;
  return config;
}

static const RegisterArchitecture registration({.family = "qwen2",
                                                .classes = {"Qwen2ForCausalLM"},
                                                .ggufNames = {"qwen2"},
                                                .readHuggingFace = readHuggingFace,
                                                .readGguf = readGguf,
                                                .build = buildPreNormDecoder});
