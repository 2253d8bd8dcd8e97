// Products and embeddings against double precision, in both variants. Activations of quantized weights are rounded to
// int8 by the reference too (symmetric, amax / 127 per 32), so that the tolerance stays that of f32 sums.
#include "blocks.h"
#include "cpu/PanelLayout.h"
#include "kernel_harness.h"

#include "llvm/Support/FormatVariadic.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>

namespace mlir::mili::testing {
namespace {

using ::mili::TensorFormat;
using ::mili::testing::from_bf16;
using ::mili::testing::stored_element;
using ::mili::testing::to_bf16;

std::string name(TensorFormat format) {
  return std::string(::mili::tensor_format_info(format).name);
}
bool quantized(TensorFormat format) {
  return ::mili::tensor_format_info(format).block_elements > 1;
}
std::string matrixType(TensorFormat format, int64_t rows, int64_t columns) {
  std::string element = quantized(format) ? "!mili.block<" + name(format) + ">" : name(format);
  return llvm::formatv("tensor<{0}x{1}x{2}>", rows, columns, element);
}

/// Rows as the file stores them, and packed.
struct Matrix {
  Matrix(TensorFormat format, int64_t rows, int64_t columns, std::mt19937 &random)
      : format(format), rows(rows), columns(columns),
        stored(::mili::testing::random_rows(format, rows, columns, random)) {
    const auto panelFormat = static_cast<::mili::panel::Format>(format);
    const int64_t panelBytes = ::mili::panel::panelBytes(panelFormat, columns);
    packed.resize(::mili::panel::matrixBytes(panelFormat, rows, columns));
    for (int64_t p = 0; p * 16 < rows; ++p) {
      std::array<const std::byte *, 16> pointers{};
      for (int64_t r = 0; r < 16 && p * 16 + r < rows; ++r)
        pointers[r] = row(p * 16 + r);
      ::mili::panel::packPanel(panelFormat, columns, pointers, packed.data() + p * panelBytes);
    }
  }
  const std::byte *row(int64_t r) const {
    return stored.data() + r * ::mili::testing::stored_row_bytes(format, columns);
  }
  double at(int64_t r, int64_t k) const { return stored_element(format, row(r), k); }

  TensorFormat format;
  int64_t rows, columns;
  std::vector<std::byte> stored, packed;
};

/// Activations, f32 or bf16, as the arena holds them.
struct Rows {
  Rows(int64_t count, int64_t features, bool bf16, std::mt19937 &random) : features(features), bf16(bf16) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < count * features; ++i)
      values.push_back(normal(random));
    pack();
  }
  void pack() {
    for (float &v : values) {
      if (bf16)
        v = from_bf16(halves.emplace_back(to_bf16(v)));
    }
  }
  float at(int64_t t, int64_t k) const { return values[t * features + k]; }
  void *data() { return bf16 ? static_cast<void *>(halves.data()) : static_cast<void *>(values.data()); }

  int64_t features;
  bool bf16;
  std::vector<float> values;
  std::vector<uint16_t> halves;
};

/// A row as the product reads it.
std::vector<double> prepared(std::vector<float> row, bool quantize) {
  std::vector<double> out(row.begin(), row.end());
  for (size_t b = 0; quantize && b < row.size(); b += 32) {
    float amax = 0;
    for (size_t i = b; i < b + 32; ++i)
      amax = std::max(amax, std::fabs(row[i]));
    for (size_t i = b; i < b + 32; ++i)
      out[i] = amax == 0 ? 0 : std::nearbyintf(row[i] * (127 / amax)) * static_cast<double>(amax / 127);
  }
  return out;
}

struct Case {
  TensorFormat format;
  bool bf16;      // activations
  int64_t bound;  // tokens of the bucket
  int64_t rows, columns;
  std::string kind;  // "linear", "norm", "bias", "add", "logits"
  std::string symbol() const {
    return llvm::formatv("{0}_{1}_{2}_{3}_{4}x{5}", kind, name(format), bf16 ? "bf16" : "f32", bound, rows, columns);
  }
};

