// Conversion of tokenizers to the TOKENIZER section, from tokenizer.json and from GGUF metadata.
#include "support.h"

#include "mili/schema/tokenizer_generated.h"

using namespace mili;
using namespace mili::test;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

StatusOr<std::vector<uint8_t>> convert(const std::string &path) {
  auto model = ModelFile::open(path, /*need_weights=*/false);
  if (!model.ok())
    return model.status();
  return (*model)->tokenizer();
}

const tok::Tokenizer *view(const std::vector<uint8_t> &section) {
  flatbuffers::Verifier verifier(section.data(), section.size());
  EXPECT_TRUE(tok::VerifyTokenizerBuffer(verifier));
  return tok::GetTokenizer(section.data());
}

template <typename T>
std::vector<T> list(const flatbuffers::Vector<T> *vector) {
  return std::vector<T>(vector->begin(), vector->end());
}

std::vector<std::string> patterns(const tok::Tokenizer *tokenizer) {
  std::vector<std::string> result;
  for (const tok::Split *split : *tokenizer->splits())
    result.push_back(split->pattern()->str());
  return result;
}

TEST(TokenizerJson, ConvertsATrainedTokenizer) {
  auto section = convert(data("tokenizers/llama-bpe"));
  ASSERT_TRUE(section.ok()) << section.status().to_string();
  const tok::Tokenizer *t = view(*section);
  const json source = read_json(data("tokenizers/llama-bpe/tokenizer.json"));
  const json &vocab = source["model"]["vocab"], &merges = source["model"]["merges"];
  ASSERT_EQ(t->tokens()->size(), vocab.size() + 1) << "one token is added behind the vocabulary";
  for (auto it = vocab.begin(); it != vocab.end(); ++it)
    EXPECT_EQ(t->tokens()->Get(it->get<uint32_t>())->str(), it.key());
  ASSERT_EQ(t->merged()->size(), merges.size());
  ASSERT_EQ(t->merges()->size(), merges.size() * 2);
  for (uint32_t i = 0; i < merges.size(); ++i) {
    const std::string left = merges[i][0], right = merges[i][1];
    EXPECT_EQ(t->merges()->Get(2 * i), vocab[left]);
    EXPECT_EQ(t->merges()->Get(2 * i + 1), vocab[right]);
    EXPECT_EQ(t->merged()->Get(i), vocab[left + right]);
  }
  EXPECT_EQ(t->types()->Get(0), tok::TokenType::Control);
  EXPECT_EQ(t->types()->Get(2), tok::TokenType::Normal);
  EXPECT_EQ(t->types()->Get(420), tok::TokenType::UserDefined);
  ASSERT_EQ(t->added()->size(), 3u);
  EXPECT_EQ(t->added()->Get(2)->text()->str(), "<tool>");
  EXPECT_FALSE(t->added()->Get(2)->special());
  EXPECT_FALSE(t->added()->Get(2)->normalized());
  EXPECT_TRUE(t->ignore_merges());
  EXPECT_FALSE(t->byte_level_splits());
  EXPECT_FALSE(t->normalizer_nfc());
  EXPECT_THAT(list(t->prefix()), ElementsAre(0));
  EXPECT_THAT(list(t->suffix()), ElementsAre(1));
  EXPECT_EQ(t->bos(), 0);
  EXPECT_EQ(t->eos(), 1);
  EXPECT_EQ(t->unk(), -1);
  EXPECT_EQ(t->pad(), 0) << "from config.json, since tokenizer_config.json has null";
  EXPECT_THAT(t->chat_template()->str(), HasSubstr("for m in messages"));
}

