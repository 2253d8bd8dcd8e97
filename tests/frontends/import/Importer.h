// Imports a model and says what came out in a text that does not change with the dialect's assembly.
#pragma once

#include "mili/Frontends/ModelFile.h"

#include <cstdint>
#include <string>
#include <vector>

namespace mili_test {

struct Imported {
  bool ok = false;
  std::vector<std::string> errors;  // diagnostics, in order
  std::vector<std::string> warnings;
  std::string module;  // the module's attributes and states, one a line
  // Ops of @forward, one a line:
  //   layers.0.attn.q = linear(layers.0.attn.norm, layers.0.attn.q.weight) : tensor<?x8xf32>
  // by the names of their locations; attributes follow in braces. A RoPE table is its kind, pairing and length.
  std::string forward;
  std::vector<float> frequencies;  // of the first mili.rope
  float amplitude = 0;

  // The lines of `forward` that begin with `prefix`; weights and their dequantization left out. A prefix that ends in a
  // point ("layers.0.") is removed from every name.
  std::string graph(const std::string &prefix) const;
  // The weights among those lines: "attn.q.weight = weight blk.0.attn_q.weight : tensor<8x8xbf16>".
  std::string weights(const std::string &prefix) const;
};

Imported importText(const mili::ModelFile &model, const std::string &dtype = "f32", int64_t context = 0);

}  // namespace mili_test
