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
  for (const char *file : {"config.json", "generation_config.json"})
    for (const BadJson &bad : table) {
      SCOPED_TRACE(std::string(file) + ", " + bad.name);
      TempFolder folder;
      folder.write("config.json", "{}");
      folder.write(file, bad.text);
      expect_error(ModelFile::open(folder.path(), false), StatusCode::kDataLoss, bad.message);
      expect_error(ModelFile::open(folder.path(), false), StatusCode::kDataLoss, file);
    }
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
    for (size_t size = bytes.rfind('}'); size-- > 0;) {
      folder.write(file, std::string_view(bytes).substr(0, size));
      EXPECT_FALSE(survives(folder.path(), false)) << file << " of " << size << " bytes";
      if (HasFailure())
        return;
    }
  }
}

}  // namespace