TEST(TokenizerJson, EveryKindOfSplit) {
  auto section = convert(data("tokenizers/odd"));
  ASSERT_TRUE(section.ok()) << section.status().to_string();
  const tok::Tokenizer *t = view(*section);
  EXPECT_THAT(patterns(t), ElementsAre(R"(\s+)", R"(\-)", "[.!?]", "_", "[^=]+", R"(\p{N}+)"));
  std::vector<tok::SplitBehavior> behaviors;
  for (const tok::Split *split : *t->splits()) {
    behaviors.push_back(split->behavior());
    EXPECT_EQ(split->invert(), split->pattern()->str() == "[^=]+");
  }
  using enum tok::SplitBehavior;
  EXPECT_THAT(behaviors, ElementsAre(MergedWithNext, MergedWithPrevious, Contiguous, Removed, Isolated, Isolated));
  EXPECT_TRUE(t->normalizer_nfc());
  EXPECT_THAT(t->chat_template()->str(), HasSubstr("for m in messages")) << "the template called default";
  bool single_word = false;
  for (const tok::AddedToken *added : *t->added())
    single_word |= added->text()->str() == "tool" && added->single_word();
  EXPECT_TRUE(single_word);
}

// The same tokenizer in both formats.
TEST(GgufTokenizer, AgreesWithTokenizerJson) {
  for (const char *name : {"gpt-2", "smollm", "qwen2", "llama-bpe"}) {
    SCOPED_TRACE(name);
    auto from_gguf = convert(data(std::string("tokenizers/") + name + ".gguf"));
    auto from_json = convert(data(std::string("tokenizers/") + name));
    ASSERT_TRUE(from_gguf.ok()) << from_gguf.status().to_string();
    ASSERT_TRUE(from_json.ok()) << from_json.status().to_string();
    const tok::Tokenizer *a = view(*from_gguf), *b = view(*from_json);
    ASSERT_EQ(a->tokens()->size(), b->tokens()->size());
    for (uint32_t i = 0; i < a->tokens()->size(); ++i) {
      EXPECT_EQ(a->tokens()->Get(i)->str(), b->tokens()->Get(i)->str());
      EXPECT_EQ(a->types()->Get(i), b->types()->Get(i));
    }
    EXPECT_EQ(list(a->merges()), list(b->merges()));
    EXPECT_EQ(list(a->merged()), list(b->merged()));
    EXPECT_EQ(patterns(a), patterns(b));
    EXPECT_EQ(list(a->prefix()), list(b->prefix()));
    EXPECT_EQ(list(a->suffix()), list(b->suffix()));
    ASSERT_EQ(a->added()->size(), b->added()->size());
    for (uint32_t i = 0; i < a->added()->size(); ++i) {
      EXPECT_EQ(a->added()->Get(i)->id(), b->added()->Get(i)->id());
      EXPECT_EQ(a->added()->Get(i)->special(), b->added()->Get(i)->special());
    }
    EXPECT_EQ(a->byte_level_splits(), b->byte_level_splits());
    EXPECT_EQ(a->ignore_merges(), b->ignore_merges());
    EXPECT_EQ(a->normalizer_nfc(), b->normalizer_nfc());
    EXPECT_EQ(a->add_prefix_space(), b->add_prefix_space());
    EXPECT_EQ(a->bos(), b->bos());
    EXPECT_EQ(a->eos(), b->eos());
    EXPECT_EQ(a->pad(), b->pad());
    EXPECT_EQ(a->chat_template()->str(), b->chat_template()->str());
  }
}

// A change to one of a folder's JSON files, by JSON pointer; a null pointer text removes nothing and changes nothing.
struct Change {
  const char *name;
  const char *file;
  const char *pointer;
  json value;
  const char *message;
  StatusCode code = StatusCode::kDataLoss;
};

void apply(const TempFolder &folder, const char *file, const char *pointer, const json &value) {
  json content = read_json(folder.path(file));
  content[json::json_pointer(pointer)] = value;
  folder.write(file, content.dump());
}

