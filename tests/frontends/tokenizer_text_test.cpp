// From a model file's tokenizer to ids and back: both conversions together with the runtime's tokenizer must give what
// Hugging Face's tokenizers library gives (encodings.json, written by generate.py).
#include "support.h"

#include "mili/text/tokenizer.h"

using namespace mili;
using namespace mili::test;
using nlohmann::json;

namespace {

std::vector<int32_t> ids(const json &list) {
  return list.get<std::vector<int32_t>>();
}

class Encodings : public testing::TestWithParam<std::pair<const char *, const char *>> {};

TEST_P(Encodings, AgreeWithTheReferenceLibrary) {
  const auto &[source, reference] = GetParam();
  auto model = ModelFile::open(data(std::string("tokenizers/") + source), /*need_weights=*/false);
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  const auto section = (*model)->tokenizer();
  ASSERT_TRUE(section.ok()) << section.status().to_string();
  auto tokenizer = Tokenizer::create(*section);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();

  const json cases = read_json(data(std::string("tokenizers/") + reference + "/encodings.json"));
  ASSERT_GT(cases.size(), 20u);
  for (const json &want : cases) {
    const std::string text = want["text"];
    SCOPED_TRACE(text);
    const auto with_special = tokenizer->encode(text, {.add_special = true, .parse_special = true});
    ASSERT_TRUE(with_special.ok()) << with_special.status().to_string();
    EXPECT_EQ(*with_special, ids(want["ids"]));
    const auto plain = tokenizer->encode(text, {.add_special = false, .parse_special = true});
    ASSERT_TRUE(plain.ok());
    EXPECT_EQ(*plain, ids(want["plain"]));
    EXPECT_EQ(tokenizer->decode(ids(want["ids"]), /*skip_special=*/false), want["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer->decode(ids(want["ids"]), /*skip_special=*/true), want["decoded_skip"].get<std::string>());
  }
}

INSTANTIATE_TEST_SUITE_P(Reference, Encodings,
                         testing::Values(std::pair("gpt-2", "gpt-2"), std::pair("smollm", "smollm"),
                                         std::pair("qwen2", "qwen2"), std::pair("llama-bpe", "llama-bpe"),
                                         std::pair("odd", "odd"), std::pair("spaced", "spaced"),
                                         std::pair("gpt-2.gguf", "gpt-2"), std::pair("smollm.gguf", "smollm"),
                                         std::pair("qwen2.gguf", "qwen2"), std::pair("llama-bpe.gguf", "llama-bpe")),
                         [](const auto &info) {
                           std::string name = info.param.first;
                           for (char &c : name)
                             c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

// Every pre-tokenizer that GGUF metadata can name must have patterns that the runtime accepts.
TEST(PreTokenizers, AllPatternsCompile) {
  for (const char *name :
       {"default", "gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "qwen35", "tekken", "gpt-4o", "deepseek-v3"}) {
    SCOPED_TRACE(name);
    TempFolder folder;
    GgufFile file;
    file.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", name);
    file.strings("tokenizer.ggml.tokens", {"a", "b"}).strings("tokenizer.ggml.merges", {});
    file.u32("tokenizer.ggml.bos_token_id", 0).boolean("tokenizer.ggml.add_bos_token", false);
    auto model = ModelFile::open(folder.write("m.gguf", file.bytes()));
    ASSERT_TRUE(model.ok()) << model.status().to_string();
    const auto section = (*model)->tokenizer();
    ASSERT_TRUE(section.ok()) << section.status().to_string();
    auto tokenizer = Tokenizer::create(*section);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
    const auto encoded = tokenizer->encode("ab");
    ASSERT_TRUE(encoded.ok());
    EXPECT_EQ(*encoded, (std::vector<int32_t>{0, 1}));
  }
}

}  // namespace
