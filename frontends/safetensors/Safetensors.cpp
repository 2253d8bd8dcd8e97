#include "safetensors/Safetensors.h"

#include "common/JsonFile.h"
#include "common/TensorLayout.h"
#include "common/Text.h"
#include "mili/Frontends/JsonFields.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>

#include <optional>
#include <set>

using nlohmann::json;

namespace mili {

namespace {

constexpr size_t kMaxShards = 4096;

StatusOr<TensorFormat> parse_dtype(const std::string &name) {
  if (name == "F32")
    return TensorFormat::kF32;
  if (name == "F16")
    return TensorFormat::kF16;
  if (name == "BF16")
    return TensorFormat::kBF16;
  return unimplemented("the dtype " + quote(name) + "; supported are F32, F16 and BF16");
}

std::optional<uint64_t> as_size(const json &value) {
  if (!value.is_number_unsigned())
    return std::nullopt;
  return value.get<uint64_t>();
}

// One entry of the header. Offsets are relative to the data, which has `data_bytes` bytes.
Status parse_entry(const json &entry, uint64_t data_bytes, TensorInfo &tensor) {
  if (!entry.is_object())
    return data_loss("expected an object, found " + json_excerpt(entry));
  for (auto it = entry.begin(); it != entry.end(); ++it)
    if (it.key() != "dtype" && it.key() != "shape" && it.key() != "data_offsets")
      return data_loss("unknown field " + quote(it.key()));
  auto dtype = entry.find("dtype"), shape = entry.find("shape"), offsets = entry.find("data_offsets");
  if (dtype == entry.end() || !dtype->is_string())
    return data_loss("field 'dtype': expected a string");
  if (shape == entry.end() || !shape->is_array())
    return data_loss("field 'shape': expected an array of sizes");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2)
    return data_loss("field 'data_offsets': expected two numbers");
  MILI_ASSIGN_OR_RETURN(tensor.format, parse_dtype(dtype->get_ref<const std::string &>()));
  if (shape->size() > kMaxTensorRank)
    return data_loss(std::to_string(shape->size()) + " dimensions, expected at most " + std::to_string(kMaxTensorRank));
  for (const json &dimension : *shape) {
    std::optional<uint64_t> size = as_size(dimension);
    if (!size)
      return data_loss("field 'shape': expected sizes, found " + json_excerpt(dimension));
    tensor.shape.push_back(*size);
  }
  std::optional<uint64_t> begin = as_size((*offsets)[0]), end = as_size((*offsets)[1]);
  if (!begin || !end || *begin > *end || *end > data_bytes)
    return data_loss("field 'data_offsets': expected a range within the " + std::to_string(data_bytes) +
                     " bytes of data, found " + json_excerpt(*offsets));
  MILI_ASSIGN_OR_RETURN(tensor.size, tensor_bytes(tensor.format, tensor.shape));
  if (tensor.size != *end - *begin)
    return data_loss(std::string(tensor_format_info(tensor.format).name) + " " + shape_text(tensor.shape) + " takes " +
                     std::to_string(tensor.size) + " bytes, but data_offsets " + json_excerpt(*offsets) + " give it " +
                     std::to_string(*end - *begin));
  tensor.offset = *begin;
  return ok_status();
}

// The format wants the data indexed completely: bytes that no tensor owns could hide anything.
Status check_no_gaps(const std::string &path, std::vector<TensorInfo> &tensors, uint64_t data_bytes) {
  MILI_RETURN_IF_ERROR(check_and_sort_tensors(tensors, std::span(&path, 1)));
  uint64_t covered = 0;
  for (const TensorInfo &tensor : tensors)
    covered += tensor.size;
  if (covered != data_bytes)
    return data_loss(path + ": the tensors cover " + std::to_string(covered) + " of the " + std::to_string(data_bytes) +
                     " bytes after the header; gaps are not accepted");
  return ok_status();
}

Status check_metadata(const json &metadata, const std::string &path) {
  if (!metadata.is_object())
    return data_loss(path + ": '__metadata__': expected an object, found " + json_excerpt(metadata));
  for (auto it = metadata.begin(); it != metadata.end(); ++it)
    if (!it->is_string())
      return data_loss(path + ": '__metadata__': expected strings, found " + quote(it.key()) + ": " +
                       json_excerpt(*it));
  return ok_status();
}

// A name that the index gives must be a file of the folder itself.
Status check_shard_name(const std::string &name, const std::string &index_path) {
  const bool plain = !name.empty() && name.size() <= 255 && name.find('/') == std::string::npos &&
                     name.find('\\') == std::string::npos && name.find('\0') == std::string::npos && name[0] != '.';
  if (!plain || !name.ends_with(".safetensors"))
    return data_loss(index_path + ": 'weight_map' names the file " + quote(name) +
                     "; expected the plain name of a .safetensors file in the same folder");
  return ok_status();
}

// Whether the index puts the tensor, found in the file `shard`, there as well.
Status check_placement(const TensorInfo &tensor, const std::string &shard, const json &weight_map,
                       const std::string &index_path) {
  auto entry = weight_map.find(tensor.name);
  if (entry == weight_map.end())
    return data_loss(index_path + ": the tensor " + quote(tensor.name) + " of " + quote(shard) +
                     " is missing from 'weight_map'");
  if (*entry != shard)
    return data_loss(index_path + ": 'weight_map' puts the tensor " + quote(tensor.name) + " into " +
                     json_excerpt(*entry) + ", but it is in " + quote(shard));
  return ok_status();
}

StatusOr<std::vector<TensorInfo>> read_shards(const std::string &folder, const std::string &index_path,
                                              std::vector<File> &files) {
  JsonLimits limits;
  limits.bytes = kMaxHeaderBytes;
  MILI_ASSIGN_OR_RETURN(const json index, read_json_file(index_path, limits));
  auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object() || map->empty())
    return data_loss(index_path + ": expected an object with a non-empty object 'weight_map'");
  std::set<std::string> shards;
  for (const json &value : *map) {
    if (!value.is_string())
      return data_loss(index_path + ": 'weight_map': expected file names, found " + json_excerpt(value));
    const std::string &name = value.get_ref<const std::string &>();
    MILI_RETURN_IF_ERROR(check_shard_name(name, index_path));
    shards.insert(name);
  }
  if (shards.size() > kMaxShards)
    return data_loss(index_path + ": " + std::to_string(shards.size()) + " files, at most " +
                     std::to_string(kMaxShards) + " are accepted");

