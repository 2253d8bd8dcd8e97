//===- RowConversion.h - elements of a model file as floats ------------------===//
#ifndef MILI_CODEGEN_PLAN_ROWCONVERSION_H
#define MILI_CODEGEN_PLAN_ROWCONVERSION_H

#include "mili/Frontends/ModelFile.h"

namespace mili {

/// `count` elements (whole blocks) as f32. ggml's block formats as ggml-common.h of llama.cpp lays them out.
void toFloats(TensorFormat format, const std::byte *from, int64_t count, float *to);

/// Rounds to nearest even; NaN stays NaN.
uint16_t toBf16(float value);

}  // namespace mili

#endif  // MILI_CODEGEN_PLAN_ROWCONVERSION_H