TEST(TokenizerJson, RefusesByName) {
  constexpr auto kUnsupported = StatusCode::kUnimplemented;
  const char *kFile = "tokenizer.json", *kConfig = "tokenizer_config.json";
  const json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const Change table[] = {
      {"unigram", kFile, "/model/type", "Unigram", R"(the model "Unigram" is not supported; supported: BPE)",
       kUnsupported},
      {"word piece", kFile, "/model/type", "WordPiece", R"(the model "WordPiece" is not supported)", kUnsupported},
      {"no model", kFile, "/model", nullptr, "field 'model': required, but it is null"},
      {"model a list", kFile, "/model", json::array(), "field 'model': expected an object, found []"},
      {"dropout", kFile, "/model/dropout", 0.1, "field 'model.dropout': only 0.0 is supported, found 0.1",
       kUnsupported},
      {"prefix", kFile, "/model/continuing_subword_prefix", "##", "continuing_subword_prefix", kUnsupported},
      {"suffix", kFile, "/model/end_of_word_suffix", "</w>", "end_of_word_suffix", kUnsupported},
      {"byte fallback", kFile, "/model/byte_fallback", true, "byte_fallback", kUnsupported},
      {"new field", kFile, "/model/magic", 1, "unknown field 'model.magic'", kUnsupported},
      {"new field at the top", kFile, "/magic", 1, "unknown field 'magic'", kUnsupported},
      {"unk", kFile, "/model/unk_token", "<nope>", R"(field 'model.unk_token': "<nope>" is not in the vocabulary)"},
      {"no vocabulary", kFile, "/model/vocab", json::object(), "expected a non-empty object of tokens"},
      {"vocabulary a list", kFile, "/model/vocab", json::array(), "expected a non-empty object of tokens"},
      {"id a string", kFile, "/model/vocab/zzz", "1", R"(token "zzz": expected an id below 4194304, found "1")"},
      {"id negative", kFile, "/model/vocab/zzz", -1, "expected an id below 4194304, found -1"},
      {"id 2^32", kFile, "/model/vocab/zzz", uint64_t{1} << 32, "expected an id below 4194304, found 4294967296"},
      {"id 2^31", kFile, "/model/vocab/zzz", uint64_t{1} << 31, "expected an id below 4194304"},
      {"id twice", kFile, "/model/vocab/zzz", 5, "have the same id 5"},
      {"no merges", kFile, "/model/merges", nullptr, "field 'model.merges': expected an array"},
      {"merge of three", kFile, "/model/merges/3", json({"a", "b", "c"}), "field 'model.merges[3]': expected"},
      {"merge without space", kFile, "/model/merges/3", "ab", R"(field 'model.merges[3]': expected "left right")"},
      {"merge with two spaces", kFile, "/model/merges/3", "a b c", "field 'model.merges[3]': expected"},
      {"merge of empty", kFile, "/model/merges/3", " b", "field 'model.merges[3]': expected"},
      {"merge of numbers", kFile, "/model/merges/3", json({1, 2}), "field 'model.merges[3]': expected"},
      {"merge of strangers", kFile, "/model/merges/3", json({"Q", "Z"}),
       R"(merge 3 ("Q", "Z"): "QZ" is not in the vocabulary)"},
      {"merge of a stranger", kFile, "/model/merges/3", json({"nope", "a"}), R"("nope" is not in the vocabulary)"},
      {"added id", kFile, "/added_tokens/0/id", 7, R"("<|begin|>" has the id 7 here, but 0 before)"},
      {"added id huge", kFile, "/added_tokens/2/id", 4000000000u, "expected an id below 4194304"},
      {"added id taken", kFile, "/added_tokens/2/id", 7, "have the same id 7"},
      {"added id missing", kFile, "/added_tokens/2/id", nullptr, "an id"},
      {"added twice", kFile, "/added_tokens/1/content", "<|begin|>", "here, but 0 before"},
      {"added without text", kFile, "/added_tokens/1/content", "", "needs a text and an id"},
      {"added a number", kFile, "/added_tokens/1", 5, "expected a JSON object, found 5"},
      {"added unknown field", kFile, "/added_tokens/1/role", 5, "unknown field 'role'", kUnsupported},
      {"added tokens an object", kFile, "/added_tokens", json::object(), "expected an array of objects"},
      {"normalizer",
       kFile,
       "/normalizer",
       {{"type", "Lowercase"}},
       R"(the normalizer "Lowercase" is not supported; supported: NFC)",
       kUnsupported},
      {"normalizer in a sequence",
       kFile,
       "/normalizer",
       {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Replace"}}}}},
       R"(entry 1: field 'type': the normalizer "Replace" is not supported)",
       kUnsupported},
      {"normalizer without type", kFile, "/normalizer", json::object(), "field 'normalizer.type': required"},
      {"sequence without list", kFile, "/normalizer", {{"type", "Sequence"}}, "field 'normalizer.normalizers'"},
      {"no pre-tokenizer", kFile, "/pre_tokenizer", nullptr, "field 'pre_tokenizer': required, but it is null"},
      {"metaspace",
       kFile,
       "/pre_tokenizer",
       {{"type", "Metaspace"}},
       R"(the pre-tokenizer "Metaspace" is not supported)",
       kUnsupported},
      {"whitespace",
       kFile,
       "/pre_tokenizer/pretokenizers/0",
       {{"type", "Whitespace"}},
       R"(entry 0: field 'type': the pre-tokenizer "Whitespace")",
       kUnsupported},
      {"only a split",
       kFile,
       "/pre_tokenizer/pretokenizers/1",
       {{"type", "Digits"}},
       "expected a ByteLevel pre-tokenizer",
       kUnsupported},
      {"split after bytes", kFile, "/pre_tokenizer/pretokenizers/0", byte_level, "after ByteLevel is not supported",
       kUnsupported},
      {"behaviour", kFile, "/pre_tokenizer/pretokenizers/0/behavior", "Shredded",
       R"(field 'behavior': supported: "Isolated")", kUnsupported},
      {"pattern", kFile, "/pre_tokenizer/pretokenizers/0/pattern", {{"Glob", "*"}}, "field 'pattern.String': required"},
      {"empty pattern",
       kFile,
       "/pre_tokenizer/pretokenizers/0/pattern",
       {{"String", ""}},
       "a split pattern of 0 bytes"},
      {"long pattern",
       kFile,
       "/pre_tokenizer/pretokenizers/0/pattern",
       {{"Regex", std::string(70000, 'a')}},
       "a split pattern of 70000 bytes"},
      {"post-processor",
       kFile,
       "/post_processor",
       {{"type", "BertProcessing"}},
       R"(the post-processor "BertProcessing" is not supported)",
       kUnsupported},
      {"template without text", kFile, "/post_processor/processors/1/single", json::array(),
       "the template has no place for the text"},
      {"template id",
       kFile,
       "/post_processor/processors/1/special_tokens/<|begin|>/ids",
       {421},
       "expected ids below 421, found 421"},
      {"template id negative", kFile, "/post_processor/processors/1/special_tokens/<|begin|>/ids", {-1}, "found -1"},
      {"template without ids", kFile, "/post_processor/processors/1/special_tokens", json::object(),
       R"("<|begin|>" has no ids in 'special_tokens')"},
      {"decoder",
       kFile,
       "/decoder",
       {{"type", "Metaspace"}},
       R"(the decoder "Metaspace" is not supported)",
       kUnsupported},
      {"no decoder", kFile, "/decoder", nullptr, "field 'decoder': expected ByteLevel", kUnsupported},
      {"bos", kConfig, "/bos_token", "<nope>", R"(field 'bos_token': "<nope>" is not in the vocabulary)"},
      {"bos a number", kConfig, "/bos_token", 5, "field 'bos_token': expected a token's text, found 5"},
      {"add_bos a number", kConfig, "/add_bos_token", 1, "field 'add_bos_token': expected true or false"},
      {"template a number", kConfig, "/chat_template", 5, "field 'chat_template': expected a string or an array"},
      {"no default template",
       kConfig,
       "/chat_template",
       {{{"name", "rag"}, {"template", "x"}}},
       R"(no template is called "default", there are: "rag")"},
      {"template unnamed", kConfig, "/chat_template", {{{"template", "x"}}}, "field 'chat_template[0]'"},
      {"template too long", kConfig, "/chat_template", std::string((1 << 20) + 1, 'x'),
       "a chat template of 1048577 bytes"},
      {"config id", "config.json", "/pad_token_id", "x", "field 'pad_token_id': expected an integer"},
  };
  for (const Change &change : table) {
    SCOPED_TRACE(change.name);
    TempFolder folder;
    folder.copy("tokenizers/llama-bpe");
    apply(folder, change.file, change.pointer, change.value);
    expect_error(convert(folder.path()), change.code, change.message);
    expect_error(convert(folder.path()), change.code, folder.path());
  }
}

TEST(TokenizerJson, AcceptsTheVariantsOfRealFiles) {
  const auto converted = [](const char *file, const char *pointer, const json &value) {
    TempFolder folder;
    folder.copy("tokenizers/llama-bpe");
    apply(folder, file, pointer, value);
    auto section = convert(folder.path());
    EXPECT_TRUE(section.ok()) << section.status().to_string();
    return section.ok() ? *section : std::vector<uint8_t>();
  };
  auto section = converted("tokenizer_config.json", "/add_bos_token", false);
  EXPECT_THAT(list(view(section)->prefix()), ElementsAre());
  section = converted("tokenizer_config.json", "/add_eos_token", true);
  EXPECT_THAT(list(view(section)->suffix()), ElementsAre(1)) << "it was there already";
  section = converted("tokenizer.json", "/post_processor", nullptr);
  EXPECT_THAT(list(view(section)->prefix()), ElementsAre());
  section = converted("tokenizer.json", "/pre_tokenizer", {{"type", "ByteLevel"}, {"trim_offsets", true}});
  EXPECT_TRUE(view(section)->add_prefix_space()) << "the library's default";
  EXPECT_TRUE(view(section)->byte_level_splits());
  section = converted("tokenizer.json", "/model/vocab/x y", 430);
  EXPECT_EQ(view(section)->types()->Get(430), tok::TokenType::UserDefined) << "no byte is spelled with a space";
  EXPECT_EQ(view(section)->types()->Get(425), tok::TokenType::Unused) << "a hole";
  EXPECT_EQ(view(section)->tokens()->Get(425)->str(), "");
  section = converted("tokenizer.json", "/truncation", {{"max_length", 512}});
  EXPECT_EQ(view(section)->tokens()->size(), 421u);
  section = converted("config.json", "/pad_token_id", -1);
  EXPECT_EQ(view(section)->pad(), -1);

  TempFolder folder;
  folder.copy("tokenizers/llama-bpe");
  folder.write("chat_template.jinja", "{{ newer }}");
  section = *convert(folder.path());
  EXPECT_EQ(view(section)->chat_template()->str(), "{{ newer }}");
  folder.write("chat_template.jinja", "\xFF");
  expect_error(convert(folder.path()), StatusCode::kDataLoss, "chat_template.jinja: not UTF-8");
  folder.write("chat_template.jinja", std::string((1 << 20) + 1, ' '));
  expect_error(convert(folder.path()), StatusCode::kDataLoss, "at most 1048576 are accepted");
  std::filesystem::remove(folder.path("chat_template.jinja"));
  std::filesystem::remove(folder.path("tokenizer_config.json"));
  section = *convert(folder.path());
  EXPECT_EQ(view(section)->chat_template()->str(), "");
  EXPECT_EQ(view(section)->bos(), -1);
  std::filesystem::remove(folder.path("tokenizer.json"));
  expect_error(convert(folder.path()), StatusCode::kNotFound, "carries no tokenizer");
  folder.write("tokenizer.model", "");
  expect_error(convert(folder.path()), StatusCode::kUnimplemented, "the tokenizer is in tokenizer.model alone");
}

GgufFile gguf_tokenizer() {
  GgufFile file;
  file.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "gpt-2");
  file.strings("tokenizer.ggml.tokens", {"a", "b", "ab", "<s>", "<pad>"});
  file.ints("tokenizer.ggml.token_type", {1, 1, 1, 3, 5});
  file.strings("tokenizer.ggml.merges", {"a b"});
  return file;
}