  std::vector<TensorInfo> tensors;
  std::vector<std::string> names;
  for (const std::string &name : shards) {
    const auto number = static_cast<uint32_t>(files.size());
    std::string path = folder;
    path.append("/").append(name);
    StatusOr<File> file = File::open(path);
    if (!file.ok())
      return file.status().with_context(index_path + " lists a file that cannot be read");
    MILI_ASSIGN_OR_RETURN(std::vector<TensorInfo> shard, read_safetensors_header(*file, number));
    for (const TensorInfo &tensor : shard)
      MILI_RETURN_IF_ERROR(check_placement(tensor, name, *map, index_path));
    tensors.insert(tensors.end(), std::make_move_iterator(shard.begin()), std::make_move_iterator(shard.end()));
    names.push_back(file->path());
    files.push_back(std::move(*file));
  }
  MILI_RETURN_IF_ERROR(check_and_sort_tensors(tensors, names));
  // Each tensor of the shards is in the map; are there as many of them?
  if (tensors.size() != map->size())
    for (auto it = map->begin(); it != map->end(); ++it)
      if (!std::binary_search(tensors.begin(), tensors.end(), TensorInfo{it.key(), TensorFormat::kF32, {}},
                              [](const TensorInfo &a, const TensorInfo &b) { return a.name < b.name; }))
        return data_loss(index_path + ": 'weight_map' puts the tensor " + quote(it.key()) + " into " +
                         json_excerpt(*it) + ", which does not have it");
  return tensors;
}

}  // namespace

