// Packing streams pieces of the model file through the layouts: ranges, joined and interleaved rows, bounded reads.
#include "blocks.h"
#include "cpu/PanelLayout.h"
#include "plan/WeightPacker.h"

#include "mili/runtime/plan_format.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace mili {
namespace {

// Tensors in memory, or (for `endless`) bytes made up as they are read.
class FakeModel : public ModelFile {
public:
  void add(const std::string &name, TensorFormat format, std::vector<uint64_t> shape, std::vector<std::byte> bytes) {
    TensorInfo info{name, format, std::move(shape), 0, data_.size(), bytes.size()};
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    tensors_.push_back(std::move(info));
  }
  void add_endless(const std::string &name, std::vector<uint64_t> shape) {
    TensorInfo info{name, TensorFormat::kBF16, std::move(shape), 0, 0, 0};
    info.size = info.elements() * 2;
    endless_ = true;
    tensors_.push_back(std::move(info));
  }
  uint64_t largest_read() const { return largest_read_; }

  ModelFileKind kind() const override { return ModelFileKind::kHuggingFace; }
  std::string name() const override { return "fake"; }
  const nlohmann::json &config() const override { return config_; }
  const nlohmann::json &generation_config() const override { return config_; }
  const std::vector<TensorInfo> &tensors() const override { return tensors_; }
  StatusOr<std::vector<uint8_t>> tokenizer() const override { return not_found("none"); }
  Status read(const TensorInfo &tensor, uint64_t offset, std::span<std::byte> out) const override {
    largest_read_ = std::max<uint64_t>(largest_read_, out.size());
    if (offset + out.size() > tensor.size)
      return internal_error("read past the tensor");
    if (endless_)
      std::memset(out.data(), static_cast<int>(offset % 251), out.size());
    else
      std::memcpy(out.data(), data_.data() + tensor.offset + offset, out.size());
    return ok_status();
  }

private:
  nlohmann::json config_ = nlohmann::json::object();
  std::vector<TensorInfo> tensors_;
  std::vector<std::byte> data_;
  bool endless_ = false;
  mutable uint64_t largest_read_ = 0;
};

class WeightPacker : public ::testing::Test {
protected:
  void SetUp() override {
    // A name of its own for each test: they run at the same time.
    path_ = ::testing::TempDir() + "weight_packer_" + ::testing::UnitTest::GetInstance()->current_test_info()->name() +
            ".mili";
  }
  void TearDown() override { std::filesystem::remove(path_); }

  // The WEIGHTS section that packing `recipe` gives; what `onBytes` heard must add up to its size.
  Status pack(const ModelFile &model, const WeightRecipe &recipe, std::vector<std::byte> *out) {
    MILI_ASSIGN_OR_RETURN(PlanWriter writer, PlanWriter::create(path_));
    MILI_RETURN_IF_ERROR(writer.begin_weights());
    uint64_t heard = 0;
    MILI_RETURN_IF_ERROR(packWeight(model, recipe, writer, [&](uint64_t bytes) { heard += bytes; }));
    EXPECT_EQ(heard, writer.weights_size());
    MILI_RETURN_IF_ERROR(writer.finish());
    if (!out)
      return ok_status();
    std::ifstream file(path_, std::ios::binary);
    std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
    SectionEntry weights;
    std::memcpy(&weights, bytes.data() + sizeof(FileHeader), sizeof weights);
    EXPECT_EQ(weights.kind, static_cast<uint32_t>(SectionKind::kWeights));
    const auto *begin = reinterpret_cast<const std::byte *>(bytes.data()) + weights.offset;
    out->assign(begin, begin + weights.size);
    return ok_status();
  }

