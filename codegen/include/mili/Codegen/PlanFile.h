//===- PlanFile.h - the mili_plan dialect to a plan file ---------*- C++ -*-===//
#ifndef MILI_CODEGEN_PLANFILE_H
#define MILI_CODEGEN_PLANFILE_H

#include "mili/Codegen/CpuObject.h"
#include "mili/Codegen/CudaProgram.h"
#include "mili/runtime/status.h"

#include <functional>
#include <optional>
#include <string_view>

namespace mili {
class ModelFile;
}

namespace mlir::mili::codegen {

/// What the plan runs on.
struct PlanTarget {
  SmallVector<CompiledVariant> variants;  // cpu
  std::optional<CudaProgram> cuda;        // cuda, then
  std::vector<CudaCubins> cubins;         //   images for some architectures
  std::optional<uint64_t> syntheticSeed;  // no weights in the plan; the device makes them
};

/// Bytes packed so far, bytes in all, the weight at hand.
using PackProgress = std::function<void(uint64_t done, uint64_t total, std::string_view weight)>;

/// Writes the plan: one record for each op of `planModule`, the host objects, the model's tokenizer if it has one, and
/// the weights, streamed from `model` through their layouts in pieces of a few megabytes whatever their size.
::mili::Status writePlan(ModuleOp planModule, const PlanTarget &target, const ::mili::ModelFile &model,
                         const std::string &path, const PackProgress &progress);

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_PLANFILE_H
