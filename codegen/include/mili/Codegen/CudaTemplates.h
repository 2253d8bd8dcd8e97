//===- CudaTemplates.h - kernel templates of the CUDA target -----*- C++ -*-===//
//
// A template of the CUDA target chooses tile sizes in `plan` (they travel in the stage's `config`) and writes one
// source unit for each stage in `emit`: the group's IR as a comment, functors for what was fused, and one instantiation
// of a device function (codegen/device/).
//
//===------------------------------------------------------------------------===//
#ifndef MILI_CODEGEN_CUDATEMPLATES_H
#define MILI_CODEGEN_CUDATEMPLATES_H

#include "mili/Codegen/CudaWriter.h"
#include "mili/Codegen/KernelTemplate.h"

#include "mlir/IR/Builders.h"

namespace mlir::mili::codegen {

/// What `emit` is given: one stage of a kernel of the plan, free of the group that it came from.
struct CudaKernel {
  Block &body;
  StringRef hero;
  StageAttr stage;
  unsigned stageIndex;
  unsigned stageCount;

  Operation *getHeroOp() const;
  /// An integer that `plan` left in the stage's config; `verifyKernel` has seen that it is there.
  int64_t get(StringRef name) const { return cast<IntegerAttr>(stage.getConfig().get(name)).getInt(); }
};

class CudaKernelTemplate : public KernelTemplate {
public:
  /// Writes the stage's kernel. Emits a located diagnostic for what cannot be written.
  virtual LogicalResult emit(CudaWriter &writer, const CudaKernel &kernel) const = 0;
};

/// The stage attribute of a CUDA launch.
struct CudaStage {
  std::string name;
  int64_t tiles = 1;
  RowCount per = RowCount::one;
  int64_t rowsPerTile = 1;
  SmallVector<CudaLaunchAttr> launches;
  SmallVector<TensorMapAttr> maps;
  SmallVector<std::pair<StringRef, int64_t>> config;

  StageAttr get(MLIRContext *context) const;
  /// The same for all architectures.
  void launch(MLIRContext *context, int64_t threads, int64_t shared, int64_t blocksPerSm = 0) {
    launches = {CudaLaunchAttr::get(context, 80, threads, shared, blocksPerSm)};
  }
};

/// One factory per template file; registered in this order, the first that matches is taken.
std::unique_ptr<KernelTemplate> createCudaLinearTemplate();
std::unique_ptr<KernelTemplate> createCudaAttentionTemplate();
std::unique_ptr<KernelTemplate> createCudaSampleTemplate();
std::unique_ptr<KernelTemplate> createCudaRowTemplate();

/// Steps of at most this many tokens run the attention that splits the context over blocks and finishes queries and
/// keys itself; longer ones the attention over tiles of queries.
inline constexpr int64_t kDecodeTokens = 256;

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_CUDATEMPLATES_H