std::string groupText(const Case &c) {
  const std::string act = c.bf16 ? "bf16" : "f32";
  const std::string out = c.kind == "logits" ? "f32" : act;
  const std::string x = llvm::formatv("tensor<?x{0}x{1}>", c.columns, act),
                    y = llvm::formatv("tensor<?x{0}x{1}>", c.rows, out);
  const std::string stored = matrixType(c.format, c.rows, c.columns);
  const std::string plain = quantized(c.format) ? matrixType(TensorFormat::kF32, c.rows, c.columns) : stored;
  std::string functionArgs = "%x: " + x, values = "%x, %w", types = x + ", " + stored,
              blockArgs = "%bx: " + x + ", %bw: " + stored;
  std::string weights = "  %w = mili.weight \"w\" : " + stored + "\n", body;
  auto add = [&](const std::string &arg, const std::string &type) {
    values += ", %" + arg;
    types += ", " + type;
    blockArgs += ", %b" + arg + ": " + type;
  };
  if (quantized(c.format))
    body += "    %f = mili.dequant %bw : " + stored + " -> " + plain + "\n";
  const std::string w = quantized(c.format) ? "%f" : "%bw";
  std::string input = "%bx", result = "%y";
  if (c.kind == "norm") {
    const std::string type = llvm::formatv("tensor<{0}xf32>", c.columns);
    weights += "  %g = mili.weight \"g\" : " + type + "\n";
    add("g", type);
    body += "    %n = mili.rms_norm %bx, %bg eps 1.0e-5 : " + x + ", " + type + "\n";
    input = "%n";
  }
  if (c.kind == "bias") {
    const std::string type = llvm::formatv("tensor<{0}xf32>", c.rows);
    weights += "  %b = mili.weight \"b\" : " + type + "\n";
    add("b", type);
    body += "    %y = mili.linear " + input + ", " + w + " bias %bb : " + x + ", " + plain + ", " + type + " -> " + y +
            "\n";
  } else if (c.kind == "logits") {
    functionArgs += ", %batch: !mili.batch";
    add("batch", "!mili.batch");
    body += "    %y = mili.logits %bx, " + w + ", %bbatch : " + x + ", " + plain + " -> " + y + "\n";
  } else {
    body += "    %y = mili.linear " + input + ", " + w + " : " + x + ", " + plain + " -> " + y + "\n";
  }
  if (c.kind == "add") {
    functionArgs += ", %r: " + y;
    add("r", y);
    body += "    %s = mili.add %y, %br : " + y + "\n";
    result = "%s";
  }
  const std::string hero = c.kind == "logits" ? "mili.logits" : "mili.linear";
  return llvm::formatv(R"(
func.func @f_{0}({1}) -> {2} attributes {{mili.bucket = #mili.bucket<tokens = {3}, sequences = 1, logit_rows = {3}>} {{
{4}  %z = mili.group "{0}" hero "{5}" ins({6} : {7}) -> {2} {{
  ^bb0({8}):
{9}    mili.yield {10} : {2}
  }
  return %z : {2}
}
)",
                       c.symbol(), functionArgs, y, c.bound, weights, hero, values, types, blockArgs, body, result);
}

/// Runs a case for `tokens` tokens and compares every output; the rows behind must stay untouched.
void check(const KernelLibrary &library, const Case &c, int64_t tokens) {
  SCOPED_TRACE(::testing::Message() << c.symbol() << ", " << tokens << " tokens");
  std::mt19937 random(static_cast<uint32_t>(tokens));
  Matrix w(c.format, c.rows, c.columns, random);
  Rows x(tokens, c.columns, c.bf16, random), residual(tokens, c.rows, c.bf16, random);
  std::vector<float> gain(c.columns), bias(c.rows);
  for (float &g : gain)
    g = 0.5f + static_cast<float>(random() % 256) / 256;
  for (float &b : bias)
    b = static_cast<float>(random() % 256) / 64 - 2;

  std::vector<int32_t> wanted;
  for (int32_t t = 0; t < tokens; t += 1 + t % 3)
    wanted.push_back(t);
  const bool logits = c.kind == "logits", bf16Out = c.bf16 && !logits;
  const int64_t outRows = logits ? static_cast<int64_t>(wanted.size()) : tokens;
  ::mili::Batch batch;
  batch.tokens = tokens;
  batch.sequences = 1;
  batch.logit_rows = outRows;
  batch.logit_tokens = wanted.data();

  const int64_t size = bf16Out ? 2 : 4;
  std::vector<std::byte> out((outRows * c.rows + 16) * size, std::byte{0x7b});
  std::vector<void *> args = {x.data(), w.packed.data()};
  if (c.kind == "norm")
    args.push_back(gain.data());
  if (c.kind == "bias")
    args.push_back(bias.data());
  if (c.kind == "add")
    args.push_back(residual.data());
  args.push_back(out.data());
  library.run(c.symbol(), args, batch);

  for (int64_t r = 0; r < outRows; ++r) {
    const int64_t t = logits ? wanted[r] : r;
    std::vector<float> row(x.values.begin() + t * c.columns, x.values.begin() + (t + 1) * c.columns);
    if (c.kind == "norm") {
      double squares = 0;
      for (float v : row)
        squares += static_cast<double>(v) * v;
      const double factor = 1 / std::sqrt(squares / static_cast<double>(c.columns) + 1e-5);
      for (int64_t k = 0; k < c.columns; ++k)
        row[k] = static_cast<float>(row[k] * factor * gain[k]);
    }
    const std::vector<double> exact = prepared(row, quantized(c.format));
    for (int64_t n = 0; n < c.rows; ++n) {
      double sum = 0, magnitude = 0;
      for (int64_t k = 0; k < c.columns; ++k) {
        sum += exact[k] * w.at(n, k);
        magnitude += std::fabs(exact[k] * w.at(n, k));
      }
      if (c.kind == "bias")
        sum += bias[n];
      if (c.kind == "add")
        sum += residual.at(t, n);
      float got;
      if (bf16Out) {
        uint16_t bits;
        std::memcpy(&bits, &out[(r * c.rows + n) * 2], 2);
        got = from_bf16(bits);
      } else {
        std::memcpy(&got, &out[(r * c.rows + n) * 4], 4);
      }
      // Sums of f32 products; a norm whose last bit differs can round one int8 the other way.
      double tolerance = 2e-6 * (magnitude + 1) + (bf16Out ? std::fabs(sum) / 256 : 0);
      if (c.kind == "norm" && quantized(c.format))
        tolerance += 2.0 / 127 * magnitude / static_cast<double>(c.columns) * 4;
      ASSERT_NEAR(got, sum, tolerance) << "row " << r << " feature " << n;
    }
  }
  for (size_t i = out.size() - 16 * size; i < out.size(); ++i)
    ASSERT_EQ(out[i], std::byte{0x7b}) << "written past the result";
}

/// "x86_64_v3" for gtest.
std::string variantName(const ::testing::TestParamInfo<size_t> &info) {
  std::string out = codegen::cpuVariants()[info.param].name.str();
  std::replace(out.begin(), out.end(), '-', '_');
  return out;
}

class LinearTest : public ::testing::TestWithParam<size_t> {
protected:
  void checkAll(const std::vector<Case> &cases, const std::vector<int64_t> &tokens) {
    std::string text;
    for (const Case &c : cases)
      text += groupText(c);
    std::unique_ptr<KernelLibrary> library = KernelLibrary::compile(text, GetParam());
    ASSERT_NE(library, nullptr);
    if (!isSupported(GetParam()))
      GTEST_SKIP() << "this machine cannot run the variant; it was compiled";
    for (const Case &c : cases) {
      for (int64_t t : tokens) {
        if (t <= c.bound) {
          ASSERT_NO_FATAL_FAILURE(check(*library, c, t));
        }
      }
    }
  }
};

// Buckets of up to 16 tokens prepare rows in each worker, larger ones in a stage of their own.
TEST_P(LinearTest, EveryFormatAtEveryTokenCount) {
  std::vector<Case> cases;
  for (TensorFormat format : ::mili::testing::kAllFormats)
    for (int64_t bound : {16, 40})
      cases.push_back({format, false, bound, 53, quantized(format) ? 512 : 75, "linear"});
  checkAll(cases, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33});
}

