#include "common/TensorLayout.h"

#include "common/Text.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

namespace mili {

std::optional<uint64_t> checked_multiply(uint64_t a, uint64_t b) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product))
    return std::nullopt;
  return product;
}

std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum))
    return std::nullopt;
  return sum;
}

const TensorFormatInfo &tensor_format_info(TensorFormat format) {
  static constexpr std::array<TensorFormatInfo, 7> kFormats = {{
      {"f32", 1, 4},
      {"f16", 1, 2},
      {"bf16", 1, 2},
      {"q4_0", 32, 2 + 16},              // scale, 32 nibbles
      {"q4_1", 32, 2 + 2 + 16},          // scale, minimum, 32 nibbles
      {"q8_0", 32, 2 + 32},              // scale, 32 bytes
      {"q6_k", 256, 128 + 64 + 16 + 2},  // low nibbles, high pairs of bits, 16 scales, super-scale
  }};
  return kFormats[static_cast<size_t>(format)];
}

StatusOr<TensorFormat> tensor_format_from_name(std::string_view name) {
  for (size_t i = 0; i <= static_cast<size_t>(TensorFormat::kQ6_K); ++i)
    if (tensor_format_info(static_cast<TensorFormat>(i)).name == name)
      return static_cast<TensorFormat>(i);
  return not_found("no tensor format is called " + quote(name) +
                   "; there are f32, f16, bf16, q4_0, q4_1, q8_0 and q6_k");
}

uint64_t TensorInfo::elements() const {
  return std::accumulate(shape.begin(), shape.end(), uint64_t{1}, std::multiplies<>());
}

uint64_t TensorInfo::row_bytes() const {
  const TensorFormatInfo &info = tensor_format_info(format);
  return (shape.empty() ? 1 : shape.back()) / info.block_elements * info.block_bytes;
}

std::string shape_text(std::span<const uint64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

StatusOr<uint64_t> tensor_bytes(TensorFormat format, std::span<const uint64_t> shape) {
  const TensorFormatInfo &info = tensor_format_info(format);
  if (shape.size() > kMaxTensorRank)
    return data_loss(std::to_string(shape.size()) + " dimensions, expected at most " + std::to_string(kMaxTensorRank));
  // Signed 64 bits, because MLIR and pread count with them.
  constexpr uint64_t kLimit = std::numeric_limits<int64_t>::max();
  uint64_t elements = 1;
  for (uint64_t dimension : shape) {
    if (dimension == 0)
      return data_loss("shape " + shape_text(shape) + " has a dimension of zero");
    std::optional<uint64_t> product = checked_multiply(elements, dimension);
    if (!product || *product > kLimit)
      return data_loss("shape " + shape_text(shape) + ": the number of elements does not fit 63 bits");
    elements = *product;
  }
  const uint64_t columns = shape.empty() ? 1 : shape.back();
  if (columns % info.block_elements != 0)
    return data_loss("shape " + shape_text(shape) + ": the row length " + std::to_string(columns) +
                     " is not a multiple of the " + std::to_string(info.block_elements) + " elements of a " +
                     std::string(info.name) + " block");
  std::optional<uint64_t> bytes = checked_multiply(elements / info.block_elements, info.block_bytes);
  if (!bytes || *bytes > kLimit)
    return data_loss("shape " + shape_text(shape) + ": the size in bytes does not fit 63 bits");
  return *bytes;
}

Status check_and_sort_tensors(std::vector<TensorInfo> &tensors, std::span<const std::string> file_names) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo &a, const TensorInfo &b) { return a.name < b.name; });
  for (size_t i = 1; i < tensors.size(); ++i)
    if (tensors[i - 1].name == tensors[i].name)
      return data_loss(file_names[tensors[i].file] + ": two tensors are called " + quote(tensors[i].name));

  std::vector<const TensorInfo *> by_offset;
  by_offset.reserve(tensors.size());
  for (const TensorInfo &tensor : tensors)
    by_offset.push_back(&tensor);
  std::sort(by_offset.begin(), by_offset.end(), [](const TensorInfo *a, const TensorInfo *b) {
    return std::pair(a->file, a->offset) < std::pair(b->file, b->offset);
  });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const TensorInfo &a = *by_offset[i - 1], &b = *by_offset[i];
    if (a.file == b.file && b.offset < a.offset + a.size)
      return data_loss(file_names[a.file] + ": tensors " + quote(a.name) + " (bytes " + std::to_string(a.offset) +
                       " to " + std::to_string(a.offset + a.size) + ") and " + quote(b.name) + " (from byte " +
                       std::to_string(b.offset) + ") overlap");
  }
  return ok_status();
}

}  // namespace mili