  std::string path_;
};

// What packing must give, row by row from a plain list.
std::vector<std::byte> expected_panels(TensorFormat format, int64_t columns,
                                       const std::vector<const std::byte *> &rows) {
  const auto panelFormat = static_cast<panel::Format>(format);
  std::vector<std::byte> out(panel::matrixBytes(panelFormat, static_cast<int64_t>(rows.size()), columns));
  for (size_t first = 0; first < rows.size(); first += 16) {
    std::array<const std::byte *, 16> pointers{};
    for (size_t r = 0; r < 16 && first + r < rows.size(); ++r)
      pointers[r] = rows[first + r];
    panel::packPanel(panelFormat, columns, pointers, out.data() + first / 16 * panel::panelBytes(panelFormat, columns));
  }
  return out;
}

TEST_F(WeightPacker, JoinsRangesOfPiecesAndInterleavesRuns) {
  std::mt19937 random(3);
  for (TensorFormat format : testing::kAllFormats) {
    SCOPED_TRACE(tensor_format_info(format).name);
    const int64_t columns = 512;
    const uint64_t rowBytes = testing::stored_row_bytes(format, columns);
    std::vector<std::byte> a = testing::random_rows(format, 40, columns, random);
    std::vector<std::byte> b = testing::random_rows(format, 40, columns, random);
    FakeModel model;
    model.add("a", format, {40, 512}, a);
    model.add("b", format, {40, 512}, b);

    // Rows 3..29 of a, then all of b: 67 rows, the last panel has 3.
    std::vector<const std::byte *> rows;
    for (int64_t r = 3; r < 30; ++r)
      rows.push_back(a.data() + r * rowBytes);
    for (int64_t r = 0; r < 40; ++r)
      rows.push_back(b.data() + r * rowBytes);
    std::vector<std::byte> packed;
    Status status = pack(model, {{{"a", 3, 30}, {"b", 0, -1}}, 0, format, 67, columns, Packing::kPanels}, &packed);
    ASSERT_TRUE(status.ok()) << status.to_string();
    EXPECT_TRUE(packed == expected_panels(format, columns, rows));

    // Runs of 8 from each of two pieces.
    rows.clear();
    for (int64_t run = 0; run < 5; ++run)
      for (const auto *piece : {&a, &b})
        for (int64_t r = 0; r < 8; ++r)
          rows.push_back(piece->data() + (run * 8 + r) * rowBytes);
    status = pack(model, {{{"a"}, {"b"}}, 8, format, 80, columns, Packing::kPanels}, &packed);
    ASSERT_TRUE(status.ok()) << status.to_string();
    EXPECT_TRUE(packed == expected_panels(format, columns, rows));

    // Row by row: the file's bytes.
    status = pack(model, {{{"a"}}, 0, format, 40, columns, Packing::kRowMajor}, &packed);
    ASSERT_TRUE(status.ok()) << status.to_string();
    EXPECT_TRUE(packed == a);
  }
}

// As rows of bf16 and as vectors of f32, which GPU plans hold.
TEST_F(WeightPacker, ConvertsRowsAndVectors) {
  std::mt19937 random(6);
  for (TensorFormat format : testing::kAllFormats) {
    SCOPED_TRACE(static_cast<int>(format));
    constexpr int64_t kColumns = 512;
    const uint64_t rowBytes = testing::stored_row_bytes(format, kColumns);
    std::vector<std::byte> a = testing::random_rows(format, 8, kColumns, random);
    std::vector<std::byte> b = testing::random_rows(format, 8, kColumns, random);
    FakeModel model;
    model.add("a", format, {8, kColumns}, a);
    model.add("b", format, {8, kColumns}, b);
    std::vector<std::byte> packed;
    Status status = pack(model, {{{"a"}, {"b"}}, 4, format, 16, kColumns, Packing::kRowsBf16}, &packed);
    ASSERT_TRUE(status.ok()) << status.to_string();
    ASSERT_EQ(packed.size(), 16 * kColumns * 2u);
    for (int64_t r = 0; r < 16; ++r) {
      // Runs of four rows of each.
      const std::vector<std::byte> &piece = r / 4 % 2 ? b : a;
      const std::byte *from = piece.data() + (r / 8 * 4 + r % 4) * rowBytes;
      for (int64_t k = 0; k < kColumns; ++k) {
        uint16_t bits;
        std::memcpy(&bits, packed.data() + (r * kColumns + k) * 2, 2);
        const float value = testing::stored_element(format, from, k);
        ASSERT_NEAR(testing::from_bf16(bits), value, std::abs(value) / 256) << "row " << r << ", element " << k;
      }
    }
  }
  FakeModel model;
  std::vector<std::byte> gain = testing::random_rows(TensorFormat::kBF16, 1, 64, random);
  model.add("gain", TensorFormat::kBF16, {64}, gain);
  std::vector<std::byte> packed;
  Status status = pack(model, {{{"gain"}}, 0, TensorFormat::kBF16, 1, 64, Packing::kVectorF32}, &packed);
  ASSERT_TRUE(status.ok()) << status.to_string();
  ASSERT_EQ(packed.size(), 256u);
  for (int64_t k = 0; k < 64; ++k) {
    float value;
    std::memcpy(&value, packed.data() + k * 4, 4);
    EXPECT_EQ(value, testing::stored_element(TensorFormat::kBF16, gain.data(), k));
  }
}

TEST_F(WeightPacker, JoinsVectorsElementByElement) {
  std::mt19937 random(4);
  std::vector<std::byte> a = testing::random_rows(TensorFormat::kF32, 1, 8, random);
  std::vector<std::byte> b = testing::random_rows(TensorFormat::kF32, 1, 8, random);
  FakeModel model;
  model.add("a", TensorFormat::kF32, {8}, a);
  model.add("b", TensorFormat::kF32, {8}, b);
  std::vector<std::byte> packed, expected;
  for (int run = 0; run < 2; ++run)
    for (const auto *piece : {&a, &b})
      for (int i = 0; i < 16; ++i)
        expected.push_back((*piece)[run * 16 + i]);
  Status status = pack(model, {{{"a"}, {"b"}}, 4, TensorFormat::kF32, 1, 16, Packing::kRowMajor}, &packed);
  ASSERT_TRUE(status.ok()) << status.to_string();
  EXPECT_TRUE(packed == expected);

  status = pack(model, {{{"a", 2, 5}}, 0, TensorFormat::kF32, 1, 3, Packing::kRowMajor}, &packed);
  ASSERT_TRUE(status.ok()) << status.to_string();
  EXPECT_TRUE(packed == std::vector<std::byte>(a.begin() + 8, a.begin() + 20));
}

TEST_F(WeightPacker, RefusesByName) {
  FakeModel model;
  std::mt19937 random(5);
  model.add("a", TensorFormat::kF32, {4, 8}, testing::random_rows(TensorFormat::kF32, 4, 8, random));
  EXPECT_EQ(pack(model, {{{"gone"}}, 0, TensorFormat::kF32, 4, 8, Packing::kPanels}, nullptr).message(),
            "tensor 'gone' is not in the model");
  EXPECT_EQ(pack(model, {{{"a"}}, 0, TensorFormat::kBF16, 4, 8, Packing::kPanels}, nullptr).message(),
            "tensor 'a' is f32, the plan expects bf16");
  EXPECT_EQ(pack(model, {{{"a", 2, 5}}, 0, TensorFormat::kF32, 3, 8, Packing::kPanels}, nullptr).message(),
            "tensor 'a' has no rows 2 to 5");
  EXPECT_EQ(pack(model, {{{"a"}}, 0, TensorFormat::kF32, 5, 8, Packing::kPanels}, nullptr).message(),
            "'a': the pieces have 4 rows, the plan expects 5");
  EXPECT_FALSE(std::filesystem::exists(path_)) << "a failed plan leaves no file";
}

// Memory must not grow with the tensor: 128 MiB through buffers of a few.
TEST_F(WeightPacker, MemoryIsBounded) {
  FakeModel model;
  model.add_endless("big", {16384, 4096});
  auto peak = [] {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;  // KiB
  };
  const int64_t before = peak();
  Status status = pack(model, {{{"big"}}, 0, TensorFormat::kBF16, 16384, 4096, Packing::kPanels}, nullptr);
  ASSERT_TRUE(status.ok()) << status.to_string();
  EXPECT_GT(std::filesystem::file_size(path_), uint64_t{128} << 20);
  EXPECT_LE(model.largest_read(), uint64_t{16} << 20);
  EXPECT_LT(peak() - before, 64 * 1024);
}

}  // namespace
}  // namespace mili