TEST(GgufTokenizer, ReadsMetadata) {
  TempFolder folder;
  GgufFile file = gguf_tokenizer();
  file.u32("tokenizer.ggml.bos_token_id", 3).u32("tokenizer.ggml.padding_token_id", 0xFFFFFFFF);
  file.boolean("tokenizer.ggml.add_bos_token", true);
  auto section = convert(folder.write("m.gguf", file.bytes()));
  ASSERT_TRUE(section.ok()) << section.status().to_string();
  const tok::Tokenizer *t = view(*section);
  EXPECT_THAT(list(t->merges()), ElementsAre(0, 1));
  EXPECT_THAT(list(t->merged()), ElementsAre(2));
  EXPECT_THAT(list(t->prefix()), ElementsAre(3));
  EXPECT_EQ(t->pad(), -1);
  EXPECT_EQ(t->types()->Get(3), tok::TokenType::Control);
  EXPECT_EQ(t->types()->Get(4), tok::TokenType::Unused);
  ASSERT_EQ(t->added()->size(), 1u);
  EXPECT_TRUE(t->added()->Get(0)->special());
}

TEST(GgufTokenizer, KnowsTheNamesOfPreTokenizers) {
  struct Known {
    const char *name;
    size_t splits;
    bool gpt2, ignore_merges, bos;
  };
  for (const Known &known : {Known{"default", 4, false, false, false},
                             {"gpt-2", 0, true, false, false},
                             {"smollm", 1, true, false, false},
                             {"refact", 1, true, false, false},
                             {"llama-bpe", 1, false, true, true},
                             {"dbrx", 1, false, false, false},
                             {"qwen2", 1, false, false, false},
                             {"qwen35", 1, false, false, false},
                             {"tekken", 1, false, true, true},
                             {"gpt-4o", 1, false, false, false},
                             {"deepseek-v3", 3, false, false, false}}) {
    SCOPED_TRACE(known.name);
    TempFolder folder;
    GgufFile file;
    file.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", known.name);
    file.strings("tokenizer.ggml.tokens", {"a"}).strings("tokenizer.ggml.merges", {});
    file.u32("tokenizer.ggml.bos_token_id", 0);
    auto section = convert(folder.write("m.gguf", file.bytes()));
    ASSERT_TRUE(section.ok()) << section.status().to_string();
    const tok::Tokenizer *t = view(*section);
    EXPECT_EQ(t->splits()->size(), known.splits);
    EXPECT_EQ(t->byte_level_splits(), known.gpt2);
    EXPECT_EQ(t->ignore_merges(), known.ignore_merges);
    EXPECT_EQ(t->prefix()->size(), known.bos ? 1u : 0u);
  }
}