TEST_P(LinearTest, Bf16Activations) {
  std::vector<Case> cases;
  for (TensorFormat format : {TensorFormat::kBF16, TensorFormat::kQ4_1, TensorFormat::kQ8_0})
    for (int64_t bound : {1, 40})
      cases.push_back({format, true, bound, 48, 64, "linear"});
  checkAll(cases, {1, 7, 33});
}

TEST_P(LinearTest, PrologueBiasAndResidual) {
  std::vector<Case> cases;
  for (const char *kind : {"norm", "bias", "add"})
    for (TensorFormat format : {TensorFormat::kF32, TensorFormat::kBF16, TensorFormat::kQ4_0})
      for (int64_t bound : {4, 40})
        cases.push_back({format, false, bound, 37, 96, kind});
  checkAll(cases, {1, 3, 17});
}

TEST_P(LinearTest, LogitsOfTheWantedRows) {
  std::vector<Case> cases;
  for (TensorFormat format : {TensorFormat::kF32, TensorFormat::kF16, TensorFormat::kQ6_K})
    for (int64_t bound : {1, 40})
      cases.push_back({format, false, bound, 61, 256, "logits"});
  cases.push_back({TensorFormat::kQ8_0, true, 40, 61, 256, "logits"});
  checkAll(cases, {1, 5, 33});
}

