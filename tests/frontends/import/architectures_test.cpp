// The graph of each family, of a tiny model: ops, order, operands, attributes, names.
#include "FakeModel.h"
#include "Importer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using mili::TensorFormat;
using mili_test::FakeModel;
using mili_test::Imported;
using mili_test::importText;
using mili_test::tinyGguf;
using mili_test::tinyHuggingFace;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

namespace {

// What most families share.
const char *kLlamaLayer = R"(attn.norm = rms_norm(embed, attn.norm.weight) {eps = 1e-05} : tensor<?x8xf32>
attn.q = linear(attn.norm, attn.q.weight) : tensor<?x8xf32>
attn.k = linear(attn.norm, attn.k.weight) : tensor<?x4xf32>
attn.v = linear(attn.norm, attn.v.weight) : tensor<?x4xf32>
attn.q_rope = rope(attn.q, batch) {heads = 2, rope = default half 2} : tensor<?x8xf32>
attn.k_rope = rope(attn.k, batch) {heads = 1, rope = default half 2} : tensor<?x4xf32>
kv = state_get() {state = @kv} : !mili.kv<heads = 1, k = 4, v = 4, f32>
attn.append = kv_append(kv, attn.k_rope, attn.v, batch) : !mili.kv<heads = 1, k = 4, v = 4, f32>
attn.core = attention(attn.q_rope, attn.append, batch) {heads = 2, mask = #mili.causal, scale = 0.5} : tensor<?x8xf32>
kv = state_set(attn.append) {state = @kv}
attn.out = linear(attn.core, attn.out.weight) : tensor<?x8xf32>
attn.add = add(embed, attn.out) : tensor<?x8xf32>
mlp.norm = rms_norm(attn.add, mlp.norm.weight) {eps = 1e-05} : tensor<?x8xf32>
mlp.gate = linear(mlp.norm, mlp.gate.weight) : tensor<?x16xf32>
mlp.up = linear(mlp.norm, mlp.up.weight) : tensor<?x16xf32>
mlp.gated = gated(mlp.gate, mlp.up) {function = #mili.activation<silu>} : tensor<?x16xf32>
mlp.down = linear(mlp.gated, mlp.down.weight) : tensor<?x8xf32>
mlp.add = add(attn.add, mlp.down) : tensor<?x8xf32>
)";

std::string replaced(std::string text, const std::string &from, const std::string &to) {
  size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  for (; at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

void addToLayers(FakeModel &model, const std::string &suffix, std::vector<uint64_t> shape,
                 TensorFormat format = TensorFormat::kBF16) {
  const std::string stem = model.kind() == mili::ModelFileKind::kGguf ? "blk." : "model.layers.";
  for (int i = 0; i < 2; ++i)
    model.put(stem + std::to_string(i) + "." + suffix, shape, format);
}

void removeFromLayers(FakeModel &model, const std::string &suffix) {
  const std::string stem = model.kind() == mili::ModelFileKind::kGguf ? "blk." : "model.layers.";
  for (int i = 0; i < 2; ++i)
    model.erase(stem + std::to_string(i) + "." + suffix);
}

TEST(Llama, WholeModule) {
  const Imported imported = importText(tinyHuggingFace("LlamaForCausalLM"));
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_TRUE(imported.ok);
  EXPECT_THAT(imported.warnings, IsEmpty());
  EXPECT_EQ(imported.module, R"(mili.context = 64
mili.family = "llama"
mili.layers = 2
mili.model = "tiny"
mili.trained_context = 64
mili.vocab = 32
sym_name = "tiny"
layers.0.kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
layers.1.kv : !mili.kv<heads = 1, k = 4, v = 4, f32>
forward : (tensor<?xi32>, !mili.batch) -> tensor<?x32xf32>
)");
  EXPECT_EQ(imported.graph("layers.0."), kLlamaLayer);
  // The second layer is the first one on its own tensors and state.
  EXPECT_EQ(imported.graph("layers.1."), replaced(kLlamaLayer, "(embed", "(layers.0.mlp.add"));
  EXPECT_EQ(imported.graph("embed"), "embed = embedding(tokens, embed.weight) : tensor<?x8xf32>\n");
  EXPECT_EQ(imported.graph("norm"), "norm = rms_norm(layers.1.mlp.add, norm.weight) {eps = 1e-05} : tensor<?x8xf32>\n");
  EXPECT_EQ(imported.graph("head"),
            "head = logits(norm, head.weight, batch) : tensor<?x32xf32>\nhead = func.return(head)\n");
  EXPECT_EQ(imported.weights("layers.1."),
            R"(attn.norm.weight = weight model.layers.1.input_layernorm.weight : tensor<8xbf16>
attn.q.weight = weight model.layers.1.self_attn.q_proj.weight : tensor<8x8xbf16>
attn.k.weight = weight model.layers.1.self_attn.k_proj.weight : tensor<4x8xbf16>
attn.v.weight = weight model.layers.1.self_attn.v_proj.weight : tensor<4x8xbf16>
attn.out.weight = weight model.layers.1.self_attn.o_proj.weight : tensor<8x8xbf16>
mlp.norm.weight = weight model.layers.1.post_attention_layernorm.weight : tensor<8xbf16>
mlp.gate.weight = weight model.layers.1.mlp.gate_proj.weight : tensor<16x8xbf16>
mlp.up.weight = weight model.layers.1.mlp.up_proj.weight : tensor<16x8xbf16>
mlp.down.weight = weight model.layers.1.mlp.down_proj.weight : tensor<8x16xbf16>
)");
}

TEST(Llama, ActivationsInBf16KeepTheFilesNormsAndF32Logits) {
  FakeModel model = tinyHuggingFace("LlamaForCausalLM");
  model.put("model.norm.weight", {8}, TensorFormat::kF32);
  const Imported imported = importText(model, "bf16");
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_EQ(imported.graph("layers.0."), replaced(kLlamaLayer, "f32", "bf16"));
  EXPECT_THAT(imported.weights("norm"), HasSubstr("tensor<8xf32>"));
  EXPECT_THAT(imported.module, HasSubstr("-> tensor<?x32xf32>"));
}

TEST(Llama, TiedHeadIsOneWeightWithTwoUses) {
  FakeModel model = tinyHuggingFace("LlamaForCausalLM", R"({"tie_word_embeddings": true})");
  Imported imported = importText(model);  // a copy saved as lm_head.weight is tolerated
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_EQ(imported.graph("head"),
            "head = logits(norm, embed.weight, batch) : tensor<?x32xf32>\nhead = func.return(head)\n");
  EXPECT_THAT(imported.forward, Not(HasSubstr("lm_head")));
  model.erase("lm_head.weight");
  EXPECT_TRUE(importText(model).ok);
}

TEST(Llama, BiasesWhereTheConfigurationHasThem) {
  FakeModel model = tinyHuggingFace("LlamaForCausalLM", R"({"attention_bias": true, "mlp_bias": true})");
  addToLayers(model, "self_attn.q_proj.bias", {8});
  addToLayers(model, "self_attn.k_proj.bias", {4});
  addToLayers(model, "self_attn.v_proj.bias", {4});
  addToLayers(model, "self_attn.o_proj.bias", {8});
  addToLayers(model, "mlp.gate_proj.bias", {16});
  addToLayers(model, "mlp.up_proj.bias", {16});
  addToLayers(model, "mlp.down_proj.bias", {8});
  const Imported imported = importText(model);
  ASSERT_THAT(imported.errors, IsEmpty());
  std::string expected = kLlamaLayer;
  for (const char *role : {"attn.q", "attn.k", "attn.v", "attn.out", "mlp.gate", "mlp.up", "mlp.down"})
    expected = replaced(expected, std::string(role) + ".weight)", std::string(role) + ".weight, " + role + ".bias)");
  EXPECT_EQ(imported.graph("layers.0."), expected);
  EXPECT_THAT(imported.weights("layers.0."),
              HasSubstr("mlp.up.bias = weight model.layers.0.mlp.up_proj.bias : tensor<16xbf16>"));
}

TEST(Llama, HeadDimAndKvHeadsWhenLeftOut) {
  FakeModel model = tinyHuggingFace("LlamaForCausalLM", R"({"head_dim": null, "num_key_value_heads": null})");
  addToLayers(model, "self_attn.k_proj.weight", {8, 8});
  addToLayers(model, "self_attn.v_proj.weight", {8, 8});
  const Imported imported = importText(model);
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_THAT(imported.module, HasSubstr("layers.0.kv : !mili.kv<heads = 2, k = 4, v = 4, f32>"));
}

TEST(Llama, TablesThatOlderCheckpointsSavedAreTolerated) {
  FakeModel model = tinyHuggingFace("LlamaForCausalLM");
  addToLayers(model, "self_attn.rotary_emb.inv_freq", {2}, TensorFormat::kF32);
  EXPECT_TRUE(importText(model).ok);
}

TEST(Llama, ContextIsTheOptionOrTheTrainedOne) {
  const FakeModel model = tinyHuggingFace("LlamaForCausalLM");
  const Imported smaller = importText(model, "f32", 16);
  EXPECT_THAT(smaller.module, HasSubstr("mili.context = 16\n"));
  EXPECT_THAT(smaller.module, HasSubstr("mili.trained_context = 64\n"));
  const Imported larger = importText(model, "f32", 100);
  EXPECT_TRUE(larger.ok);
  EXPECT_THAT(larger.warnings, ElementsAre("a context of 100 tokens exceeds the 64 that the model was trained for"));
}

TEST(Llama, PartialRotary) {
  const Imported imported = importText(tinyHuggingFace("LlamaForCausalLM", R"({"partial_rotary_factor": 0.5})"));
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_EQ(imported.graph("layers.0."), replaced(kLlamaLayer, "default half 2", "default half 1"));
}

TEST(Llama, Activations) {
  const std::pair<const char *, const char *> table[] = {{"silu", "silu"},
                                                         {"swish", "silu"},
                                                         {"gelu", "gelu"},
                                                         {"gelu_new", "gelu_tanh"},
                                                         {"gelu_pytorch_tanh", "gelu_tanh"},
                                                         {"relu", "relu"}};
  for (const auto &[name, function] : table) {
    FakeModel model = tinyHuggingFace("LlamaForCausalLM");
    model.edit()["hidden_act"] = name;
    EXPECT_THAT(importText(model).graph("layers.0."), HasSubstr(std::string("#mili.activation<") + function + ">"));
  }
}

TEST(Mistral, EveryLayerHasTheWindow) {
  const std::string windowed =
      replaced(replaced(kLlamaLayer, "v = 4, f32>", "v = 4, f32, window = 7>"), "#mili.causal", "#mili.window<7>");
  const Imported imported = importText(tinyHuggingFace("MistralForCausalLM", R"({"sliding_window": 7})"));
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_EQ(imported.graph("layers.0."), windowed);
  EXPECT_THAT(imported.module, HasSubstr("layers.1.kv : !mili.kv<heads = 1, k = 4, v = 4, f32, window = 7>"));
}

TEST(Mistral, NullIsNoWindowAndAbsentIsTheDefault) {
  FakeModel model = tinyHuggingFace("MistralForCausalLM");
  EXPECT_THAT(importText(model).graph("layers.1."), HasSubstr("#mili.window<4096>"));
  model.edit()["sliding_window"] = nullptr;
  EXPECT_EQ(importText(model).graph("layers.0."), kLlamaLayer);
}

TEST(Qwen2, BiasesOnQueryKeyValue) {
  FakeModel model = tinyHuggingFace("Qwen2ForCausalLM", R"({"use_sliding_window": false, "sliding_window": 4096,
                                    "max_window_layers": 1})");
  addToLayers(model, "self_attn.q_proj.bias", {8});
  addToLayers(model, "self_attn.k_proj.bias", {4});
  addToLayers(model, "self_attn.v_proj.bias", {4});
  const Imported imported = importText(model);
  ASSERT_THAT(imported.errors, IsEmpty());
  std::string expected = kLlamaLayer;
  for (const char *role : {"attn.q", "attn.k", "attn.v"})
    expected = replaced(expected, std::string(role) + ".weight)", std::string(role) + ".weight, " + role + ".bias)");
  EXPECT_EQ(imported.graph("layers.0."), expected);
}

FakeModel tinyQwen3(const char *extra = "{}") {
  FakeModel model = tinyHuggingFace("Qwen3ForCausalLM", extra);
  addToLayers(model, "self_attn.q_norm.weight", {4});
  addToLayers(model, "self_attn.k_norm.weight", {4});
  return model;
}

TEST(Qwen3, NormsOnHeadsBeforeRope) {
  const Imported imported = importText(tinyQwen3());
  ASSERT_THAT(imported.errors, IsEmpty());
  std::string expected = replaced(kLlamaLayer, "rope(attn.q,", "rope(attn.q_norm,");
  expected = replaced(expected, "rope(attn.k,", "rope(attn.k_norm,");
  expected = replaced(expected, "attn.q_rope = ",
                      "attn.q_norm = rms_norm(attn.q, attn.q_norm.weight) {eps = 1e-05} : tensor<?x8xf32>\n"
                      "attn.k_norm = rms_norm(attn.k, attn.k_norm.weight) {eps = 1e-05} : tensor<?x4xf32>\n"
                      "attn.q_rope = ");
  EXPECT_EQ(imported.graph("layers.0."), expected);
  EXPECT_THAT(imported.weights("layers.0."),
              HasSubstr("attn.q_norm.weight = weight model.layers.0.self_attn.q_norm.weight : tensor<4xbf16>"));
}

TEST(Qwen3, LayersFromMaxWindowLayersOnHaveTheWindow) {
  const char *rule = R"({"use_sliding_window": true, "sliding_window": 9, "max_window_layers": 1})";
  const char *list = R"({"use_sliding_window": true, "sliding_window": 9, "max_window_layers": 0,
                         "layer_types": ["full_attention", "sliding_attention"]})";
  for (const char *extra : {rule, list}) {
    const Imported imported = importText(tinyQwen3(extra));
    ASSERT_THAT(imported.errors, IsEmpty());
    EXPECT_THAT(imported.graph("layers.0."), HasSubstr("#mili.causal"));
    EXPECT_THAT(imported.graph("layers.1."), HasSubstr("#mili.window<9>"));
  }
}

TEST(Phi3, MergedTensorsAreReadAsRangesOfRows) {
  FakeModel model = tinyHuggingFace("Phi3ForCausalLM", R"({"embd_pdrop": 0.0, "resid_pdrop": 0.0})");
  for (const char *name : {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight",
                           "mlp.gate_proj.weight", "mlp.up_proj.weight"})
    removeFromLayers(model, name);
  addToLayers(model, "self_attn.qkv_proj.weight", {16, 8});
  addToLayers(model, "mlp.gate_up_proj.weight", {32, 8});
  const Imported imported = importText(model);
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_EQ(imported.graph("layers.0."), kLlamaLayer);
  EXPECT_EQ(imported.weights("layers.0."),
            R"(attn.norm.weight = weight model.layers.0.input_layernorm.weight : tensor<8xbf16>
attn.q.weight = weight model.layers.0.self_attn.qkv_proj.weight[0 : 8] : tensor<8x8xbf16>
attn.k.weight = weight model.layers.0.self_attn.qkv_proj.weight[8 : 12] : tensor<4x8xbf16>
attn.v.weight = weight model.layers.0.self_attn.qkv_proj.weight[12 : 16] : tensor<4x8xbf16>
attn.out.weight = weight model.layers.0.self_attn.o_proj.weight : tensor<8x8xbf16>
mlp.norm.weight = weight model.layers.0.post_attention_layernorm.weight : tensor<8xbf16>
mlp.gate.weight = weight model.layers.0.mlp.gate_up_proj.weight[0 : 16] : tensor<16x8xbf16>
mlp.up.weight = weight model.layers.0.mlp.gate_up_proj.weight[16 : 32] : tensor<16x8xbf16>
mlp.down.weight = weight model.layers.0.mlp.down_proj.weight : tensor<8x16xbf16>
)");
}

TEST(SmolLM3, LayersWithoutRope) {
  const std::string without = replaced(
      replaced(replaced(kLlamaLayer,
                        R"(attn.q_rope = rope(attn.q, batch) {heads = 2, rope = default half 2} : tensor<?x8xf32>
attn.k_rope = rope(attn.k, batch) {heads = 1, rope = default half 2} : tensor<?x4xf32>
)",
                        ""),
               "attn.q_rope", "attn.q"),
      "attn.k_rope", "attn.k");
  for (const char *extra : {R"({"no_rope_layers": [0, 1, 1, 1]})", R"({"no_rope_layers": [0, 1],
        "no_rope_layer_interval": 4, "layer_types": ["full_attention", "full_attention"]})"}) {
    const Imported imported = importText(tinyHuggingFace("SmolLM3ForCausalLM", extra));
    ASSERT_THAT(imported.errors, IsEmpty());
    EXPECT_EQ(imported.graph("layers.0."), without);
    EXPECT_THAT(imported.graph("layers.1."), HasSubstr("attn.q_rope = rope"));
  }
  const Imported interval = importText(tinyHuggingFace("SmolLM3ForCausalLM", R"({"no_rope_layer_interval": 2})"));
  EXPECT_THAT(interval.graph("layers.0."), HasSubstr("attn.q_rope = rope"));
  EXPECT_THAT(interval.graph("layers.1."), Not(HasSubstr("rope")));
}

