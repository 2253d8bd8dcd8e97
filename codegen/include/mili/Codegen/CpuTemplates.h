//===- CpuTemplates.h - kernel templates of the CPU target -------*- C++ -*-===//
#ifndef MILI_CODEGEN_CPUTEMPLATES_H
#define MILI_CODEGEN_CPUTEMPLATES_H

#include "mili/Codegen/CpuKernelBuilder.h"
#include "mili/Codegen/KernelTemplate.h"

namespace mlir::mili::codegen {

/// What `emit` is given: a kernel of the plan, free of the group that it came from.
struct CpuKernel {
  Block &body;
  StringRef hero;
  BucketAttr bucket;
  StageAttr stage;
  unsigned stageIndex;
  unsigned stageCount;
  /// For each argument of the body its weight layout; empty for what is no weight.
  SmallVector<StringRef> layouts;

  Operation *getHeroOp() const;
};

class CpuKernelTemplate : public KernelTemplate {
public:
  /// Emits one stage at the builder's insertion point; must agree with what `plan` said of it.
  virtual LogicalResult emit(CpuKernelBuilder &builder, const CpuKernel &kernel) const = 0;
};

/// One factory per template file; registered in this order, the first that matches is taken.
std::unique_ptr<KernelTemplate> createCpuLinearTemplate();
std::unique_ptr<KernelTemplate> createCpuAttentionTemplate();
std::unique_ptr<KernelTemplate> createCpuEmbeddingTemplate();
std::unique_ptr<KernelTemplate> createCpuRowTemplate();

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_CPUTEMPLATES_H
