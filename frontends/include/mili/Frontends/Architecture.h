//===- Architecture.h - families of models and their configuration ----------===//
//
// A family is one file: it reads the family's configuration into a DecoderConfig and builds the family's layer from
// the blocks of ModelBuilder.h. The file registers itself; nothing else names it.
//
//   static const RegisterArchitecture registration({.family = "llama", .classes = {"LlamaForCausalLM"}, ...});
//
// Free of MLIR's op headers, so that a family's file compiles in a second or two.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_FRONTENDS_ARCHITECTURE_H
#define MILI_FRONTENDS_ARCHITECTURE_H

#include "mili/Frontends/RopeScaling.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mili {
class JsonFields;
class ModelFile;
}  // namespace mili

namespace mlir::mili {

class ModelBuilder;

/// Whether projections carry a bias: said by the configuration, or (GGUF, which does not say) by the tensors there.
enum class Bias { kNone, kRequired, kIfPresent };

/// What the shared blocks need to know of a decoder. Sizes are in elements and tokens.
struct DecoderConfig {
  int64_t vocab = 0;
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kvHeads = 0;
  int64_t headDim = 0;
  int64_t trainedContext = 0;
  double epsilon = 0;
  /// "silu", "gelu", "gelu_tanh", "relu": the spelling of #mili.activation.
  std::string activation = "silu";
  /// The head is the embedding table.
  bool tied = false;
  Bias queryKeyValueBias = Bias::kNone;
  Bias outputBias = Bias::kNone;
  Bias mlpBias = Bias::kNone;

  RopeParameters rope;
  /// Rows of q and k are stored so that elements 2i and 2i + 1 rotate together; else i and i + dims/2.
  bool adjacentPairs = false;
  double attentionScale = 0;
  /// One per layer: tokens of the window (0: all before), and whether the layer has RoPE.
  std::vector<int64_t> windows;
  std::vector<bool> rotary;

  double embeddingMultiplier = 1;
  double residualMultiplier = 1;
  double logitsDivisor = 1;
};

/// How a part of the model is called in the module, in Hugging Face checkpoints and in GGUF files. `role` "attn.q" is a
/// part of each layer, `huggingFace` "self_attn.q_proj" then follows "model.layers.N." and `gguf` "attn_q" "blk.N.";
/// ".weight" and ".bias" follow all of them.
struct TensorRole {
  std::string_view role;
  std::string_view huggingFace;
  std::string_view gguf;
};

struct Architecture {
  /// The family's name in modules, plans and messages.
  std::string family;
  /// Entries of config.json's `architectures`.
  std::vector<std::string> classes;
  /// Values of GGUF's `general.architecture`; empty: no such files.
  std::vector<std::string> ggufNames;
  /// Reads every field that the family knows; the caller refuses the others. Errors stick to `fields`.
  DecoderConfig (*readHuggingFace)(::mili::JsonFields &fields) = nullptr;
  /// The same for GGUF metadata under `prefix` ("llama."). `model` is there for tensors that are configuration.
  DecoderConfig (*readGguf)(const ::mili::ModelFile &model, ::mili::JsonFields &fields,
                            const std::string &prefix) = nullptr;
  /// Builds @forward's body.
  void (*build)(ModelBuilder &builder) = nullptr;
  /// Roles beyond those that decoders share, or other names for them.
  std::vector<TensorRole> roles = {};
};

/// Makes an architecture known, at start-up or when a plugin is loaded. A class or GGUF name can be taken once: a
/// second registration of the same name replaces the first.
struct RegisterArchitecture {
  explicit RegisterArchitecture(Architecture architecture);
};

/// Null if unknown.
const Architecture *findArchitectureByClass(std::string_view name);
const Architecture *findArchitectureByGgufName(std::string_view name);
/// Sorted, for messages.
std::vector<std::string> knownArchitectureClasses();
std::vector<std::string> knownGgufArchitectures();

//===- Configurations --------------------------------------------------------===//

/// What a family's configuration class takes for fields that config.json leaves out.
struct HuggingFaceDefaults {
  /// 0: as many as query heads.
  int64_t kvHeads = 0;
  /// 0: hidden / heads.
  int64_t headDim = 0;
  int64_t maxPositions = 2048;
  double epsilon = 1e-6;
  bool tied = false;
  RopeDefaults rope = {};
};

/// The fields that all decoders share, in Hugging Face's names; fields without influence on the graph are ignored by
/// name. Windows are set to none and every layer to RoPE.
DecoderConfig readHuggingFaceDecoder(::mili::JsonFields &fields, const HuggingFaceDefaults &defaults);

/// `attention_bias` covers q, k, v and the output projection, `mlp_bias` gate, up and down (absent: false).
void readAttentionBias(::mili::JsonFields &fields, DecoderConfig &config);
void readMlpBias(::mili::JsonFields &fields, DecoderConfig &config);

/// `layer_types`, else `use_sliding_window`, `sliding_window` and `max_window_layers` (Qwen's rule: layers from
/// `max_window_layers` on have the window).
void readSlidingLayers(::mili::JsonFields &fields, DecoderConfig &config, int64_t defaultWindow);

/// The metadata that all decoders share in GGUF. Biases are taken where tensors have them. Small tensors that hold RoPE
/// divisors are read.
DecoderConfig readGgufDecoder(const ::mili::ModelFile &model, ::mili::JsonFields &fields, const std::string &prefix);

}  // namespace mlir::mili

#endif  // MILI_FRONTENDS_ARCHITECTURE_H
