// Values of stored elements, written from the public description of ggml's block formats and independent of the code
// under test: what packing and kernels are compared with.
#pragma once

#include "mili/Frontends/ModelFile.h"

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace mili::testing {

float from_f16(uint16_t bits);
float from_bf16(uint16_t bits);
uint16_t to_bf16(float value);  // nearest, ties to even

// Bytes of a row of `columns` elements.
uint64_t stored_row_bytes(TensorFormat format, int64_t columns);
// Element k of a row as the file stores it.
float stored_element(TensorFormat format, const std::byte *row, int64_t k);
// `rows` random rows; values are about -2..2.
std::vector<std::byte> random_rows(TensorFormat format, int64_t rows, int64_t columns, std::mt19937 &random);

inline constexpr TensorFormat kAllFormats[] = {TensorFormat::kF32,  TensorFormat::kF16,  TensorFormat::kBF16,
                                               TensorFormat::kQ4_0, TensorFormat::kQ4_1, TensorFormat::kQ8_0,
                                               TensorFormat::kQ6_K};

}  // namespace mili::testing
