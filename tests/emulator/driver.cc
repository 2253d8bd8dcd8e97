// A CUDA driver without a GPU: the functions of libcuda.so.1 that MILI calls, for one device whose kernels the host
// runs (machine.h). Everything is done before a call returns, so streams are in order by themselves.
//
//   MILI_EMULATED_ARCH    compute capability, "8.0" if not set
//   MILI_EMULATED_ORDER   "reverse": blocks, warps and lanes from the last to the first
//
// An image is a shared object made by the emulated NVRTC (nvrtc.cc). Device memory is poisoned with NaN, ends where a
// page without access begins, and what lies before and behind it in its pages is compared after every launch. The first
// fault stays until the context is released, as on a GPU; cuGetErrorString tells it.
#include "image.h"
#include "machine.h"

#include "cuda/cuda_api.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace mili::cuda {

// Declared with the parameters that the runtime calls them with, under the driver's names.
extern "C" {
#define MILI_CUDA(name, symbol, ...) __attribute__((visibility("default"))) CUresult name(__VA_ARGS__) asm(symbol);
#include "cuda/cuda_api.def"
}

namespace {

using Clock = std::chrono::steady_clock;
using Work = std::function<CUresult()>;

constexpr CUresult kInvalidValue = 1, kInvalidImage = 200, kInvalidHandle = 400, kNotFound = 500, kLaunchFailed = 719,
                   kInvalidDevice = 101, kNotSupported = 801;
constexpr size_t kTotalMemory = size_t{8} << 30;
// An odd number, small: kernels whose blocks take tiles in turn take several.
constexpr int kMultiprocessors = 3;
constexpr size_t kPage = 4096, kAlignment = 256;
constexpr unsigned char kPoison = 0xff, kGuard = 0xa5;
constexpr unsigned kSharedWithoutAsking = 48 * 1024;

// Device memory: whole pages, the last of which ends with it, up to what alignment leaves; pages without access around.
struct Allocation {
  unsigned char *mapping = nullptr;
  size_t mapped = 0, bytes = 0;
  unsigned char *data = nullptr;

  unsigned char *first() const { return mapping + kPage; }
  unsigned char *last() const { return mapping + mapped - kPage; }
  bool whole() const {
    const auto is_guard = [](unsigned char byte) { return byte == kGuard; };
    return std::all_of(first(), data, is_guard) && std::all_of(data + bytes, last(), is_guard);
  }
};

struct State {
  std::mutex mutex;
  std::map<CUdeviceptr, Allocation> allocations;
  size_t used = 0;
  int contexts = 0;
  CUresult sticky = kSuccess;
  std::string fault;
};

// Never destroyed: programs let go of devices as late as in their own static destructors.
State &state() {
  static State &state = *new State;
  return state;
}

struct Function;
struct ModuleData {
  void *library = nullptr;
  int descriptor = -1;
  std::unique_ptr<Function> function;
};
struct Function {
  const MiliKernel *kernel = nullptr;
  unsigned max_dynamic_shared = kSharedWithoutAsking;
};
struct Stream {
  bool capturing = false;
  std::vector<Work> nodes;
};
struct Event {
  Clock::time_point time;
};
using Graph = std::vector<Work>;

template <class T, class H>
T &of(H handle) {
  return *reinterpret_cast<T *>(handle);
}
template <class H, class T>
H handle_of(T *object) {
  return reinterpret_cast<H>(object);
}

int compute_capability() {
  const char *text = std::getenv("MILI_EMULATED_ARCH");
  int major = 8, minor = 0;
  if (text)
    std::sscanf(text, "%d.%d", &major, &minor);
  return major * 10 + minor;
}
int max_shared() {
  const int capability = compute_capability();
  return (capability >= 90 ? 227 : capability == 80 || capability == 87 ? 163 : 99) * 1024;
}
bool reverse_order() {
  const char *text = std::getenv("MILI_EMULATED_ORDER");
  return text && std::strcmp(text, "reverse") == 0;
}

// Now, or as a node of the graph that the stream captures.
CUresult submit(CUstream stream, Work work) {
  if (stream && of<Stream>(stream).capturing) {
    of<Stream>(stream).nodes.push_back(std::move(work));
    return kSuccess;
  }
  std::lock_guard lock(state().mutex);
  return state().sticky != kSuccess ? state().sticky : work();
}

CUresult fail(std::string what) {
  std::fprintf(stderr, "emulator: %s\n", what.c_str());
  state().fault = std::move(what);
  return state().sticky = kLaunchFailed;
}

// [at, at + bytes) lies in one allocation.
bool is_device_memory(CUdeviceptr at, size_t bytes) {
  auto after = state().allocations.upper_bound(at);
  if (after == state().allocations.begin())
    return false;
  const auto &[begin, allocation] = *std::prev(after);
  return at + bytes <= begin + allocation.bytes;
}

CUresult launch(CUfunction handle, const emulator::LaunchShape &shape, CUstream stream, void **parameters) {
  Function &function = of<Function>(handle);
  const unsigned threads = shape.block.x * shape.block.y * shape.block.z;
  if (threads == 0 || threads > emulator::kMaxThreads || shape.grid.x == 0 || shape.grid.y != 1 || shape.grid.z != 1 ||
      shape.block.y != 1 || shape.block.z != 1 || shape.shared_bytes > function.max_dynamic_shared)
    return kInvalidValue;
  // A launch copies its parameters.
  const MiliKernel &kernel = *function.kernel;
  std::vector<std::vector<std::max_align_t>> values;
  for (unsigned i = 0; i < kernel.parameters; ++i) {
    values.emplace_back(kernel.parameter_bytes[i] / sizeof(std::max_align_t) + 1);
    std::memcpy(values.back().data(), parameters[i], kernel.parameter_bytes[i]);
  }
  return submit(stream, [&kernel, shape, values = std::move(values)]() mutable -> CUresult {
    std::vector<void *> pointers;
    for (auto &value : values)
      pointers.push_back(value.data());
    std::string fault = emulator::run_kernel(kernel, shape, pointers.data(), reverse_order());
    if (!fault.empty())
      return fail(std::move(fault));
    for (const auto &[address, allocation] : state().allocations)
      if (!allocation.whole())
        return fail("kernel " + std::string(kernel.name) + ": a write before or behind an allocation of " +
                    std::to_string(allocation.bytes) + " bytes");
    return kSuccess;
  });
}

}  // namespace

