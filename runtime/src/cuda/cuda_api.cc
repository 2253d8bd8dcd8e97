#include "cuda_api.h"

#include <cstdlib>
#include <dlfcn.h>
#include <mutex>

namespace mili::cuda {
namespace {

template <typename F>
bool resolve(void *library, const char *symbol, F &function) {
  function = reinterpret_cast<F>(dlsym(library, symbol));
  return function != nullptr;
}

StatusOr<Driver> load_driver() {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *reason = dlerror();
    return unavailable(std::string("no NVIDIA driver on this machine (") + (reason ? reason : "libcuda.so.1") +
                       "); plans compiled with --target cpu run without one");
  }
  Driver driver;
  std::string missing;
#define MILI_CUDA(name, symbol, ...)                                                                                   \
  if (!resolve(library, symbol, driver.name))                                                                          \
    missing = symbol;
#include "cuda_api.def"
  if (!missing.empty())
    return unavailable("the NVIDIA driver has no " + missing +
                       ", which MILI needs; install a driver for CUDA 12.0 or later");
  if (CUresult error = driver.cuInit(0); error != kSuccess)
    return unavailable("the NVIDIA driver cannot be used: " + driver.describe(error) +
                       "; is a GPU visible (nvidia-smi, CUDA_VISIBLE_DEVICES)?");
  return driver;
}

StatusOr<Nvrtc> load_nvrtc() {
  void *library = nullptr;
  std::string tried;
  auto open = [&](const std::string &name) {
    if (library)
      return;
    library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    tried += (tried.empty() ? "" : ", ") + name;
  };
  if (const char *path = std::getenv("MILI_NVRTC"))
    open(path);
  for (const char *name : {"libnvrtc.so.13", "libnvrtc.so.12"})
    for (const char *folder : {"", "/usr/local/cuda/lib64/"})
      open(std::string(folder) + name);
  if (!library)
    return unavailable("NVRTC is not on this machine (tried " + tried +
                       "); install the CUDA toolkit's NVRTC or name the library in MILI_NVRTC");
  Nvrtc nvrtc;
  std::string missing;
#define MILI_NVRTC(name, ...)                                                                                          \
  if (!resolve(library, #name, nvrtc.name))                                                                            \
    missing = #name;
#include "cuda_api.def"
  if (!missing.empty())
    return unavailable("this NVRTC has no " + missing + "; MILI needs CUDA 12.0 or later");
  nvrtc.nvrtcVersion(&nvrtc.major, &nvrtc.minor);
  return nvrtc;
}

StatusOr<CublasLt> load_cublaslt() {
  void *library = nullptr;
  for (const char *folder : {"", "/usr/local/cuda/lib64/"})
    for (const char *name : {"libcublasLt.so.13", "libcublasLt.so.12"})
      if (!library)
        library = dlopen((std::string(folder) + name).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return unavailable("cuBLASLt is not on this machine");
  CublasLt lt;
  std::string missing;
#define MILI_CUBLASLT(name, ...)                                                                                       \
  if (!resolve(library, #name, lt.name))                                                                               \
    missing = #name;
#include "cuda_api.def"
  if (!missing.empty())
    return unavailable("this cuBLASLt has no " + missing);
  return lt;
}

}  // namespace

StatusOr<const CublasLt *> CublasLt::get() {
  static StatusOr<CublasLt> lt = load_cublaslt();
  if (!lt.ok())
    return lt.status();
  return &*lt;
}

StatusOr<const Driver *> Driver::get() {
  static StatusOr<Driver> driver = load_driver();
  if (!driver.ok())
    return driver.status();
  return &*driver;
}

std::string Driver::describe(CUresult error) const {
  const char *name = nullptr, *text = nullptr;
  cuGetErrorName(error, &name);
  cuGetErrorString(error, &text);
  return std::string(name ? name : "unknown error") + ": " + (text ? text : std::to_string(error));
}

Status Driver::check(CUresult error, const char *what) const {
  return error == kSuccess ? ok_status() : internal_error(std::string(what) + ": " + describe(error));
}

StatusOr<const Nvrtc *> Nvrtc::get() {
  static StatusOr<Nvrtc> nvrtc = load_nvrtc();
  if (!nvrtc.ok())
    return nvrtc.status();
  return &*nvrtc;
}

}  // namespace mili::cuda
