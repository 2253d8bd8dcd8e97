// NVIDIA GPUs as a device: kernels of the plan by the driver API, one stream, a captured graph for each bucket.
#include "mili/runtime/device.h"
#include "mili/runtime/memory.h"
#include "mili/runtime/plan.h"
#include "mili/schema/plan_generated.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "cuda_api.h"
#include "kernel_loader.h"
#include "matrix_product.h"

namespace mili {
namespace {

using namespace cuda;

// Steps of at most this many tokens use dependent launches.
constexpr int64_t kDependentTokens = 256;
constexpr uint64_t kStagingBytes = uint64_t{32} << 20;
// Dynamic shared memory that a block gets without asking.
constexpr uint32_t kSharedByDefault = 48 * 1024;

CUdeviceptr to_device(const void *address) {
  return reinterpret_cast<CUdeviceptr>(address);
}

// What a kernel needs to be launched on this GPU.
struct KernelEntry {
  CUfunction function = nullptr;
  plan::CudaLaunch launch;
  std::string symbol;
};

class CudaModule : public Module {
public:
  explicit CudaModule(const Driver &driver) : driver_(driver) {}
  ~CudaModule() override {
    for (auto &[name, module] : modules)
      driver_.cuModuleUnload(module);
  }
  uint32_t kernel_count() const override { return static_cast<uint32_t>(kernels.size()); }
  std::string_view variant() const override { return arch; }
  ModuleLoadReport load_report() const override { return report; }

  std::string arch;
  std::vector<KernelEntry> kernels;
  std::map<std::string, CUmodule> modules;
  ModuleLoadReport report;

private:
  const Driver &driver_;
};

// One launch, ready: parameters point into `values` and `maps`.
struct ReadyLaunch {
  const KernelEntry *kernel = nullptr;
  unsigned grid = 1;
  std::vector<void *> values;
  std::vector<CUtensorMap> maps;
  std::vector<void *> parameters;
};

class CudaLaunchList : public LaunchList {
public:
  explicit CudaLaunchList(const Driver &driver) : driver_(driver) {}
  ~CudaLaunchList() override {
    if (graph)
      driver_.cuGraphExecDestroy(graph);
    if (profile_graph)
      driver_.cuGraphExecDestroy(profile_graph);
    for (CUevent event : events)
      driver_.cuEventDestroy(event);
  }
  uint32_t launch_count() const override { return static_cast<uint32_t>(launches.size()); }

  std::vector<ReadyLaunch> launches;
  bool dependent = false;  // launches may begin while the one before ends
  CUgraphExec graph = nullptr;
  // With profiling: the launches with an event before each and after the last.
  CUgraphExec profile_graph = nullptr;
  std::vector<CUevent> events;

private:
  const Driver &driver_;
};

class CudaHostBuffer : public HostBuffer {
public:
  CudaHostBuffer(const Driver &driver, void *address, uint64_t bytes) : driver_(driver) {
    data_ = static_cast<std::byte *>(address);
    size_ = bytes;
  }
  ~CudaHostBuffer() override { driver_.cuMemFreeHost(data_); }

private:
  const Driver &driver_;
};

class CudaEvent : public Event {
public:
  CudaEvent(const Driver &driver, CUevent handle) : event(handle), driver_(driver) {}
  ~CudaEvent() override { driver_.cuEventDestroy(event); }
  CUevent event;
  bool recorded = false;

private:
  const Driver &driver_;
};

class CudaDevice : public Device {
public:
  CudaDevice(const Driver &driver, const CudaOptions &options) : driver_(driver), options_(options) {}
  ~CudaDevice() override {
    if (!context_)
      return;
    driver_.cuCtxSetCurrent(context_);
    if (stream_) {
      driver_.cuStreamSynchronize(stream_);
      if (weights_)
        driver_.cuMemFree(to_device(weights_));
      driver_.cuStreamDestroy(stream_);
    }
    driver_.cuDevicePrimaryCtxRelease(device_);
  }

  Status open();

