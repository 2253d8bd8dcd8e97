// The CPU as a device: kernels from the plan's host object, tiles split over a pool of threads.
#include "mili/runtime/cpu_abi.h"
#include "mili/runtime/device.h"
#include "mili/runtime/memory.h"
#include "mili/runtime/plan.h"
#include "mili/schema/plan_generated.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu_topology.h"
#include "thread_pool.h"

namespace mili {
namespace {

constexpr uint64_t kPage = 4096;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class CpuModule : public Module {
public:
  ~CpuModule() override {
    if (library)
      dlclose(library);
    if (fd >= 0)
      close(fd);
  }
  uint32_t kernel_count() const override { return static_cast<uint32_t>(kernels.size()); }
  std::string_view variant() const override { return name; }

  std::string name;
  // The descriptor stays open while the object is loaded: the loader knows it by "/proc/self/fd/N", and another object
  // under the same name would be taken for this one.
  int fd = -1;
  void *library = nullptr;
  std::vector<CpuKernel> kernels;
  std::vector<uint64_t> scratch;
};

class CpuLaunchList : public LaunchList {
public:
  uint32_t launch_count() const override { return static_cast<uint32_t>(launches.size()); }
  struct Item {
    CpuKernel kernel;
    size_t first_arg;
    Launch launch;  // without its arguments, which lie in one table
  };
  std::vector<Item> launches;
  std::vector<void *> args;
};

class CpuHostBuffer : public HostBuffer {
public:
  explicit CpuHostBuffer(uint64_t bytes) : memory_(bytes) {
    data_ = memory_.data();
    size_ = bytes;
  }

private:
  std::vector<std::byte> memory_;
};

class CpuEvent : public Event {
public:
  double at = -1;
};

class CpuDevice : public Device {
public:
  explicit CpuDevice(std::unique_ptr<ThreadPool> pool) : pool_(std::move(pool)) {}
  ~CpuDevice() override { free_scratch(); }

  std::string_view name() const override { return "cpu"; }
  std::string description() const override {
    return "cpu, " + std::to_string(pool_->workers()) + (pool_->workers() == 1 ? " thread" : " threads");
  }
  uint32_t workers() const override { return pool_->workers(); }
  bool host_visible() const override { return true; }

  StatusOr<DeviceBuffer> allocate(uint64_t bytes, std::string_view what) override {
    if (bytes == 0)
      return DeviceBuffer();
    void *memory = bytes <= (uint64_t{1} << 62) ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                                                : MAP_FAILED;
    if (memory == MAP_FAILED) {
      const uint64_t available =
          static_cast<uint64_t>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
      return resource_exhausted(std::string(what) + " needs " + format_bytes(bytes) + ", the machine has " +
                                format_bytes(available) +
                                " free; compile the plan with fewer --requests or a shorter --context");
    }
    ++allocations_;
    allocated_ += bytes;
    return DeviceBuffer(this, static_cast<DeviceAddress>(memory), bytes);
  }

  StatusOr<std::unique_ptr<HostBuffer>> allocate_host(uint64_t bytes) override {
    return std::unique_ptr<HostBuffer>(std::make_unique<CpuHostBuffer>(bytes));
  }

  StatusOr<DeviceAddress> load_weights(const Plan &plan, const Progress &) override {
    if (plan.meta().synthetic())
      return unimplemented(plan.path() + ": its weights are synthetic, which only the device \"cuda\" generates");
    // Used where the file is mapped.
    return const_cast<DeviceAddress>(plan.weights().data());
  }
  uint64_t allocation_count() const override { return allocations_; }
  uint64_t allocated_bytes() const override { return allocated_; }

  Status copy_to_device(DeviceAddress to, const void *from, uint64_t bytes) override {
    std::memcpy(to, from, bytes);
    return ok_status();
  }
  Status copy_to_host(void *to, DeviceAddress from, uint64_t bytes) override {
    std::memcpy(to, from, bytes);
    return ok_status();
  }
  Status copy(DeviceAddress to, DeviceAddress from, uint64_t bytes) override {
    std::memcpy(to, from, bytes);
    return ok_status();
  }
  Status clear(DeviceAddress to, uint64_t bytes) override {
    std::memset(to, 0, bytes);
    return ok_status();
  }

