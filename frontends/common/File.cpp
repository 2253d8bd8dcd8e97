#include "common/File.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mili {

static std::string errno_text(int error) {
  return std::strerror(error);
}

StatusOr<File> File::open(const std::string &path) {
  // O_NONBLOCK: opening a pipe that nobody writes would wait forever; it means nothing for regular files.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    std::string message = path + ": cannot be opened: " + errno_text(error);
    if (error == EMFILE || error == ENFILE)
      return resource_exhausted(message + "; raise the limit of open files (ulimit -n)");
    return not_found(std::move(message));
  }
  File file(path, fd, 0);
  struct stat info{};
  if (::fstat(fd, &info) != 0)
    return not_found(path + ": " + errno_text(errno));
  if (!S_ISREG(info.st_mode))
    return invalid_argument(path + ": expected a regular file, found " +
                            (S_ISDIR(info.st_mode) ? "a folder" : "a device or pipe"));
  file.size_ = static_cast<uint64_t>(info.st_size);
  return file;
}

File::File(File &&other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

File &File::operator=(File &&other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

File::~File() {
  if (fd_ >= 0)
    ::close(fd_);
}

Status File::read(uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset)
    return data_loss(path_ + ": " + std::to_string(out.size()) + " bytes wanted at byte " + std::to_string(offset) +
                     ", but the file has " + std::to_string(size_) + " bytes; it is truncated");
  // Linux moves at most 2 GiB in one call anyway.
  constexpr size_t kPiece = size_t{1} << 30;
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        ::pread(fd_, out.data() + done, std::min(out.size() - done, kPiece), static_cast<off_t>(offset + done));
    if (n < 0) {
      if (errno == EINTR)
        continue;
      return data_loss(path_ + ": reading at byte " + std::to_string(offset + done) + ": " + errno_text(errno));
    }
    if (n == 0)
      return data_loss(path_ + ": ends at byte " + std::to_string(offset + done) + ", but had " +
                       std::to_string(size_) + " bytes when it was opened; it was changed meanwhile");
    done += static_cast<size_t>(n);
  }
  return ok_status();
}

StatusOr<std::string> read_text_file(const std::string &path, uint64_t max_bytes) {
  MILI_ASSIGN_OR_RETURN(File file, File::open(path));
  if (file.size() > max_bytes)
    return data_loss(path + ": " + std::to_string(file.size()) + " bytes, at most " + std::to_string(max_bytes) +
                     " are accepted for this file");
  std::string text(file.size(), '\0');
  MILI_RETURN_IF_ERROR(file.read(0, std::as_writable_bytes(std::span(text))));
  return text;
}

static bool has_type(const std::string &path, mode_t type) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 && (info.st_mode & S_IFMT) == type;
}

bool is_regular_file(const std::string &path) {
  return has_type(path, S_IFREG);
}
bool is_directory(const std::string &path) {
  return has_type(path, S_IFDIR);
}

}  // namespace mili
