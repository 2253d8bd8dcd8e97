// Nothing is guessed: what the importer does not know, or does not find as it should be, is an error that names it.
#include "FakeModel.h"
#include "Importer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include <functional>

using mili::TensorFormat;
using mili_test::FakeModel;
using mili_test::Imported;
using mili_test::importText;
using mili_test::tinyGguf;
using mili_test::tinyHuggingFace;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

namespace {

struct BadField {
  const char *architecture;
  const char *fields;  // merged into a good configuration
  const char *message;
};

TEST(Refusals, FieldsOfConfigJson) {
  const BadField table[] = {
      {"LlamaForCausalLM", R"({"architectures": ["BloomForCausalLM"]})",
       "config.json: architecture \"BloomForCausalLM\" is not known; known: GraniteForCausalLM, LlamaForCausalLM, "
       "MistralForCausalLM, Olmo2ForCausalLM, Phi3ForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, "
       "SmolLM3ForCausalLM"},
      {"LlamaForCausalLM", R"({"architectures": null})", "field 'architectures': required"},
      {"LlamaForCausalLM", R"({"architectures": []})", "field 'architectures': expected one name, found 0"},
      {"LlamaForCausalLM", R"({"architectures": "LlamaForCausalLM"})", "field 'architectures': expected an array"},
      {"LlamaForCausalLM", R"({"attn_logit_softcapping": 50.0})", "unknown field 'attn_logit_softcapping'"},
      {"LlamaForCausalLM", R"({"quantization_config": {"bits": 4}})", "unknown field 'quantization_config'"},
      {"LlamaForCausalLM", R"({"sliding_window": 5})", "unknown field 'sliding_window'"},
      {"MistralForCausalLM", R"({"attention_bias": true})", "unknown field 'attention_bias'"},
      {"Olmo2ForCausalLM", R"({"mlp_bias": true})", "unknown field 'mlp_bias'"},
      {"LlamaForCausalLM", R"({"embedding_multiplier": 2.0})", "unknown field 'embedding_multiplier'"},
      {"LlamaForCausalLM", R"({"vocab_size": null})", "field 'vocab_size': required"},
      {"LlamaForCausalLM", R"({"hidden_size": 0})", "field 'hidden_size': expected an integer in 1 .. 2147483647"},
      {"LlamaForCausalLM", R"({"num_hidden_layers": 1000000})", "field 'num_hidden_layers'"},
      {"LlamaForCausalLM", R"({"num_attention_heads": 3, "head_dim": null})",
       "field 'num_attention_heads': must divide hidden_size 8 where head_dim is not given, found 3"},
      {"LlamaForCausalLM", R"({"num_attention_heads": 3})",
       "tensor 'model.layers.0.self_attn.q_proj.weight': expected shape 12x8, found 8x8"},
      {"LlamaForCausalLM", R"({"num_attention_heads": 4, "num_key_value_heads": 3})",
       "field 'num_key_value_heads': must divide num_attention_heads 4, found 3"},
      {"LlamaForCausalLM", R"({"head_dim": 2147483647})", "field 'head_dim': a head must have 1 to 16384 elements"},
      {"LlamaForCausalLM", R"({"num_attention_heads": 16, "head_dim": null})",
       "field 'num_attention_heads': must divide hidden_size 8"},
      {"LlamaForCausalLM", R"({"num_attention_heads": 2147483647, "num_key_value_heads": 1})",
       "field 'num_attention_heads': 2147483647 heads of 4 elements are more than 2147483647"},
      {"LlamaForCausalLM", R"({"intermediate_size": 2147483647, "vocab_size": 2147483647})",
       "expected shape 2147483647x8, found 32x8"},
      {"LlamaForCausalLM", R"({"hidden_act": "xielu"})", "found \"xielu\""},
      {"LlamaForCausalLM", R"({"rms_norm_eps": 0})", "field 'rms_norm_eps': expected a number above 0"},
      {"LlamaForCausalLM", R"({"rope_interleaved": true})", "field 'rope_interleaved': only false is supported"},
      {"LlamaForCausalLM", R"({"rope_scaling": {"type": "dynamic", "factor": 2.0}})", "found \"dynamic\""},
      {"LlamaForCausalLM", R"({"head_dim": 3})", "the number of rotating elements must be even and positive, found 3"},
      {"Qwen3ForCausalLM", R"({"layer_types": ["full_attention"]})",
       "field 'layer_types': expected one entry for each of the 2 layers, found 1"},
      {"Qwen3ForCausalLM", R"({"layer_types": ["full_attention", "linear_attention"]})", "found \"linear_attention\""},
      {"Qwen3ForCausalLM", R"({"layer_types": ["full_attention", "sliding_attention"]})",
       "layer 1 is \"sliding_attention\", but use_sliding_window and sliding_window give no window"},
      {"SmolLM3ForCausalLM", R"({"no_rope_layers": [1]})",
       "field 'no_rope_layers': expected an entry for each of the 2 layers, found 1"},
      {"SmolLM3ForCausalLM", R"({"use_sliding_window": true})", "field 'use_sliding_window': only false is supported"},
      {"GraniteForCausalLM", R"({"logits_scaling": 0})", "field 'logits_scaling': expected a number above 0"},
      {"Phi3ForCausalLM", R"({"rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1]}})",
       "short_factor: expected 2 numbers, one for each rotating pair, found 1"},
  };
  for (const BadField &bad : table) {
    const Imported imported = importText(tinyHuggingFace(bad.architecture, bad.fields));
    EXPECT_FALSE(imported.ok) << bad.fields;
    EXPECT_THAT(imported.errors, Contains(HasSubstr(bad.message))) << bad.architecture << bad.fields;
  }
}

