//===- WeightPacker.cpp ------------------------------------------------------===//
#include "WeightPacker.h"

#include "../cpu/PanelLayout.h"
#include "RowConversion.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace mili {
namespace {

/// Target size of the buffer of source rows, and of one write.
constexpr uint64_t kChunkBytes = uint64_t{8} << 20;

panel::Format panelFormat(TensorFormat format) {
  switch (format) {
  case TensorFormat::kF32: return panel::Format::kF32;
  case TensorFormat::kF16: return panel::Format::kF16;
  case TensorFormat::kBF16: return panel::Format::kBF16;
  case TensorFormat::kQ4_0: return panel::Format::kQ4_0;
  case TensorFormat::kQ4_1: return panel::Format::kQ4_1;
  case TensorFormat::kQ8_0: return panel::Format::kQ8_0;
  case TensorFormat::kQ6_K: return panel::Format::kQ6_K;
  }
  return panel::Format::kF32;
}

/// Reads rows of the joined weight, in their final order.
class RowSource {
public:
  static StatusOr<RowSource> open(const ModelFile &model, const WeightRecipe &recipe) {
    RowSource source(model, recipe);
    for (const WeightPiece &piece : recipe.pieces) {
      const TensorInfo *tensor = model.find(piece.tensor);
      if (!tensor)
        return not_found("tensor '" + piece.tensor + "' is not in the model");
      if (tensor->format != recipe.format)
        return internal_error("tensor '" + piece.tensor + "' is " +
                              std::string(tensor_format_info(tensor->format).name) + ", the plan expects " +
                              std::string(tensor_format_info(recipe.format).name));
      int64_t rows = tensor->shape.size() == 1 ? 1 : static_cast<int64_t>(tensor->shape[0]);
      // A range of a vector is a range of its elements; vectors are not joined.
      int64_t begin = piece.begin, end = piece.end < 0 ? rows : piece.end;
      if (tensor->shape.size() == 1 && recipe.rows == 1) {
        source.elementBegin_ = piece.begin;
        begin = 0;
        end = 1;
      }
      if (begin < 0 || end > rows || begin >= end)
        return internal_error("tensor '" + piece.tensor + "' has no rows " + std::to_string(begin) + " to " +
                              std::to_string(end));
      source.parts_.push_back({tensor, begin, end - begin});
    }
    return source;
  }

  /// Rows [first, first + count) of the result, recipe row size each.
  Status read(int64_t first, int64_t count, std::byte *out) const {
    const uint64_t rowBytes = row_bytes();
    while (count > 0) {
      auto [part, row, run] = locate(first);
      run = std::min(run, count);
      const Part &p = parts_[part];
      uint64_t offset = (p.begin + row) * p.tensor->row_bytes() + element_offset();
      MILI_RETURN_IF_ERROR(model_.read(*p.tensor, offset, {out, run * rowBytes}));
      out += run * rowBytes;
      first += run;
      count -= run;
    }
    return ok_status();
  }

  uint64_t row_bytes() const {
    const TensorFormatInfo &info = tensor_format_info(recipe_.format);
    return recipe_.columns / info.block_elements * info.block_bytes;
  }
  int64_t rows() const {
    int64_t total = 0;
    for (const Part &part : parts_)
      total += part.rows;
    return total;
  }

private:
  struct Part {
    const TensorInfo *tensor;
    int64_t begin, rows;
  };
  struct Place {
    size_t part;
    int64_t row, run;  // the row within the part, and how many follow it in the result as in the file
  };

  RowSource(const ModelFile &model, const WeightRecipe &recipe) : model_(model), recipe_(recipe) {}

  uint64_t element_offset() const {
    const TensorFormatInfo &info = tensor_format_info(recipe_.format);
    return elementBegin_ / info.block_elements * info.block_bytes;
  }

  Place locate(int64_t row) const {
    if (int64_t n = recipe_.interleave) {
      int64_t pair = row / (2 * n), within = row % (2 * n);
      size_t part = within / n;
      return {part, pair * n + within % n, n - within % n};
    }
    size_t part = 0;
    while (row >= parts_[part].rows)
      row -= parts_[part++].rows;
    return {part, row, parts_[part].rows - row};
  }

