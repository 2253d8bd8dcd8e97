#include "section_builder.h"

#include "mili/schema/tokenizer_generated.h"

#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <unordered_map>

namespace mili::test {

using nlohmann::json;

std::vector<uint8_t> build_section(const json &section) {
  flatbuffers::FlatBufferBuilder builder(4096);
  const auto texts = section.at("tokens").get<std::vector<std::string>>();
  std::vector<uint32_t> merges = section.value("merges", std::vector<uint32_t>());
  std::vector<uint32_t> merged = section.value("merged", std::vector<uint32_t>());
  if (section.contains("merge_text")) {
    std::unordered_map<std::string, uint32_t> ids;
    for (uint32_t i = 0; i < texts.size(); ++i)
      ids[texts[i]] = i;
    std::istringstream lines(section["merge_text"].get<std::string>());
    std::string left, right;
    while (lines >> left >> right) {
      merges.push_back(ids.at(left));
      merges.push_back(ids.at(right));
      merged.push_back(ids.at(left + right));
    }
  }
  std::vector<flatbuffers::Offset<tok::AddedToken>> added;
  for (const json &a : section.value("added", json::array()))
    added.push_back(tok::CreateAddedToken(builder, a.at("id").get<uint32_t>(),
                                          builder.CreateString(a.at("text").get<std::string>()),
                                          a.value("special", false), a.value("lstrip", false), a.value("rstrip", false),
                                          a.value("single_word", false), a.value("normalized", false)));
  std::vector<flatbuffers::Offset<tok::Split>> splits;
  for (const json &s : section.value("splits", json::array()))
    splits.push_back(tok::CreateSplit(builder, builder.CreateString(s.at("pattern").get<std::string>()),
                                      static_cast<tok::SplitBehavior>(s.value("behavior", 0)),
                                      s.value("invert", false)));
  std::vector<tok::TokenType> types;
  for (int type : section.at("types").get<std::vector<int>>())
    types.push_back(static_cast<tok::TokenType>(type));
  const auto tokens = builder.CreateVectorOfStrings(texts);
  const auto type_vector = builder.CreateVector(types);
  const auto merge_vector = builder.CreateVector(merges);
  const auto merged_vector = builder.CreateVector(merged);
  const auto added_vector = builder.CreateVector(added);
  const auto split_vector = builder.CreateVector(splits);
  const auto prefix = builder.CreateVector(section.value("prefix", std::vector<int32_t>()));
  const auto suffix = builder.CreateVector(section.value("suffix", std::vector<int32_t>()));
  const auto chat_template = builder.CreateString(section.value("chat_template", ""));
  tok::TokenizerBuilder table(builder);
  table.add_kind(static_cast<tok::Kind>(section.value("kind", 0)));
  table.add_tokens(tokens);
  table.add_types(type_vector);
  table.add_merges(merge_vector);
  table.add_merged(merged_vector);
  table.add_added(added_vector);
  table.add_splits(split_vector);
  table.add_byte_level_splits(section.value("byte_level_splits", false));
  table.add_add_prefix_space(section.value("add_prefix_space", false));
  table.add_ignore_merges(section.value("ignore_merges", false));
  table.add_normalizer_nfc(section.value("normalizer_nfc", false));
  table.add_prefix(prefix);
  table.add_suffix(suffix);
  table.add_bos(section.value("bos", -1));
  table.add_eos(section.value("eos", -1));
  table.add_unk(section.value("unk", -1));
  table.add_pad(section.value("pad", -1));
  table.add_chat_template(chat_template);
  tok::FinishTokenizerBuffer(builder, table.Finish());
  return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
}

namespace {
template <typename Json>
Json read(const std::string &name) {
  const std::string path = std::string(MILI_TEST_DATA) + "/text/" + name;
  std::ifstream file(path);
  if (!file)
    throw std::runtime_error("cannot open " + path);
  return Json::parse(file);
}
}  // namespace

json read_reference(const std::string &name) {
  return read<json>(name);
}
nlohmann::ordered_json read_ordered_reference(const std::string &name) {
  return read<nlohmann::ordered_json>(name);
}

json small_section() {
  return json::parse(R"({
    "tokens": ["a", "b", "c", "d", "\u0120", "ab", "abc", "<s>", "</s>", "<u>"],
    "types": [0, 0, 0, 0, 0, 0, 0, 1, 1, 2],
    "merges": [0, 1, 5, 2], "merged": [5, 6],
    "added": [{"id": 7, "text": "<s>", "special": true}, {"id": 8, "text": "</s>", "special": true},
              {"id": 9, "text": "<u>"}],
    "byte_level_splits": true, "prefix": [7], "suffix": [8], "bos": 7, "eos": 8,
    "chat_template": "{{ messages[0].content }}"
  })");
}

AlignedBytes::AlignedBytes(const std::vector<uint8_t> &bytes) : words_((bytes.size() + 7) / 8), size_(bytes.size()) {
  if (size_ > 0)
    std::memcpy(words_.data(), bytes.data(), size_);
}

}  // namespace mili::test