TEST(Refusals, GgufMetadata) {
  const BadField table[] = {
      {"falcon", "{}",
       "metadata: architecture \"falcon\" is not known; known: granite, llama, olmo2, phi3, qwen2, qwen3, smollm3"},
      {"llama", R"({"general.architecture": null})", "field 'general.architecture': required"},
      {"llama", R"({"general.type": "adapter"})", "field 'general.type': supported: \"model\"; found \"adapter\""},
      {"llama", R"({"llama.block_count": null})", "field 'llama.block_count': required"},
      {"llama", R"({"llama.expert_count": 8})", "field 'llama.expert_count': only 0"},
      {"llama", R"({"llama.attention.sliding_window": 8})", "unknown field 'llama.attention.sliding_window'"},
      {"llama", R"({"llama.logit_scale": 8.0})", "unknown field 'llama.logit_scale'"},
      {"llama", R"({"llama.vocab_size": 95})",
       "field 'llama.vocab_size': the table of embeddings has 96 rows, found 95"},
      {"llama", R"({"llama.attention.value_length": 8})", "only widths equal to attention.key_length 16"},
      {"llama", R"({"llama.rope.dimension_count": 32})", "must not exceed the head's 16 elements, found 32"},
      {"llama", R"({"llama.attention.head_count": 3})", "must divide embedding_length 32"},
      {"llama", R"({"llama.attention.key_length": 2147483647})", "a head must have 1 to 16384 elements"},
      {"llama", R"({"llama.attention.head_count_kv": 3})", "must divide llama.attention.head_count 2, found 3"},
      {"llama", R"({"llama.rope.scaling.type": "dynamic"})", "found \"dynamic\""},
      {"llama", R"({"llama.rope.scaling.attn_factor": 2.0})", "only YaRN and LongRoPE have one"},
      {"llama", R"({"llama.attention.causal": false})", "only true is supported"},
      {"llama", R"({"llama.attention.head_count_kv": [1, 2]})", "field 'llama.attention.head_count_kv'"},
      {"llama", R"({"split.count": 2})", "field 'split.count': only 1"},
      {"granite", R"({"granite.rope.scaling.finetuned": false})", "only true is supported"},
      {"phi3", R"({"phi3.rope.scaling.type": "longrope"})", "short_factor: expected 8 numbers"},
  };
  for (const BadField &bad : table) {
    const Imported imported = importText(tinyGguf(bad.architecture, bad.fields));
    EXPECT_FALSE(imported.ok) << bad.fields;
    EXPECT_THAT(imported.errors, Contains(HasSubstr(bad.message))) << bad.architecture << bad.fields;
  }
}