TEST(SmolLM3, ItsOwnDefaults) {
  FakeModel model = tinyHuggingFace("SmolLM3ForCausalLM", R"({"tie_word_embeddings": null})");
  model.erase("lm_head.weight");
  const Imported imported = importText(model);
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_THAT(imported.frequencies, ElementsAre(1.0f, testing::FloatNear(7.0710678e-4f, 1e-9f)));  // 1 / sqrt(2e6)
}

TEST(Olmo2, NormsAfterTheBlocksAndOverWholeProjections) {
  FakeModel model = tinyHuggingFace("Olmo2ForCausalLM");
  removeFromLayers(model, "input_layernorm.weight");
  addToLayers(model, "post_feedforward_layernorm.weight", {8});
  addToLayers(model, "self_attn.q_norm.weight", {8});
  addToLayers(model, "self_attn.k_norm.weight", {4});
  const Imported imported = importText(model);
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_EQ(imported.graph("layers.0."), R"(attn.q = linear(embed, attn.q.weight) : tensor<?x8xf32>
attn.k = linear(embed, attn.k.weight) : tensor<?x4xf32>
attn.v = linear(embed, attn.v.weight) : tensor<?x4xf32>
attn.q_norm = rms_norm(attn.q, attn.q_norm.weight) {eps = 1e-05} : tensor<?x8xf32>
attn.k_norm = rms_norm(attn.k, attn.k_norm.weight) {eps = 1e-05} : tensor<?x4xf32>
attn.q_rope = rope(attn.q_norm, batch) {heads = 2, rope = default half 2} : tensor<?x8xf32>
attn.k_rope = rope(attn.k_norm, batch) {heads = 1, rope = default half 2} : tensor<?x4xf32>
kv = state_get() {state = @kv} : !mili.kv<heads = 1, k = 4, v = 4, f32>
attn.append = kv_append(kv, attn.k_rope, attn.v, batch) : !mili.kv<heads = 1, k = 4, v = 4, f32>
attn.core = attention(attn.q_rope, attn.append, batch) {heads = 2, mask = #mili.causal, scale = 0.5} : tensor<?x8xf32>
kv = state_set(attn.append) {state = @kv}
attn.out = linear(attn.core, attn.out.weight) : tensor<?x8xf32>
attn.post_norm = rms_norm(attn.out, attn.post_norm.weight) {eps = 1e-05} : tensor<?x8xf32>
attn.add = add(embed, attn.post_norm) : tensor<?x8xf32>
mlp.gate = linear(attn.add, mlp.gate.weight) : tensor<?x16xf32>
mlp.up = linear(attn.add, mlp.up.weight) : tensor<?x16xf32>
mlp.gated = gated(mlp.gate, mlp.up) {function = #mili.activation<silu>} : tensor<?x16xf32>
mlp.down = linear(mlp.gated, mlp.down.weight) : tensor<?x8xf32>
mlp.post_norm = rms_norm(mlp.down, mlp.post_norm.weight) {eps = 1e-05} : tensor<?x8xf32>
mlp.add = add(attn.add, mlp.post_norm) : tensor<?x8xf32>
)");
  EXPECT_THAT(imported.weights("layers.0."), HasSubstr("attn.q_norm.weight = weight "
                                                       "model.layers.0.self_attn.q_norm.weight : tensor<8xbf16>"));
}

TEST(Granite, Multipliers) {
  const Imported imported = importText(tinyHuggingFace("GraniteForCausalLM", R"({"embedding_multiplier": 12,
      "attention_multiplier": 0.125, "residual_multiplier": 0.22, "logits_scaling": 8.0})"));
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_EQ(imported.graph("embed.scale"), "embed.scale = scale(embed) {factor = 12} : tensor<?x8xf32>\n");
  EXPECT_EQ(imported.graph("head.scale"), "head.scale = scale(head) {factor = 0.125} : tensor<?x32xf32>\n");
  std::string expected = replaced(kLlamaLayer, "embed", "embed.scale");
  expected = replaced(expected, "scale = 0.5", "scale = 0.125");
  for (const char *part : {"attn", "mlp"}) {
    const std::string branch = std::string(part) + (part[0] == 'a' ? ".out" : ".down");
    const std::string add = std::string(part) + ".add";
    const std::string before = part[0] == 'a' ? "embed.scale" : "attn.add";
    expected = replaced(expected, add + " = add(" + before + ", " + branch + ")",
                        add + ".scale = scale(" + branch + ") {factor = 0.22} : tensor<?x8xf32>\n" + add + " = add(" +
                            before + ", " + add + ".scale)");
  }
  EXPECT_EQ(imported.graph("layers.0."), expected);
}

//===- GGUF -------------------------------------------------------------------===//

TEST(Gguf, LlamaKeepsBlocksAndRotatesAdjacentPairs) {
  const Imported imported = importText(tinyGguf("llama"), "bf16");
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_THAT(imported.module, HasSubstr("mili.family = \"llama\""));
  EXPECT_THAT(imported.module, HasSubstr("mili.vocab = 96"));
  EXPECT_THAT(imported.forward,
              HasSubstr("layers.0.attn.q.weight = weight blk.0.attn_q.weight : tensor<32x32x!mili.block<q4_1>>\n"
                        "layers.0.attn.q.dequant = dequant(layers.0.attn.q.weight) : tensor<32x32xbf16>\n"
                        "layers.0.attn.q = linear(layers.0.attn.norm, layers.0.attn.q.dequant) : tensor<?x32xbf16>\n"));
  EXPECT_THAT(imported.weights("layers.0."),
              HasSubstr("attn.norm.weight = weight blk.0.attn_norm.weight : tensor<32xf32>"));
  EXPECT_THAT(imported.graph("layers.0."), HasSubstr("{heads = 2, rope = default adjacent 8}"));
  // No output.weight: the head is the table, dequantized for each of its uses.
  EXPECT_THAT(imported.forward, HasSubstr("embed.dequant = dequant(embed.weight) : tensor<96x32xbf16>\n"
                                          "head = logits(norm, embed.dequant, batch) : tensor<?x96xf32>\n"));
}

TEST(Gguf, HeadOfItsOwnAndBiasesWhereTensorsAre) {
  FakeModel model = tinyGguf("llama");
  model.put("output.weight", {96, 32}, TensorFormat::kQ4_0);
  addToLayers(model, "attn_q.bias", {32}, TensorFormat::kF32);
  const Imported imported = importText(model);
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_THAT(imported.forward, HasSubstr("head.weight = weight output.weight : tensor<96x32x!mili.block<q4_0>>"));
  EXPECT_THAT(imported.graph("layers.0."),
              HasSubstr("attn.q = linear(attn.norm, attn.q.dequant, attn.q.bias) : tensor<?x32xf32>\n"
                        "attn.k = linear(attn.norm, attn.k.dequant) : tensor<?x16xf32>\n"));
}

TEST(Gguf, KeyLengthGivesTheHead) {
  FakeModel model = tinyGguf("qwen3", R"({"qwen3.attention.key_length": 32, "qwen3.attention.value_length": 32,
                             "qwen3.rope.dimension_count": null})");
  addToLayers(model, "attn_q.weight", {64, 32}, TensorFormat::kQ4_0);
  addToLayers(model, "attn_k.weight", {32, 32}, TensorFormat::kQ4_0);
  addToLayers(model, "attn_v.weight", {32, 32}, TensorFormat::kQ4_0);
  addToLayers(model, "attn_output.weight", {32, 64}, TensorFormat::kQ4_0);
  addToLayers(model, "attn_q_norm.weight", {32}, TensorFormat::kF32);
  addToLayers(model, "attn_k_norm.weight", {32}, TensorFormat::kF32);
  const Imported imported = importText(model);
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_THAT(imported.module, HasSubstr("layers.0.kv : !mili.kv<heads = 1, k = 32, v = 32, f32>"));
  EXPECT_THAT(imported.graph("layers.0."), HasSubstr("rope(attn.q_norm, batch) {heads = 2, rope = default half 16}"));
}

TEST(Gguf, Qwen2) {
  FakeModel model = tinyGguf("qwen2");
  addToLayers(model, "attn_q.bias", {32}, TensorFormat::kF32);
  addToLayers(model, "attn_k.bias", {16}, TensorFormat::kF32);
  addToLayers(model, "attn_v.bias", {16}, TensorFormat::kF32);
  const Imported imported = importText(model);
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_THAT(imported.graph("layers.1."), HasSubstr("attn.v = linear(attn.norm, attn.v.dequant, attn.v.bias)"));
  EXPECT_THAT(imported.graph("layers.1."), HasSubstr("rope = default half 8"));
}

TEST(Gguf, Phi3WithItsTensorsOfDivisors) {
  FakeModel model = tinyGguf("phi3", R"({"phi3.attention.sliding_window": 12, "phi3.context_length": 64,
      "phi3.rope.scaling.original_context_length": 16, "phi3.rope.scaling.attn_factor": 1.25})");
  for (const char *name : {"attn_q.weight", "attn_k.weight", "attn_v.weight", "ffn_gate.weight"})
    removeFromLayers(model, name);
  addToLayers(model, "attn_qkv.weight", {64, 32}, TensorFormat::kQ8_0);
  addToLayers(model, "ffn_up.weight", {128, 32}, TensorFormat::kQ8_0);
  model.put("rope_factors_short.weight", {8}, TensorFormat::kF32, std::vector<float>(8, 2.0f));
  model.put("rope_factors_long.weight", {8}, TensorFormat::kF32, std::vector<float>(8, 4.0f));
  const Imported imported = importText(model);
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_THAT(imported.graph("layers.0."), HasSubstr("rope = longrope-long half 8"));
  EXPECT_EQ(imported.frequencies[0], 0.25f);
  EXPECT_EQ(imported.amplitude, 1.25f);
  EXPECT_THAT(imported.graph("layers.0."), HasSubstr("#mili.window<12>"));
  EXPECT_THAT(imported.weights("layers.0."),
              HasSubstr("mlp.up.weight = weight blk.0.ffn_up.weight[64 : 128] : tensor<64x32x!mili.block<q8_0>>"));
  const Imported within = importText(model, "f32", 16);
  EXPECT_EQ(within.frequencies[0], 0.5f);
}

