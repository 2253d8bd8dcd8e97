//===- MiliInterfaces.cpp - fusion roles and costs --------------------------===//
#include "mili/IR/MiliDialect.h"

using namespace mlir;
using namespace mlir::mili;

#define FLOPS(OP)                                                                                                      \
  uint64_t OP::getFlops(int64_t rows, int64_t context) {                                                               \
    return 0;                                                                                                          \
  }
FLOPS(KvAppendOp)
FLOPS(DequantOp)
FLOPS(EmbeddingOp)
FLOPS(LinearOp)
FLOPS(LogitsOp)
FLOPS(RopeOp)
FLOPS(AttentionOp)
FLOPS(RmsNormOp)
FLOPS(AddOp)
FLOPS(ScaleOp)
FLOPS(ActivationOp)
FLOPS(GatedOp)
FLOPS(SplitOp)
#undef FLOPS