  StatusOr<std::unique_ptr<Module>> load_module(const Plan &plan) override;
  StatusOr<std::unique_ptr<LaunchList>> prepare(const Module &module, std::span<const Launch> launches,
                                                const LaunchBounds &bounds) override;
  Status execute(LaunchList &list, const Batch &batch, std::span<double> seconds) override;

  StatusOr<std::unique_ptr<Event>> create_event() override {
    return std::unique_ptr<Event>(std::make_unique<CpuEvent>());
  }
  Status record(Event &event) override {
    static_cast<CpuEvent &>(event).at = now();
    return ok_status();
  }
  Status wait(Event &event) override {
    // Work is done when execute() returns.
    return static_cast<CpuEvent &>(event).at < 0 ? failed_precondition("an event that was never recorded")
                                                 : ok_status();
  }
  StatusOr<double> elapsed(Event &from, Event &to) override {
    const double a = static_cast<CpuEvent &>(from).at, b = static_cast<CpuEvent &>(to).at;
    if (a < 0 || b < 0)
      return failed_precondition("an event that was never recorded has no time");
    return b - a;
  }
  Status synchronize() override { return ok_status(); }

protected:
  void release(DeviceAddress address, uint64_t size) override {
    munmap(address, size);
    allocated_ -= size;
  }

private:
  Status reserve_scratch(uint64_t bytes);
  void free_scratch() {
    if (scratch_)
      munmap(scratch_, scratch_stride_ * pool_->workers());
    scratch_ = nullptr;
  }

