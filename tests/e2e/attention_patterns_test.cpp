// Attention patterns of whole plans: the device against the CPU, whose kernel attention_test.cpp compares with a dense
// masked softmax. Prompts in long steps, short chunks and single tokens, so that every attention kernel runs. Needs a
// GPU, or the emulator in its place.
#include "mili/Compiler/Compiler.h"
#include "mili/runtime/session.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <unistd.h>

namespace {

using namespace mili;

struct Loaded {
  std::unique_ptr<Engine> engine;
  std::unique_ptr<SessionPool> pool;
  std::unique_ptr<Session> session;
};

class AttentionPatterns : public testing::TestWithParam<const char *> {
protected:
  StatusOr<Loaded> load(const std::string &target) {
    CompileOptions options;
    options.model = std::string(MILI_GOLDEN_DIR) + "/llama";
    options.output = testing::TempDir() + "patterns-" + std::to_string(getpid()) + ".mili";
    options.target = target;
    options.context = 1024;
    options.prefill_tokens = 512;
    options.attention_patterns = {GetParam()};
    MILI_RETURN_IF_ERROR(compile_model(options, {}).status());
    MILI_ASSIGN_OR_RETURN(Plan plan, Plan::open(options.output));
    std::filesystem::remove(options.output);
    Loaded loaded;
    EngineOptions engine_options;
    engine_options.cpu.threads = 2;
    MILI_ASSIGN_OR_RETURN(loaded.engine, Engine::load(std::move(plan), engine_options));
    MILI_ASSIGN_OR_RETURN(loaded.pool, SessionPool::create(*loaded.engine));
    MILI_ASSIGN_OR_RETURN(loaded.session, loaded.pool->create_session());
    return loaded;
  }
};

TEST_P(AttentionPatterns, DeviceAgreesWithTheCpu) {
  auto device = load("cuda:source");
  if (device.status().code() == StatusCode::kUnavailable)
    GTEST_SKIP() << device.status().message();
  ASSERT_TRUE(device.ok()) << device.status().to_string();
  auto cpu = load("cpu");
  ASSERT_TRUE(cpu.ok()) << cpu.status().to_string();
  const unsigned seed = std::random_device{}();
  std::mt19937 random(seed);
  double error = 0, norm = 0;
  // Long steps that begin and end within blocks; chunks that cross one; decoding.
  for (size_t count : {300, 37, 330, 20, 1, 1, 1, 16, 1}) {
    std::vector<int32_t> tokens(count);
    for (int32_t &token : tokens)
      token = static_cast<int32_t>(random() % 512);
    for (Loaded *each : {&*device, &*cpu}) {
      Status status = each->session->append(tokens);
      ASSERT_TRUE(status.ok()) << status.to_string();
    }
    const std::span<const float> found = device->session->logits(), expected = cpu->session->logits();
    for (size_t i = 0; i < expected.size(); ++i) {
      error += (found[i] - expected[i]) * (found[i] - expected[i]);
      norm += expected[i] * expected[i];
    }
  }
  // As for the golden models: activations in bf16 beside activations in f32.
  EXPECT_LE(std::sqrt(error / norm), 2e-2) << "seed " << seed;
}

// Heads of 128 of a model with weights from a seed: what the kernel on wgmma makes of prompts, beside the one on
// mma.sync.
class PrefillKernels : public testing::TestWithParam<const char *> {};

TEST_P(PrefillKernels, WgmmaAgreesWithMma) {
  const std::string folder = testing::TempDir() + "wgmma-" + std::to_string(getpid());
  std::filesystem::create_directory(folder);
  std::ofstream(folder + "/config.json")
      << R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128, "num_hidden_layers": 1,
             "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 128,
             "vocab_size": 256, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "hidden_act": "silu",
             "max_position_embeddings": 1024, "tie_word_embeddings": false, "torch_dtype": "bfloat16"})";
  std::vector<std::vector<float>> results;
  for (const char *kernel : {"prefill=mma", "prefill=wgmma"}) {
    CompileOptions options;
    options.model = folder;
    options.output = folder + "/plan.mili";
    options.target = "cuda:source";
    options.synthetic_weights = 5;
    options.context = 1024;
    options.requests = 2;
    options.prefill_tokens = 600;
    options.attention_patterns = {GetParam()};
    options.kernels = {kernel};
    auto compiled = compile_model(options, {});
    ASSERT_TRUE(compiled.ok()) << compiled.status().to_string();
    auto engine = Engine::load(*Plan::open(options.output));
    if (engine.status().code() == StatusCode::kUnavailable) {
      std::filesystem::remove_all(folder);
      GTEST_SKIP() << engine.status().message();
    }
    ASSERT_TRUE(engine.ok()) << engine.status().to_string();
    auto pool = *SessionPool::create(**engine);
    auto first = *pool->create_session(), second = *pool->create_session();
    std::vector<int32_t> tokens(310);
    for (size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = static_cast<int32_t>((i * 37 + i * i % 11) % 256);
    ASSERT_TRUE(first->append(tokens).ok());
    // Both in one step: the rest of a prompt that begins within a block, and a short one.
    const SessionStep step[] = {{first.get(), std::span(tokens).first(300)},
                                {second.get(), std::span(tokens).first(41)}};
    ASSERT_TRUE(pool->step(step).ok());
    results.emplace_back();
    for (Session *session : {first.get(), second.get()})
      results.back().insert(results.back().end(), session->logits().begin(), session->logits().end());
  }
  std::filesystem::remove_all(folder);
  double error = 0, norm = 0;
  for (size_t i = 0; i < results[0].size(); ++i) {
    error += (results[1][i] - results[0][i]) * (results[1][i] - results[0][i]);
    norm += results[0][i] * results[0][i];
  }
  // Both round weights to bf16, relative to other maxima; outputs to bf16, 2^-9 each.
  EXPECT_LE(std::sqrt(error / norm), 1e-2);
  EXPECT_GT(norm, 0);
}

INSTANTIATE_TEST_SUITE_P(Masks, PrefillKernels, testing::Values("causal", "window=100", "bigbird"));

INSTANTIATE_TEST_SUITE_P(Masks, AttentionPatterns,
                         testing::Values("window=100", "strided=128", "local=128+random=3+seed=9", "bigbird",
                                         "window=70@1"));

}  // namespace
