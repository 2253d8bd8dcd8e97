// Attention patterns of whole plans: the device against the CPU, whose kernel attention_test.cpp compares with a dense
// masked softmax. Prompts in long steps, short chunks and single tokens, so that every attention kernel runs. Needs a
// GPU, or the emulator in its place.
#include "mili/Compiler/Compiler.h"
#include "mili/runtime/session.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
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

INSTANTIATE_TEST_SUITE_P(Masks, AttentionPatterns,
                         testing::Values("causal", "window=100", "strided=128", "local=128+random=3+seed=9", "bigbird",
                                         "local=64+global=64", "window=70@1"));

}  // namespace