struct BadMetadata {
  const char *name;
  std::function<void(GgufFile &)> add;
  const char *message;
  StatusCode code = StatusCode::kDataLoss;
};

TEST(GgufTokenizer, RefusesByName) {
  constexpr auto kUnsupported = StatusCode::kUnimplemented;
  const auto model = [](const char *name) { return [name](GgufFile &f) { f.string("tokenizer.ggml.model", name); }; };
  const auto base = [](GgufFile &f) { f.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "gpt-2"); };
  const auto with = [](std::vector<std::string> tokens, std::vector<int32_t> types, std::vector<std::string> merges) {
    return [=](GgufFile &f) {
      f.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "gpt-2");
      f.strings("tokenizer.ggml.tokens", tokens).ints("tokenizer.ggml.token_type", types);
      f.strings("tokenizer.ggml.merges", merges);
    };
  };
  const auto also = [](std::function<void(GgufFile &)> add) {
    return [add](GgufFile &f) {
      f = gguf_tokenizer();
      add(f);
    };
  };
  const BadMetadata table[] = {
      {"none", [](GgufFile &) {}, "carries no tokenizer", StatusCode::kNotFound},
      {"no vocabulary", model("no_vocab"), "carries no tokenizer", StatusCode::kNotFound},
      {"SentencePiece", model("llama"), R"(tokenizer.ggml.model "llama" (SentencePiece))", kUnsupported},
      {"WordPiece", model("bert"), R"("bert" (WordPiece))", kUnsupported},
      {"other", model("rwkv"), R"(tokenizer.ggml.model "rwkv")", kUnsupported},
      {"model a number", [](GgufFile &f) { f.u32("tokenizer.ggml.model", 1); }, "expected a string"},
      {"no pre", model("gpt2"), R"("tokenizer.ggml.pre" is missing)", kUnsupported},
      {"unknown pre",
       [](GgufFile &f) { f.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "bloom"); },
       R"(the pre-tokenizer "bloom" (tokenizer.ggml.pre) is not known)", kUnsupported},
      {"no tokens", base, R"("tokenizer.ggml.tokens": required, but missing)"},
      {"tokens a string",
       [&](GgufFile &f) {
         base(f);
         f.string("tokenizer.ggml.tokens", "a");
       },
       "expected an array of strings"},
      {"tokens numbers",
       [&](GgufFile &f) {
         base(f);
         f.ints("tokenizer.ggml.tokens", {1});
       },
       "found an array of int32"},
      {"empty vocabulary", with({}, {}, {}), "the vocabulary is empty"},
      {"types too few", with({"a", "b"}, {1}, {}), "1 types for 2 tokens"},
      {"types too many", with({"a"}, {1, 1}, {}), "2 types for 1 tokens"},
      {"type 6", with({"a"}, {6}, {}), R"(token 0 "a" has type 6)"},
      {"type -1", with({"a"}, {-1}, {}), "has type -1"},
      {"long token", with({std::string(70000, 'a')}, {1}, {}), "token 0 has 70000 bytes"},
      {"long added token", with({std::string(2000, 'a')}, {3}, {}), "has 2000 bytes, expected 1 to 1024"},
      {"empty token", with({"a", ""}, {1, 1}, {}), "token 1 is empty"},
      {"empty added token", with({"a", ""}, {1, 3}, {}), "has 0 bytes, expected 1 to 1024"},
      {"token twice", with({"a", "b", "a"}, {1, 1, 3}, {}), R"(tokens 0 and 2 are both spelled "a")"},
      {"merge", with({"a", "b"}, {1, 1}, {"ab"}), R"(merge 0: expected two tokens with one space between, found "ab")"},
      {"merge of a stranger", with({"a", "b"}, {1, 1}, {"a b"}),
       R"(merge 0 ("a", "b"): "ab" is not in the vocabulary)"},
      {"bos", also([](GgufFile &f) { f.u32("tokenizer.ggml.bos_token_id", 5); }),
       "bos is token 5, but the vocabulary has 5 tokens"},
      {"eos huge", also([](GgufFile &f) { f.u32("tokenizer.ggml.eos_token_id", 0xFFFFFFFE); }), "found 4294967294"},
      {"eos negative", also([](GgufFile &f) { f.key("tokenizer.ggml.eos_token_id", 5).metadata.put<int32_t>(-5); }),
       "found -5"},
      {"eos text", also([](GgufFile &f) { f.string("tokenizer.ggml.eos_token_id", "x"); }), "expected a token id"},
      {"add_bos without bos", also([](GgufFile &f) { f.boolean("tokenizer.ggml.add_bos_token", true); }),
       R"("tokenizer.ggml.bos_token_id": missing)"},
      {"add_eos without eos", also([](GgufFile &f) { f.boolean("tokenizer.ggml.add_eos_token", true); }),
       R"("tokenizer.ggml.eos_token_id": missing)"},
      {"add_sep", also([](GgufFile &f) { f.boolean("tokenizer.ggml.add_sep_token", true); }), "add_sep_token",
       kUnsupported},
      {"add_bos a number", also([](GgufFile &f) { f.u32("tokenizer.ggml.add_bos_token", 1); }), "expected a bool"},
      {"template a number", also([](GgufFile &f) { f.u32("tokenizer.chat_template", 1); }), "expected a string"},
      {"long template", also([](GgufFile &f) { f.string("tokenizer.chat_template", std::string((1 << 20) + 1, 'x')); }),
       "a chat template of 1048577 bytes"},
  };
  for (const BadMetadata &bad : table) {
    SCOPED_TRACE(bad.name);
    TempFolder folder;
    GgufFile file;
    bad.add(file);
    const std::string path = folder.write("m.gguf", file.bytes());
    expect_error(convert(path), bad.code, bad.message);
    expect_error(convert(path), bad.code, "m.gguf");
  }
}

}  // namespace