  std::string_view name() const override { return "cuda"; }
  std::string description() const override {
    return "cuda:" + std::to_string(options_.device) + ", " + gpu_name_ + ", " + std::to_string(major_) + "." +
           std::to_string(minor_) + ", " + std::to_string(multiprocessors_) + " multiprocessors, " +
           format_bytes(total_memory_);
  }
  uint32_t workers() const override { return 0; }
  bool host_visible() const override { return false; }

  StatusOr<DeviceBuffer> allocate(uint64_t bytes, std::string_view what) override {
    if (bytes == 0)
      return DeviceBuffer();
    MILI_ASSIGN_OR_RETURN(DeviceAddress address, allocate_raw(bytes, what));
    DeviceBuffer buffer(this, address, bytes);
    MILI_RETURN_IF_ERROR(clear(address, bytes));
    return buffer;
  }
  StatusOr<std::unique_ptr<HostBuffer>> allocate_host(uint64_t bytes) override {
    enter();
    void *address = nullptr;
    if (CUresult error = driver_.cuMemHostAlloc(&address, std::max<uint64_t>(bytes, 1), 0); error != kSuccess)
      return resource_exhausted("no pinned memory for " + format_bytes(bytes) + ": " + driver_.describe(error));
    return std::unique_ptr<HostBuffer>(std::make_unique<CudaHostBuffer>(driver_, address, bytes));
  }
  StatusOr<DeviceAddress> load_weights(const Plan &plan, const Progress &progress) override;
  uint64_t allocation_count() const override { return allocations_; }
  uint64_t allocated_bytes() const override { return allocated_; }

  Status copy_to_device(DeviceAddress to, const void *from, uint64_t bytes) override {
    enter();
    return driver_.check(driver_.cuMemcpyHtoDAsync(to_device(to), from, bytes, stream_), "copying to the GPU");
  }
  Status copy_to_host(void *to, DeviceAddress from, uint64_t bytes) override {
    MILI_RETURN_IF_ERROR(copy_to_host_async(to, from, bytes));
    return synchronize();
  }
  Status copy_to_host_async(void *to, DeviceAddress from, uint64_t bytes) override {
    enter();
    return driver_.check(driver_.cuMemcpyDtoHAsync(to, to_device(from), bytes, stream_), "copying from the GPU");
  }
  Status copy(DeviceAddress to, DeviceAddress from, uint64_t bytes) override {
    enter();
    return driver_.check(driver_.cuMemcpyDtoDAsync(to_device(to), to_device(from), bytes, stream_),
                         "copying on the GPU");
  }
  Status clear(DeviceAddress to, uint64_t bytes) override {
    enter();
    return driver_.check(driver_.cuMemsetD8Async(to_device(to), 0, bytes, stream_), "clearing memory of the GPU");
  }

  Status clear_rows(DeviceAddress to, uint64_t pitch, uint64_t bytes, uint64_t rows) override {
    enter();
    return driver_.check(driver_.cuMemsetD2D8Async(to_device(to), pitch, 0, bytes, rows, stream_),
                         "clearing memory of the GPU");
  }

  StatusOr<std::unique_ptr<Module>> load_module(const Plan &plan) override;
  StatusOr<std::unique_ptr<LaunchList>> prepare(const Module &module, std::span<const Launch> launches,
                                                const LaunchBounds &bounds) override;
  Status execute(LaunchList &list, const Batch &batch, std::span<double> seconds) override;

  StatusOr<std::unique_ptr<Event>> create_event() override {
    enter();
    CUevent event = nullptr;
    MILI_RETURN_IF_ERROR(driver_.check(driver_.cuEventCreate(&event, kEventDefault), "creating an event"));
    return std::unique_ptr<Event>(std::make_unique<CudaEvent>(driver_, event));
  }
  Status record(Event &event) override {
    enter();
    auto &own = static_cast<CudaEvent &>(event);
    own.recorded = true;
    return driver_.check(driver_.cuEventRecord(own.event, stream_), "recording an event");
  }
  Status wait(Event &event) override {
    auto &own = static_cast<CudaEvent &>(event);
    if (!own.recorded)
      return failed_precondition("an event that was never recorded");
    enter();
    return driver_.check(driver_.cuEventSynchronize(own.event), "waiting for the GPU");
  }
  StatusOr<double> elapsed(Event &from, Event &to) override {
    MILI_RETURN_IF_ERROR(wait(from));
    MILI_RETURN_IF_ERROR(wait(to));
    float milliseconds = 0;
    MILI_RETURN_IF_ERROR(driver_.check(driver_.cuEventElapsedTime(&milliseconds, static_cast<CudaEvent &>(from).event,
                                                                  static_cast<CudaEvent &>(to).event),
                                       "reading an event's time"));
    return 1e-3 * static_cast<double>(milliseconds);
  }
  Status synchronize() override {
    enter();
    return driver_.check(driver_.cuStreamSynchronize(stream_), "waiting for the GPU");
  }