CUresult cuInit(unsigned) {
  return kSuccess;
}
CUresult cuDriverGetVersion(int *version) {
  *version = 12000;
  return kSuccess;
}
CUresult cuGetErrorName(CUresult error, const char **name) {
  switch (error) {
  case kSuccess: *name = "CUDA_SUCCESS"; break;
  case kInvalidValue: *name = "CUDA_ERROR_INVALID_VALUE"; break;
  case kOutOfMemory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
  case kInvalidDevice: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
  case kInvalidImage: *name = "CUDA_ERROR_INVALID_IMAGE"; break;
  case kInvalidHandle: *name = "CUDA_ERROR_INVALID_HANDLE"; break;
  case kNotFound: *name = "CUDA_ERROR_NOT_FOUND"; break;
  case kLaunchFailed: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
  case kNotSupported: *name = "CUDA_ERROR_NOT_SUPPORTED"; break;
  default: *name = nullptr; return kInvalidValue;
  }
  return kSuccess;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
  if (error == kLaunchFailed && !state().fault.empty()) {
    *text = state().fault.c_str();
    return kSuccess;
  }
  *text = error == kOutOfMemory ? "out of memory" : "refused by the emulator";
  return kSuccess;
}

CUresult cuDeviceGetCount(int *count) {
  *count = 1;
  return kSuccess;
}
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  *device = 0;
  return ordinal == 0 ? kSuccess : kInvalidDevice;
}
CUresult cuDeviceGetName(char *name, int size, CUdevice) {
  std::snprintf(name, static_cast<size_t>(size), "MILI emulator");
  return kSuccess;
}
CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice) {
  switch (attribute) {
  case kAttributeMultiprocessors: *value = kMultiprocessors; return kSuccess;
  case kAttributeMajor: *value = compute_capability() / 10; return kSuccess;
  case kAttributeMinor: *value = compute_capability() % 10; return kSuccess;
  case kAttributeSharedPerBlock: *value = max_shared(); return kSuccess;
  default: return kInvalidValue;
  }
}
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice) {
  *bytes = kTotalMemory;
  return kSuccess;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
  std::lock_guard lock(state().mutex);
  ++state().contexts;
  *context = handle_of<CUcontext>(&state());
  return kSuccess;
}
// The fault ends with the context.
CUresult cuDevicePrimaryCtxRelease(CUdevice) {
  std::lock_guard lock(state().mutex);
  if (--state().contexts == 0) {
    state().sticky = kSuccess;
    state().fault.clear();
  }
  return kSuccess;
}
CUresult cuCtxSetCurrent(CUcontext) {
  return kSuccess;
}

