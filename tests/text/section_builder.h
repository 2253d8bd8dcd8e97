// Builds a TOKENIZER section from the "section" object of a reference file (tests/data/text/*.tok.json), independently
// of the frontends' builder.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace mili::test {

// Missing keys take the schema's defaults. "merge_text" ("left right" a line) may stand for "merges" and "merged".
std::vector<uint8_t> build_section(const nlohmann::json &section);

// tests/data/text/NAME, parsed.
nlohmann::json read_reference(const std::string &name);
// With the members of objects in the file's order.
nlohmann::ordered_json read_ordered_reference(const std::string &name);

// A small section for tests that change it: bytes a-d and space, merges "ab" and "abc", <s>, </s> and user-defined
// "<u>".
nlohmann::json small_section();

// Copies bytes to memory that is aligned as a plan's sections are.
class AlignedBytes {
public:
  explicit AlignedBytes(const std::vector<uint8_t> &bytes);
  const uint8_t *data() const { return reinterpret_cast<const uint8_t *>(words_.data()); }
  uint8_t *data() { return reinterpret_cast<uint8_t *>(words_.data()); }
  size_t size() const { return size_; }

private:
  std::vector<uint64_t> words_;
  size_t size_;
};

}  // namespace mili::test
