#include "mili/runtime/plan.h"

#include "mili/runtime/hash.h"
#include "mili/runtime/plan_writer.h"
#include "mili/schema/plan_generated.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mili {
namespace {

// META and the tokenizer are held in memory as copies; no model needs more.
constexpr uint64_t kMaxCopiedSection = uint64_t{100} << 20;
constexpr size_t kHashPiece = size_t{1} << 20;

const char *kind_name(uint32_t kind) {
  switch (static_cast<SectionKind>(kind)) {
  case SectionKind::kMeta: return "META";
  case SectionKind::kTokenizer: return "TOKENIZER";
  case SectionKind::kHostObject: return "HOST_OBJECT";
  case SectionKind::kCudaSource: return "CUDA_SOURCE";
  case SectionKind::kCubins: return "CUBINS";
  case SectionKind::kWeights: return "WEIGHTS";
  }
  return nullptr;
}

std::string num(uint64_t value) {
  return std::to_string(value);
}

}  // namespace

struct Plan::Impl {
  std::string path;
  int fd = -1;                       // -1: bytes of the caller's
  std::span<const std::byte> bytes;  // the map or the caller's bytes
  bool mapped = false;
  FileHeader header{};
  std::vector<SectionEntry> table;
  std::vector<std::byte> meta;
  std::vector<std::byte> tokenizer;
  std::span<const std::byte> weights;
  MemoryFigures memory;

  ~Impl() {
    if (mapped)
      munmap(const_cast<std::byte *>(bytes.data()), bytes.size());
    if (fd >= 0)
      close(fd);
  }

  // Reads through the descriptor: a file that has shrunk is an error here, where the map would raise SIGBUS.
  Status read(uint64_t offset, std::span<std::byte> to) const {
    if (fd < 0) {
      std::memcpy(to.data(), bytes.data() + offset, to.size());
      return ok_status();
    }
    while (!to.empty()) {
      ssize_t done = pread(fd, to.data(), to.size(), static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR)
        continue;
      if (done < 0)
        return unavailable(path + ": cannot read at byte " + num(offset) + ": " + std::strerror(errno));
      if (done == 0)
        return data_loss(path + ": ends at byte " + num(offset) + ", it was " + num(bytes.size()) +
                         " bytes long when it was opened; something truncated it");
      to = to.subspan(static_cast<size_t>(done));
      offset += static_cast<uint64_t>(done);
    }
    return ok_status();
  }

  Status check_header();
  Status check_table();
  Status check_hash(const SectionEntry &entry, uint32_t index, const Progress &progress) const;

  std::string section_label(uint32_t index) const {
    return "section " + num(index) + " (" + kind_name(table[index].kind) + ")";
  }
};

Status Plan::Impl::check_header() {
  if (bytes.size() < sizeof(FileHeader))
    return data_loss(path + ": " + num(bytes.size()) + " bytes, a plan's header alone has " + num(sizeof(FileHeader)));
  MILI_RETURN_IF_ERROR(read(0, std::as_writable_bytes(std::span(&header, 1))));
  if (std::memcmp(header.magic, kPlanMagic, sizeof(kPlanMagic)) != 0)
    return invalid_argument(path + ": not a plan, it does not begin with \"" + std::string(kPlanMagic, 8) +
                            "\"; mili-compile makes plans from model files");
  std::string version = num(header.major) + "." + num(header.minor);
  if (header.major > kPlanMajor)
    return unimplemented(path + ": the plan has format version " + version + ", this runtime reads up to " +
                         num(kPlanMajor) + "." + num(kPlanMinor) +
                         "; use a newer MILI, or compile the model again with this one");
  if (header.major < kPlanMajor)
    return unimplemented(path + ": the plan has format version " + version + ", this runtime reads " + num(kPlanMajor) +
                         "." + num(kPlanMinor) + "; compile the model again");
  if (header.features != 0)
    return unimplemented(path + ": the plan needs features (bits " + num(header.features) +
                         ") that this runtime does not know; use a newer MILI");
  if (header.file_size != bytes.size())
    return data_loss(path + ": the header says " + num(header.file_size) + " bytes, the file has " + num(bytes.size()) +
                     "; it is truncated or was appended to");
  if (header.reserved[0] != 0 || header.reserved[1] != 0 || header.reserved[2] != 0)
    return data_loss(path + ": reserved bytes of the header are not zero");
  if (header.section_count == 0 || header.section_count > kMaxSections)
    return data_loss(path + ": the header says " + num(header.section_count) + " sections, expected 1 to " +
                     num(kMaxSections));
  return ok_status();
}

