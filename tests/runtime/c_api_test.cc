// The C API as a program outside sees it: libmili.so alone.
#include "mili/mili.hpp"
#include "toy_model.h"
#include "toy_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <unistd.h>

namespace mili {
namespace {

using testing::HasSubstr;

class CApi : public testing::Test {
protected:
  void SetUp() override {
    path = toy::temporary_path("plan.mili");
    ASSERT_TRUE(toy.write(path).ok());
  }
  void TearDown() override { unlink(path.c_str()); }

  toy::ToyPlan toy = toy::toy_plan();
  std::string path;
  const std::vector<int32_t> prompt{3, 5, 7, 1};
};

TEST_F(CApi, GeneratesStreamsAndForks) {
  api::Engine engine;
  ASSERT_EQ(engine.load(path.c_str()), MILI_OK) << mili_last_error();
  mili_engine_info info = engine.info();
  EXPECT_EQ(info.vocab, toy::kVocab);
  EXPECT_EQ(info.context, 200);
  EXPECT_EQ(info.bos, 1);
  EXPECT_EQ(engine.stop_tokens().size(), 1u);
  size_t bytes = 1;
  EXPECT_EQ(mili_engine_tokenizer(engine.get(), &bytes), nullptr);
  EXPECT_EQ(bytes, 0u);

  api::Session session, fork;
  api::Sampler sampler;
  ASSERT_EQ(session.create(engine), MILI_OK);
  ASSERT_EQ(sampler.create(engine), MILI_OK);
  std::vector<int32_t> streamed;
  mili_generate_params params = MILI_GENERATE_PARAMS_INIT;
  params.max_tokens = 5;
  params.stop_tokens = prompt.data();
  params.stop_count = 0;
  params.user = &streamed;
  params.on_token = [](const mili_token *token, void *user) -> int32_t {
    static_cast<std::vector<int32_t> *>(user)->push_back(token->token);
    return 1;
  };
  mili_generate_result result{};
  result.size = sizeof(result);
  ASSERT_EQ(session.generate(sampler, prompt, &params, &result), MILI_OK) << mili_last_error();
  EXPECT_EQ(result.finish, MILI_FINISH_LENGTH);
  EXPECT_EQ(result.generated_tokens, 5);
  ASSERT_EQ(streamed.size(), 5u);
  EXPECT_EQ(session.tokens().size(), 8u);

  const std::vector<float> reference = toy::reference_logits(toy, session.tokens());
  ASSERT_EQ(session.fork(fork), MILI_OK);
  const float *logits = mili_session_logits(fork.get());
  for (size_t v = 0; v < toy::kVocab; ++v)
    EXPECT_NEAR(logits[v], reference[reference.size() - toy::kVocab + v], 1e-4);
  ASSERT_EQ(session.truncate(4), MILI_OK);
  EXPECT_EQ(mili_session_logits(session.get()), nullptr);
  mili_token token{};
  EXPECT_EQ(session.sample(sampler, token), MILI_FAILED_PRECONDITION);
  const int32_t next[] = {9};
  const mili_step_item items[] = {{session.get(), next, 1, 1}, {fork.get(), next, 1, 0}};
  ASSERT_EQ(mili_step(items, 2), MILI_OK) << mili_last_error();
  EXPECT_EQ(session.sample(sampler, token), MILI_OK);
  EXPECT_EQ(fork.sample(sampler, token), MILI_FAILED_PRECONDITION);
}

TEST_F(CApi, HandlesGoInAnyOrder) {
  mili_engine *engine = nullptr;
  ASSERT_EQ(mili_engine_load(path.c_str(), nullptr, &engine), MILI_OK);
  mili_session *session = nullptr;
  ASSERT_EQ(mili_session_create(engine, &session), MILI_OK);
  mili_engine_destroy(engine);
  EXPECT_EQ(mili_session_append(session, prompt.data(), prompt.size()), MILI_OK);
  mili_session_destroy(session);
  mili_session_destroy(nullptr);
}

TEST_F(CApi, ErrorsHaveMessages) {
  mili_engine *engine = nullptr;
  EXPECT_EQ(mili_engine_load("/nonexistent.mili", nullptr, &engine), MILI_NOT_FOUND);
  EXPECT_THAT(mili_last_error(), HasSubstr("/nonexistent.mili"));
  EXPECT_EQ(engine, nullptr);
  EXPECT_EQ(mili_engine_load(nullptr, nullptr, &engine), MILI_INVALID_ARGUMENT);
  mili_engine_params params = MILI_ENGINE_PARAMS_INIT;
  params.progress = [](double, const char *, void *) -> int32_t { return 0; };
  EXPECT_EQ(mili_engine_load(path.c_str(), &params, &engine), MILI_CANCELLED);
  params = MILI_ENGINE_PARAMS_INIT;
  params.size = 0;
  EXPECT_EQ(mili_engine_load(path.c_str(), &params, &engine), MILI_INVALID_ARGUMENT);
  EXPECT_THAT(mili_last_error(), HasSubstr("sizeof"));
  EXPECT_STREQ(mili_status_name(MILI_DATA_LOSS), "data loss");
}

TEST_F(CApi, StructsOfOtherVersions) {
  struct Newer {
    mili_engine_params known = MILI_ENGINE_PARAMS_INIT;
    uint64_t added = 0;
  } newer;
  newer.known.size = sizeof(newer);
  mili_engine *engine = nullptr;
  ASSERT_EQ(mili_engine_load(path.c_str(), &newer.known, &engine), MILI_OK) << mili_last_error();
  mili_engine *second = nullptr;
  newer.added = 1;
  EXPECT_EQ(mili_engine_load(path.c_str(), &newer.known, &second), MILI_UNIMPLEMENTED);
  // An older caller knows the first fields alone.
  mili_engine_info info;
  std::memset(&info, 0x5a, sizeof(info));
  info.size = offsetof(mili_engine_info, requests);
  ASSERT_EQ(mili_engine_get_info(engine, &info), MILI_OK);
  EXPECT_EQ(info.context, 200);
  EXPECT_EQ(info.requests, 0x5a5a5a5a5a5a5a5a);
  mili_engine_destroy(engine);
}

TEST_F(CApi, LogsToTheCallbackAlone) {
  std::string log;
  mili_set_log_callback(
      [](mili_log_level, const char *message, void *user) { *static_cast<std::string *>(user) += message; }, &log);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  api::Engine engine;
  ASSERT_EQ(engine.load(path.c_str()), MILI_OK);
  EXPECT_EQ(testing::internal::GetCapturedStdout() + testing::internal::GetCapturedStderr(), "");
  EXPECT_THAT(log, HasSubstr("code for baseline"));
  mili_set_log_callback(nullptr, nullptr);
}

}  // namespace
}  // namespace mili
