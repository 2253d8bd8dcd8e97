// Device: the narrow interface between the engine and what executes a plan. One conformance suite
// (tests/runtime/device_conformance.h) runs against every implementation.
//
// Addresses are in the device's memory; the host reads or writes through one only where host_visible() says so. Work is
// in order: copies, launch lists and events of one device take effect in the order of the calls. A call may return
// before its work is done (a GPU) or after (the CPU); synchronize() or Event waits.
//
// A device is used by one thread at a time.
#pragma once

#include "mili/runtime/batch.h"
#include "mili/runtime/plan.h"
#include "mili/runtime/status.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mili {

class Device;

using DeviceAddress = std::byte *;

// Owns one allocation; gives it back to its device, which must outlive it.
class DeviceBuffer {
public:
  DeviceBuffer() = default;
  DeviceBuffer(Device *device, DeviceAddress address, uint64_t size)
      : device_(device), address_(address), size_(size) {}
  DeviceBuffer(DeviceBuffer &&other) noexcept { swap(other); }
  DeviceBuffer &operator=(DeviceBuffer &&other) noexcept {
    DeviceBuffer moved(std::move(other));
    swap(moved);
    return *this;
  }
  ~DeviceBuffer();

  DeviceAddress address() const { return address_; }
  uint64_t size() const { return size_; }

private:
  void swap(DeviceBuffer &other) noexcept {
    std::swap(device_, other.device_);
    std::swap(address_, other.address_);
    std::swap(size_, other.size_);
  }
  Device *device_ = nullptr;
  DeviceAddress address_ = nullptr;
  uint64_t size_ = 0;
};

// What loading the kernels took; for reports.
struct ModuleLoadReport {
  uint32_t kernels = 0, from_plan = 0, from_cache = 0, compiled = 0;
  double wall_seconds = 0, cpu_seconds = 0;
};

// The kernels of a plan, loaded. Symbols are resolved once.
class Module {
public:
  virtual ~Module() = default;
  // Kernels by their index in the plan's kernel table.
  virtual uint32_t kernel_count() const = 0;
  // Which of the plan's variants was taken, for people: "x86-64-v4-vnni", "sm_90a".
  virtual std::string_view variant() const = 0;
  virtual ModuleLoadReport load_report() const { return {}; }
};

// Owns memory of the host that a device copies from and to without a detour (pinned for a GPU).
class HostBuffer {
public:
  virtual ~HostBuffer() = default;
  std::byte *data() const { return data_; }
  uint64_t size() const { return size_; }

protected:
  std::byte *data_ = nullptr;
  uint64_t size_ = 0;
};

enum class RowCount : uint8_t { kOne = 0, kTokens, kLogitRows, kSequences };

// A bf16 matrix that a kernel reads by tensor copies: plan.fbs, TensorMap.
struct TensorMap {
  uint32_t arg = 0;
  uint32_t box_rows = 0, box_columns = 0;
  uint64_t rows = 0, columns = 0;
};

// One launch with its arguments' addresses known.
struct Launch {
  uint32_t kernel = 0;  // index into the module
  std::vector<void *> args;
  // tiles = tiles_fixed * (tiles_per == kOne ? 1 : ceil(rows / rows_per_tile)), rows counted in the batch.
  uint64_t tiles_fixed = 0;
  RowCount tiles_per = RowCount::kOne;
  uint32_t rows_per_tile = 1;
  std::vector<TensorMap> tensor_maps = {};
};

uint64_t launch_tiles(const Launch &launch, const Batch &batch);

// A bucket's launches in the form in which the device executes them fastest: flat pointer tables on the CPU, a captured
// graph on a GPU. Replaying one allocates nothing.
class LaunchList {
public:
  virtual ~LaunchList() = default;
  virtual uint32_t launch_count() const = 0;
};

// Bounds of the steps that a launch list will run: grids of a captured graph come from these alone.
struct LaunchBounds {
  int64_t tokens = 0;
  int64_t sequences = 0;
  int64_t logit_rows = 0;
  DeviceAddress batch_address = nullptr;  // of the step's Batch in device memory, unless host_visible()
};

struct DeviceCeilings {
  double read_bytes_per_second = 0;
  double bf16_flops_per_second = 0;
  double fp8_flops_per_second = 0;
};

// A point in the device's order of work.
class Event {
public:
  virtual ~Event() = default;
};

class Device {
public:
  virtual ~Device() = default;

  virtual std::string_view name() const = 0;    // "cpu"
  virtual std::string description() const = 0;  // "cpu, 8 threads"
  virtual uint32_t workers() const = 0;         // how many times Memory.worker_scratch is allocated
  virtual bool host_visible() const = 0;        // the host may use DeviceAddress as a pointer