TEST(Refusals, GgufRopeTensors) {
  FakeModel model = tinyGguf("llama");
  model.put("rope_freqs.weight", {8}, TensorFormat::kF16);
  EXPECT_THAT(importText(model).errors, ElementsAre(HasSubstr("tensor 'rope_freqs.weight': expected at most 4096")));
  model.put("rope_freqs.weight", {8192}, TensorFormat::kF32);
  EXPECT_THAT(importText(model).errors, ElementsAre(HasSubstr("tensor 'rope_freqs.weight': expected at most 4096")));
  model.put("rope_freqs.weight", {8}, TensorFormat::kF32, {1, 1});  // the file ends early
  EXPECT_THAT(importText(model).errors, ElementsAre(HasSubstr("tensor 'rope_freqs.weight'")));
  model.put("rope_freqs.weight", {4}, TensorFormat::kF32, {1, 1, 1, 1});
  EXPECT_THAT(importText(model).errors, ElementsAre(HasSubstr("frequency divisors: expected 8 numbers")));
  model.put("rope_freqs.weight", {8}, TensorFormat::kF32, {1, 1, 1, 1, 0, 1, 1, 1});
  EXPECT_THAT(importText(model).errors, ElementsAre(HasSubstr("every number must be above 0")));
  model.put("rope_freqs.weight", {8}, TensorFormat::kF32, std::vector<float>(8, 1));
  model.edit()["llama.rope.scaling.type"] = "yarn";
  EXPECT_THAT(importText(model).errors, ElementsAre(HasSubstr("which belong to another scaling")));
}

struct BadTensor {
  std::function<void(FakeModel &)> change;
  const char *message;
};

TEST(Refusals, Tensors) {
  const std::string k = "model.layers.1.self_attn.k_proj.weight";
  const BadTensor table[] = {
      {[&](FakeModel &m) { m.erase(k); },
       "tensor 'model.layers.1.self_attn.k_proj.weight' is missing; expected shape 4x8"},
      {[&](FakeModel &m) { m.put(k, {8, 4}); },
       "tensor 'model.layers.1.self_attn.k_proj.weight': expected shape 4x8, found 8x4"},
      {[&](FakeModel &m) { m.put(k, {32}); }, "expected shape 4x8, found 32"},
      {[&](FakeModel &m) { m.put("lm_head.weight", {33, 8}); },
       "tensor 'lm_head.weight': expected shape 32x8, found 33x8"},
      {[&](FakeModel &m) { m.erase("lm_head.weight"); }, "tensor 'lm_head.weight' is missing; expected shape 32x8"},
      {[&](FakeModel &m) { m.put("model.layers.0.self_attn.q_proj.bias", {8}); },
       "tensor 'model.layers.0.self_attn.q_proj.bias' (8) has no place in family 'llama'"},
      {[&](FakeModel &m) { m.put("model.layers.2.mlp.up_proj.weight", {16, 8}); },
       "tensor 'model.layers.2.mlp.up_proj.weight' (16x8) has no place in family 'llama'"},
      {[&](FakeModel &m) { m.put("model.norm.weight", {8}, TensorFormat::kQ8_0); },
       "tensor 'model.norm.weight': expected plain floats, found blocks"},
      {[&](FakeModel &m) { m.edit()["attention_bias"] = true; },
       "tensor 'model.layers.0.self_attn.q_proj.bias' is missing; expected shape 8"},
  };
  for (const BadTensor &bad : table) {
    FakeModel model = tinyHuggingFace("LlamaForCausalLM");
    bad.change(model);
    const Imported imported = importText(model);
    EXPECT_FALSE(imported.ok) << bad.message;
    EXPECT_THAT(imported.errors, Contains(HasSubstr(bad.message)));
  }
}