  std::unique_ptr<ThreadPool> pool_;
  uint64_t allocations_ = 0, allocated_ = 0;
  std::byte *scratch_ = nullptr;
  uint64_t scratch_stride_ = 0;
};

StatusOr<std::unique_ptr<Module>> CpuDevice::load_module(const Plan &plan) {
  const plan::Plan &meta = plan.meta();
  if (meta.target()->name()->string_view() != "cpu")
    return unavailable(plan.path() + ": the plan is for target \"" + meta.target()->name()->str() +
                       "\", this device is a CPU; compile with --target cpu");
  const plan::Variant *chosen = nullptr;
  std::string needs;
  for (uint32_t i = 0; meta.target()->variants() && i < meta.target()->variants()->size(); ++i) {
    const plan::Variant *variant = meta.target()->variants()->Get(i);
    std::string missing;
    for (const flatbuffers::String *feature : *variant->features())
      if (!cpu_has_feature(feature->string_view()))
        missing += (missing.empty() ? "" : ", ") + feature->str();
    if (missing.empty())
      chosen = variant;
    needs += "; variant \"" + variant->name()->str() + (missing.empty() ? "\" fits" : "\" needs " + missing);
  }
  if (!chosen)
    return unavailable(plan.path() + ": this CPU runs none of the plan's variants" + needs);

  auto module = std::make_unique<CpuModule>();
  module->name = chosen->name()->str();
  MILI_ASSIGN_OR_RETURN(std::vector<std::byte> object, plan.copy_section(chosen->section()));
  module->fd = memfd_create("mili-kernels", MFD_CLOEXEC);
  if (module->fd < 0)
    return unavailable(std::string("memfd_create failed: ") + std::strerror(errno));
  for (size_t done = 0; done < object.size();) {
    ssize_t n = write(module->fd, object.data() + done, object.size() - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return resource_exhausted(std::string("no memory for the kernels: ") + std::strerror(errno));
    done += static_cast<size_t>(n);
  }
  const std::string path = "/proc/self/fd/" + std::to_string(module->fd);
  module->library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!module->library) {
    const char *reason = dlerror();
    return data_loss(plan.path() + ": variant " + module->name +
                     " cannot be loaded: " + (reason ? reason : "unknown reason"));
  }
  for (const plan::Kernel *kernel : *meta.kernels()) {
    void *symbol = dlsym(module->library, kernel->symbol()->c_str());
    if (!symbol)
      return data_loss(plan.path() + ": variant " + module->name + " has no kernel \"" + kernel->symbol()->str() +
                       "\"");
    module->kernels.push_back(reinterpret_cast<CpuKernel>(symbol));
    module->scratch.push_back(kernel->scratch_bytes());
  }
  MILI_RETURN_IF_ERROR(reserve_scratch(plan.memory().worker_scratch));
  return std::unique_ptr<Module>(std::move(module));
}

Status CpuDevice::reserve_scratch(uint64_t bytes) {
  // A page more between workers, so that none shares lines with its neighbour.
  const uint64_t stride = (bytes + kPage - 1) / kPage * kPage;
  if (stride <= scratch_stride_ || stride == 0)
    return ok_status();
  free_scratch();
  void *memory = mmap(nullptr, stride * pool_->workers(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return resource_exhausted("scratch of " + std::to_string(pool_->workers()) + " workers needs " +
                              format_bytes(stride * pool_->workers()) + "; run with fewer threads");
  scratch_ = static_cast<std::byte *>(memory);
  scratch_stride_ = stride;
  ++allocations_;
  return ok_status();
}

StatusOr<std::unique_ptr<LaunchList>> CpuDevice::prepare(const Module &module, std::span<const Launch> launches,
                                                         const LaunchBounds &) {
  const auto &kernels = static_cast<const CpuModule &>(module);
  auto list = std::make_unique<CpuLaunchList>();
  for (const Launch &launch : launches) {
    if (launch.kernel >= kernels.kernel_count())
      return invalid_argument("launch of kernel " + std::to_string(launch.kernel) + " of " +
                              std::to_string(kernels.kernel_count()));
    if (launch.rows_per_tile == 0)
      return invalid_argument("a launch with zero rows per tile");
    Launch bare = launch;
    bare.args.clear();
    list->launches.push_back({kernels.kernels[launch.kernel], list->args.size(), std::move(bare)});
    list->args.insert(list->args.end(), launch.args.begin(), launch.args.end());
  }
  return std::unique_ptr<LaunchList>(std::move(list));
}

Status CpuDevice::execute(LaunchList &list, const Batch &batch, std::span<double> seconds) {
  struct Run {
    CpuDevice *device;
    const CpuLaunchList *list;
    const Batch *batch;
    std::span<double> seconds;
  } run{this, &static_cast<const CpuLaunchList &>(list), &batch, seconds};
  if (!seconds.empty() && seconds.size() != run.list->launches.size())
    return invalid_argument("profiling needs one entry per launch");
  pool_->run(
      [](void *context, uint32_t worker) {
        const Run &r = *static_cast<Run *>(context);
        std::byte *scratch = r.device->scratch_ + worker * r.device->scratch_stride_;
        const uint64_t workers = r.device->pool_->workers();
        for (size_t i = 0; i < r.list->launches.size(); ++i) {
          const CpuLaunchList::Item &item = r.list->launches[i];
          const double start = worker == 0 && !r.seconds.empty() ? now() : 0;
          const uint64_t tiles = launch_tiles(item.launch, *r.batch);
          // The first `rest` workers take one tile more. A product of tiles and workers could overflow.
          const uint64_t share = tiles / workers, rest = tiles % workers;
          const uint64_t begin = share * worker + std::min<uint64_t>(worker, rest);
          const uint64_t end = begin + share + (worker < rest);
          if (begin < end)
            item.kernel(r.list->args.data() + item.first_arg, r.batch, begin, end, scratch);
          r.device->pool_->barrier();
          if (worker == 0 && !r.seconds.empty())
            r.seconds[i] += now() - start;
        }
      },
      &run);
  return ok_status();
}

}  // namespace

StatusOr<std::unique_ptr<Device>> create_cpu_device(const CpuOptions &options) {
  if (options.threads > 1024)
    return invalid_argument("threads: found " + std::to_string(options.threads) + ", expected at most 1024");
  const std::vector<int> cores = physical_cores();
  const uint32_t workers = options.threads ? options.threads : default_cpu_threads();
  MILI_ASSIGN_OR_RETURN(std::unique_ptr<ThreadPool> pool,
                        ThreadPool::create(workers, options.pin ? cores : std::vector<int>()));
  return std::unique_ptr<Device>(std::make_unique<CpuDevice>(std::move(pool)));
}

}  // namespace mili
