// ModelFile: a model on disk, as every frontend presents it: named tensors whose bytes stay in the file, a
// configuration, a tokenizer. Opening one reads headers and metadata only; tensor bytes are read in pieces by whoever
// packs them, so memory does not grow with the model. Free of LLVM, so that the parsers run alone under sanitizers.
#pragma once

#include "mili/runtime/status.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mili {

// How the elements of a stored tensor are encoded. Block formats are ggml's; see https://github.com/ggml-org/ggml.
enum class TensorFormat : uint8_t { kF32, kF16, kBF16, kQ4_0, kQ4_1, kQ8_0, kQ6_K };

struct TensorFormatInfo {
  std::string_view name;    // "f32", "bf16", "q4_1": the spelling of the mili dialect and of plans
  uint32_t block_elements;  // 1 for plain formats
  uint32_t block_bytes;
};
const TensorFormatInfo &tensor_format_info(TensorFormat format);
// Not found for a name that is none of the above.
StatusOr<TensorFormat> tensor_format_from_name(std::string_view name);

struct TensorInfo {
  std::string name;
  TensorFormat format;
  std::vector<uint64_t> shape;  // outermost first (rows, then columns); at most 4 dimensions, none zero
  uint32_t file = 0;            // which file of the model
  uint64_t offset = 0;          // bytes from that file's start
  uint64_t size = 0;            // bytes, equal to what format and shape need

  uint64_t elements() const;
  // Bytes of one innermost row. Blocks never cross rows.
  uint64_t row_bytes() const;
};

enum class ModelFileKind { kGguf, kHuggingFace };

class ModelFile {
public:
  // `path`: a .gguf file, or a folder with config.json and safetensors. With `need_weights` false a folder with only
  // config.json will do (synthetic weights).
  // Errors: not found, data loss (what is wrong, where, found and expected), unimplemented (a tensor type by name).
  static StatusOr<std::unique_ptr<ModelFile>> open(const std::string &path, bool need_weights = true);
  virtual ~ModelFile();

  virtual ModelFileKind kind() const = 0;
  // The model's name for people: GGUF's general.name or the folder's name.
  virtual std::string name() const = 0;
  // HuggingFace: config.json as it is. GGUF: the scalar metadata and small arrays, an object keyed by the full key
  // ("llama.block_count"); arrays of more than 4096 elements (vocabularies) are left out.
  virtual const nlohmann::json &config() const = 0;
  // generation_config.json, or an empty object. GGUF: {"eos_token_id": [...]}, the ends of a text, a turn and a message
  // that the metadata names.
  virtual const nlohmann::json &generation_config() const = 0;

  // Sorted by name.
  virtual const std::vector<TensorInfo> &tensors() const = 0;
  const TensorInfo *find(std::string_view name) const;
  // Reads out.size() bytes that begin `offset` bytes into the tensor. Uses pread: the file is never mapped, so resident
  // memory stays small and a file that shrinks meanwhile is an error, not a crash.
  virtual Status read(const TensorInfo &tensor, uint64_t offset, std::span<std::byte> out) const = 0;

  // Matrices that the model stores more than once: the name of each copy, and the name of the first tensor with the
  // same bytes, format and shape. Reads a few kilobytes of each matrix, and copies to their ends. Found once, then kept
  // (not thread-safe). Vectors are left out: they are small, and one that serves two places would cost kernels of their
  // own.
  StatusOr<std::map<std::string, std::string>> duplicates() const;

  // A finished TOKENIZER section (tokenizer.fbs), chat template included. Not found: the model carries no tokenizer.
  virtual StatusOr<std::vector<uint8_t>> tokenizer() const = 0;

private:
  mutable std::optional<std::map<std::string, std::string>> duplicates_;
};

}  // namespace mili
