#include "gguf/GgufHeader.h"

#include "common/TensorLayout.h"
#include "common/Text.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <optional>

namespace mili {

static_assert(std::endian::native == std::endian::little, "GGUF values are copied as they are");

namespace {

constexpr uint64_t kMaxKeyBytes = 65535;  // the format's own limit
constexpr uint64_t kMaxStringBytes = uint64_t{16} << 20;
constexpr uint64_t kMaxMetadata = uint64_t{1} << 16;
// Strings and arrays inside arrays, over the whole file. Each costs 8 bytes of the file and up to ten times as many of
// memory; the largest vocabularies have 0.3 million tokens and 0.6 million merges.
constexpr uint64_t kMaxItems = uint64_t{1} << 21;
constexpr uint32_t kMaxArrayDepth = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;

struct GgmlType {
  uint32_t id = 0;
  std::string_view name;
  std::optional<TensorFormat> format;  // of those that are supported
};

// ggml's numbering; the others are named so that a refusal can say what the file has.
constexpr GgmlType kGgmlTypes[] = {
    {0, "F32", TensorFormat::kF32},
    {1, "F16", TensorFormat::kF16},
    {2, "Q4_0", TensorFormat::kQ4_0},
    {3, "Q4_1", TensorFormat::kQ4_1},
    {6, "Q5_0", {}},
    {7, "Q5_1", {}},
    {8, "Q8_0", TensorFormat::kQ8_0},
    {9, "Q8_1", {}},
    {10, "Q2_K", {}},
    {11, "Q3_K", {}},
    {12, "Q4_K", {}},
    {13, "Q5_K", {}},
    {14, "Q6_K", TensorFormat::kQ6_K},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", {}},
    {24, "I8", {}},
    {25, "I16", {}},
    {26, "I32", {}},
    {27, "I64", {}},
    {28, "F64", {}},
    {29, "IQ1_M", {}},
    {30, "BF16", TensorFormat::kBF16},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", {}},
    {40, "NVFP4", {}},
    {41, "Q1_0", {}},
};

struct TypeInfo {
  std::string_view name;
  uint32_t bytes;  // 0: not a scalar
};
constexpr TypeInfo kTypes[] = {{"uint8", 1},  {"int8", 1},    {"uint16", 2}, {"int16", 2},  {"uint32", 4},
                               {"int32", 4},  {"float32", 4}, {"bool", 1},   {"string", 0}, {"array", 0},
                               {"uint64", 8}, {"int64", 8},   {"float64", 8}};

template <typename T>
T load(const std::byte *bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

// Reads the header front to back through a window, checking every length against what is left of the file before it
// reserves memory for it.
class Reader {
public:
  explicit Reader(const File &file)
      : file_(file), capped_(file.size() > kMaxHeaderBytes), limit_(std::min(file.size(), kMaxHeaderBytes)) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return limit_ - position_; }

  Status fail(uint64_t at, const std::string &message) const {
    return data_loss(file_.path() + ": byte " + std::to_string(at) + ": " + message);
  }

  // Whether `bytes` more are there. `what` is for the message.
  Status need(uint64_t bytes, const std::string &what) const {
    if (bytes <= left())
      return ok_status();
    if (capped_)
      return fail(position_, what + " takes " + std::to_string(bytes) + " bytes and goes beyond the " +
                                 std::to_string(kMaxHeaderBytes) + " bytes that a header may have");
    return fail(position_, what + " takes " + std::to_string(bytes) + " bytes, but the file ends after " +
                               std::to_string(left()) + " more (it has " + std::to_string(file_.size()) + ")");
  }

  Status bytes(std::byte *out, uint64_t count, const std::string &what) {
    MILI_RETURN_IF_ERROR(need(count, what));
    while (count > 0) {
      if (position_ < window_start_ || position_ >= window_start_ + window_.size()) {
        window_start_ = position_;
        window_.resize(std::min<uint64_t>(left(), kWindow));
        MILI_RETURN_IF_ERROR(file_.read(window_start_, window_));
      }
      const uint64_t begin = position_ - window_start_;
      const uint64_t piece = std::min<uint64_t>(count, window_.size() - begin);
      std::memcpy(out, window_.data() + begin, piece);
      out += piece;
      position_ += piece;
      count -= piece;
    }
    return ok_status();
  }

  template <typename T>
  Status value(T &out, const std::string &what) {
    std::byte raw[sizeof(T)];
    MILI_RETURN_IF_ERROR(bytes(raw, sizeof(T), what));
    out = load<T>(raw);
    return ok_status();
  }

  Status string(std::string &out, uint64_t max_bytes, const std::string &what) {
    const uint64_t at = position_;
    uint64_t length = 0;
    MILI_RETURN_IF_ERROR(value(length, what + ", its length"));
    if (length > max_bytes)
      return fail(at, what + " is " + std::to_string(length) + " bytes long, at most " + std::to_string(max_bytes) +
                          " are accepted");
    MILI_RETURN_IF_ERROR(need(length, what));
    out.resize(length);
    MILI_RETURN_IF_ERROR(bytes(reinterpret_cast<std::byte *>(out.data()), length, what));
    if (!is_utf8(out))
      return fail(at, what + " is not UTF-8: " + quote(out));
    return ok_status();
  }

  Status type(GgufType &out, const std::string &what) {
    const uint64_t at = position_;
    uint32_t id = 0;
    MILI_RETURN_IF_ERROR(value(id, what + ", its type"));
    if (id >= std::size(kTypes))
      return fail(at, what + " has the type " + std::to_string(id) + ", known are 0 to " +
                          std::to_string(std::size(kTypes) - 1));
    out = static_cast<GgufType>(id);
    return ok_status();
  }

  Status array(GgufArray &out, uint32_t depth, const std::string &what) {
    if (depth >= kMaxArrayDepth)
      return fail(position_, what + ": arrays nested deeper than " + std::to_string(kMaxArrayDepth));
    MILI_RETURN_IF_ERROR(type(out.type, what + ", its elements"));
    const uint64_t at = position_;
    MILI_RETURN_IF_ERROR(value(out.count, what + ", its number of elements"));
    const uint32_t scalar_bytes = kTypes[static_cast<size_t>(out.type)].bytes;
    // A string is at least its length, an array its type and count.
    const uint64_t least = scalar_bytes ? scalar_bytes : out.type == GgufType::kString ? 8 : 12;
    if (out.count > left() / least)
      return fail(at, what + " claims " + std::to_string(out.count) + " elements of at least " + std::to_string(least) +
                          " bytes, but " + std::to_string(left()) + " bytes are left of the " +
                          (capped_ ? "100 MB that a header may have" : "file"));
    if (scalar_bytes) {
      out.scalars.resize(out.count * scalar_bytes);
      const uint64_t begin = position_;
      MILI_RETURN_IF_ERROR(bytes(out.scalars.data(), out.scalars.size(), what));
      if (out.type == GgufType::kBool)
        for (size_t i = 0; i < out.scalars.size(); ++i)
          if (out.scalars[i] > std::byte{1})
            return fail(begin + i,
                        what + ": a bool must be 0 or 1, found " + std::to_string(static_cast<int>(out.scalars[i])));
      return ok_status();
    }
    items_ += out.count;
    if (items_ > kMaxItems)
      return fail(at, what + ": more than " + std::to_string(kMaxItems) + " strings and arrays inside arrays");
    if (out.type == GgufType::kString) {
      out.strings.resize(out.count);
      for (uint64_t i = 0; i < out.count; ++i)
        MILI_RETURN_IF_ERROR(string(out.strings[i], kMaxStringBytes, what));
      return ok_status();
    }
    out.arrays.resize(out.count);
    for (GgufArray &element : out.arrays)
      MILI_RETURN_IF_ERROR(array(element, depth + 1, what));
    return ok_status();
  }

  Status any(GgufValue &out, const std::string &what) {
    GgufType kind{};
    MILI_RETURN_IF_ERROR(type(kind, what));
    const auto scalar = [&](auto sample, auto widen) -> Status {
      decltype(sample) stored{};
      MILI_RETURN_IF_ERROR(value(stored, what));
      out = widen(stored);
      return ok_status();
    };
    const auto to_unsigned = [](auto v) { return static_cast<uint64_t>(v); };
    const auto to_signed = [](auto v) { return static_cast<int64_t>(v); };
    const auto to_double = [](auto v) { return static_cast<double>(v); };
    switch (kind) {
    case GgufType::kUint8: return scalar(uint8_t{}, to_unsigned);
    case GgufType::kInt8: return scalar(int8_t{}, to_signed);
    case GgufType::kUint16: return scalar(uint16_t{}, to_unsigned);
    case GgufType::kInt16: return scalar(int16_t{}, to_signed);
    case GgufType::kUint32: return scalar(uint32_t{}, to_unsigned);
    case GgufType::kInt32: return scalar(int32_t{}, to_signed);
    case GgufType::kUint64: return scalar(uint64_t{}, to_unsigned);
    case GgufType::kInt64: return scalar(int64_t{}, to_signed);
    case GgufType::kFloat32: return scalar(float{}, to_double);
    case GgufType::kFloat64: return scalar(double{}, to_double);
    case GgufType::kBool: {
      const uint64_t at = position_;
      uint8_t stored = 0;
      MILI_RETURN_IF_ERROR(value(stored, what));
      if (stored > 1)
        return fail(at, what + ": a bool must be 0 or 1, found " + std::to_string(stored));
      out = stored == 1;
      return ok_status();
    }
    case GgufType::kString: return string(out.emplace<std::string>(), kMaxStringBytes, what);
    case GgufType::kArray: return array(out.emplace<GgufArray>(), 0, what);
    }
    return internal_error("a GGUF type without a reader");
  }

private:
  static constexpr uint64_t kWindow = uint64_t{1} << 18;

  const File &file_;
  const bool capped_;
  const uint64_t limit_;
  uint64_t position_ = 0;
  uint64_t window_start_ = 0;
  std::vector<std::byte> window_;
  uint64_t items_ = 0;
};

Status read_version(Reader &reader, const File &file, uint32_t &version) {
  std::array<std::byte, 4> magic{};
  MILI_RETURN_IF_ERROR(reader.bytes(magic.data(), magic.size(), "the magic"));
  const std::string_view text(reinterpret_cast<const char *>(magic.data()), magic.size());
  if (text != "GGUF")
    return reader.fail(0, "expected \"GGUF\", found " + quote(text));
  MILI_RETURN_IF_ERROR(reader.value(version, "the version"));
  if (version == 2 || version == 3)
    return ok_status();
  if ((version & 0xFFFF) == 0 && version != 0)
    return unimplemented(file.path() + ": a big-endian GGUF file (byte 4); convert it to little-endian, "
                                       "for example with the gguf package's gguf-convert-endian");
  return unimplemented(file.path() + ": GGUF version " + std::to_string(version) +
                       " (byte 4), supported are 2 and 3; convert the model again");
}

Status read_metadata(Reader &reader, uint64_t count, GgufHeader &header) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t at = reader.position();
    const std::string place = "metadata entry " + std::to_string(i + 1) + " of " + std::to_string(count);
    std::string key;
    MILI_RETURN_IF_ERROR(reader.string(key, kMaxKeyBytes, place + ", its key"));
    if (key.empty())
      return reader.fail(at, place + ": the key is empty");
    GgufValue value;
    MILI_RETURN_IF_ERROR(reader.any(value, "metadata " + quote(key)));
    if (!header.index.emplace(key, header.metadata.size()).second)
      return reader.fail(at, "metadata " + quote(key) + " appears twice");
    header.metadata.emplace_back(std::move(key), std::move(value));
  }
  return ok_status();
}