TEST(Refusals, EveryTensorThatIsWrongIsNamedUpToALimit) {
  FakeModel model = tinyHuggingFace("LlamaForCausalLM");
  model.erase("model.norm.weight");
  model.put("extra.weight", {1});
  EXPECT_THAT(importText(model).errors,
              ElementsAre(HasSubstr("'model.norm.weight' is missing"), HasSubstr("'extra.weight' (1) has no place")));
  const Imported imported = importText(tinyHuggingFace("LlamaForCausalLM", R"({"hidden_size": 16})"));
  ASSERT_THAT(imported.errors, SizeIs(9));
  EXPECT_THAT(imported.errors.back(), HasSubstr("and 13 more errors about tensors"));
}

// Any value in any field: a module or an error, never a crash (the asan preset runs this too).
TEST(Refusals, EveryKindOfValueInEveryField) {
  const nlohmann::json values = nlohmann::json::parse(
      R"([null, true, 0, -1, 1, 3, 2147483647, 9223372036854775807, 18446744073709551615, 0.5, 1e300,
                                -1e300, 1e-300, "", "silu", [], [1], ["full_attention", "x"], {}, {"type": "yarn"},
                                {"rope_type": "longrope", "short_factor": [1, 2], "long_factor": []}])");
  std::vector<FakeModel> models;
  for (const char *name : {"LlamaForCausalLM", "MistralForCausalLM", "SmolLM3ForCausalLM", "GraniteForCausalLM"})
    models.push_back(tinyHuggingFace(name));
  for (const char *name : {"llama", "granite"})
    models.push_back(tinyGguf(name));
  // Fields that have defaults, where the family knows them.
  const char *optional[] = {"attention_bias",
                            "mlp_bias",
                            "rope_theta",
                            "rope_scaling",
                            "rope_parameters",
                            "partial_rotary_factor",
                            "sliding_window",
                            "use_sliding_window",
                            "max_window_layers",
                            "layer_types",
                            "no_rope_layers",
                            "no_rope_layer_interval",
                            "embedding_multiplier",
                            "attention_multiplier",
                            "residual_multiplier",
                            "logits_scaling",
                            "original_max_position_embeddings",
                            "llama.vocab_size",
                            "llama.attention.key_length",
                            "llama.attention.value_length",
                            "llama.rope.scaling.type",
                            "llama.rope.scaling.factor",
                            "llama.rope.scaling.attn_factor",
                            "llama.rope.scaling.original_context_length",
                            "llama.rope.scale_linear",
                            "granite.logit_scale",
                            "granite.embedding_scale",
                            "granite.residual_scale",
                            "granite.attention.scale"};
  for (FakeModel &model : models) {
    ASSERT_TRUE(importText(model).ok);
    for (const char *field : optional) {
      FakeModel extended = model;
      extended.edit()[field] = nullptr;
      if (importText(extended).ok)
        model = extended;
    }
  }
  size_t imported = 0, refused = 0;
  for (const FakeModel &model : models) {
    const nlohmann::json config = model.config();
    for (auto field = config.begin(); field != config.end(); ++field) {
      for (const nlohmann::json &value : values) {
        FakeModel changed = model;
        changed.edit()[field.key()] = value;
        const Imported result = importText(changed);
        EXPECT_NE(result.ok, !result.errors.empty()) << field.key() << " = " << value;
        ++(result.ok ? imported : refused);
      }
    }
  }
  EXPECT_GT(refused, 1000u);
  EXPECT_GT(imported, 100u);
}

TEST(Refusals, ActivationDtype) {
  EXPECT_THAT(importText(tinyHuggingFace("LlamaForCausalLM"), "f16").errors,
              ElementsAre("activation dtype: expected \"f32\" or \"bf16\", found \"f16\""));
}

}  // namespace
