// mili_text.h as a program outside sees it.
#include "mili/mili_text.h"
#include "section_builder.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mili::test {
namespace {

class TextCApi : public testing::Test {
protected:
  void SetUp() override {
    const std::vector<uint8_t> section = build_section(small_section());
    ASSERT_EQ(mili_tokenizer_create(section.data(), section.size(), &tokenizer), MILI_OK) << mili_text_last_error();
  }
  void TearDown() override { mili_tokenizer_destroy(tokenizer); }

  mili_tokenizer *tokenizer = nullptr;
};

TEST_F(TextCApi, EncodesAndDecodes) {
  std::vector<int32_t> ids(8);
  size_t needed = 0;
  ASSERT_EQ(mili_tokenizer_encode(tokenizer, "abcd", 4, 1, 0, ids.data(), ids.size(), &needed), MILI_OK);
  ids.resize(needed);
  EXPECT_EQ(ids, (std::vector<int32_t>{7, 6, 3, 8}));
  char text[8] = "-------";
  ASSERT_EQ(mili_tokenizer_decode(tokenizer, ids.data(), ids.size(), 1, text, sizeof(text), &needed), MILI_OK);
  EXPECT_EQ(std::string(text, needed), "abcd");
}

TEST_F(TextCApi, SaysHowMuchRoomIsNeeded) {
  int32_t ids[2] = {-5, -5};
  size_t needed = 0;
  ASSERT_EQ(mili_tokenizer_encode(tokenizer, "dddd", 4, 0, 0, ids, 1, &needed), MILI_OK);
  EXPECT_EQ(needed, 4u);
  EXPECT_EQ(ids[0], 3);
  EXPECT_EQ(ids[1], -5);
  ASSERT_EQ(mili_tokenizer_encode(tokenizer, "dddd", 4, 0, 0, nullptr, 0, &needed), MILI_OK);
  EXPECT_EQ(needed, 4u);
}

TEST_F(TextCApi, DecodesAStream) {
  mili_decoder *decoder = nullptr;
  ASSERT_EQ(mili_decoder_create(tokenizer, 1, &decoder), MILI_OK);
  EXPECT_STREQ(mili_decoder_put(decoder, 7), "");
  EXPECT_STREQ(mili_decoder_put(decoder, 6), "abc");
  EXPECT_STREQ(mili_decoder_finish(decoder), "");
  mili_decoder_destroy(decoder);
}

TEST_F(TextCApi, RendersTheChatTemplate) {
  const mili_chat_message messages[] = {{"user", "hello"}};
  char text[16];
  size_t needed = 0;
  ASSERT_EQ(mili_chat_render(tokenizer, messages, 1, 1, text, sizeof(text), &needed), MILI_OK)
      << mili_text_last_error();
  EXPECT_EQ(std::string(text, needed), "hello");
  const mili_chat_message bad[] = {{"user", nullptr}};
  EXPECT_EQ(mili_chat_render(tokenizer, bad, 1, 1, text, sizeof(text), &needed), MILI_INVALID_ARGUMENT);
  EXPECT_NE(std::string(mili_text_last_error()).find("message 0"), std::string::npos);
}

TEST_F(TextCApi, Refusals) {
  mili_tokenizer *none = nullptr;
  EXPECT_EQ(mili_tokenizer_create(nullptr, 0, &none), MILI_NOT_FOUND);
  const char garbage[] = "not a tokenizer section at all";
  EXPECT_EQ(mili_tokenizer_create(garbage, sizeof(garbage), &none), MILI_DATA_LOSS);
  EXPECT_EQ(none, nullptr);
}

}  // namespace
}  // namespace mili::test