  StatusOr<DeviceCeilings> measure_ceilings() override;
  uint64_t total_memory() override { return total_memory_; }
  uint64_t free_memory() override {
    enter();
    size_t free = 0, total = 0;
    driver_.cuMemGetInfo(&free, &total);
    return free;
  }

protected:
  void release(DeviceAddress address, uint64_t bytes) override {
    enter();
    allocated_ -= bytes;
    driver_.cuStreamSynchronize(stream_);
    driver_.cuMemFree(to_device(address));
  }

private:
  // The device may be used from another thread than before.
  void enter() const { driver_.cuCtxSetCurrent(context_); }
  StatusOr<DeviceAddress> allocate_raw(uint64_t bytes, std::string_view what);
  Status fill_synthetic(const Plan &plan);
  // `dependent`: may begin while the launch before it ends.
  Status launch(const ReadyLaunch &ready, bool dependent);
  Status launch_all(const CudaLaunchList &list);
  // What `record` puts on the stream, as a graph.
  template <typename Record>
  StatusOr<CUgraphExec> capture(Record &&record);
  Status prepare_profile(CudaLaunchList &list);

  const Driver &driver_;
  CudaOptions options_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
  std::string gpu_name_;
  int major_ = 0, minor_ = 0, multiprocessors_ = 0, max_shared_ = 0;
  uint64_t total_memory_ = 0;
  uint64_t allocations_ = 0, allocated_ = 0;
  DeviceAddress weights_ = nullptr;
  double event_seconds_ = -1;  // what an event between two launches of a graph costs; negative: not measured
  // Units that no kernel of the plan names: "mili_fill_normal_bf16".
  std::map<std::string, CUfunction> helpers_;
};

Status CudaDevice::open() {
  int count = 0;
  MILI_RETURN_IF_ERROR(driver_.check(driver_.cuDeviceGetCount(&count), "counting GPUs"));
  if (count == 0 || options_.device >= static_cast<uint32_t>(count))
    return unavailable("--device " + std::to_string(options_.device) + ": the driver shows " + std::to_string(count) +
                       (count == 1 ? " GPU" : " GPUs") + ", numbered from 0 (CUDA_VISIBLE_DEVICES hides others)");
  MILI_RETURN_IF_ERROR(driver_.check(driver_.cuDeviceGet(&device_, static_cast<int>(options_.device)), "cuDeviceGet"));
  char text[256] = {};
  driver_.cuDeviceGetName(text, sizeof(text) - 1, device_);
  gpu_name_ = text;
  driver_.cuDeviceGetAttribute(&major_, kAttributeMajor, device_);
  driver_.cuDeviceGetAttribute(&minor_, kAttributeMinor, device_);
  driver_.cuDeviceGetAttribute(&multiprocessors_, kAttributeMultiprocessors, device_);
  driver_.cuDeviceGetAttribute(&max_shared_, kAttributeSharedPerBlock, device_);
  size_t total = 0;
  driver_.cuDeviceTotalMem(&total, device_);
  total_memory_ = total;
  if (major_ < 8)
    return unavailable(
        "GPU " + std::to_string(options_.device) + " (" + gpu_name_ + ") has compute capability " +
        std::to_string(major_) + "." + std::to_string(minor_) +
        ", MILI's kernels need 8.0 or later; choose another with --device, or compile with --target cpu");
  MILI_RETURN_IF_ERROR(driver_.check(driver_.cuDevicePrimaryCtxRetain(&context_, device_), "creating a context"));
  enter();
  return driver_.check(driver_.cuStreamCreate(&stream_, kStreamNonBlocking), "creating a stream");
}

StatusOr<DeviceAddress> CudaDevice::allocate_raw(uint64_t bytes, std::string_view what) {
  enter();
  CUdeviceptr address = 0;
  if (CUresult error = driver_.cuMemAlloc(&address, bytes); error != kSuccess) {
    size_t free = 0, total = 0;
    driver_.cuMemGetInfo(&free, &total);
    return resource_exhausted(std::string(what) + " needs " + format_bytes(bytes) + ", GPU " +
                              std::to_string(options_.device) + " (" + gpu_name_ + ") has " + format_bytes(free) +
                              " free of " + format_bytes(total) + " (" + driver_.describe(error) +
                              "); compile the plan with fewer --requests or a shorter --context, or choose another GPU "
                              "with --device");
  }
  ++allocations_;
  allocated_ += bytes;
  return reinterpret_cast<DeviceAddress>(address);
}

StatusOr<DeviceAddress> CudaDevice::load_weights(const Plan &plan, const Progress &progress) {
  const uint64_t bytes = plan.memory().weights;
  if (weights_)
    return failed_precondition("the device holds the weights of a plan already");
  if (bytes == 0)
    return DeviceAddress(nullptr);
  MILI_ASSIGN_OR_RETURN(weights_, allocate_raw(bytes, "the weights"));
  if (plan.meta().synthetic()) {
    MILI_RETURN_IF_ERROR(fill_synthetic(plan));
    return weights_;
  }
  // While one buffer is on its way, the other is filled from the map.
  std::unique_ptr<HostBuffer> staging[2];
  std::unique_ptr<Event> sent[2];
  for (int i = 0; i < 2; ++i) {
    MILI_ASSIGN_OR_RETURN(staging[i], allocate_host(std::min(bytes, kStagingBytes)));
    MILI_ASSIGN_OR_RETURN(sent[i], create_event());
  }
  const std::span<const std::byte> source = plan.weights();
  for (uint64_t at = 0, turn = 0; at < bytes; ++turn) {
    const uint64_t size = std::min(kStagingBytes, bytes - at);
    const size_t i = turn % 2;
    if (turn >= 2)
      MILI_RETURN_IF_ERROR(wait(*sent[i]));
    std::memcpy(staging[i]->data(), source.data() + at, size);
    MILI_RETURN_IF_ERROR(copy_to_device(weights_ + at, staging[i]->data(), size));
    MILI_RETURN_IF_ERROR(record(*sent[i]));
    at += size;
    if (progress && !progress(static_cast<double>(at) / static_cast<double>(bytes), "copying the weights")) {
      MILI_RETURN_IF_ERROR(synchronize());
      return cancelled(plan.path() + ": loading was cancelled");
    }
  }
  MILI_RETURN_IF_ERROR(synchronize());
  return weights_;
}

Status CudaDevice::fill_synthetic(const Plan &plan) {
  uint32_t stream = 0;
  for (const plan::Weight *weight : *plan.meta().weights()) {
    const bool wide = weight->format()->string_view() == "f32";
    auto helper = helpers_.find(wide ? "mili_fill_normal_f32" : "mili_fill_normal_bf16");
    if (helper == helpers_.end())
      return data_loss(plan.path() + ": the plan has no kernel that generates weights");
    void *data = weights_ + weight->offset();
    uint64_t count = weight->size() / (wide ? 4 : 2), seed = plan.meta().synthetic()->seed();
    float mean = weight->shape()->size() == 1 && weight->name()->string_view().find("norm") != std::string_view::npos
                     ? 1.0f
                     : 0.0f;
    float std = plan.meta().synthetic()->std();
    void *parameters[] = {&data, &count, &mean, &std, &seed, &stream};
    MILI_RETURN_IF_ERROR(
        driver_.check(driver_.cuLaunchKernel(helper->second, 1056, 1, 1, 256, 1, 1, 0, stream_, parameters, nullptr),
                      "generating weights"));
    ++stream;
  }
  return synchronize();
}

StatusOr<std::unique_ptr<Module>> CudaDevice::load_module(const Plan &plan) {
  if (plan.meta().target()->name()->string_view() != "cuda")
    return unavailable(plan.path() + ": the plan is for target \"" + plan.meta().target()->name()->str() +
                       "\", this device is a GPU; compile with --target cuda");
  enter();
  auto module = std::make_unique<CudaModule>(driver_);
  module->arch = architecture_for(major_, minor_);
  MILI_ASSIGN_OR_RETURN(auto images, load_images(plan, major_, minor_, options_, module->report));
  std::map<std::string, CUfunction> functions;
  for (const auto &[unit, image] : images) {
    CUmodule handle = nullptr;
    MILI_RETURN_IF_ERROR(driver_.check(driver_.cuModuleLoadData(&handle, image.data()), ("kernel " + unit).c_str()));
    module->modules[unit] = handle;
    MILI_RETURN_IF_ERROR(
        driver_.check(driver_.cuModuleGetFunction(&functions[unit], handle, unit.c_str()), ("kernel " + unit).c_str()));
  }
  std::map<CUfunction, uint32_t> shared;
  for (const plan::Kernel *kernel : *plan.meta().kernels()) {
    auto function = functions.find(kernel->symbol()->str());
    if (function == functions.end())
      return data_loss(plan.path() + ": the plan has no source of kernel \"" + kernel->symbol()->str() + "\"");
    KernelEntry entry{function->second, plan::CudaLaunch(), kernel->symbol()->str()};
    bool found = false;
    for (const plan::CudaLaunch *launch : *kernel->cuda())
      if (static_cast<int>(launch->arch()) <= major_ * 10 + minor_) {
        entry.launch = *launch;
        found = true;
      }
    if (!found || static_cast<int>(entry.launch.shared()) > max_shared_)
      return unavailable(plan.path() + ": kernel \"" + entry.symbol + "\" needs " +
                         std::to_string(entry.launch.shared()) + " bytes of shared memory, " + gpu_name_ + " has " +
                         std::to_string(max_shared_) + " for a block");
    // Kernels that differ in nothing but their launches share a function, which allows what the largest of them needs.
    uint32_t &allowed = shared[entry.function];
    if (entry.launch.shared() > std::max(allowed, kSharedByDefault)) {
      allowed = entry.launch.shared();
      MILI_RETURN_IF_ERROR(driver_.check(
          driver_.cuFuncSetAttribute(entry.function, kFunctionMaxDynamicShared, static_cast<int>(allowed)),
          ("shared memory of kernel " + entry.symbol).c_str()));
    }
    module->kernels.push_back(std::move(entry));
  }
  helpers_ = std::move(functions);
  return std::unique_ptr<Module>(std::move(module));
}

Status CudaDevice::launch(const ReadyLaunch &ready, bool dependent) {
  const plan::CudaLaunch &shape = ready.kernel->launch;
  CUlaunchAttribute attribute{kLaunchAttributeProgrammaticStreamSerialization, {}, 1, {}};
  const CUlaunchConfig config{ready.grid,     1,       1,          shape.threads(),    1, 1,
                              shape.shared(), stream_, &attribute, dependent ? 1u : 0u};
  const CUresult error =
      driver_.cuLaunchKernelEx(&config, ready.kernel->function, const_cast<void **>(ready.parameters.data()), nullptr);
  return error == kSuccess
             ? ok_status()
             : internal_error("launching kernel " + ready.kernel->symbol + " (" + std::to_string(ready.grid) +
                              " blocks of " + std::to_string(shape.threads()) + " threads, " +
                              std::to_string(shape.shared()) + " bytes of shared memory): " + driver_.describe(error));
}

Status CudaDevice::launch_all(const CudaLaunchList &list) {
  // The first one waits for the batch's tables to be there.
  for (size_t i = 0; i < list.launches.size(); ++i)
    MILI_RETURN_IF_ERROR(launch(list.launches[i], list.dependent && i > 0));
  return ok_status();
}

template <typename Record>
StatusOr<CUgraphExec> CudaDevice::capture(Record &&record) {
  MILI_RETURN_IF_ERROR(driver_.check(driver_.cuStreamBeginCapture(stream_, kCaptureThreadLocal), "capturing a graph"));
  const Status status = record();
  CUgraph graph = nullptr;
  const CUresult ended = driver_.cuStreamEndCapture(stream_, &graph);
  MILI_RETURN_IF_ERROR(status);
  MILI_RETURN_IF_ERROR(driver_.check(ended, "capturing a graph"));
  CUgraphExec exec = nullptr;
  const CUresult made = driver_.cuGraphInstantiate(&exec, graph, 0);
  driver_.cuGraphDestroy(graph);
  MILI_RETURN_IF_ERROR(driver_.check(made, "instantiating a graph"));
  MILI_RETURN_IF_ERROR(driver_.check(driver_.cuGraphUpload(exec, stream_), "uploading a graph"));
  return exec;
}

StatusOr<std::unique_ptr<LaunchList>> CudaDevice::prepare(const Module &module, std::span<const Launch> launches,
                                                          const LaunchBounds &bounds) {
  enter();
  const auto &kernels = static_cast<const CudaModule &>(module);
  auto list = std::make_unique<CudaLaunchList>(driver_);
  list->launches.resize(launches.size());
  // Long steps are bound by the matrix units and gain nothing: 2048 tokens of an 8B took 1% longer on an H200.
  list->dependent = options_.dependent_launch && major_ >= 9 && bounds.tokens <= kDependentTokens;
  Batch bound;
  bound.tokens = bounds.tokens;
  bound.sequences = bounds.sequences;
  bound.logit_rows = bounds.logit_rows;
  for (size_t i = 0; i < launches.size(); ++i) {
    const Launch &from = launches[i];
    ReadyLaunch &ready = list->launches[i];
    if (from.kernel >= kernels.kernel_count())
      return internal_error("a launch of kernel " + std::to_string(from.kernel) + " of " +
                            std::to_string(kernels.kernel_count()));
    ready.kernel = &kernels.kernels[from.kernel];
    uint64_t blocks = launch_tiles(from, bound);
    if (const uint32_t residents = ready.kernel->launch.blocks_per_sm())
      blocks = std::min<uint64_t>(blocks, uint64_t{residents} * static_cast<uint64_t>(multiprocessors_));
    ready.grid = static_cast<unsigned>(std::clamp<uint64_t>(blocks, 1, 0x7fffffff));
    ready.values.push_back(bounds.batch_address);
    ready.values.insert(ready.values.end(), from.args.begin(), from.args.end());
    ready.maps.resize(from.tensor_maps.size());
    for (size_t m = 0; m < from.tensor_maps.size(); ++m) {
      if (major_ < 9)
        continue;
      const TensorMap &map = from.tensor_maps[m];
      const uint64_t dims[] = {map.columns, map.rows}, strides[] = {map.columns * 2};
      const uint32_t box[] = {map.box_columns, map.box_rows}, steps[] = {1, 1};
      if (CUresult error = driver_.cuTensorMapEncodeTiled(&ready.maps[m], kTensorBf16, 2, from.args[map.arg], dims,
                                                          strides, box, steps, kTensorInterleaveNone, kTensorSwizzle128,
                                                          kTensorPromotion256, kTensorFillZero);
          error != kSuccess)
        return internal_error("the tensor map of kernel " + ready.kernel->symbol + ", " + std::to_string(map.rows) +
                              " x " + std::to_string(map.columns) + ": " + driver_.describe(error));
    }
    for (void *&value : ready.values)
      ready.parameters.push_back(&value);
    for (CUtensorMap &map : ready.maps)
      ready.parameters.push_back(&map);
  }
  if (!options_.graphs)
    return std::unique_ptr<LaunchList>(std::move(list));
  MILI_ASSIGN_OR_RETURN(list->graph, capture([&] { return launch_all(*list); }));
  return std::unique_ptr<LaunchList>(std::move(list));
}

Status CudaDevice::prepare_profile(CudaLaunchList &list) {
  const size_t count = list.launches.size();
  while (list.events.size() <= count) {
    CUevent event = nullptr;
    MILI_RETURN_IF_ERROR(driver_.check(driver_.cuEventCreate(&event, kEventDefault), "creating an event"));
    list.events.push_back(event);
  }
  // Launches alone, one after the other: an event lets nothing overlap anyway.
  MILI_ASSIGN_OR_RETURN(list.profile_graph, capture([&]() -> Status {
                          for (size_t i = 0; i <= count; ++i) {
                            MILI_RETURN_IF_ERROR(driver_.check(
                                driver_.cuEventRecordWithFlags(list.events[i], stream_, kEventExternal), "an event"));
                            if (i < count)
                              MILI_RETURN_IF_ERROR(launch(list.launches[i], false));
                          }
                          return ok_status();
                        }));
  auto fill = helpers_.find("mili_fill_normal_bf16");
  if (event_seconds_ >= 0 || fill == helpers_.end())
    return ok_status();
  // The cost of an event: a chain of empty kernels with and without one before each.
  constexpr int kLinks = 200;
  CUdeviceptr nothing = 0;
  uint64_t elements = 0, seed = 0;
  float mean = 0, deviation = 0;
  uint32_t stream = 0;
  void *parameters[] = {&nothing, &elements, &mean, &deviation, &seed, &stream};
  CUevent ends[2] = {}, between = nullptr;
  for (CUevent *event : {&ends[0], &ends[1], &between})
    MILI_RETURN_IF_ERROR(driver_.check(driver_.cuEventCreate(event, kEventDefault), "creating an event"));
  float milliseconds[2] = {1e9f, 1e9f};
  for (int with : {0, 1}) {
    MILI_ASSIGN_OR_RETURN(
        CUgraphExec chain, capture([&]() -> Status {
          for (int i = 0; i < kLinks; ++i) {
            if (with)
              driver_.cuEventRecordWithFlags(between, stream_, kEventExternal);
            MILI_RETURN_IF_ERROR(
                driver_.check(driver_.cuLaunchKernel(fill->second, 1, 1, 1, 32, 1, 1, 0, stream_, parameters, nullptr),
                              "an empty kernel"));
          }
          return ok_status();
        }));
    for (int repeat = 0; repeat < 5; ++repeat) {
      driver_.cuEventRecord(ends[0], stream_);
      driver_.cuGraphLaunch(chain, stream_);
      driver_.cuEventRecord(ends[1], stream_);
      driver_.cuEventSynchronize(ends[1]);
      float time = 0;
      driver_.cuEventElapsedTime(&time, ends[0], ends[1]);
      milliseconds[with] = std::min(milliseconds[with], time);
    }
    driver_.cuGraphExecDestroy(chain);
  }
  for (CUevent event : {ends[0], ends[1], between})
    driver_.cuEventDestroy(event);
  event_seconds_ = std::max(0.0, 1e-3 * static_cast<double>(milliseconds[1] - milliseconds[0]) / kLinks);
  return ok_status();
}

Status CudaDevice::execute(LaunchList &base, const Batch &, std::span<double> seconds) {
  enter();
  auto &list = static_cast<CudaLaunchList &>(base);
  if (!seconds.empty() && seconds.size() != list.launches.size())
    return invalid_argument(std::to_string(seconds.size()) + " times for " + std::to_string(list.launches.size()) +
                            " launches");
  if (seconds.empty() && list.graph)
    return driver_.check(driver_.cuGraphLaunch(list.graph, stream_), "launching a step");
  if (seconds.empty())
    return launch_all(list);
  if (!list.profile_graph)
    MILI_RETURN_IF_ERROR(prepare_profile(list));
  MILI_RETURN_IF_ERROR(driver_.check(driver_.cuGraphLaunch(list.profile_graph, stream_), "launching a step"));
  MILI_RETURN_IF_ERROR(synchronize());
  for (size_t i = 0; i < list.launches.size(); ++i) {
    float milliseconds = 0;
    MILI_RETURN_IF_ERROR(driver_.check(driver_.cuEventElapsedTime(&milliseconds, list.events[i], list.events[i + 1]),
                                       "reading an event's time"));
    seconds[i] += std::max(0.0, 1e-3 * static_cast<double>(milliseconds) - std::max(0.0, event_seconds_));
  }
  return ok_status();
}

StatusOr<DeviceCeilings> CudaDevice::measure_ceilings() {
  enter();
  DeviceCeilings ceilings;
  auto read = helpers_.find("mili_read_bytes");
  auto fill = helpers_.find("mili_fill_normal_bf16");
  if (read == helpers_.end() || fill == helpers_.end())
    return failed_precondition("ceilings are measured with kernels of a plan; load one first");
  const uint64_t bytes = std::min<uint64_t>(uint64_t{4} << 30, free_memory() / 2) / 4096 * 4096;
  CUdeviceptr memory = 0;
  if (CUresult error = driver_.cuMemAlloc(&memory, bytes); error != kSuccess)
    return resource_exhausted("measuring ceilings needs " + format_bytes(bytes) + ": " + driver_.describe(error));
  CUevent from = nullptr, to = nullptr;
  driver_.cuEventCreate(&from, kEventDefault);
  driver_.cuEventCreate(&to, kEventDefault);
  // Normal numbers: zeros run faster in the matrix units.
  auto fill_normal = [&](CUdeviceptr at, uint64_t count, uint32_t stream) {
    float mean = 0, std = 1;
    uint64_t seed = 1;
    void *parameters[] = {&at, &count, &mean, &std, &seed, &stream};
    driver_.cuLaunchKernel(fill->second, 1056, 1, 1, 256, 1, 1, 0, stream_, parameters, nullptr);
  };
  fill_normal(memory, bytes / 2, 0);
  // The median of some runs, after two that warm up.
  auto median_seconds = [&](int repeats, auto &&run) {
    std::vector<float> times;
    for (int i = 0; i < repeats + 2; ++i) {
      driver_.cuEventRecord(from, stream_);
      if (!run())
        return 0.0;
      driver_.cuEventRecord(to, stream_);
      driver_.cuEventSynchronize(to);
      float milliseconds = 0;
      driver_.cuEventElapsedTime(&milliseconds, from, to);
      if (i >= 2)
        times.push_back(milliseconds);
    }
    std::sort(times.begin(), times.end());
    return 1e-3 * static_cast<double>(times[times.size() / 2]);
  };
  uint64_t count = bytes / 16;
  CUdeviceptr out = memory;
  void *parameters[] = {&memory, &count, &out};
  double seconds = median_seconds(10, [&] {
    return driver_.cuLaunchKernel(read->second, static_cast<unsigned>(multiprocessors_) * 4, 1, 1, 512, 1, 1, 0,
                                  stream_, parameters, nullptr) == kSuccess;
  });
  if (seconds > 0)
    ceilings.read_bytes_per_second = static_cast<double>(bytes) / seconds;

  constexpr int64_t kSize = 8192;
  const uint64_t matrix = kSize * kSize * 2;
  if (bytes >= 4 * matrix) {
    fill_normal(memory, kSize * kSize, 1);
    fill_normal(memory + matrix, kSize * kSize, 2);
    MatrixProduct product;
    for (bool fp8 : {false, true}) {
      if (!product.prepare(kSize, fp8))
        continue;
      seconds = median_seconds(20, [&] {
        return product.run(memory, memory + matrix, memory + 2 * matrix, memory + 3 * matrix, matrix, stream_);
      });
      if (seconds > 0)
        (fp8 ? ceilings.fp8_flops_per_second : ceilings.bf16_flops_per_second) = 2.0 * kSize * kSize * kSize / seconds;
    }
  }
  driver_.cuEventDestroy(from);
  driver_.cuEventDestroy(to);
  driver_.cuStreamSynchronize(stream_);
  driver_.cuMemFree(memory);
  return ceilings;
}

}  // namespace

StatusOr<std::unique_ptr<Device>> create_cuda_device(const CudaOptions &options) {
  MILI_ASSIGN_OR_RETURN(const cuda::Driver *driver, cuda::Driver::get());
  auto device = std::make_unique<CudaDevice>(*driver, options);
  MILI_RETURN_IF_ERROR(device->open());
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace mili
