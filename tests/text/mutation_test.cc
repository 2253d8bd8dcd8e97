// Malformed input: tokenizer sections and chat templates, cut, flipped and contradictory. Run in the asan preset, these
// show that nothing is used before it was checked.
#include "mili/text/chat_template.h"
#include "mili/text/tokenizer.h"

#include "section_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace mili {
namespace {

using nlohmann::json;
using test::AlignedBytes;
using testing::HasSubstr;

// Uses everything in a section that was accepted.
void exercise(const std::vector<uint8_t> &bytes) {
  const AlignedBytes aligned(bytes);
  StatusOr<Tokenizer> tokenizer = Tokenizer::create({aligned.data(), aligned.size()});
  if (!tokenizer.ok()) {
    EXPECT_FALSE(tokenizer.status().message().empty());
    return;
  }
  std::vector<int32_t> ids;
  for (const EncodeOptions options : {EncodeOptions{true, true}, EncodeOptions{false, false}}) {
    auto encoded = tokenizer->encode("abc ab<s> d</s><u> é \xff 12", options);
    if (encoded.ok())
      ids.insert(ids.end(), encoded->begin(), encoded->end());
  }
  for (int32_t id : ids) {
    ASSERT_GE(id, 0);
    ASSERT_LT(id, tokenizer->vocab_size());
  }
  for (int32_t id = -1; id <= std::min(tokenizer->vocab_size(), 64); ++id)
    ids.push_back(id);
  (void)tokenizer->decode(ids, false);
  StreamDecoder stream(*tokenizer);
  for (int32_t id : ids)
    (void)stream.put(id);
  (void)stream.finish();
  (void)ChatTemplate::parse(tokenizer->chat_template());
}

json rich_section() {
  json section = test::small_section();
  section["splits"] = json::parse(R"([{"pattern": "\\p{N}", "behavior": 0}, {"pattern": "[a-c]+", "behavior": 4}])");
  section["ignore_merges"] = true;
  section["normalizer_nfc"] = true;
  section["unk"] = 9;
  return section;
}

TEST(TokenizerMutation, Truncated) {
  const std::vector<uint8_t> bytes = test::build_section(rich_section());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const AlignedBytes cut(std::vector<uint8_t>(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size)));
    // FlatBuffers are written from the end: a cut always loses the first fields' data, except for trailing padding.
    const auto tokenizer = Tokenizer::create({cut.data(), cut.size()});
    if (size + 16 < bytes.size()) {
      EXPECT_FALSE(tokenizer.ok()) << size;
    }
    exercise({bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size)});
  }
}

TEST(TokenizerMutation, EveryBitFlipped) {
  const std::vector<uint8_t> bytes = test::build_section(rich_section());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::vector<uint8_t> flipped = bytes;
    flipped[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    exercise(flipped);
  }
}

TEST(TokenizerMutation, OversizedWords) {
  const std::vector<uint8_t> bytes = test::build_section(rich_section());
  for (size_t at = 0; at + 4 <= bytes.size(); at += 4)
    for (const uint32_t word : {0xFFFFFFFFu, 0x80000000u, 0x7FFFFFFFu, 0x10000u, 0u}) {
      std::vector<uint8_t> changed = bytes;
      std::memcpy(&changed[at], &word, 4);
      exercise(changed);
    }
}

TEST(TokenizerMutation, Random) {
  const std::vector<uint8_t> bytes = test::build_section(rich_section());
  std::mt19937 rng(1);  // NOLINT(bugprone-random-generator-seed): the same inputs in every run
  for (int round = 0; round < 20000; ++round) {
    std::vector<uint8_t> changed = bytes;
    for (uint32_t i = 0; i < 1 + rng() % 8; ++i)
      changed[rng() % changed.size()] = static_cast<uint8_t>(rng());
    exercise(changed);
  }
}

struct Contradiction {
  const char *patch;  // RFC 7396 merge patch of the small section, or of one element through "at"
  StatusCode code;
  const char *message;
};

