// Matrices that a file stores twice: a head saved beside the embeddings that it is tied to, layers that were copied.
//
// Different tensors differ almost everywhere, so probes of a few kilobytes tell nearly all of them apart, and only
// those whose probes agree are read to their ends. Nothing is taken on the strength of a hash.
#include "mili/Frontends/ModelFile.h"

#include "mili/runtime/hash.h"

#include <algorithm>
#include <tuple>

namespace mili {
namespace {

constexpr uint64_t kProbe = 4096, kPiece = 1 << 20;

// Of the beginning, the middle and the end.
StatusOr<uint64_t> probe(const ModelFile &model, const TensorInfo &tensor) {
  std::vector<std::byte> bytes(std::min(kProbe, tensor.size));
  RunningHash hash;
  for (uint64_t offset : {uint64_t{0}, (tensor.size - bytes.size()) / 2, tensor.size - bytes.size()}) {
    MILI_RETURN_IF_ERROR(model.read(tensor, offset, bytes));
    hash.update(bytes);
  }
  return hash.digest();
}

StatusOr<bool> equal(const ModelFile &model, const TensorInfo &a, const TensorInfo &b) {
  if (a.file == b.file && a.offset == b.offset)
    return true;
  std::vector<std::byte> left, right;
  for (uint64_t offset = 0; offset < a.size; offset += kPiece) {
    left.resize(std::min(kPiece, a.size - offset));
    right.resize(left.size());
    MILI_RETURN_IF_ERROR(model.read(a, offset, left));
    MILI_RETURN_IF_ERROR(model.read(b, offset, right));
    if (left != right)
      return false;
  }
  return true;
}

}  // namespace

StatusOr<std::map<std::string, std::string>> ModelFile::duplicates() const {
  if (duplicates_)
    return *duplicates_;
  std::map<std::string, std::string> found;
  std::map<std::tuple<TensorFormat, std::vector<uint64_t>, uint64_t>, std::vector<const TensorInfo *>> alike;
  for (const TensorInfo &tensor : tensors()) {
    if (tensor.shape.size() < 2)
      continue;
    MILI_ASSIGN_OR_RETURN(const uint64_t digest, probe(*this, tensor));
    std::vector<const TensorInfo *> &firsts = alike[{tensor.format, tensor.shape, digest}];
    bool known = false;
    for (const TensorInfo *first : firsts) {
      MILI_ASSIGN_OR_RETURN(known, equal(*this, *first, tensor));
      if (known) {
        found.emplace(tensor.name, first->name);
        break;
      }
    }
    if (!known)
      firsts.push_back(&tensor);
  }
  duplicates_ = std::move(found);
  return *duplicates_;
}

}  // namespace mili
