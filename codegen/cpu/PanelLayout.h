//===- PanelLayout.h - "panel16", the CPU's layout of matrices ---------------===//
//
// Rows in panels of 16, so that a vector lane is a row: a product then needs no horizontal sums, and one packed copy
// serves every instruction set. The last panel is padded with zeros. Bytes are the file's own when the row count is a
// multiple of 16.
//
//   f32, f16, bf16   [panel][k][16 rows]
//   block formats    [panel][block][...], a block being 32 k (Q6_K: 256) of all 16 rows:
//     q4_0   d f16[16]             | 4 x 64 B nibbles
//     q4_1   d f16[16], m f16[16]  | 4 x 64 B nibbles
//     q8_0   d f16[16]             | 8 x 64 B, q + 128 (unsigned)
//     q6_k   d f16[16], scale i8[16 sub-blocks][16] | 8 x (4 x 64 B low nibbles) | 8 x (2 x 64 B high pairs)
//
// A 64-byte vector holds a 4-byte word for each row. Word group j of 32 k is k = 4j .. 4j + 3, a byte each:
//   nibbles  vector j (0..3): low nibbles are group j, high nibbles group j + 4
//   bytes    vector j (0..7): group j
//   pairs    vector v (0..1): bits 2s, 2s + 1 (s = 0..3) are the upper bits of group 4v + s
// as vpdpbusd and vpmaddubsw want them: four products of one row summed into one lane.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_CODEGEN_CPU_PANELLAYOUT_H
#define MILI_CODEGEN_CPU_PANELLAYOUT_H

#include <cstdint>
#include <span>

namespace mili::panel {

inline constexpr int64_t kRows = 16;

enum class Format : uint8_t { kF32, kF16, kBF16, kQ4_0, kQ4_1, kQ8_0, kQ6_K };

struct FormatInfo {
  int64_t blockElements;  // 1 for plain formats
  int64_t fileBytes;      // of one block of one row in the file
  int64_t scaleBytes;     // of one block of a panel, before the quants
  int64_t blockBytes;     // of one block of a panel
};
const FormatInfo &info(Format format);

/// Bytes of one panel of `columns` elements, and of a matrix.
int64_t panelBytes(Format format, int64_t columns);
int64_t matrixBytes(Format format, int64_t rows, int64_t columns);

/// Packs up to 16 rows, each as the file stores it (`rows[i]` of rowBytes; null: a row of zeros), into one panel.
void packPanel(Format format, int64_t columns, std::span<const std::byte *const, 16> rows, std::byte *panel);

}  // namespace mili::panel

#endif  // MILI_CODEGEN_CPU_PANELLAYOUT_H
