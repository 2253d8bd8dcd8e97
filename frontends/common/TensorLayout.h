// What every tensor format must satisfy before anyone reads a byte of it.
#pragma once

#include "mili/Frontends/ModelFile.h"

#include "common/File.h"

#include <optional>
#include <span>

namespace mili {

inline constexpr size_t kMaxTensorRank = 4;
inline constexpr uint64_t kMaxTensors = uint64_t{1} << 20;
inline constexpr size_t kMaxTensorName = 512;
// GGUF metadata, the JSON header of safetensors, tokenizer.json.
inline constexpr uint64_t kMaxHeaderBytes = uint64_t{100} << 20;

std::optional<uint64_t> checked_multiply(uint64_t a, uint64_t b);
std::optional<uint64_t> checked_add(uint64_t a, uint64_t b);

// Checks rank and dimensions and returns the bytes that the tensor takes: every product checked, no dimension zero,
// blocks within a row. The message names no file; the caller adds it.
StatusOr<uint64_t> tensor_bytes(TensorFormat format, std::span<const uint64_t> shape);

// "[2, 3]"
std::string shape_text(std::span<const uint64_t> shape);

// Sorts by name. Data loss if two tensors have one name, or share bytes of one file. `file_names` by TensorInfo::file.
Status check_and_sort_tensors(std::vector<TensorInfo> &tensors, std::span<const std::string> file_names);

// ModelFile::read for models made of `files`.
Status read_tensor(std::span<const File> files, const TensorInfo &tensor, uint64_t offset, std::span<std::byte> out);

}  // namespace mili
