#include "tool_support.h"

#include "mili/runtime/plan_format.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

extern char **environ;

namespace mili::tools {
namespace fs = std::filesystem;

std::string human_bytes(uint64_t bytes) {
  const char *units[] = {"B", "KB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1000 && unit < 4) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.3g} {}", value, units[unit]);
}

int fail(std::string_view tool, const Status &status) {
  fmt::print(stderr, "{}: {}\n", tool, status.message());
  return kFailed;
}

bool is_plan_file(const std::string &path) {
  char magic[sizeof(kPlanMagic)] = {};
  std::FILE *file = std::fopen(path.c_str(), "rb");
  if (!file)
    return false;
  bool match =
      std::fread(magic, 1, sizeof magic, file) == sizeof magic && !std::memcmp(magic, kPlanMagic, sizeof magic);
  std::fclose(file);
  return match;
}

static fs::path cache_folder() {
  if (const char *dir = std::getenv("MILI_CACHE_DIR"))
    return dir;
  if (const char *dir = std::getenv("XDG_CACHE_HOME"))
    return fs::path(dir) / "mili";
  if (const char *home = std::getenv("HOME"))
    return fs::path(home) / ".cache" / "mili";
  return fs::temp_directory_path() / "mili-cache";
}

// mili-compile beside the running program, else the first on PATH; empty when there is none.
static std::string find_compiler() {
  std::error_code error;
  fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (!error && fs::exists(self.parent_path() / "mili-compile", error))
    return (self.parent_path() / "mili-compile").string();
  const char *path = std::getenv("PATH");
  std::string_view rest = path ? path : "";
  while (!rest.empty()) {
    size_t colon = rest.find(':');
    fs::path candidate = fs::path(rest.substr(0, colon)) / "mili-compile";
    if (access(candidate.c_str(), X_OK) == 0)
      return candidate.string();
    rest = colon == std::string_view::npos ? "" : rest.substr(colon + 1);
  }
  return {};
}

static std::string describe_file(const fs::path &path) {
  struct stat st = {};
  if (stat(path.c_str(), &st) != 0)
    return path.string() + ":missing\n";
  return fmt::format("{}:{}:{}.{}\n", path.string(), st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

StatusOr<std::string> compile_cached(const CompileRequest &request) {
  std::error_code error;
  fs::path model = fs::weakly_canonical(request.model, error);
  if (error || !fs::exists(model, error))
    return not_found(fmt::format(
        "{}: no such file or folder; expected a plan (.mili), a .gguf file or a Hugging Face folder", request.model));
  std::string key = "mili " MILI_VERSION "\n";
  if (fs::is_directory(model, error)) {
    std::vector<fs::path> files;
    for (const auto &entry : fs::directory_iterator(model, error))
      files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const auto &file : files)
      key += describe_file(file);
  } else {
    key += describe_file(model);
  }
  for (const std::string &option : request.options)
    key += option + "\n";

  fs::path folder = cache_folder() / "plans";
  fs::create_directories(folder, error);
  if (error)
    return unavailable(
        fmt::format("{}: cannot create the cache folder: {}; set MILI_CACHE_DIR to one that can be written",
                    folder.string(), error.message()));
  XXH128_hash_t hash = XXH3_128bits(key.data(), key.size());
  std::string stem = model.filename().string();
  fs::path plan =
      folder / fmt::format("{}-{:016x}{:016x}.mili", stem.empty() ? "model" : stem, hash.high64, hash.low64);
  if (is_plan_file(plan.string()))
    return plan.string();

  std::string compiler = find_compiler();
  if (compiler.empty())
    return not_found(
        fmt::format("{} is a model, and mili-compile is neither beside this program nor on PATH; compile it on a "
                    "machine that has it: mili-compile {} -o model.mili",
                    request.model, request.model));
  std::vector<std::string> args = {compiler, model.string(), "-o", plan.string()};
  args.insert(args.end(), request.options.begin(), request.options.end());
  if (request.quiet)
    args.push_back("--quiet");
  std::vector<char *> argv;
  argv.reserve(args.size() + 1);
  for (std::string &arg : args)
    argv.push_back(arg.data());
  argv.push_back(nullptr);
  // Its standard output joins ours on stderr: stdout belongs to the text that is generated.
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  pid_t pid = 0;
  int rc = posix_spawn(&pid, compiler.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (rc != 0)
    return unavailable(fmt::format("{}: cannot be started: {}", compiler, std::strerror(rc)));
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR)
      return internal_error(fmt::format("waiting for mili-compile: {}", std::strerror(errno)));
  if (WIFSIGNALED(status))
    return internal_error(
        fmt::format("mili-compile ended by signal {} while compiling {}", WTERMSIG(status), request.model));
  if (WEXITSTATUS(status) != 0)
    return failed_precondition(fmt::format("{} could not be compiled (mili-compile says why above)", request.model));
  return plan.string();
}

StatusOr<SafetensorsWriter> SafetensorsWriter::create(const std::string &path, std::string_view name, uint64_t rows,
                                                      uint64_t columns) {
  nlohmann::json header;
  header[std::string(name)] = {
      {"dtype", "F32"}, {"shape", {rows, columns}}, {"data_offsets", {0, rows * columns * sizeof(float)}}};
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::FILE *file = std::fopen(path.c_str(), "wb");
  if (!file)
    return invalid_argument(fmt::format("{}: cannot be written: {}", path, std::strerror(errno)));
  uint64_t size = text.size();
  SafetensorsWriter writer(file, path, rows, columns);
  if (std::fwrite(&size, sizeof size, 1, file) != 1 || std::fwrite(text.data(), text.size(), 1, file) != 1)
    return resource_exhausted(fmt::format("{}: writing failed: {}", path, std::strerror(errno)));
  return writer;
}

SafetensorsWriter::SafetensorsWriter(SafetensorsWriter &&other) noexcept
    : file_(std::exchange(other.file_, nullptr)), path_(std::move(other.path_)), rows_left_(other.rows_left_),
      columns_(other.columns_) {}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_)
    std::fclose(file_);
}