TEST_P(LinearTest, EmbeddingOfEveryFormat) {
  std::string text;
  const int64_t rows = 37;
  auto columnsOf = [](TensorFormat format) -> int64_t { return quantized(format) ? 512 : 70; };
  for (TensorFormat format : ::mili::testing::kAllFormats) {
    const std::string stored = matrixType(format, rows, columnsOf(format));
    const std::string plain = quantized(format) ? matrixType(TensorFormat::kF32, rows, columnsOf(format)) : stored;
    const std::string out = llvm::formatv("tensor<?x{0}xf32>", columnsOf(format));
    const std::string dequant = quantized(format) ? "%f = mili.dequant %w : " + stored + " -> " + plain : "";
    text += llvm::formatv(R"(
func.func @f_{0}(%ids: tensor<?xi32>) -> {1} attributes {{mili.bucket = #mili.bucket<tokens = 8, sequences = 1, logit_rows = 1>} {{
  %table = mili.weight "w" : {2}
  %z = mili.group "{0}" hero "mili.embedding" ins(%ids, %table : tensor<?xi32>, {2}) -> {1} {{
  ^bb0(%t: tensor<?xi32>, %w: {2}):
    {3}
    %e = mili.embedding %t, {4} : tensor<?xi32>, {5} -> {1}
    %s = mili.scale %e by 3.0 : {1}
    mili.yield %s : {1}
  }
  return %z : {1}
}
)",
                          name(format), out, stored, dequant, quantized(format) ? "%f" : "%w", plain);
  }
  std::unique_ptr<KernelLibrary> library = KernelLibrary::compile(text, GetParam());
  ASSERT_NE(library, nullptr);
  if (!isSupported(GetParam()))
    GTEST_SKIP() << "this machine cannot run the variant; it was compiled";
  std::mt19937 random(5);
  for (TensorFormat format : ::mili::testing::kAllFormats) {
    const int64_t columns = columnsOf(format);
    Matrix table(format, rows, columns, random);
    const std::vector<int32_t> ids = {36, 0, 15, 16, 31, 16, 7, 32};
    std::vector<float> out(ids.size() * columns);
    ::mili::Batch batch;
    batch.tokens = static_cast<int64_t>(ids.size());
    batch.token_ids = ids.data();
    // A table of plain elements that no head shares stays as the file has it.
    library->run(name(format), {quantized(format) ? table.packed.data() : table.stored.data(), out.data()}, batch);
    for (size_t t = 0; t < ids.size(); ++t)
      for (int64_t k = 0; k < columns; ++k) {
        const double expected = 3 * table.at(ids[t], k);
        ASSERT_NEAR(out[t * columns + k], expected, 1e-6 * (std::fabs(expected) + 1))
            << name(format) << " token " << t << " element " << k;
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, LinearTest, ::testing::Range<size_t>(0, codegen::cpuVariants().size()), variantName);

/// Occurrences of EVEX.512.66.0F38.W0 50 /r, vpdpbusd on 512-bit vectors.
int64_t countVpdpbusd(const std::string &object) {
  int64_t count = 0;
  for (size_t i = 0; i + 5 < object.size(); ++i) {
    auto byte = [&](size_t k) { return static_cast<uint8_t>(object[i + k]); };
    // 62, P0 with map 0F38, P1 with W0 and pp 66, P2 with L'L = 512, opcode 50.
    count += byte(0) == 0x62 && (byte(1) & 0x0f) == 2 && (byte(2) & 0x87) == 5 && (byte(3) & 0x60) == 0x40 &&
             byte(4) == 0x50;
  }
  return count;
}

TEST(LinearCode, QuantizedProductsUseVpdpbusdInTheVnniVariantAlone) {
  const std::string text = groupText({TensorFormat::kQ4_1, false, 1, 32, 64, "linear"});
  for (size_t variant = 0; variant < codegen::cpuVariants().size(); ++variant) {
    std::unique_ptr<KernelLibrary> library = KernelLibrary::compile(text, variant);
    ASSERT_NE(library, nullptr);
    if (codegen::cpuVariants()[variant].vnni)
      EXPECT_GE(countVpdpbusd(library->object()), 8) << "one for each four of 32 elements";
    else
      EXPECT_EQ(countVpdpbusd(library->object()), 0);
  }
}

}  // namespace
}  // namespace mlir::mili::testing