TEST(Gguf, SmolLM3HasItsIntervalByNature) {
  FakeModel model = tinyGguf("smollm3", R"({"smollm3.block_count": 4})");
  for (int i = 2; i < 4; ++i)
    for (const mili::TensorInfo &tensor : std::vector(model.tensors()))
      if (tensor.name.starts_with("blk.0."))
        model.put("blk." + std::to_string(i) + tensor.name.substr(5), tensor.shape, tensor.format);
  const Imported imported = importText(model);
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_THAT(imported.graph("layers.2."), HasSubstr("rope = default adjacent 8"));
  EXPECT_THAT(imported.graph("layers.3."), Not(HasSubstr("rope")));
}

TEST(Gguf, Olmo2) {
  FakeModel model = tinyGguf("olmo2");
  removeFromLayers(model, "attn_norm.weight");
  removeFromLayers(model, "ffn_norm.weight");
  addToLayers(model, "post_attention_norm.weight", {32}, TensorFormat::kF32);
  addToLayers(model, "post_ffw_norm.weight", {32}, TensorFormat::kF32);
  addToLayers(model, "attn_q_norm.weight", {32}, TensorFormat::kF32);
  addToLayers(model, "attn_k_norm.weight", {16}, TensorFormat::kF32);
  const Imported imported = importText(model);
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_THAT(imported.graph("layers.0."), HasSubstr("mlp.post_norm = rms_norm(mlp.down, mlp.post_norm.weight)"));
  EXPECT_THAT(imported.graph("layers.0."), HasSubstr("rope = default half 8"));
}