  const ModelFile &model_;
  const WeightRecipe &recipe_;
  std::vector<Part> parts_;
  int64_t elementBegin_ = 0;
};

/// Rows of the file's format as rows of bf16, or of f32 for vectors.
std::vector<std::byte> convert(const WeightRecipe &recipe, std::span<const std::byte> from) {
  const TensorFormatInfo &info = tensor_format_info(recipe.format);
  const int64_t elements = static_cast<int64_t>(from.size() / info.block_bytes) * info.block_elements;
  std::vector<float> floats(elements);
  toFloats(recipe.format, from.data(), elements, floats.data());
  const bool vector = recipe.packing == Packing::kVectorF32;
  std::vector<std::byte> to(elements * (vector ? 4 : 2));
  if (vector) {
    std::memcpy(to.data(), floats.data(), to.size());
  } else {
    for (int64_t i = 0; i < elements; ++i) {
      const uint16_t value = toBf16(floats[i]);
      std::memcpy(to.data() + 2 * i, &value, 2);
    }
  }
  return to;
}

/// Biases of merged projections: small enough to join in memory.
Status packJoinedVector(const ModelFile &model, const WeightRecipe &recipe, PlanWriter &writer,
                        const std::function<void(uint64_t)> &onBytes) {
  const uint64_t size = tensor_format_info(recipe.format).block_bytes;
  std::vector<std::vector<std::byte>> parts;
  for (const WeightPiece &piece : recipe.pieces) {
    const TensorInfo *tensor = model.find(piece.tensor);
    if (!tensor)
      return not_found("tensor '" + piece.tensor + "' is not in the model");
    int64_t end = piece.end < 0 ? static_cast<int64_t>(tensor->elements()) : piece.end;
    if (tensor->format != recipe.format || piece.begin >= end || end > static_cast<int64_t>(tensor->elements()))
      return internal_error("tensor '" + piece.tensor + "' is not what the plan expects of a joined vector");
    parts.emplace_back((end - piece.begin) * size);
    MILI_RETURN_IF_ERROR(model.read(*tensor, piece.begin * size, parts.back()));
  }
  std::vector<std::byte> joined;
  const uint64_t run = recipe.interleave * size;
  if (run == 0) {
    for (const auto &part : parts)
      joined.insert(joined.end(), part.begin(), part.end());
  } else {
    for (uint64_t offset = 0; offset < parts[0].size(); offset += run)
      for (const auto &part : parts)
        joined.insert(joined.end(), part.begin() + offset,
                      part.begin() + std::min<uint64_t>(offset + run, part.size()));
  }
  if (joined.size() != recipe.columns * size)
    return internal_error("'" + recipe.pieces.front().tensor + "' joined has " + std::to_string(joined.size() / size) +
                          " elements, the plan expects " + std::to_string(recipe.columns));
  if (recipe.packing == Packing::kVectorF32)
    joined = convert(recipe, joined);
  MILI_RETURN_IF_ERROR(writer.append_weights(joined));
  onBytes(joined.size());
  return ok_status();
}

}  // namespace

Status packWeight(const ModelFile &model, const WeightRecipe &recipe, PlanWriter &writer,
                  const std::function<void(uint64_t)> &onBytes) {
  if (recipe.rows == 1 && recipe.pieces.size() > 1)
    return packJoinedVector(model, recipe, writer, onBytes);
  MILI_ASSIGN_OR_RETURN(RowSource source, RowSource::open(model, recipe));
  if (source.rows() != recipe.rows)
    return internal_error("'" + recipe.pieces.front().tensor + "': the pieces have " + std::to_string(source.rows()) +
                          " rows, the plan expects " + std::to_string(recipe.rows));

  const uint64_t rowBytes = source.row_bytes();
  const bool panels = recipe.packing == Packing::kPanels;
  const int64_t unit = panels ? panel::kRows : 1;
  const int64_t rowsPerChunk = std::max<int64_t>(unit, kChunkBytes / std::max<uint64_t>(1, rowBytes) / unit * unit);
  std::vector<std::byte> rows, packed;
  for (int64_t first = 0; first < recipe.rows; first += rowsPerChunk) {
    const int64_t count = std::min(rowsPerChunk, recipe.rows - first);
    rows.resize(count * rowBytes);
    MILI_RETURN_IF_ERROR(source.read(first, count, rows.data()));
    if (!panels) {
      if (recipe.packing != Packing::kRowMajor)
        rows = convert(recipe, rows);
      MILI_RETURN_IF_ERROR(writer.append_weights(rows));
      onBytes(rows.size());
      continue;
    }
    const panel::Format format = panelFormat(recipe.format);
    const int64_t height = (count + panel::kRows - 1) / panel::kRows, bytes = panel::panelBytes(format, recipe.columns);
    packed.resize(height * bytes);
    for (int64_t p = 0; p < height; ++p) {
      std::array<const std::byte *, 16> pointers{};
      for (int64_t r = 0; r < panel::kRows && p * panel::kRows + r < count; ++r)
        pointers[r] = rows.data() + (p * panel::kRows + r) * rowBytes;
      panel::packPanel(format, recipe.columns, pointers, packed.data() + p * bytes);
    }
    MILI_RETURN_IF_ERROR(writer.append_weights(packed));
    onBytes(packed.size());
  }
  return ok_status();
}

}  // namespace mili
