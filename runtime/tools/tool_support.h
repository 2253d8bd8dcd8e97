// What the runtime's command-line tools share: exit codes, compiled-model cache, small writers.
#pragma once

#include "mili/runtime/status.h"

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace mili::tools {

// Exit codes of every tool.
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;

// "1.5 GB", "340 KB": decimal units, three significant digits.
std::string human_bytes(uint64_t bytes);

// Prints "tool: message" on stderr and returns kFailed.
int fail(std::string_view tool, const Status &status);

// Whether `path` begins with a plan's magic bytes. False when it cannot be read.
bool is_plan_file(const std::string &path);

struct CompileRequest {
  std::string model;                 // .gguf file or Hugging Face folder
  std::vector<std::string> options;  // passed to mili-compile as they are
  bool quiet = false;
};
// Compiles a model with the mili-compile beside this program or on PATH, once: the plan is kept in the user's cache
// folder
// ($MILI_CACHE_DIR, $XDG_CACHE_HOME/mili or ~/.cache/mili) under a key of the model's files (path, size, modification
// time), the options and MILI's version. Returns the plan's path.
StatusOr<std::string> compile_cached(const CompileRequest &request);

// Writes one f32 tensor as a safetensors file, row by row, so that the whole never has to be in memory.
class SafetensorsWriter {
public:
  // shape: [rows, columns].
  static StatusOr<SafetensorsWriter> create(const std::string &path, std::string_view name, uint64_t rows,
                                            uint64_t columns);
  SafetensorsWriter(SafetensorsWriter &&other) noexcept;
  SafetensorsWriter &operator=(SafetensorsWriter &&) = delete;
  ~SafetensorsWriter();
  Status append_row(const float *row);
  // Flushes and checks that every row was written.
  Status finish();

private:
  SafetensorsWriter(std::FILE *file, std::string path, uint64_t rows, uint64_t columns)
      : file_(file), path_(std::move(path)), rows_left_(rows), columns_(columns) {}
  std::FILE *file_;
  std::string path_;
  uint64_t rows_left_;
  uint64_t columns_;
};

// Sustained read bandwidth of this machine in bytes a second: `threads` threads each sum their own part of a buffer far
// larger than the caches; the best of `repeats` passes. The ceiling that generation is held against.
double measure_read_bandwidth(unsigned threads, int repeats = 3);

// Peak resident memory of this process so far, bytes.
uint64_t peak_resident_bytes();

}  // namespace mili::tools
