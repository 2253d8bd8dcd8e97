// The header of a GGUF file (versions 2 and 3, little-endian): metadata and tensor table.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include "common/File.h"
#include "mili/Frontends/ModelFile.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace mili {

// The numbers are those of the file.
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};
std::string_view gguf_type_name(GgufType type);

struct GgufArray {
  GgufType type = GgufType::kUint8;  // of the elements
  uint64_t count = 0;
  // One of the three, by type: little-endian elements as the file has them, strings, arrays.
  std::vector<std::byte> scalars;
  std::vector<std::string> strings;
  std::vector<GgufArray> arrays;

  // An element of an integer array, widened; 0 <= i < count.
  int64_t integer(uint64_t i) const;
  bool is_integer() const;
  // An element of a floating-point array.
  double number(uint64_t i) const;
};

// Integers keep their sign, floats are widened.
using GgufValue = std::variant<bool, int64_t, uint64_t, double, std::string, GgufArray>;

struct GgufHeader {
  uint32_t version = 0;
  std::vector<std::pair<std::string, GgufValue>> metadata;  // in the file's order; keys are unique
  std::unordered_map<std::string, size_t> index;            // key to its place in metadata
  std::vector<TensorInfo> tensors;                          // sorted by name; offsets from the file's start

  const GgufValue *find(const std::string &key) const;
};

// Errors: data loss (with the byte), unimplemented (a version, tensor type or split file, by name).
StatusOr<GgufHeader> read_gguf_header(const File &file);

}  // namespace mili