CUresult cuMemGetInfo(size_t *free, size_t *total) {
  std::lock_guard lock(state().mutex);
  *free = kTotalMemory - std::min(kTotalMemory, state().used);
  *total = kTotalMemory;
  return kSuccess;
}
CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
  std::lock_guard lock(state().mutex);
  if (bytes == 0)
    return kInvalidValue;
  if (bytes > kTotalMemory - std::min(kTotalMemory, state().used))
    return kOutOfMemory;
  Allocation allocation;
  const size_t aligned = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  allocation.bytes = bytes;
  allocation.mapped = (aligned + kPage - 1) / kPage * kPage + 2 * kPage;
  void *mapping = mmap(nullptr, allocation.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    return kOutOfMemory;
  allocation.mapping = static_cast<unsigned char *>(mapping);
  mprotect(allocation.first(), allocation.mapped - 2 * kPage, PROT_READ | PROT_WRITE);
  allocation.data = allocation.last() - aligned;
  std::memset(allocation.first(), kGuard, allocation.mapped - 2 * kPage);
  std::memset(allocation.data, kPoison, bytes);
  *address = reinterpret_cast<CUdeviceptr>(allocation.data);
  state().allocations[*address] = allocation;
  state().used += bytes;
  return kSuccess;
}
CUresult cuMemFree(CUdeviceptr address) {
  std::lock_guard lock(state().mutex);
  auto found = state().allocations.find(address);
  if (found == state().allocations.end())
    return kInvalidValue;
  state().used -= found->second.bytes;
  munmap(found->second.mapping, found->second.mapped);
  state().allocations.erase(found);
  return kSuccess;
}
CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned) {
  *address = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
  return *address ? kSuccess : kOutOfMemory;
}
CUresult cuMemFreeHost(void *address) {
  std::free(address);
  return kSuccess;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  return submit(stream, [=] {
    if (!is_device_memory(to, bytes))
      return kInvalidValue;
    std::memcpy(reinterpret_cast<void *>(to), from, bytes);
    return kSuccess;
  });
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return submit(stream, [=] {
    if (!is_device_memory(from, bytes))
      return kInvalidValue;
    std::memcpy(to, reinterpret_cast<const void *>(from), bytes);
    return kSuccess;
  });
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return submit(stream, [=] {
    if (!is_device_memory(to, bytes) || !is_device_memory(from, bytes))
      return kInvalidValue;
    std::memmove(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
    return kSuccess;
  });
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  return submit(stream, [=] {
    if (!is_device_memory(to, bytes))
      return kInvalidValue;
    std::memset(reinterpret_cast<void *>(to), value, bytes);
    return kSuccess;
  });
}
CUresult cuMemsetD2D8Async(CUdeviceptr to, size_t pitch, unsigned char value, size_t bytes, size_t rows,
                           CUstream stream) {
  return submit(stream, [=] {
    if (bytes > pitch || (rows > 0 && !is_device_memory(to, (rows - 1) * pitch + bytes)))
      return kInvalidValue;
    for (size_t row = 0; row < rows; ++row)
      std::memset(reinterpret_cast<void *>(to + row * pitch), value, bytes);
    return kSuccess;
  });
}

CUresult cuStreamCreate(CUstream *stream, unsigned) {
  *stream = handle_of<CUstream>(new Stream);
  return kSuccess;
}
CUresult cuStreamDestroy(CUstream stream) {
  delete &of<Stream>(stream);
  return kSuccess;
}
CUresult cuStreamSynchronize(CUstream) {
  std::lock_guard lock(state().mutex);
  return state().sticky;
}
CUresult cuStreamBeginCapture(CUstream stream, int) {
  if (of<Stream>(stream).capturing)
    return kInvalidValue;
  of<Stream>(stream).capturing = true;
  return kSuccess;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  Stream &own = of<Stream>(stream);
  if (!own.capturing)
    return kInvalidValue;
  own.capturing = false;
  *graph = handle_of<CUgraph>(new Graph(std::move(own.nodes)));
  own.nodes.clear();
  return kSuccess;
}
CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, unsigned long long) {
  *exec = handle_of<CUgraphExec>(new Graph(of<Graph>(graph)));
  return kSuccess;
}
CUresult cuGraphUpload(CUgraphExec, CUstream) {
  return kSuccess;
}
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  return submit(stream, [&graph = of<Graph>(exec)] {
    for (Work &node : graph)
      if (CUresult error = node(); error != kSuccess)
        return error;
    return kSuccess;
  });
}
CUresult cuGraphDestroy(CUgraph graph) {
  delete &of<Graph>(graph);
  return kSuccess;
}
CUresult cuGraphExecDestroy(CUgraphExec exec) {
  delete &of<Graph>(exec);
  return kSuccess;
}

