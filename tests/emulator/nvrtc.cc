// An NVRTC that compiles kernels for the host: the unit, its headers and the emulator's CUDA language (device/) through
// a C++ compiler into a shared object. mili/device/ptx.cuh, tma.cuh and wgmma.cuh are replaced by the emulator's own.
//
//   MILI_EMULATOR_CXX    the compiler; the one that built the tests if not set
#include "image.h"

#include "cuda/cuda_api.h"
#include "mili/runtime/hash.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern char **environ;

namespace mili::cuda {

extern "C" {
#define MILI_NVRTC(name, ...) __attribute__((visibility("default"))) nvrtcResult name(__VA_ARGS__);
#include "cuda/cuda_api.def"
}

namespace {

namespace fs = std::filesystem;

constexpr nvrtcResult kCreationFailure = 2, kCompilationFailure = 6;
constexpr const char *kLanguage = "cuda_language.h", *kAbi = "abi.h";
constexpr const char *kReplaced[] = {"mili/device/ptx.cuh", "mili/device/tma.cuh", "mili/device/wgmma.cuh"};

std::string read_file(const fs::path &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void write_file(const fs::path &path, const std::string &text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

std::string compiler() {
  const char *chosen = std::getenv("MILI_EMULATOR_CXX");
  return chosen ? chosen : MILI_EMULATOR_CXX;
}
std::vector<std::string> flags() {
  std::vector<std::string> result;
  for (const char *flag : {MILI_EMULATOR_FLAGS})
    result.push_back(flag);
  return result;
}

struct Program {
  std::string source, name;  // name: the kernel, and the unit without ".cu"
  std::vector<std::pair<std::string, std::string>> headers;
  std::string log, image;
};

Program &of(nvrtcProgram program) {
  return *reinterpret_cast<Program *>(program);
}

// A folder that is removed in the end.
struct Folder {
  fs::path path;
  Folder() {
    std::string name = fs::temp_directory_path() / "mili-emulator-XXXXXX";
    path = mkdtemp(name.data()) ? name : "";
  }
  ~Folder() {
    std::error_code ignored;
    if (!path.empty())
      fs::remove_all(path, ignored);
  }
};

// Runs a command with its errors in `log`; true if it succeeds.
bool run(const std::vector<std::string> &command, const fs::path &log) {
  std::vector<char *> arguments;
  for (const std::string &word : command)
    arguments.push_back(const_cast<char *>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t child = 0;
  const int error = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    write_file(log, command[0] + ": " + std::strerror(error) + "\n");
    return false;
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

nvrtcResult copy_out(const std::string &text, size_t *bytes, char *to) {
  if (bytes)
    *bytes = text.size();
  if (to)
    std::memcpy(to, text.data(), text.size());
  return 0;
}

}  // namespace

// The minor version is a hash of whatever else decides what comes out, since images are cached by version.
nvrtcResult nvrtcVersion(int *major, int *minor) {
  RunningHash hash;
  auto add = [&](const std::string &text) { hash.update(std::as_bytes(std::span(text))); };
  const fs::path folder = MILI_EMULATOR_DIR;
  add(read_file(folder / "device" / kLanguage));
  add(read_file(folder / kAbi));
  for (const char *name : kReplaced)
    add(read_file(folder / "device" / name));
  add(compiler());
  for (const std::string &flag : flags())
    add(flag);
  *major = 12;
  *minor = static_cast<int>(hash.digest() & 0x7fffffff);
  return 0;
}

nvrtcResult nvrtcCreateProgram(nvrtcProgram *program, const char *source, const char *name, int headers,
                               const char *const *header_sources, const char *const *header_names) {
  auto *result = new Program;
  result->source = source;
  result->name = fs::path(name).stem();
  for (int i = 0; i < headers; ++i)
    result->headers.emplace_back(header_names[i], header_sources[i]);
  *program = reinterpret_cast<nvrtcProgram>(result);
  return 0;
}

nvrtcResult nvrtcDestroyProgram(nvrtcProgram *program) {
  delete &of(*program);
  *program = nullptr;
  return 0;
}

nvrtcResult nvrtcCompileProgram(nvrtcProgram handle, int options, const char *const *values) {
  Program &program = of(handle);
  const Folder work;
  if (work.path.empty())
    return kCreationFailure;
  const fs::path emulator = MILI_EMULATOR_DIR;
  for (const auto &[name, text] : program.headers) {
    const bool replaced = std::find(std::begin(kReplaced), std::end(kReplaced), name) != std::end(kReplaced);
    write_file(work.path / name, replaced ? read_file(emulator / "device" / name) : text);
  }
  const fs::path unit = work.path / (program.name + ".cu"), object = work.path / "kernel.so", log = work.path / "log";
  write_file(unit, program.source + "\nMILI_EMULATED_KERNEL(" + program.name + ")\n");

  std::vector<std::string> command = {compiler()};
  for (const std::string &flag : flags())
    command.push_back(flag);
  for (int i = 0; i < options; ++i) {
    const std::string option = values[i];
    if (option.rfind("-D", 0) == 0)
      command.push_back(option);
    if (option.rfind("-arch=sm_", 0) != 0)
      continue;
    const std::string arch = option.substr(9);
    command.push_back("-D__CUDA_ARCH__=" + std::to_string(std::atoi(arch.c_str())) + "0");
    if (arch == "90a")
      command.push_back("-D__CUDA_ARCH_FEAT_SM90_ALL");
  }
  for (const char *word : {"-x", "c++", "-std=c++17", "-shared", "-fPIC", "-w", "-I"})
    command.push_back(word);
  command.push_back(work.path);
  command.insert(command.end(), {"-I", emulator, "-include", emulator / "device" / kLanguage, unit, "-o", object});
  const bool compiled = run(command, log);
  program.log = read_file(log);
  if (!compiled)
    return kCompilationFailure;
  const std::string bytes = read_file(object);
  emulator::ImageHeader header{{}, bytes.size()};
  std::memcpy(header.magic, emulator::kImageMagic, sizeof(header.magic));
  program.image.assign(reinterpret_cast<const char *>(&header), sizeof(header));
  program.image += bytes;
  return 0;
}

nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t *bytes) {
  return copy_out(of(program).log, bytes, nullptr);
}
nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char *log) {
  return copy_out(of(program).log, nullptr, log);
}
nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t *bytes) {
  return copy_out(of(program).image, bytes, nullptr);
}
nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char *image) {
  return copy_out(of(program).image, nullptr, image);
}

}  // namespace mili::cuda
