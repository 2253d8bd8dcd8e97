// How wgmma finds a matrix in shared memory: descriptors of tiles whose rows of 64 elements (128 bytes) lie in groups of 8
// with the 128-byte swizzle (PTX ISA, "Matrix Descriptor").
#pragma once

#include "mili/device/vector.cuh"

namespace mili {

// Of an operand whose depth is contiguous (K-major): 64 of the depth in each row.
MILI_DEVICE uint64_t matrix_descriptor(uint32_t address) {
  uint64_t descriptor = 0;
  descriptor |= static_cast<uint64_t>((address & 0x3ffffu) >> 4);
  descriptor |= static_cast<uint64_t>(1) << 16;          // leading offset: unused with this swizzle
  descriptor |= static_cast<uint64_t>(1024 >> 4) << 32;  // between groups of 8 rows
  descriptor |= static_cast<uint64_t>(1) << 62;          // 128-byte swizzle
  return descriptor;
}

// Of an operand whose columns are contiguous: a row for each step of the depth, 64 columns in each, `bytes` from one 64
// columns to the next.
MILI_DEVICE uint64_t transposed_descriptor(uint32_t address, uint32_t bytes) {
  return (matrix_descriptor(address) & ~(static_cast<uint64_t>(0x3fff) << 16)) | static_cast<uint64_t>(bytes >> 4) << 16;
}

}  // namespace mili