CUresult cuEventCreate(CUevent *event, unsigned) {
  *event = handle_of<CUevent>(new Event{Clock::now()});
  return kSuccess;
}
CUresult cuEventDestroy(CUevent event) {
  delete &of<Event>(event);
  return kSuccess;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
  return submit(stream, [event] {
    of<Event>(event).time = Clock::now();
    return kSuccess;
  });
}
CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned) {
  return cuEventRecord(event, stream);
}
CUresult cuEventSynchronize(CUevent) {
  std::lock_guard lock(state().mutex);
  return state().sticky;
}
CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
  *milliseconds = std::chrono::duration<float, std::milli>(of<Event>(to).time - of<Event>(from).time).count();
  return kSuccess;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  emulator::ImageHeader header;
  std::memcpy(header.magic, image, sizeof(header.magic));
  if (std::memcmp(header.magic, emulator::kImageMagic, sizeof(header.magic)) != 0)
    return kInvalidImage;
  std::memcpy(&header, image, sizeof(header));
  auto data = std::make_unique<ModuleData>();
  // Open as long as it is loaded: the loader knows libraries by file, and a descriptor that is used again has the same
  // name.
  data->descriptor = memfd_create("mili-emulated-kernel", MFD_CLOEXEC);
  const char *bytes = static_cast<const char *>(image) + sizeof(header);
  for (size_t done = 0; done < header.bytes;) {
    const ssize_t written = write(data->descriptor, bytes + done, header.bytes - done);
    if (written <= 0)
      return kOutOfMemory;
    done += static_cast<size_t>(written);
  }
  data->library = dlopen(("/proc/self/fd/" + std::to_string(data->descriptor)).c_str(), RTLD_NOW | RTLD_LOCAL);
  auto *kernel =
      data->library ? static_cast<const MiliKernel *>(dlsym(data->library, "mili_emulated_kernel")) : nullptr;
  if (!kernel) {
    std::fprintf(stderr, "emulator: an image cannot be loaded: %s\n", dlerror());
    close(data->descriptor);
    return kInvalidImage;
  }
  data->function = std::make_unique<Function>();
  data->function->kernel = kernel;
  *module = handle_of<CUmodule>(data.release());
  return kSuccess;
}
CUresult cuModuleUnload(CUmodule module) {
  std::unique_ptr<ModuleData> data(&of<ModuleData>(module));
  dlclose(data->library);
  close(data->descriptor);
  return kSuccess;
}
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  ModuleData &data = of<ModuleData>(module);
  if (std::strcmp(name, data.function->kernel->name) != 0)
    return kNotFound;
  *function = handle_of<CUfunction>(data.function.get());
  return kSuccess;
}
CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  if (attribute != kFunctionMaxDynamicShared || value < 0 || value > max_shared())
    return kInvalidValue;
  of<Function>(function).max_dynamic_shared = static_cast<unsigned>(value);
  return kSuccess;
}
CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function) {
  const MiliKernel &kernel = *of<Function>(function).kernel;
  *value =
      attribute == kFunctionSharedStatic ? static_cast<int>(kernel.static_shared_end - kernel.static_shared_begin) : 0;
  return kSuccess;
}
CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **parameters,
                        void **) {
  return launch(function, {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes}, stream, parameters);
}
CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **) {
  return launch(function,
                {{config->grid_x, config->grid_y, config->grid_z},
                 {config->block_x, config->block_y, config->block_z},
                 config->shared_bytes},
                config->stream, parameters);
}
CUresult cuTensorMapEncodeTiled(CUtensorMap *map, int data_type, unsigned rank, void *address, const uint64_t *dims,
                                const uint64_t *strides, const uint32_t *box, const uint32_t *element_strides,
                                int interleave, int swizzle, int, int) {
  if (data_type != kTensorBf16 || rank != 2 || element_strides[0] != 1 || element_strides[1] != 1 ||
      interleave != kTensorInterleaveNone || swizzle != kTensorSwizzle128 ||
      reinterpret_cast<uintptr_t>(address) % 16 != 0 || strides[0] % 16 != 0 || box[0] * 2 > 128 || box[1] > 256)
    return kInvalidValue;
  const MiliTensorMap values{address, dims[0], dims[1], strides[0], box[0], box[1]};
  static_assert(sizeof(values) <= sizeof(*map));
  std::memcpy(map, &values, sizeof(values));
  return kSuccess;
}

}  // namespace mili::cuda