// Keys that change how the rest of the file is read.
Status read_layout_keys(const GgufHeader &header, const File &file, uint64_t &alignment) {
  if (const GgufValue *value = header.find("general.alignment")) {
    const uint64_t *stored = std::get_if<uint64_t>(value);
    if (!stored || *stored < 8 || *stored > kMaxAlignment || !std::has_single_bit(*stored))
      return data_loss(file.path() + ": metadata \"general.alignment\": expected a power of two between 8 and " +
                       std::to_string(kMaxAlignment) + (stored ? ", found " + std::to_string(*stored) : ""));
    alignment = *stored;
  }
  if (const GgufValue *value = header.find("split.count")) {
    const uint64_t *stored = std::get_if<uint64_t>(value);
    if (!stored || *stored > 1)
      return unimplemented(
          file.path() + ": one part of a split GGUF model (split.count = " + (stored ? std::to_string(*stored) : "?") +
          "); merge the parts first, for example with llama-gguf-split --merge");
  }
  if (const GgufValue *value = header.find("general.quantization_version")) {
    const uint64_t *stored = std::get_if<uint64_t>(value);
    if (!stored || *stored != 2)
      return unimplemented(file.path() + ": general.quantization_version " +
                           (stored ? std::to_string(*stored) : "of a wrong type") + ", supported is 2");
  }
  return ok_status();
}