Status SafetensorsWriter::append_row(const float *row) {
  if (rows_left_ == 0)
    return internal_error(fmt::format("{}: more rows than announced", path_));
  if (std::fwrite(row, sizeof(float), columns_, file_) != columns_)
    return resource_exhausted(fmt::format("{}: writing failed: {}", path_, std::strerror(errno)));
  --rows_left_;
  return ok_status();
}

Status SafetensorsWriter::finish() {
  if (rows_left_ != 0)
    return internal_error(fmt::format("{}: {} rows were not written", path_, rows_left_));
  int rc = std::fclose(std::exchange(file_, nullptr));
  if (rc != 0)
    return resource_exhausted(fmt::format("{}: writing failed: {}", path_, std::strerror(errno)));
  return ok_status();
}

double measure_read_bandwidth(unsigned threads, int repeats) {
  constexpr size_t kBytes = size_t{512} << 20;
  void *memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return 0;
  madvise(memory, kBytes, MADV_HUGEPAGE);
  std::memset(memory, 1, kBytes);
  const size_t words = kBytes / sizeof(uint64_t) / threads;
  double best = 0;
  for (int pass = 0; pass < repeats; ++pass) {
    std::vector<uint64_t> sums(threads);
    auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> pool;
    pool.reserve(threads);
    for (unsigned t = 0; t < threads; ++t)
      pool.emplace_back([&, t] {
        const auto *data = static_cast<const uint64_t *>(memory) + t * words;
        // Several independent sums, so that the loads and not the additions decide.
        uint64_t s[8] = {};
        for (size_t i = 0; i + 8 <= words; i += 8)
          for (int j = 0; j < 8; ++j)
            s[j] += data[i + j];
        for (uint64_t v : s)
          sums[t] += v;
      });
    for (std::thread &thread : pool)
      thread.join();
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    // The sums are used, or the compiler would drop the reads.
    if (sums[0] != 0)
      best = std::max(best, static_cast<double>(words * threads * sizeof(uint64_t)) / seconds);
  }
  munmap(memory, kBytes);
  return best;
}

uint64_t peak_resident_bytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace mili::tools
