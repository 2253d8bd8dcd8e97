// A regular file opened for reading at positions. Never mapped: a file that shrinks while it is read is an error and
// not a SIGBUS, and the pages that were read do not count as resident memory of the process.
#pragma once

#include "mili/runtime/status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace mili {

class File {
public:
  // Follows symbolic links (Hugging Face's cache is made of them), but what it ends at must be a regular file.
  // Errors: not found, invalid argument (a folder, a device, a pipe), resource exhausted (file descriptors).
  static StatusOr<File> open(const std::string &path);

  File(File &&other) noexcept;
  File &operator=(File &&other) noexcept;
  File(const File &) = delete;
  File &operator=(const File &) = delete;
  ~File();

  const std::string &path() const { return path_; }
  // When it was opened.
  uint64_t size() const { return size_; }

  // Fills `out` from `offset`. Data loss if the file has fewer bytes.
  Status read(uint64_t offset, std::span<std::byte> out) const;

private:
  File(std::string path, int fd, uint64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}

  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

// The whole file as text. Data loss if it is bigger than `max_bytes`.
StatusOr<std::string> read_text_file(const std::string &path, uint64_t max_bytes);

// Whether the path names a regular file, or a link to one.
bool is_regular_file(const std::string &path);
bool is_directory(const std::string &path);

}  // namespace mili