Status read_tensor_entry(Reader &reader, const File &file, const std::string &place, uint64_t alignment,
                         TensorInfo &tensor) {
  MILI_RETURN_IF_ERROR(reader.string(tensor.name, kMaxTensorName, place + ", its name"));
  if (tensor.name.empty())
    return reader.fail(reader.position(), place + ": the name is empty");
  const std::string what = "tensor " + quote(tensor.name);
  uint64_t at = reader.position();
  uint32_t rank = 0;
  MILI_RETURN_IF_ERROR(reader.value(rank, what + ", its number of dimensions"));
  if (rank == 0 || rank > kMaxTensorRank)
    return reader.fail(at, what + " has " + std::to_string(rank) + " dimensions, expected 1 to " +
                               std::to_string(kMaxTensorRank));
  tensor.shape.resize(rank);
  // The file lists the innermost dimension first.
  for (uint32_t d = rank; d-- > 0;)
    MILI_RETURN_IF_ERROR(reader.value(tensor.shape[d], what + ", its dimensions"));
  at = reader.position();
  uint32_t type = 0;
  MILI_RETURN_IF_ERROR(reader.value(type, what + ", its type"));
  const auto known = std::find_if(std::begin(kGgmlTypes), std::end(kGgmlTypes),
                                  [&](const GgmlType &candidate) { return candidate.id == type; });
  if (known == std::end(kGgmlTypes))
    return reader.fail(at, what + " has the type " + std::to_string(type) + ", which is no type of ggml");
  if (!known->format)
    return unimplemented(file.path() + ": " + what + " has the type " + std::string(known->name) +
                         "; supported are F32, F16, BF16, Q4_0, Q4_1, Q8_0 and Q6_K");
  tensor.format = *known->format;
  StatusOr<uint64_t> size = tensor_bytes(tensor.format, tensor.shape);
  if (!size.ok())
    return reader.fail(at, what + ": " + size.status().message());
  tensor.size = *size;
  at = reader.position();
  MILI_RETURN_IF_ERROR(reader.value(tensor.offset, what + ", its offset"));
  if (tensor.offset % alignment != 0)
    return reader.fail(at, what + ": the offset " + std::to_string(tensor.offset) + " is not a multiple of " +
                               std::to_string(alignment));
  return ok_status();
}

}  // namespace

