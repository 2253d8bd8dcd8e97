#include "mili/Frontends/ModelFile.h"

#include "common/File.h"
#include "common/TensorLayout.h"
#include "common/Text.h"
#include "gguf/GgufModelFile.h"
#include "hf/HfModelFile.h"

#include <algorithm>
#include <array>

namespace mili {

ModelFile::~ModelFile() = default;

const TensorInfo *ModelFile::find(std::string_view name) const {
  const std::vector<TensorInfo> &all = tensors();
  auto it = std::lower_bound(all.begin(), all.end(), name,
                             [](const TensorInfo &tensor, std::string_view wanted) { return tensor.name < wanted; });
  return it != all.end() && it->name == name ? &*it : nullptr;
}

StatusOr<std::unique_ptr<ModelFile>> ModelFile::open(const std::string &path, bool need_weights) {
  if (is_directory(path))
    return open_hf_folder(path, need_weights);
  MILI_ASSIGN_OR_RETURN(File file, File::open(path));
  if (path.ends_with(".safetensors") || path.ends_with(".json"))
    return invalid_argument(path + ": name the model's folder (with config.json and its weights), not a file in it");
  std::array<std::byte, 4> magic{};
  if (file.size() < magic.size())
    return data_loss(path + ": " + std::to_string(file.size()) + " bytes, too short for a GGUF file");
  MILI_RETURN_IF_ERROR(file.read(0, magic));
  if (std::string_view(reinterpret_cast<const char *>(magic.data()), magic.size()) != "GGUF")
    return data_loss(path + ": expected a GGUF file (bytes \"GGUF\") or a Hugging Face folder, found " +
                     quote({reinterpret_cast<const char *>(magic.data()), magic.size()}) + " at byte 0");
  return open_gguf(std::move(file));
}

Status read_tensor(std::span<const File> files, const TensorInfo &tensor, uint64_t offset, std::span<std::byte> out) {
  if (tensor.file >= files.size())
    return invalid_argument("tensor " + quote(tensor.name) + " is not of this model");
  if (offset > tensor.size || out.size() > tensor.size - offset)
    return invalid_argument("tensor " + quote(tensor.name) + ": bytes " + std::to_string(offset) + " to " +
                            std::to_string(offset + out.size()) + " asked for, it has " + std::to_string(tensor.size));
  return files[tensor.file].read(tensor.offset + offset, out).with_context("tensor " + quote(tensor.name));
}

}  // namespace mili