Status Plan::Impl::check_table() {
  const uint64_t table_bytes = uint64_t{header.section_count} * sizeof(SectionEntry);
  if (table_bytes > bytes.size() - sizeof(FileHeader))
    return data_loss(path + ": the section table needs " + num(table_bytes) + " bytes, the file ends before that");
  table.resize(header.section_count);
  auto raw = std::as_writable_bytes(std::span(table));
  MILI_RETURN_IF_ERROR(read(sizeof(FileHeader), raw));
  if (section_hash(raw) != header.table_hash)
    return data_loss(path + ": the section table's hash does not match; the file is damaged");

  uint64_t end = sizeof(FileHeader) + table_bytes;
  uint32_t metas = 0, tokenizers = 0, weight_sections = 0;
  for (uint32_t i = 0; i < table.size(); ++i) {
    const SectionEntry &entry = table[i];
    if (!kind_name(entry.kind))
      return data_loss(path + ": section " + num(i) + " is of unknown kind " + num(entry.kind));
    auto kind = static_cast<SectionKind>(entry.kind);
    const std::string label = path + ": " + section_label(i);
    const uint64_t alignment = kind == SectionKind::kWeights ? kWeightSectionAlign : kSectionAlign;
    if (!std::has_single_bit(entry.alignment) || entry.alignment < alignment || entry.offset % entry.alignment != 0)
      return data_loss(label + ": offset " + num(entry.offset) + " with alignment " + num(entry.alignment) +
                       ", expected a multiple of " + num(alignment));
    if (entry.offset < end)
      return data_loss(label + ": begins at byte " + num(entry.offset) + ", what is before it ends at " + num(end));
    if (entry.offset > bytes.size() || entry.size > bytes.size() - entry.offset)
      return data_loss(label + ": " + num(entry.size) + " bytes at " + num(entry.offset) +
                       " reach beyond the file's end at " + num(bytes.size()));
    end = entry.offset + entry.size;
    metas += kind == SectionKind::kMeta;
    tokenizers += kind == SectionKind::kTokenizer;
    weight_sections += kind == SectionKind::kWeights;
    if ((kind == SectionKind::kMeta || kind == SectionKind::kTokenizer) && entry.size > kMaxCopiedSection)
      return data_loss(label + ": " + num(entry.size) + " bytes, the limit is " + num(kMaxCopiedSection));
  }
  if (metas != 1 || tokenizers > 1 || weight_sections != 1 ||
      table.back().kind != static_cast<uint32_t>(SectionKind::kWeights))
    return data_loss(path + ": expected one META section, at most one TOKENIZER and one WEIGHTS at the end; found " +
                     num(metas) + ", " + num(tokenizers) + " and " + num(weight_sections));
  if (end != bytes.size())
    return data_loss(path + ": the last section ends at byte " + num(end) + ", the file at " + num(bytes.size()));
  return ok_status();
}

Status Plan::Impl::check_hash(const SectionEntry &entry, uint32_t index, const Progress &progress) const {
  RunningHash hash;
  std::vector<std::byte> piece(std::min<uint64_t>(entry.size, kHashPiece));
  for (uint64_t at = 0; at < entry.size;) {
    std::span<std::byte> part = std::span(piece).first(std::min<uint64_t>(entry.size - at, piece.size()));
    MILI_RETURN_IF_ERROR(read(entry.offset + at, part));
    hash.update(part);
    at += part.size();
    if (progress && !progress(static_cast<double>(at) / static_cast<double>(entry.size), "verifying"))
      return cancelled(path + ": verification was cancelled");
  }
  if (hash.digest() != entry.hash)
    return data_loss(path + ": " + section_label(index) + ": its hash does not match; the file is damaged");
  return ok_status();
}

Plan::Plan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Plan::Plan(Plan &&) noexcept = default;
Plan &Plan::operator=(Plan &&) noexcept = default;
Plan::~Plan() = default;