std::string_view gguf_type_name(GgufType type) {
  return kTypes[static_cast<size_t>(type)].name;
}

bool GgufArray::is_integer() const {
  switch (type) {
  case GgufType::kFloat32:
  case GgufType::kFloat64:
  case GgufType::kBool:
  case GgufType::kString:
  case GgufType::kArray: return false;
  default: return true;
  }
}

int64_t GgufArray::integer(uint64_t i) const {
  const std::byte *at = scalars.data() + i * kTypes[static_cast<size_t>(type)].bytes;
  switch (type) {
  case GgufType::kUint8:
  case GgufType::kBool: return load<uint8_t>(at);
  case GgufType::kInt8: return load<int8_t>(at);
  case GgufType::kUint16: return load<uint16_t>(at);
  case GgufType::kInt16: return load<int16_t>(at);
  case GgufType::kUint32: return load<uint32_t>(at);
  case GgufType::kInt32: return load<int32_t>(at);
  case GgufType::kUint64: return static_cast<int64_t>(load<uint64_t>(at));
  default: return load<int64_t>(at);
  }
}

double GgufArray::number(uint64_t i) const {
  const std::byte *at = scalars.data() + i * kTypes[static_cast<size_t>(type)].bytes;
  return type == GgufType::kFloat32 ? static_cast<double>(load<float>(at)) : load<double>(at);
}

