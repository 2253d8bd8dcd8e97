// The header of a safetensors file. Format: https://github.com/huggingface/safetensors#format
#pragma once

#include "common/File.h"
#include "mili/Frontends/ModelFile.h"

namespace mili {

// The tensors of one file, in the order of their names; TensorInfo::file is set to `file_index`, offsets count from the
// file's start. The tensors cover the data exactly: no gap, no overlap, nothing behind the last.
// Errors: data loss, unimplemented (a dtype by name).
StatusOr<std::vector<TensorInfo>> read_safetensors_header(const File &file, uint32_t file_index);

// The tensors of a folder's model.safetensors, or of the shards that model.safetensors.index.json lists. Every shard
// must be a plain file name inside the folder (the file itself may be a symbolic link, as in Hugging Face's cache), and
// index and shards must agree about which tensor is where. With `required` false a folder without either has no
// tensors. Fills `files` by TensorInfo::file. Errors: not found, too.
StatusOr<std::vector<TensorInfo>> read_safetensors_folder(const std::string &folder, bool required,
                                                          std::vector<File> &files);

}  // namespace mili
