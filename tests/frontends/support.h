// What the parsers' tests share: a folder that goes away, builders of files that may be wrong on purpose, and the check
// that every parser must pass on any input at all.
#pragma once

#include "mili/Frontends/ModelFile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mili::test {

inline std::string data(const std::string &name) {
  return std::string(MILI_TEST_DATA) + "/frontends/" + name;
}

inline std::string read_file(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

inline nlohmann::json read_json(const std::string &path) {
  return nlohmann::json::parse(read_file(path), nullptr, false);
}

class TempFolder {
public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "mili-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder &) = delete;
  TempFolder &operator=(const TempFolder &) = delete;

  std::string path(const std::string &name = "") const { return name.empty() ? path_ : path_ + "/" + name; }
  std::string write(const std::string &name, std::string_view bytes) const {
    std::ofstream(path(name), std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path(name);
  }
  // Copies a folder of tests/data/frontends into this one.
  void copy(const std::string &folder) const {
    std::filesystem::copy(data(folder), path_, std::filesystem::copy_options::recursive);
  }

private:
  std::string path_;
};

// Little-endian bytes, one value after the other.
class Bytes {
public:
  template <typename T>
  Bytes &put(T value) {
    text_.append(reinterpret_cast<const char *>(&value), sizeof(T));
    return *this;
  }
  Bytes &raw(std::string_view bytes) {
    text_.append(bytes);
    return *this;
  }
  // A GGUF string: length and bytes.
  Bytes &str(std::string_view text) { return put<uint64_t>(text.size()).raw(text); }
  const std::string &text() const { return text_; }
  size_t size() const { return text_.size(); }

private:
  std::string text_;
};

// A GGUF file of which every count can be wrong.
class GgufFile {
public:
  uint32_t version = 3;
  std::string magic = "GGUF";
  int64_t tensor_count = -1;  // -1: as many as were added
  int64_t metadata_count = -1;
  uint64_t alignment = 32;  // of the data; the key is written by metadata_u32
  size_t data_bytes = 0;

  Bytes metadata, tensors;

  GgufFile &key(std::string_view name, uint32_t type) {
    ++keys_;
    metadata.str(name).put<uint32_t>(type);
    return *this;
  }
  GgufFile &u32(std::string_view name, uint32_t value) {
    key(name, 4).metadata.put(value);
    return *this;
  }
  GgufFile &string(std::string_view name, std::string_view value) {
    key(name, 8).metadata.str(value);
    return *this;
  }
  GgufFile &boolean(std::string_view name, bool value) {
    key(name, 7).metadata.put<uint8_t>(value);
    return *this;
  }
  GgufFile &strings(std::string_view name, const std::vector<std::string> &values) {
    key(name, 9).metadata.put<uint32_t>(8).put<uint64_t>(values.size());
    for (const std::string &value : values)
      metadata.str(value);
    return *this;
  }
  GgufFile &ints(std::string_view name, const std::vector<int32_t> &values) {
    key(name, 9).metadata.put<uint32_t>(5).put<uint64_t>(values.size());
    for (int32_t value : values)
      metadata.put(value);
    return *this;
  }
  // Dimensions innermost first, as the file has them.
  GgufFile &tensor(std::string_view name, const std::vector<uint64_t> &dimensions, uint32_t type, uint64_t offset) {
    ++tensors_;
    tensors.str(name).put<uint32_t>(static_cast<uint32_t>(dimensions.size()));
    for (uint64_t dimension : dimensions)
      tensors.put(dimension);
    tensors.put(type).put(offset);
    return *this;
  }
  GgufFile &with(std::function<void(GgufFile &)> change) {
    change(*this);
    return *this;
  }

  std::string bytes() const {
    Bytes file;
    file.raw(magic).put(version);
    file.put<uint64_t>(tensor_count < 0 ? tensors_ : static_cast<uint64_t>(tensor_count));
    file.put<uint64_t>(metadata_count < 0 ? keys_ : static_cast<uint64_t>(metadata_count));
    file.raw(metadata.text()).raw(tensors.text());
    std::string text = file.text();
    text.resize((text.size() + alignment - 1) / alignment * alignment + data_bytes);
    return text;
  }

private:
  uint64_t keys_ = 0, tensors_ = 0;
};

// A safetensors file: length, header, data.
inline std::string safetensors_file(std::string_view header, size_t data_bytes, int64_t header_bytes = -1) {
  std::string text =
      Bytes().put<uint64_t>(header_bytes < 0 ? header.size() : static_cast<uint64_t>(header_bytes)).raw(header).text();
  text.resize(text.size() + data_bytes, '\x5a');
  return text;
}

inline uint64_t fnv1a(std::span<const std::byte> bytes) {
  uint64_t value = 0xcbf29ce484222325;
  for (std::byte byte : bytes)
    value = (value ^ static_cast<uint8_t>(byte)) * 0x100000001b3;
  return value;
}

// Opens whatever is at `path` and uses all of it. Whatever the bytes are, this must end with a status that names the
// file, or with a model of which every part can be read; sanitizers watch. Returns whether it was accepted.
inline bool survives(const std::string &path, bool need_weights = true) {
  StatusOr<std::unique_ptr<ModelFile>> model = ModelFile::open(path, need_weights);
  const auto names_the_file = [&](const Status &status) {
    EXPECT_THAT(status.message(), testing::HasSubstr(std::filesystem::path(path).filename().string()));
    EXPECT_TRUE(status.code() == StatusCode::kDataLoss || status.code() == StatusCode::kUnimplemented ||
                status.code() == StatusCode::kNotFound)
        << status.to_string();
  };
  if (!model.ok()) {
    names_the_file(model.status());
    return false;
  }
  EXPECT_FALSE((*model)->config().dump().empty());
  EXPECT_FALSE((*model)->name().empty());
  for (const TensorInfo &tensor : (*model)->tensors()) {
    EXPECT_EQ((*model)->find(tensor.name), &tensor);
    EXPECT_EQ(tensor.elements() / (tensor.shape.empty() ? 1 : tensor.shape.back()) * tensor.row_bytes(), tensor.size);
    std::vector<std::byte> bytes(tensor.size);
    const Status status = (*model)->read(tensor, 0, bytes);
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
  StatusOr<std::vector<uint8_t>> tokenizer = (*model)->tokenizer();
  if (!tokenizer.ok()) {
    names_the_file(tokenizer.status());
    return tokenizer.status().code() == StatusCode::kNotFound;
  }
  return true;
}

// Expects an error with this code and text.
template <typename T>
void expect_error(const StatusOr<T> &result, StatusCode code, std::string_view text) {
  ASSERT_FALSE(result.ok()) << "accepted, expected: " << text;
  EXPECT_EQ(result.status().code(), code) << result.status().to_string();
  EXPECT_THAT(result.status().message(), testing::HasSubstr(std::string(text)));
}

}  // namespace mili::test
