// Ids and decoded text against Hugging Face's tokenizers (tests/data/text/make_references.py), and the properties that
// references cannot show.
#include "mili/text/tokenizer.h"

#include "section_builder.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

namespace mili {
namespace {

using nlohmann::json;
using test::AlignedBytes;

Tokenizer create(const AlignedBytes &bytes) {
  StatusOr<Tokenizer> tokenizer = Tokenizer::create({bytes.data(), bytes.size()});
  if (!tokenizer.ok())
    throw std::runtime_error(tokenizer.status().to_string());
  return std::move(*tokenizer);
}

std::string from_hex(const std::string &hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

class Reference : public testing::TestWithParam<const char *> {};

TEST_P(Reference, EncodesAndDecodes) {
  const json reference = test::read_reference(std::string(GetParam()) + ".tok.json");
  const AlignedBytes bytes(test::build_section(reference["section"]));
  const Tokenizer tokenizer = create(bytes);
  ASSERT_GT(reference["cases"].size(), 50u);
  for (const json &c : reference["cases"]) {
    const std::string text = c.contains("hex") ? from_hex(c["hex"]) : c["text"].get<std::string>();
    SCOPED_TRACE(c.contains("hex") ? c["hex"].dump() : c["text"].dump());
    const auto encode = [&](EncodeOptions options) {
      auto ids = tokenizer.encode(text, options);
      EXPECT_TRUE(ids.ok()) << ids.status().to_string();
      return ids.ok() ? *ids : std::vector<int32_t>();
    };
    const auto ids = c["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(encode({.add_special = false, .parse_special = true}), ids);
    EXPECT_EQ(encode({.add_special = true, .parse_special = true}), c.value("ids_special", ids));
    EXPECT_EQ(encode({.add_special = false, .parse_special = false}), c.value("ids_plain", ids));
    const auto decoded = c["decoded"].get<std::string>();
    const auto decoded_all = c.value("decoded_all", decoded);
    EXPECT_EQ(tokenizer.decode(ids, true), decoded);
    EXPECT_EQ(tokenizer.decode(ids, false), decoded_all);
    StreamDecoder stream(tokenizer, /*skip_special=*/false);
    std::string streamed;
    for (int32_t id : ids)
      streamed += stream.put(id);
    EXPECT_EQ(streamed + stream.finish(), decoded_all);
  }
}

INSTANTIATE_TEST_SUITE_P(Text, Reference,
                         testing::Values("gpt2", "prefix-space", "llama3", "qwen2", "smollm", "by-case", "cjk-chain",
                                         "removed", "merged-with-previous", "merged-with-next", "contiguous",
                                         "inverted", "empty-matches", "smollm2"),
                         [](const auto &info) {
                           std::string name = info.param;
                           for (char &c : name)
                             c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(Tokenizer, SpecialTokensAndIds) {
  const AlignedBytes bytes(test::build_section(test::small_section()));
  const Tokenizer tokenizer = create(bytes);
  EXPECT_EQ(*tokenizer.encode("abc<s>d"), (std::vector<int32_t>{7, 6, 3, 8}));  // "<", "s", ">" have no tokens
  EXPECT_EQ(*tokenizer.encode("abc<s>d", {.add_special = false, .parse_special = true}),
            (std::vector<int32_t>{6, 7, 3}));
  EXPECT_EQ(*tokenizer.encode("a<u>", {.add_special = false}), (std::vector<int32_t>{0, 9}));
  EXPECT_EQ(tokenizer.find_added("</s>"), 8);
  EXPECT_EQ(tokenizer.find_added("a"), std::nullopt);
  EXPECT_EQ(tokenizer.vocab_size(), 10);
  EXPECT_EQ(tokenizer.bos(), 7);
  EXPECT_EQ(tokenizer.pad(), -1);
  EXPECT_TRUE(tokenizer.is_special(7));
  EXPECT_FALSE(tokenizer.is_special(9));
  EXPECT_FALSE(tokenizer.is_special(-1));
  EXPECT_FALSE(tokenizer.is_special(10));
  EXPECT_EQ(tokenizer.token_text(4), " ");
  EXPECT_EQ(tokenizer.token_text(10), "");
  EXPECT_EQ(tokenizer.token_text(INT32_MIN), "");
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{7, 6, 1000, -5, 4, 9, 8}), "abc <u>");
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{7, 6, 8}, false), "<s>abc</s>");
  EXPECT_EQ(tokenizer.chat_template(), "{{ messages[0].content }}");
}

TEST(Tokenizer, PlainTextNeverMakesAControlToken) {
  json section = test::small_section();
  section["types"][5] = 1;  // a merge that produces a control token
  section["added"].push_back({{"id", 5}, {"text", "ab"}, {"special", true}});
  section["unk"] = 7;
  const AlignedBytes bytes(test::build_section(section));
  EXPECT_EQ(*create(bytes).encode("abcx", {.add_special = false}), (std::vector<int32_t>{0, 1, 2}));
}

TEST(Tokenizer, UnknownBytes) {
  json section = test::small_section();
  section["unk"] = 9;
  const AlignedBytes bytes(test::build_section(section));
  EXPECT_EQ(*create(bytes).encode("axé", {.add_special = false}), (std::vector<int32_t>{0, 9, 9, 9}));
}

TEST(Tokenizer, LongestAddedTokenWins) {
  json section = test::small_section();
  for (const char *text : {"<u>>", "<u>>>d", "u"}) {
    section["added"].push_back({{"id", section["tokens"].size()}, {"text", text}});
    section["tokens"].push_back(text);
    section["types"].push_back(2);
  }
  const AlignedBytes bytes(test::build_section(section));
  const Tokenizer tokenizer = create(bytes);
  EXPECT_EQ(*tokenizer.encode("<u><u>><u>>><u>>>d<u", {.add_special = false}),
            (std::vector<int32_t>{9, 10, 10, 11, 12}));
}

// Every way to cut a text of all lengths of characters into tokens of one byte.
TEST(StreamDecoder, NeverEmitsHalfACharacter) {
  json section = {{"tokens", json::array()}, {"types", json::array()}};
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    static int next = 256;
    const int c = printable ? b : next++;
    std::string text;
    if (c < 0x80)
      text = static_cast<char>(c);
    else
      text = {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
    section["tokens"].push_back(text);
    section["types"].push_back(0);
  }
  const AlignedBytes bytes(test::build_section(section));
  const Tokenizer tokenizer = create(bytes);

  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.put(0xF0), "");
  EXPECT_EQ(stream.put(0x9F), "");
  EXPECT_EQ(stream.put(0x99), "");
  EXPECT_EQ(stream.put(0x82), "🙂");
  EXPECT_EQ(stream.put(0xE2), "");
  EXPECT_EQ(stream.put('a'), "\uFFFD"
                             "a");
  EXPECT_EQ(stream.put(0x80), "\uFFFD");
  EXPECT_EQ(stream.put(0xC3), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");

  std::mt19937 rng(7);  // NOLINT(bugprone-random-generator-seed): the same inputs in every run
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t> ids;
    ids.reserve(12);
    for (int i = 0; i < 12; ++i)  // mostly bytes that begin or continue characters
      ids.push_back(static_cast<int32_t>(rng() % 4 == 0 ? rng() % 256 : 0x80 + rng() % 128));
    std::string streamed;
    for (int32_t id : ids) {
      const std::string piece = stream.put(id);
      // With a token for every byte, only ill-formed text does not come back.
      EXPECT_EQ(tokenizer.decode(*tokenizer.encode(piece)), piece);
      streamed += piece;
    }
    streamed += stream.finish();
    EXPECT_EQ(streamed, tokenizer.decode(ids));
  }
}

// A megabyte without a place to split: quadratic merging would take minutes.
TEST(Tokenizer, LongWordsAreFast) {
  const json reference = test::read_reference("gpt2.tok.json");
  const AlignedBytes bytes(test::build_section(reference["section"]));
  const Tokenizer tokenizer = create(bytes);
  std::string text;
  while (text.size() < (1u << 20))
    text += "thetheandinger";
  const auto start = std::chrono::steady_clock::now();
  const auto ids = tokenizer.encode(text);
  const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  ASSERT_TRUE(ids.ok()) << ids.status().to_string();
  EXPECT_EQ(tokenizer.decode(*ids), text);
  EXPECT_LT(seconds, 20);
  const std::string spaces(1u << 20, ' ');
  EXPECT_EQ(tokenizer.decode(*tokenizer.encode(spaces)), spaces);
}

TEST(Tokenizer, MemoryBesideTheSection) {
  const json reference = test::read_reference("smollm2.tok.json");
  const AlignedBytes bytes(test::build_section(reference["section"]));
  EXPECT_LT(create(bytes).memory_bytes(), 400u << 10);  // 48900 merges
}

}  // namespace
}  // namespace mili