  // `bytes` of zeros, 4096-byte aligned. Pages that are never touched cost no physical memory where the system can do
  // that. ResourceExhausted names `what`, the bytes asked for and those available.
  virtual StatusOr<DeviceBuffer> allocate(uint64_t bytes, std::string_view what) = 0;
  // Memory of the host for copies to and from the device. Not counted by allocation_count().
  virtual StatusOr<std::unique_ptr<HostBuffer>> allocate_host(uint64_t bytes) = 0;
  // The plan's WEIGHTS section in the device's memory: the map itself where the host is the device, else memory of the
  // device's, into which it is streamed or, for synthetic weights, generated. The plan outlives it.
  virtual StatusOr<DeviceAddress> load_weights(const Plan &plan, const Progress &progress) = 0;
  // Allocations of device memory so far. It must not grow after load.
  virtual uint64_t allocation_count() const = 0;
  // Bytes of the device's memory that MILI holds: of live buffers, and of weights where they are copied.
  virtual uint64_t allocated_bytes() const = 0;

  virtual Status copy_to_device(DeviceAddress to, const void *from, uint64_t bytes) = 0;
  // Waits until `to` holds the bytes.
  virtual Status copy_to_host(void *to, DeviceAddress from, uint64_t bytes) = 0;
  // May return before: wait for an event, or synchronize(). `to` is memory from allocate_host().
  virtual Status copy_to_host_async(void *to, DeviceAddress from, uint64_t bytes) {
    return copy_to_host(to, from, bytes);
  }
  virtual Status copy(DeviceAddress to, DeviceAddress from, uint64_t bytes) = 0;  // not overlapping
  virtual Status clear(DeviceAddress to, uint64_t bytes) = 0;
  // `rows` times `bytes`, `pitch` bytes apart, as one piece of work.
  virtual Status clear_rows(DeviceAddress to, uint64_t pitch, uint64_t bytes, uint64_t rows) {
    for (uint64_t i = 0; i < rows; ++i)
      if (Status status = clear(to + i * pitch, bytes); !status.ok())
        return status;
    return ok_status();
  }

  // Unavailable where the plan has no variant for this device; names what the device has and what the variants need.
  virtual StatusOr<std::unique_ptr<Module>> load_module(const Plan &plan) = 0;
  // The module outlives the list. `worker_scratch` bytes (of Memory.worker_scratch) are reserved for each worker.
  virtual StatusOr<std::unique_ptr<LaunchList>> prepare(const Module &module, std::span<const Launch> launches,
                                                        const LaunchBounds &bounds) = 0;
  // Runs every launch in order; each sees what the one before it wrote. The batch's tables are in device memory.
  // Kernels of a GPU read the batch itself at the list's `batch_address`, where the caller has copied it. Where
  // `seconds` is not empty it has one entry per launch, to which the launch's time is added; the call then waits.
  virtual Status execute(LaunchList &list, const Batch &batch, std::span<double> seconds = {}) = 0;

  virtual StatusOr<std::unique_ptr<Event>> create_event() = 0;
  virtual Status record(Event &event) = 0;
  virtual Status wait(Event &event) = 0;  // the host waits until work before record() is done
  // Seconds of device time between two recorded events; waits for both.
  virtual StatusOr<double> elapsed(Event &from, Event &to) = 0;
  virtual Status synchronize() = 0;

  // What this device reaches at most, measured now: reading memory, and matrix products by the vendor's library (0
  // where there is none). Takes about a second and gigabytes of free memory. Unimplemented by default.
  virtual StatusOr<DeviceCeilings> measure_ceilings() { return unimplemented("this device measures no ceilings"); }
  // Free memory in bytes; 0 where the device cannot say.
  virtual uint64_t free_memory() { return 0; }
  virtual uint64_t total_memory() { return 0; }

protected:
  friend class DeviceBuffer;
  virtual void release(DeviceAddress address, uint64_t size) = 0;
};

struct CpuOptions {
  // 0: the physical cores that this process may use (affinity mask and cgroup quota).
  uint32_t threads = 0;
  // Bind worker i to the i-th of those cores. Off: the system places them.
  bool pin = false;
};

StatusOr<std::unique_ptr<Device>> create_cpu_device(const CpuOptions &options = {});

struct CudaOptions {
  uint32_t device = 0;  // the CUDA ordinal (after CUDA_VISIBLE_DEVICES)
  // Where compiled kernels are kept; empty: $MILI_CACHE_DIR, else $XDG_CACHE_HOME/mili, else ~/.cache/mili, under
  // "kernels". "off": nowhere.
  std::string cache_dir;
  bool use_cubins = true;  // false: as if the plan had none, to time compilation
  bool graphs = true;      // false: launch kernel by kernel instead of replaying captured graphs
  // Blocks of a kernel may begin while the one before it ends (programmatic dependent launch, compute capability 9.0).
  bool dependent_launch = true;
  uint32_t jit_threads = 0;  // 0: one for each hardware thread
};

// Unavailable without a driver or a GPU, or where the plan's kernels cannot run on it; says what was found, what is
// needed, and which flag helps. The driver (libcuda.so.1) and NVRTC are opened here, at run time.
StatusOr<std::unique_ptr<Device>> create_cuda_device(const CudaOptions &options = {});

// Features of this CPU by their /proc/cpuinfo names ("avx2", "avx512_vnni", ...), those that the system enables.
// Unknown names are false.
bool cpu_has_feature(std::string_view name);
// The number that CpuOptions::threads = 0 stands for.
uint32_t default_cpu_threads();

}  // namespace mili
