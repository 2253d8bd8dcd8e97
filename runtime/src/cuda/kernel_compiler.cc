#include "kernel_compiler.h"

#include "mili/runtime/hash.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <sys/stat.h>
#include <thread>
#include <time.h>
#include <unistd.h>

namespace mili::cuda {
namespace {

constexpr char kCacheMagic[8] = {'M', 'I', 'L', 'I', 'C', 'U', 'B', '2'};

uint64_t hash_of(std::string_view bytes) {
  RunningHash hash;
  hash.update(std::as_bytes(std::span(bytes)));
  return hash.digest();
}

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::vector<std::string> compile_options(const std::string &arch) {
  return {"-arch=" + arch, "-std=c++17", "-default-device", "-DMILI_NVRTC", "--ptxas-options=-v"};
}

// The number before `unit` in the line of the log that has it; 0 where none has.
uint32_t figure_before(std::string_view log, std::string_view unit) {
  const size_t at = log.find(unit);
  if (at == std::string_view::npos)
    return 0;
  size_t begin = at;
  while (begin > 0 && log[begin - 1] >= '0' && log[begin - 1] <= '9')
    --begin;
  return static_cast<uint32_t>(std::strtoul(std::string(log.substr(begin, at - begin)).c_str(), nullptr, 10));
}

KernelResources parse_resources(std::string_view log) {
  return {figure_before(log, " registers"), figure_before(log, " bytes spill stores"),
          figure_before(log, " bytes stack frame"), figure_before(log, " bytes smem")};
}

}  // namespace

std::string architecture_for(int major, int minor) {
  std::string arch = "sm_" + std::to_string(major * 10 + minor);
  return (major == 9 && minor == 0) || (major == 10 && minor == 0) ? arch + "a" : arch;
}

bool runs_on(std::string_view arch, int major, int minor) {
  if (arch == architecture_for(major, minor))
    return true;
  if (arch.substr(0, 3) != "sm_" || arch.size() < 5 ||
      arch.find_first_not_of("0123456789", 3) != std::string_view::npos)
    return false;
  const int number = std::atoi(std::string(arch.substr(3)).c_str());
  return number / 10 == major && number % 10 <= minor;
}

StatusOr<KernelImage> compile_unit(const Nvrtc &nvrtc, const std::vector<SourceText> &headers, const SourceText &unit,
                                   const std::string &arch) {
  std::vector<const char *> names, texts;
  for (const SourceText &header : headers) {
    names.push_back(header.name.c_str());
    texts.push_back(header.text.c_str());
  }
  nvrtcProgram program = nullptr;
  const std::string name = unit.name + ".cu";
  if (nvrtc.nvrtcCreateProgram(&program, unit.text.c_str(), name.c_str(), static_cast<int>(headers.size()),
                               texts.data(), names.data()) != 0)
    return internal_error("NVRTC cannot make a program of kernel \"" + unit.name + "\"");
  std::vector<std::string> options = compile_options(arch);
  std::vector<const char *> values;
  values.reserve(options.size());
  for (const std::string &option : options)
    values.push_back(option.c_str());
  const nvrtcResult result = nvrtc.nvrtcCompileProgram(program, static_cast<int>(values.size()), values.data());
  std::string log, image;
  size_t size = 0;
  if (nvrtc.nvrtcGetProgramLogSize(program, &size) == 0) {
    log.resize(size);
    nvrtc.nvrtcGetProgramLog(program, log.data());
  }
  if (result == 0 && nvrtc.nvrtcGetCUBINSize(program, &size) == 0) {
    image.resize(size);
    nvrtc.nvrtcGetCUBIN(program, image.data());
  }
  nvrtc.nvrtcDestroyProgram(&program);
  if (result != 0 || image.empty())
    return internal_error("NVRTC " + nvrtc.version() + " refuses kernel \"" + unit.name + "\" for " + arch + ":\n" +
                          log);
  return KernelImage{std::move(image), parse_resources(log)};
}

StatusOr<std::vector<KernelImage>> compile_units(const Nvrtc &nvrtc, const std::vector<SourceText> &headers,
                                                 const std::vector<const SourceText *> &units, const std::string &arch,
                                                 uint32_t threads, double *cpu_seconds) {
  std::vector<KernelImage> images(units.size());
  std::vector<Status> failures(units.size());
  std::vector<double> seconds(units.size());
  std::atomic<size_t> next = 0;
  auto work = [&] {
    for (size_t i = next++; i < units.size(); i = next++) {
      const double begin = thread_seconds();
      auto image = compile_unit(nvrtc, headers, *units[i], arch);
      if (image.ok())
        images[i] = std::move(*image);
      else
        failures[i] = image.status();
      seconds[i] = thread_seconds() - begin;
    }
  };
  if (threads == 0)
    threads = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::thread> pool;
  for (size_t i = 1; i < std::min<size_t>(threads, units.size()); ++i)
    pool.emplace_back(work);
  work();
  for (std::thread &thread : pool)
    thread.join();
  for (const Status &failure : failures)
    MILI_RETURN_IF_ERROR(failure);
  if (cpu_seconds)
    for (double s : seconds)
      *cpu_seconds += s;
  return images;
}

DiskCache::DiskCache(const std::string &folder) : folder_(folder) {
  if (folder_ == "off") {
    folder_.clear();
    return;
  }
  if (folder_.empty()) {
    if (const char *dir = std::getenv("MILI_CACHE_DIR"))
      folder_ = dir;
    else if (const char *xdg = std::getenv("XDG_CACHE_HOME"))
      folder_ = std::string(xdg) + "/mili";
    else if (const char *home = std::getenv("HOME"))
      folder_ = std::string(home) + "/.cache/mili";
    else
      return;
    folder_ += "/kernels";
  }
}

std::string DiskCache::key(const std::vector<SourceText> &headers, const SourceText &unit, const std::string &arch,
                           const std::string &nvrtc) {
  RunningHash hash;
  auto add = [&](std::string_view text) {
    const uint64_t size = text.size();
    hash.update(std::as_bytes(std::span(&size, 1)));
    hash.update(std::as_bytes(std::span(text)));
  };
  for (const SourceText &header : headers) {
    add(header.name);
    add(header.text);
  }
  add(unit.text);
  add(nvrtc);
  for (const std::string &option : compile_options(arch))
    add(option);
  char name[32];
  std::snprintf(name, sizeof(name), "%016llx.cubin", static_cast<unsigned long long>(hash.digest()));
  return arch + "-" + name;
}

KernelImage DiskCache::read(const std::string &key) const {
  if (folder_.empty())
    return {};
  std::ifstream file(folder_ + "/" + key, std::ios::binary);
  char magic[8];
  uint64_t hash = 0;
  KernelImage entry;
  if (!file.read(magic, sizeof(magic)) || std::memcmp(magic, kCacheMagic, sizeof(magic)) != 0 ||
      !file.read(reinterpret_cast<char *>(&hash), sizeof(hash)) ||
      !file.read(reinterpret_cast<char *>(&entry.resources), sizeof(entry.resources)))
    return {};
  entry.image.assign(std::istreambuf_iterator<char>(file), {});
  return hash_of(entry.image) == hash ? entry : KernelImage();
}

void DiskCache::write(const std::string &key, const KernelImage &entry) const {
  if (folder_.empty())
    return;
  for (size_t i = 1; i <= folder_.size(); ++i)
    if (i == folder_.size() || folder_[i] == '/')
      mkdir(folder_.substr(0, i).c_str(), 0777);
  // Whoever reads sees the whole entry or none.
  const std::string path = folder_ + "/" + key, temporary = path + "." + std::to_string(getpid());
  {
    std::ofstream file(temporary, std::ios::binary);
    const uint64_t hash = hash_of(entry.image);
    file.write(kCacheMagic, sizeof(kCacheMagic));
    file.write(reinterpret_cast<const char *>(&hash), sizeof(hash));
    file.write(reinterpret_cast<const char *>(&entry.resources), sizeof(entry.resources));
    file.write(entry.image.data(), static_cast<std::streamsize>(entry.image.size()));
    if (!file.flush()) {
      std::remove(temporary.c_str());
      return;
    }
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0)
    std::remove(temporary.c_str());
}

}  // namespace mili::cuda
