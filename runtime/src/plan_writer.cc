#include "mili/runtime/plan_writer.h"

#include "mili/runtime/hash.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace mili {
namespace {

// The table's room is fixed, so that sections can be streamed before their number is known.
constexpr uint64_t kFirstSection = sizeof(FileHeader) + uint64_t{kMaxSections} * sizeof(SectionEntry);

uint64_t round_up(uint64_t value, uint64_t align) {
  return (value + align - 1) / align * align;
}

}  // namespace

struct PlanWriter::Impl {
  std::string path;
  std::string temporary;
  int fd = -1;
  uint64_t position = kFirstSection;  // where the next byte goes
  std::vector<SectionEntry> table;
  bool weights_begun = false;
  RunningHash weights_hash;

  ~Impl() {
    if (fd >= 0) {
      close(fd);
      unlink(temporary.c_str());
    }
  }

  Status failed(const char *what) const {
    int error = errno;
    StatusCode code = error == ENOSPC || error == EDQUOT || error == EFBIG ? StatusCode::kResourceExhausted
                                                                           : StatusCode::kUnavailable;
    return Status(code, temporary + ": cannot " + what + ": " + std::strerror(error));
  }

  Status write_at(uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      ssize_t done =
          pwrite(fd, bytes.data(), std::min<size_t>(bytes.size(), size_t{1} << 30), static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR)
        continue;
      if (done < 0)
        return failed("write");
      bytes = bytes.subspan(static_cast<size_t>(done));
      offset += static_cast<uint64_t>(done);
    }
    return ok_status();
  }

  Status open_section(SectionKind kind, uint64_t alignment) {
    if (table.size() == kMaxSections)
      return invalid_argument(path + ": a plan has at most " + std::to_string(kMaxSections) + " sections");
    position = round_up(position, alignment);  // the gap is a hole, which reads as zeros
    table.push_back({static_cast<uint32_t>(kind), static_cast<uint32_t>(alignment), position, 0, 0});
    return ok_status();
  }
};

PlanWriter::PlanWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PlanWriter::PlanWriter(PlanWriter &&) noexcept = default;
PlanWriter &PlanWriter::operator=(PlanWriter &&) noexcept = default;
PlanWriter::~PlanWriter() = default;

StatusOr<PlanWriter> PlanWriter::create(const std::string &path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->temporary = path + ".XXXXXX";
  impl->fd = mkostemp(impl->temporary.data(), O_CLOEXEC);
  if (impl->fd < 0)
    return impl->failed("create it");
  // mkostemp makes files for their owner alone; a plan is as readable as any file that the user writes.
  mode_t mask = umask(0);
  umask(mask);
  fchmod(impl->fd, 0666 & ~mask);
  return PlanWriter(std::move(impl));
}

StatusOr<uint32_t> PlanWriter::add_section(SectionKind kind, std::span<const std::byte> bytes) {
  if (kind == SectionKind::kWeights || impl_->weights_begun)
    return failed_precondition(impl_->path + ": the weights are the last section; use begin_weights()");
  MILI_RETURN_IF_ERROR(impl_->open_section(kind, kSectionAlign));
  MILI_RETURN_IF_ERROR(impl_->write_at(impl_->position, bytes));
  impl_->position += bytes.size();
  impl_->table.back().size = bytes.size();
  impl_->table.back().hash = section_hash(bytes);
  return static_cast<uint32_t>(impl_->table.size() - 1);
}

Status PlanWriter::begin_weights() {
  if (impl_->weights_begun)
    return failed_precondition(impl_->path + ": begin_weights() was called before");
  impl_->weights_begun = true;
  return impl_->open_section(SectionKind::kWeights, kWeightSectionAlign);
}

Status PlanWriter::append_weights(std::span<const std::byte> bytes) {
  if (!impl_->weights_begun)
    return failed_precondition(impl_->path + ": append_weights() before begin_weights()");
  MILI_RETURN_IF_ERROR(impl_->write_at(impl_->position, bytes));
  impl_->weights_hash.update(bytes);
  impl_->position += bytes.size();
  impl_->table.back().size += bytes.size();
  return ok_status();
}

Status PlanWriter::pad_weights_to(uint64_t offset) {
  uint64_t size = weights_size();
  if (offset < size)
    return invalid_argument(impl_->path + ": cannot pad the weights to " + std::to_string(offset) +
                            " bytes, they have " + std::to_string(size) + " already");
  static constexpr std::array<std::byte, 4096> kZeros{};
  while (size < offset) {
    uint64_t piece = std::min<uint64_t>(offset - size, kZeros.size());
    MILI_RETURN_IF_ERROR(append_weights({kZeros.data(), piece}));
    size += piece;
  }
  return ok_status();
}

uint64_t PlanWriter::weights_size() const {
  return impl_->weights_begun ? impl_->table.back().size : 0;
}

Status PlanWriter::finish() {
  if (!impl_->weights_begun)
    MILI_RETURN_IF_ERROR(begin_weights());
  impl_->table.back().hash = impl_->weights_hash.digest();
  auto table = std::as_bytes(std::span(impl_->table));

  FileHeader header{};
  std::memcpy(header.magic, kPlanMagic, sizeof(header.magic));
  header.major = kPlanMajor;
  header.minor = kPlanMinor;
  header.section_count = static_cast<uint32_t>(impl_->table.size());
  header.file_size = impl_->position;
  header.table_hash = section_hash(table);
  MILI_RETURN_IF_ERROR(impl_->write_at(sizeof(header), table));
  MILI_RETURN_IF_ERROR(impl_->write_at(0, std::as_bytes(std::span(&header, 1))));
  // An empty last section leaves nothing written at the end.
  if (ftruncate(impl_->fd, static_cast<off_t>(header.file_size)) != 0)
    return impl_->failed("set its size");
  if (fsync(impl_->fd) != 0)
    return impl_->failed("flush it");
  if (rename(impl_->temporary.c_str(), impl_->path.c_str()) != 0)
    return impl_->failed("rename it to its final name");
  close(impl_->fd);
  impl_->fd = -1;
  return ok_status();
}

}  // namespace mili