StatusOr<Plan> Plan::verify(std::unique_ptr<Impl> impl, const PlanOptions &options) {
  MILI_RETURN_IF_ERROR(impl->check_header());
  MILI_RETURN_IF_ERROR(impl->check_table());
  for (uint32_t i = 0; i < impl->table.size(); ++i) {
    const SectionEntry &entry = impl->table[i];
    switch (static_cast<SectionKind>(entry.kind)) {
    case SectionKind::kMeta:
    case SectionKind::kTokenizer: {
      auto &copy = entry.kind == static_cast<uint32_t>(SectionKind::kMeta) ? impl->meta : impl->tokenizer;
      copy.resize(entry.size);
      MILI_RETURN_IF_ERROR(impl->read(entry.offset, copy));
      if (section_hash(copy) != entry.hash)
        return data_loss(impl->path + ": " + impl->section_label(i) + ": its hash does not match; the file is damaged");
      break;
    }
    case SectionKind::kCudaSource:
    case SectionKind::kCubins:
    case SectionKind::kHostObject: MILI_RETURN_IF_ERROR(impl->check_hash(entry, i, {})); break;
    case SectionKind::kWeights:
      if (options.verify_weights)
        MILI_RETURN_IF_ERROR(impl->check_hash(entry, i, options.progress));
      impl->weights = impl->bytes.subspan(entry.offset, entry.size);
      break;
    }
  }
  if (Status status = verify_meta(impl->meta, impl->table); !status.ok())
    return status.with_context(impl->path);
  auto inputs =
      memory_inputs(*plan::GetPlan(impl->meta.data()), plan::GetPlan(impl->meta.data())->synthetic()
                                                           ? plan::GetPlan(impl->meta.data())->memory()->weights()
                                                           : impl->weights.size());
  if (!inputs.ok())
    return inputs.status().with_context(impl->path);
  MILI_ASSIGN_OR_RETURN(impl->memory, plan_memory(*inputs));
  return Plan(std::move(impl));
}

StatusOr<Plan> Plan::open(const std::string &path, const PlanOptions &options) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (impl->fd < 0)
    return errno == ENOENT ? not_found(path + ": no such file")
                           : unavailable(path + ": cannot open it: " + std::strerror(errno));
  struct stat info;
  if (fstat(impl->fd, &info) != 0)
    return unavailable(path + ": cannot stat it: " + std::strerror(errno));
  if (!S_ISREG(info.st_mode))
    return invalid_argument(path + ": not a regular file; expected a plan made by mili-compile");
  auto size = static_cast<size_t>(info.st_size);
  if (size < sizeof(FileHeader))
    return data_loss(path + ": " + num(size) + " bytes, a plan's header alone has " + num(sizeof(FileHeader)));
  void *map = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, impl->fd, 0);
  if (map == MAP_FAILED)
    return resource_exhausted(path + ": cannot map " + format_bytes(size) + ": " + std::strerror(errno));
  impl->bytes = {static_cast<const std::byte *>(map), size};
  impl->mapped = true;
  return verify(std::move(impl), options);
}

StatusOr<Plan> Plan::from_memory(std::span<const std::byte> bytes, std::string name, const PlanOptions &options) {
  auto impl = std::make_unique<Impl>();
  impl->path = std::move(name);
  impl->bytes = bytes;
  return verify(std::move(impl), options);
}

const std::string &Plan::path() const {
  return impl_->path;
}
const FileHeader &Plan::header() const {
  return impl_->header;
}
std::span<const SectionEntry> Plan::sections() const {
  return impl_->table;
}
const plan::Plan &Plan::meta() const {
  return *plan::GetPlan(impl_->meta.data());
}
std::span<const std::byte> Plan::tokenizer() const {
  return impl_->tokenizer;
}
std::span<const std::byte> Plan::weights() const {
  return impl_->weights;
}
const MemoryFigures &Plan::memory() const {
  return impl_->memory;
}

std::span<const std::byte> Plan::weight(uint32_t index) const {
  const plan::Weight *weight = meta().weights()->Get(index);
  return impl_->weights.subspan(weight->offset(), weight->size());
}

StatusOr<std::vector<std::byte>> Plan::copy_section(uint32_t index) const {
  if (index >= impl_->table.size())
    return invalid_argument(impl_->path + ": no section " + num(index) + ", the plan has " + num(impl_->table.size()));
  const SectionEntry &entry = impl_->table[index];
  std::vector<std::byte> copy(entry.size);
  MILI_RETURN_IF_ERROR(impl_->read(entry.offset, copy));
  if (section_hash(copy) != entry.hash)
    return data_loss(impl_->path + ": " + impl_->section_label(index) + ": changed since the plan was opened");
  return copy;
}

Status Plan::check_unchanged() const {
  if (impl_->fd < 0)
    return ok_status();
  struct stat info;
  if (fstat(impl_->fd, &info) != 0)
    return unavailable(impl_->path + ": cannot stat it: " + std::strerror(errno));
  if (static_cast<uint64_t>(info.st_size) != impl_->bytes.size())
    return data_loss(impl_->path + ": the file has " + num(static_cast<uint64_t>(info.st_size)) + " bytes, it had " +
                     num(impl_->bytes.size()) + " when it was opened; replace plans by renaming a new file over them");
  return ok_status();
}

}  // namespace mili