const GgufValue *GgufHeader::find(const std::string &key) const {
  auto it = index.find(key);
  return it == index.end() ? nullptr : &metadata[it->second].second;
}

StatusOr<GgufHeader> read_gguf_header(const File &file) {
  GgufHeader header;
  Reader reader(file);
  MILI_RETURN_IF_ERROR(read_version(reader, file, header.version));
  uint64_t tensor_count = 0, metadata_count = 0;
  MILI_RETURN_IF_ERROR(reader.value(tensor_count, "the number of tensors"));
  MILI_RETURN_IF_ERROR(reader.value(metadata_count, "the number of metadata entries"));
  // A metadata entry is at least a length, one byte of key, a type and one byte of value; a tensor a length, one byte
  // of name, a rank, one dimension, a type and an offset.
  if (metadata_count > kMaxMetadata || metadata_count > reader.left() / (8 + 1 + 4 + 1))
    return reader.fail(16, std::to_string(metadata_count) + " metadata entries do not fit the file of " +
                               std::to_string(file.size()) + " bytes, or are more than " +
                               std::to_string(kMaxMetadata));
  if (tensor_count > kMaxTensors || tensor_count > reader.left() / (8 + 1 + 4 + 8 + 4 + 8))
    return reader.fail(8, std::to_string(tensor_count) + " tensors do not fit the file of " +
                              std::to_string(file.size()) + " bytes, or are more than " + std::to_string(kMaxTensors));
  MILI_RETURN_IF_ERROR(read_metadata(reader, metadata_count, header));
  uint64_t alignment = kDefaultAlignment;
  MILI_RETURN_IF_ERROR(read_layout_keys(header, file, alignment));

  header.tensors.resize(tensor_count);
  for (uint64_t i = 0; i < tensor_count; ++i)
    MILI_RETURN_IF_ERROR(read_tensor_entry(reader, file,
                                           "tensor " + std::to_string(i + 1) + " of " + std::to_string(tensor_count),
                                           alignment, header.tensors[i]));
  // The header is at most 100 MB, so this does not overflow.
  const uint64_t data = (reader.position() + alignment - 1) / alignment * alignment;
  for (TensorInfo &tensor : header.tensors) {
    const uint64_t room = file.size() > data ? file.size() - data : 0;
    if (tensor.size > room || tensor.offset > room - tensor.size)
      return data_loss(file.path() + ": tensor " + quote(tensor.name) + " " + shape_text(tensor.shape) + " takes " +
                       std::to_string(tensor.size) + " bytes from byte " + std::to_string(tensor.offset) +
                       " of the data, but the data has " + std::to_string(room) + " bytes (the file " +
                       std::to_string(file.size()) + "); it is truncated or contradicts itself");
    tensor.offset += data;
  }
  MILI_RETURN_IF_ERROR(check_and_sort_tensors(header.tensors, std::span(&file.path(), 1)));
  return header;
}

}  // namespace mili