StatusOr<std::vector<TensorInfo>> read_safetensors_header(const File &file, uint32_t file_index) {
  const std::string &path = file.path();
  if (file.size() < 8)
    return data_loss(path + ": " + std::to_string(file.size()) + " bytes, too short for a safetensors file");
  uint64_t header_bytes = 0;
  std::byte raw[8];
  MILI_RETURN_IF_ERROR(file.read(0, raw));
  std::memcpy(&header_bytes, raw, sizeof(raw));
  if (header_bytes > kMaxHeaderBytes)
    return data_loss(path + ": byte 0: a header of " + std::to_string(header_bytes) + " bytes, at most " +
                     std::to_string(kMaxHeaderBytes) + " are accepted");
  if (header_bytes > file.size() - 8)
    return data_loss(path + ": byte 0: a header of " + std::to_string(header_bytes) + " bytes, but the file has " +
                     std::to_string(file.size()) + " bytes; it is truncated");
  std::string text(header_bytes, '\0');
  MILI_RETURN_IF_ERROR(file.read(8, std::as_writable_bytes(std::span(text))));
  if (!text.starts_with('{'))
    return data_loss(path + ": byte 8: the header must begin with '{', found " + quote(text.substr(0, 1)));
  JsonLimits limits;
  limits.bytes = kMaxHeaderBytes;
  limits.depth = 4;
  MILI_ASSIGN_OR_RETURN(const json header, parse_json(text, path + ": header", limits));
  text = std::string();
  if (header.size() > kMaxTensors)
    return data_loss(path + ": " + std::to_string(header.size()) + " tensors, at most " + std::to_string(kMaxTensors) +
                     " are accepted");

  const uint64_t data_start = 8 + header_bytes, data_bytes = file.size() - data_start;
  std::vector<TensorInfo> tensors;
  tensors.reserve(header.size());
  for (auto it = header.begin(); it != header.end(); ++it) {
    if (it.key() == "__metadata__") {
      MILI_RETURN_IF_ERROR(check_metadata(*it, path));
      continue;
    }
    if (it.key().empty() || it.key().size() > kMaxTensorName)
      return data_loss(path + ": a tensor name of " + std::to_string(it.key().size()) + " bytes, expected 1 to " +
                       std::to_string(kMaxTensorName));
    TensorInfo tensor;
    tensor.name = it.key();
    MILI_RETURN_IF_ERROR(parse_entry(*it, data_bytes, tensor).with_context(path + ": tensor " + quote(tensor.name)));
    tensor.offset += data_start;
    tensors.push_back(std::move(tensor));
  }
  MILI_RETURN_IF_ERROR(check_no_gaps(path, tensors, data_bytes));
  for (TensorInfo &tensor : tensors)
    tensor.file = file_index;
  return tensors;
}

StatusOr<std::vector<TensorInfo>> read_safetensors_folder(const std::string &folder, bool required,
                                                          std::vector<File> &files) {
  const std::string single = folder + "/model.safetensors", index = folder + "/model.safetensors.index.json";
  if (is_regular_file(single)) {
    MILI_ASSIGN_OR_RETURN(File file, File::open(single));
    MILI_ASSIGN_OR_RETURN(std::vector<TensorInfo> tensors, read_safetensors_header(file, 0));
    files.push_back(std::move(file));
    return tensors;
  }
  if (is_regular_file(index))
    return read_shards(folder, index, files);
  if (!required)
    return std::vector<TensorInfo>();
  for (const char *other : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
    if (is_regular_file(folder + "/" + other))
      return unimplemented(folder + ": the weights are in " + other +
                           " (Python pickles, which can run code); convert them to safetensors");
  return not_found(folder + ": expected model.safetensors or model.safetensors.index.json, found neither");
}

}  // namespace mili