TEST(Gguf, GraniteScales) {
  const Imported imported =
      importText(tinyGguf("granite", R"({"granite.embedding_scale": 12.0, "granite.attention.scale": 0.0625,
      "granite.residual_scale": 0.25, "granite.logit_scale": 4.0})"));
  ASSERT_THAT(imported.errors, IsEmpty());
  EXPECT_EQ(imported.graph("embed.scale"), "embed.scale = scale(embed) {factor = 12} : tensor<?x32xf32>\n");
  EXPECT_EQ(imported.graph("head.scale"), "head.scale = scale(head) {factor = 0.25} : tensor<?x96xf32>\n");
  EXPECT_THAT(imported.graph("layers.0."), HasSubstr("attn.add.scale = scale(attn.out) {factor = 0.25}"));
  EXPECT_THAT(imported.graph("layers.0."), HasSubstr("scale = 0.0625"));
  EXPECT_THAT(imported.graph("layers.0."), HasSubstr("rope = default adjacent 8"));
}

TEST(Gguf, LlamaThreeDivisors) {
  FakeModel model = tinyGguf("llama");
  model.put("rope_freqs.weight", {8}, TensorFormat::kF32, {1, 1, 1, 1, 2, 4, 8, 8});
  const Imported plain = importText(tinyGguf("llama")), divided = importText(model);
  ASSERT_THAT(divided.errors, IsEmpty());
  EXPECT_THAT(divided.graph("layers.0."), HasSubstr("rope = divisors adjacent 8"));
  EXPECT_EQ(divided.frequencies[3], plain.frequencies[3]);
  EXPECT_EQ(divided.frequencies[5], plain.frequencies[5] / 4);
}

TEST(Gguf, LinearAndYarn) {
  const Imported plain = importText(tinyGguf("llama"));
  for (const char *extra : {R"({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0})",
                            R"({"llama.rope.scale_linear": 4.0})"}) {
    const Imported linear = importText(tinyGguf("llama", extra));
    ASSERT_THAT(linear.errors, IsEmpty());
    EXPECT_EQ(linear.frequencies[3], plain.frequencies[3] / 4);
  }
  const Imported none =
      importText(tinyGguf("llama", R"({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0})"));
  EXPECT_EQ(none.frequencies, plain.frequencies);
  const Imported yarn = importText(tinyGguf("llama", R"({"llama.rope.scaling.type": "yarn",
      "llama.rope.scaling.factor": 4.0, "llama.rope.scaling.original_context_length": 16,
      "llama.rope.scaling.finetuned": true})"));
  ASSERT_THAT(yarn.errors, IsEmpty());
  EXPECT_FLOAT_EQ(yarn.amplitude, 1.1386294f);  // 0.1 ln 4 + 1
  EXPECT_LT(yarn.frequencies[7], plain.frequencies[7] / 3);
}

}  // namespace
