// config.json, generation_config.json and the limits of every JSON file.
#include "support.h"

using namespace mili;
using namespace mili::test;
using nlohmann::json;

namespace {

struct BadJson {
  const char *name;
  std::string text;
  const char *message;
};

TEST(HuggingFace, RefusesBadJson) {
  std::string wide = "{\"a\":[0";
  wide.reserve(9 << 20);
  while (wide.size() < (8u << 20) + 100)
    wide += ",0,0,0,0,0,0,0,0";
  const BadJson table[] = {
      {"empty", "", "not valid JSON"},
      {"array", "[]", "expected a JSON object, found []"},
      {"string", "\"x\"", "expected a JSON object"},
      {"open", R"({"a": 1)", "not valid JSON at byte"},
      {"trailing comma", R"({"a": 1,})", "not valid JSON at byte"},
      {"comment", "{} // x", "not valid JSON at byte"},
      {"NaN", R"({"a": NaN})", "not valid JSON at byte"},
      {"beyond double", R"({"a": 1e400})", "not valid JSON at byte"},
      {"lone surrogate", R"({"a": "\ud800"})", "not valid JSON at byte"},
      {"control character", "{\"a\": \"\n\"}", "not valid JSON at byte"},
      {"invalid UTF-8", "{\"a\": \"\xC3\x28\"}", "not valid JSON at byte"},
      {"key twice", R"({"a": {"b": 1, "b": 2}})", R"(the key "b" appears twice in one object)"},
      {"deep arrays", "{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}", "nested deeper than 64"},
      {"deep objects",
       [] {
         std::string text;
         for (int i = 0; i < 100; ++i)
           text += "{\"a\":";
         return text;
       }(),
       "nested deeper than 64"},
      {"too many values", wide + "]}", "more than 4194304 values"},
      {"too long", std::string((16 << 20) + 1, ' '), "at most 16777216 are accepted"},
      {"zero bytes", std::string(100, '\0'), "not valid JSON"},
  };
  for (const BadJson &bad : table) {
    SCOPED_TRACE(bad.name);
    TempFolder folder;
    const std::string path = folder.write("config.json", bad.text);
    const auto model = ModelFile::open(folder.path(), false);
    expect_error(model, StatusCode::kDataLoss, bad.message);
    expect_error(model, StatusCode::kDataLoss, path);
  }
  TempFolder folder;
  folder.write("config.json", "{}");
  folder.write("generation_config.json", "[]");
  expect_error(ModelFile::open(folder.path(), false), StatusCode::kDataLoss,
               "generation_config.json: expected a JSON object, found []");
}

TEST(HuggingFace, ValuesArriveAsTheyAre) {
  TempFolder folder;
  folder.write("config.json",
               "\xEF\xBB\xBF{\"n\": 18446744073709551615, \"i\": -5, \"f\": 1e-6, \"s\": \"\\u00e9\\ud83d\\ude00\", "
               "\"l\": [1, [true, null]], \"o\": {}}");
  auto model = ModelFile::open(folder.path(), false);
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  const json &config = (*model)->config();
  EXPECT_EQ(config["n"].get<uint64_t>(), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(config["i"], -5);
  EXPECT_EQ(config["f"], 1e-6);
  EXPECT_EQ(config["s"], "é😀");
  EXPECT_EQ(config["l"].dump(), "[1,[true,null]]");
  EXPECT_EQ(config["o"], json::object());
}

TEST(HuggingFace, NamesTheFolder) {
  TempFolder folder;
  std::filesystem::create_directory(folder.path("My-Model"));
  folder.write("My-Model/config.json", "{}");
  for (const char *spelling : {"My-Model", "My-Model/", "My-Model/."}) {
    auto model = ModelFile::open(folder.path(spelling), false);
    ASSERT_TRUE(model.ok());
    EXPECT_EQ((*model)->name(), "My-Model") << spelling;
  }
}

TEST(HuggingFace, EveryPrefixOfEveryFile) {
  const std::string source = data("tokenizers/odd");
  for (const char *file : {"config.json", "tokenizer_config.json", "tokenizer.json"}) {
    TempFolder folder;
    folder.copy("tokenizers/odd");
    const std::string bytes = read_file(folder.path(file));
    // Every length where the structure is dense, each seventh inside the vocabulary.
    for (size_t size = bytes.rfind('}'); size-- > 0; size -= size > 1500 ? 6 : 0) {
      folder.write(file, std::string_view(bytes).substr(0, size));
      EXPECT_FALSE(survives(folder.path(), false)) << file << " of " << size << " bytes";
      if (HasFailure())
        return;
    }
  }
}

// Every place of a JSON document, of long lists the first two.
void places(const json &value, const json::json_pointer &at, std::vector<json::json_pointer> &out) {
  out.push_back(at);
  size_t taken = 0;
  if (value.is_object()) {
    for (auto it = value.begin(); it != value.end() && taken < 12; ++it, ++taken)
      places(*it, at / it.key(), out);
  } else if (value.is_array()) {
    for (size_t i = 0; i < value.size() && i < 2; ++i)
      places(value[i], at / i, out);
  }
}

TEST(HuggingFace, EveryPlaceHoldsEveryKindOfValue) {
  const json kinds[] = {nullptr,
                        true,
                        -1,
                        0,
                        3.5,
                        std::numeric_limits<uint64_t>::max(),
                        "",
                        "x\\(",
                        "Sequence",
                        json::array(),
                        json::object(),
                        json({1, "a"}),
                        {{"type", "Sequence"}},
                        {{"type", "ByteLevel"}}};
  const std::pair<const char *, std::vector<const char *>> folders[] = {
      {"hf-sharded", {"config.json", "generation_config.json", "model.safetensors.index.json"}},
      {"tokenizers/llama-bpe", {"tokenizer.json", "tokenizer_config.json", "config.json"}},
      {"tokenizers/odd", {"tokenizer.json"}}};
  for (const auto &[source, files] : folders) {
    TempFolder folder;
    folder.copy(source);
    for (const char *file : files) {
      const json content = read_json(folder.path(file));
      std::vector<json::json_pointer> all;
      places(content, json::json_pointer(), all);
      for (const json::json_pointer &place : all)
        for (const json &value : kinds) {
          json changed = content;
          changed[place] = value;
          folder.write(file, changed.dump());
          survives(folder.path(), false);
          if (HasFailure())
            FAIL() << file << ", " << place.to_string() << " = " << value;
        }
      folder.write(file, content.dump());
    }
  }
}

// The same for the header of a safetensors file.
TEST(HuggingFace, EveryPlaceOfASafetensorsHeader) {
  TempFolder folder;
  folder.copy("hf-single");
  const std::string bytes = read_file(folder.path("model.safetensors"));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  const json header = json::parse(bytes.substr(8, length), nullptr, false);
  std::vector<json::json_pointer> all;
  places(header, json::json_pointer(), all);
  for (const json::json_pointer &place : all)
    for (const json &value : {json(nullptr), json(-1), json(0), json(1), json(std::numeric_limits<uint64_t>::max()),
                              json(uint64_t{1} << 62), json("F32"), json::array(), json::object(), json({0, 0})}) {
      json changed = header;
      changed[place] = value;
      folder.write("model.safetensors", safetensors_file(changed.dump(), bytes.size() - 8 - length));
      survives(folder.path());
      if (HasFailure())
        FAIL() << place.to_string() << " = " << value;
    }
}

}  // namespace