TEST(TokenizerMutation, Contradictions) {
  const Contradiction cases[] = {
      {R"j({"kind": 1})j", StatusCode::kUnimplemented, "kind 1"},
      {R"j({"tokens": [], "types": []})j", StatusCode::kDataLoss, "vocabulary is empty"},
      {R"j({"types": [0, 0]})j", StatusCode::kDataLoss, "10 tokens, but 2 types"},
      {R"j({"types": [0, 0, 0, 0, 0, 0, 0, 1, 1, 77]})j", StatusCode::kDataLoss, "unknown type 77"},
      {R"j({"merges": [0, 1, 5]})j", StatusCode::kDataLoss, "3 ids in merges"},
      {R"j({"merged": []})j", StatusCode::kDataLoss, "0 in merged"},
      {R"j({"merges": [0, 10, 5, 2]})j", StatusCode::kDataLoss, "token 10, but the vocabulary has 10"},
      {R"j({"merges": [4294967295, 1, 5, 2]})j", StatusCode::kDataLoss, "token 4294967295"},
      {R"j({"merged": [5, 2147483648]})j", StatusCode::kDataLoss, "token 2147483648"},
      {R"j({"merged": [6, 6]})j", StatusCode::kDataLoss, "not spelled as"},
      {R"j({"added": [{"id": 10, "text": "x"}]})j", StatusCode::kDataLoss, "is token 10"},
      {R"j({"added": [{"id": 9, "text": ""}]})j", StatusCode::kDataLoss, "has 0 bytes"},
      {R"j({"added": [{"id": 9, "text": "<v>"}]})j", StatusCode::kDataLoss, "spelled otherwise"},
      {R"j({"added": [{"id": 9, "text": "<u>", "special": true}]})j", StatusCode::kDataLoss, "expected Control"},
      {R"j({"added": [{"id": 9, "text": "<u>"}, {"id": 9, "text": "<u>"}]})j", StatusCode::kDataLoss, "added twice"},
      {R"j({"tokens": ["", "b", "c", "d", "e", "ab", "abc", "<s>", "</s>", "<u>"]})j", StatusCode::kDataLoss,
       "is empty"},
      {R"j({"tokens": [" ", "b", "c", "d", "e", "ab", "abc", "<s>", "</s>", "<u>"]})j", StatusCode::kDataLoss,
       "alphabet"},
      {R"j({"prefix": [10]})j", StatusCode::kDataLoss, "prefix is token 10"},
      {R"j({"suffix": [-1]})j", StatusCode::kDataLoss, "suffix is token -1"},
      {R"j({"bos": 10})j", StatusCode::kDataLoss, "bos is token 10"},
      {R"j({"eos": -2})j", StatusCode::kDataLoss, "eos is token -2"},
      {R"j({"splits": [{"pattern": ""}]})j", StatusCode::kDataLoss, "0 bytes"},
      {R"j({"splits": [{"pattern": "a", "behavior": 9}]})j", StatusCode::kDataLoss, "split behavior 9"},
      {R"j({"splits": [{"pattern": "(a"}]})j", StatusCode::kDataLoss, "near byte"},
      {R"j({"splits": [{"pattern": "[z-a]"}]})j", StatusCode::kDataLoss, "near byte"},
      {R"j({"splits": [{"pattern": "(?R)"}]})j", StatusCode::kUnimplemented, "(?R)"},
      {R"j({"splits": [{"pattern": "(*ACCEPT)"}]})j", StatusCode::kUnimplemented, "verbs"},
      {R"j({"splits": [{"pattern": "(a)\\1"}]})j", StatusCode::kUnimplemented, "differs between"},
      {R"j({"splits": [{"pattern": "[a&&b]"}]})j", StatusCode::kUnimplemented, "set operations"},
      {R"j({"splits": [{"pattern": "[[a]b]"}]})j", StatusCode::kUnimplemented, "nested sets"},
      {R"j({"splits": [{"pattern": "a{1,3}+"}]})j", StatusCode::kUnimplemented, "possessive"},
      {R"j({"splits": [{"pattern": "((a{1000}){1000}){1000}"}]})j", StatusCode::kDataLoss, "too large"},
  };
  for (const Contradiction &c : cases) {
    json section = test::small_section();
    section.merge_patch(json::parse(c.patch));
    const AlignedBytes bytes(test::build_section(section));
    const auto tokenizer = Tokenizer::create({bytes.data(), bytes.size()});
    ASSERT_FALSE(tokenizer.ok()) << c.patch;
    EXPECT_EQ(tokenizer.status().code(), c.code) << c.patch;
    EXPECT_THAT(tokenizer.status().message(), HasSubstr(c.message)) << c.patch;
  }
  json section = test::small_section();
  section["prefix"] = std::vector<int>(65, 7);
  const AlignedBytes many(test::build_section(section));
  EXPECT_FALSE(Tokenizer::create({many.data(), many.size()}).ok());
  const AlignedBytes good(test::build_section(test::small_section()));
  EXPECT_EQ(Tokenizer::create({good.data() + 4, good.size() - 4}).status().code(), StatusCode::kInvalidArgument);
}

// Patterns that backtrack exponentially or at every place end with an error.
TEST(TokenizerMutation, RunawayPatterns) {
  for (const char *pattern : {"(?:a|a)*[bd]", "(?:a*)*[bd]", "(?:a+)+[bd]", "(?:a|aa|aaa)+(?:b|d)"}) {
    json section = test::small_section();
    section["splits"] = {{{"pattern", pattern}}};
    const AlignedBytes bytes(test::build_section(section));
    const auto tokenizer = Tokenizer::create({bytes.data(), bytes.size()});
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
    const auto ids = tokenizer->encode(std::string(5000, 'a') + "c");
    ASSERT_FALSE(ids.ok()) << pattern;
    EXPECT_EQ(ids.status().code(), StatusCode::kResourceExhausted) << pattern;
    EXPECT_THAT(ids.status().message(), HasSubstr("limit")) << pattern;
  }
}

constexpr std::string_view kTemplate = R"({%- macro m(a, b=[1, 'x']) -%}{{ a | trim ~ b[0] }}{%- endmacro -%}
{% set ns = namespace(n=0, l=[]) %}
{# comment #}
{% for message in messages if message.role != 'tool' %}
  {%- if loop.first and message['content'] is string %}{% set ns.n = ns.n + 1 %}{{ m(message.content[1:-1]) }}
  {%- elif not loop.last %}{{ {'k': [message, 1.5e3, none]} | tojson(indent=2) }}{% else %}{% continue %}{% endif %}
  {{- message.content.split('a', 1)[-1].rstrip('\n') | replace('b', "\u00e9") | upper }}
{% endfor %}
{% filter lower %}{{ strftime_now('%Y') ~ ns.n // 1 }}{% endfilter %}{% raw %}{{ }}{% endraw %}
{% if add_generation_prompt %}{{ bos_token + 'x' if bos_token is defined else raise_exception('no') }}{% endif %}
)";

void render(const std::string &source) {
  StatusOr<ChatTemplate> chat = ChatTemplate::parse(source);
  if (!chat.ok()) {
    EXPECT_THAT(chat.status().message(), HasSubstr("chat template"));
    return;
  }
  ChatInput input;
  input.messages = {chat_message("user", " hab\n"), chat_message("assistant", "bÄ 🙂"), chat_message("tool", "")};
  input.bos_token = "<s>";
  input.add_generation_prompt = true;
  input.limits.steps = 20'000;
  input.limits.output_bytes = 1 << 16;
  input.limits.memory_bytes = 1 << 20;
  const auto rendered = chat->render(input);
  if (!rendered.ok()) {
    EXPECT_THAT(rendered.status().message(), HasSubstr("chat template"));
  }
}

TEST(TemplateMutation, TruncatedAndFlipped) {
  const std::string source(kTemplate);
  ASSERT_TRUE(ChatTemplate::parse(source).ok()) << ChatTemplate::parse(source).status().to_string();
  for (size_t size = 0; size < source.size(); ++size) {
    render(source.substr(0, size));
    render(source.substr(size));
  }
  for (size_t bit = 0; bit < source.size() * 8; ++bit) {
    std::string flipped = source;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    render(flipped);
  }
}

// Tokens in any order: most of it is no template, the rest is a strange one.
TEST(TemplateMutation, RandomTokens) {
  static constexpr std::string_view kTokens[] = {
      "{{",          "}}",     "{%",       "%}",         "{%-",        "-%}",        "{#",      "#}",
      "{{-",         " for ",  " in ",     " x ",        " endfor ",   " if ",       " elif ",  " else ",
      " endif ",     " set ",  " endset ", " macro ",    " endmacro ", "(",          ")",       "[",
      "]",           "{",      "}",        ",",          ":",          ".",          "|",       "~",
      "+",           "-",      "*",        "/",          "//",         "%",          "**",      "==",
      "<",           " not ",  " and ",    " or ",       " is ",       "'a'",        "1",       "2.5",
      "99999999999", " none ", " true ",   " messages ", " loop ",     " namespace", " range",  "upper",
      "tojson",      "length", "defined",  "=",          "\n",         "text",       " break ", "🙂"};
  std::mt19937 rng(3);  // NOLINT(bugprone-random-generator-seed): the same inputs in every run
  for (int round = 0; round < 20000; ++round) {
    std::string source;
    for (uint32_t i = 0; i < 1 + rng() % 30; ++i)
      source += kTokens[rng() % std::size(kTokens)];
    render(source);
    // And inside one expression.
    render("{{ " + source + " }}");
  }
  // Changes of a template that works.
  for (int round = 0; round < 10000; ++round) {
    std::string source(kTemplate);
    for (uint32_t i = 0; i < 1 + rng() % 3; ++i) {
      const size_t at = rng() % source.size();
      source.replace(at, std::min<size_t>(rng() % 6, source.size() - at), kTokens[rng() % std::size(kTokens)]);
    }
    render(source);
  }
}

}  // namespace
}  // namespace mili
