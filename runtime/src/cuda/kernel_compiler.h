// CUDA source to images by NVRTC, and images on disk. Shared by the runtime and mili-compile.
#pragma once

#include "cuda_api.h"

#include <string>
#include <string_view>
#include <vector>

namespace mili::cuda {

struct SourceText {
  std::string name, text;
};

// What a kernel needs of a multiprocessor, from the assembler's report.
struct KernelResources {
  uint32_t registers = 0;  // of a thread
  uint32_t spilled = 0;    // bytes of a thread that go to memory and back for want of registers
  uint32_t stack = 0;      // bytes of a thread
  uint32_t shared = 0;     // static shared memory of a block, bytes
};
struct KernelImage {
  std::string image;  // cubin
  KernelResources resources;
};

// "sm_90a" for 9.0, "sm_100a" for 10.0, else "sm_86": what NVRTC is asked for. Kernels use instructions of exactly
// these.
std::string architecture_for(int major, int minor);
// Whether an image for `arch` runs on a device: the same one, or an earlier one of the same major without a suffix.
bool runs_on(std::string_view arch, int major, int minor);

// Compiles one unit; Internal with NVRTC's log where it refuses. `arch` is like "sm_90a".
StatusOr<KernelImage> compile_unit(const Nvrtc &nvrtc, const std::vector<SourceText> &headers, const SourceText &unit,
                                   const std::string &arch);

// Compiles all units on `threads` threads (0: one for each hardware thread); images in the order of the units.
StatusOr<std::vector<KernelImage>> compile_units(const Nvrtc &nvrtc, const std::vector<SourceText> &headers,
                                                 const std::vector<const SourceText *> &units, const std::string &arch,
                                                 uint32_t threads, double *cpu_seconds);

// Images of compiled units on disk; entries are checked when read, and whatever is wrong with one only costs a
// compilation.
class DiskCache {
public:
  // `folder` as in CudaOptions::cache_dir.
  explicit DiskCache(const std::string &folder);
  // The name of an entry: everything that its image depends on.
  static std::string key(const std::vector<SourceText> &headers, const SourceText &unit, const std::string &arch,
                         const std::string &nvrtc);
  KernelImage read(const std::string &key) const;  // an empty image: there is none
  void write(const std::string &key, const KernelImage &image) const;

private:
  std::string folder_;
};

}  // namespace mili::cuda
