// From a plan's CUDA sections to one image for each unit: out of the plan, out of the disk cache, or compiled by NVRTC.
#pragma once

#include "kernel_compiler.h"
#include "mili/runtime/device.h"
#include "mili/runtime/plan.h"

#include <map>

namespace mili::cuda {

// The CUDA_SOURCE section, verified.
struct Sources {
  std::vector<SourceText> headers, units;
  uint64_t hash = 0;  // of the section
};

// DataLoss where the section is not well formed, Unavailable where the plan has none.
StatusOr<Sources> read_sources(const Plan &plan);

// The images that the plan itself brings for a device and for this source, by unit; none where it was compiled for
// other GPUs. `available`: the architectures it has images for, separated by commas. DataLoss where a CUBINS section is
// not well formed.
StatusOr<std::map<std::string, std::string>> read_images(const Plan &plan, int major, int minor, uint64_t source_hash,
                                                         std::string &available);

// Images of all units of a plan for a device, by unit: out of the plan, else the disk cache, else compiled.
StatusOr<std::map<std::string, std::string>> load_images(const Plan &plan, int major, int minor,
                                                         const CudaOptions &options, ModuleLoadReport &report);

}  // namespace mili::cuda
