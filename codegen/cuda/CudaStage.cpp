//===- CudaStage.cpp ---------------------------------------------------------===//
#include "mili/Codegen/CudaTemplates.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;

StageAttr CudaStage::get(MLIRContext *context) const {
  Builder builder(context);
  NamedAttrList list;
  for (auto [key, value] : config)
    list.set(key, builder.getI64IntegerAttr(value));
  for (StringRef flag : {"scratch", "counters"})
    if (!list.get(flag))
      list.set(flag, builder.getI64IntegerAttr(0));
  return StageAttr::get(context, name, tiles, per, rowsPerTile, 0, launches, maps, list.getDictionary(context));
}
