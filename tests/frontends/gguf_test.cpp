#include "support.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace mili;
using namespace mili::test;
using nlohmann::json;
using testing::HasSubstr;

namespace {

constexpr uint32_t kF32 = 0, kQ4_0 = 2, kQ6_K = 14;

// A small valid file: metadata, two tensors.
GgufFile valid() {
  GgufFile file;
  file.string("general.architecture", "llama").string("general.name", "").u32("llama.block_count", 2);
  file.tensor("a", {8, 2}, kF32, 0).tensor("b", {32}, kQ4_0, 64);
  file.data_bytes = 64 + 18;
  return file;
}

StatusOr<std::unique_ptr<ModelFile>> open(const TempFolder &folder, const std::string &bytes) {
  return ModelFile::open(folder.write("m.gguf", bytes));
}

TEST(Gguf, ReadsWhatTheReferencePackageWrote) {
  auto model = ModelFile::open(data("tiny.gguf"));
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  const json expected = read_json(data("tiny.json"));
  ASSERT_EQ((*model)->tensors().size(), expected.size());
  EXPECT_EQ((*model)->kind(), ModelFileKind::kGguf);
  for (const TensorInfo &tensor : (*model)->tensors()) {
    SCOPED_TRACE(tensor.name);
    const json &want = expected.at(tensor.name);
    EXPECT_EQ(tensor_format_info(tensor.format).name, want["format"].get<std::string>());
    EXPECT_EQ(tensor.shape, want["shape"].get<std::vector<uint64_t>>());
    EXPECT_EQ(tensor.offset, want["offset"].get<uint64_t>());
    EXPECT_EQ(tensor.size, want["bytes"].get<uint64_t>());
    std::vector<std::byte> bytes(tensor.size);
    ASSERT_TRUE((*model)->read(tensor, 0, bytes).ok());
    char hash[17];
    std::snprintf(hash, sizeof(hash), "%016llx", static_cast<unsigned long long>(fnv1a(bytes)));
    EXPECT_EQ(hash, want["fnv1a"].get<std::string>());
    // In pieces, the same.
    std::vector<std::byte> pieces(tensor.size);
    for (size_t at = 0; at < pieces.size(); at += 7)
      ASSERT_TRUE(
          (*model)->read(tensor, at, std::span(pieces).subspan(at, std::min<size_t>(7, pieces.size() - at))).ok());
    EXPECT_EQ(pieces, bytes);
  }
}

TEST(Gguf, ConfigHoldsEveryTypeOfMetadata) {
  auto model = ModelFile::open(data("tiny.gguf"));
  ASSERT_TRUE(model.ok());
  const json &config = (*model)->config();
  EXPECT_EQ((*model)->name(), "Tiny, with ünïcode");
  EXPECT_EQ(config["t.u8"], 255);
  EXPECT_EQ(config["t.i8"], -128);
  EXPECT_EQ(config["t.u16"], 65535);
  EXPECT_EQ(config["t.i16"], -32768);
  EXPECT_EQ(config["t.u32"], 4294967295u);
  EXPECT_EQ(config["t.i32"], std::numeric_limits<int32_t>::min());
  EXPECT_EQ(config["t.u64"].get<uint64_t>(), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(config["t.i64"].get<int64_t>(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(config["t.f32"], 0.5);
  EXPECT_EQ(config["t.f64"], 1e-300);
  EXPECT_EQ(config["t.true"], true);
  EXPECT_EQ(config["t.false"], false);
  EXPECT_EQ(config["t.ints"], json({1, -2, 3}));
  EXPECT_EQ(config["t.floats"], json({0.25, -8.0}));
  EXPECT_EQ(config["t.bools"], json({true, false, true}));
  EXPECT_EQ(config["t.strings"], json({"a", "", "żółć"}));
  EXPECT_EQ(config["t.nested"], json({{1, 2}, {3}}));
  EXPECT_FALSE(config.contains("t.long")) << "arrays of more than 4096 elements stay out";
  EXPECT_EQ(config["general.alignment"], 64);
}

TEST(Gguf, Version2AndTheEndsOfAText) {
  TempFolder folder;
  GgufFile file = valid();
  file.version = 2;
  file.u32("tokenizer.ggml.eos_token_id", 7)
      .u32("tokenizer.ggml.eot_token_id", 9)
      .u32("tokenizer.ggml.eom_token_id", 7);
  auto model = open(folder, file.bytes());
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  EXPECT_EQ((*model)->generation_config(), json({{"eos_token_id", {7, 9}}}));
  EXPECT_EQ((*model)->name(), "m");
  const TensorInfo *a = (*model)->find("a");
  ASSERT_TRUE(a);
  EXPECT_EQ(a->shape, (std::vector<uint64_t>{2, 8}));
  EXPECT_EQ(a->row_bytes(), 32u);
  EXPECT_EQ(a->elements(), 16u);
  EXPECT_EQ((*model)->find("c"), nullptr);
}

struct BadFile {
  const char *name;
  std::function<void(GgufFile &)> change;  // of valid()
  const char *message;
  StatusCode code = StatusCode::kDataLoss;
};

TEST(Gguf, RefusesContradictions) {
  constexpr uint64_t kHuge = uint64_t{1} << 62;
  const BadFile table[] = {
      {"magic", [](GgufFile &f) { f.magic = "GGML"; }, R"(found "GGML" at byte 0)"},
      {"version 1", [](GgufFile &f) { f.version = 1; }, "GGUF version 1 (byte 4), supported are 2 and 3",
       StatusCode::kUnimplemented},
      {"version 4", [](GgufFile &f) { f.version = 4; }, "GGUF version 4", StatusCode::kUnimplemented},
      {"big-endian", [](GgufFile &f) { f.version = 0x03000000; }, "a big-endian GGUF file", StatusCode::kUnimplemented},
      {"metadata count", [](GgufFile &f) { f.metadata_count = 1000; }, "byte 16: 1000 metadata entries do not fit"},
      {"metadata count 2^62", [](GgufFile &f) { f.metadata_count = int64_t{1} << 62; }, "metadata entries do not fit"},
      {"tensor count", [](GgufFile &f) { f.tensor_count = 1000; }, "byte 8: 1000 tensors do not fit"},
      {"tensor count 2^62", [](GgufFile &f) { f.tensor_count = int64_t{1} << 62; }, "tensors do not fit"},
      {"one tensor more", [](GgufFile &f) { f.tensor_count = 3; }, R"(tensor 3 of 3)"},
      {"key length", [](GgufFile &f) { f.key("", 4).metadata.raw("abcd"); }, "metadata entry 4 of 4: the key is empty"},
      {"long key", [](GgufFile &f) { f.string(std::string(70000, 'k'), ""); }, "70000 bytes long, at most 65535"},
      {"key of 2^63 bytes",
       [](GgufFile &f) {
         f.metadata.put<uint64_t>(kHuge * 2);
         f.metadata_count = 4;
       },
       "at most 65535 are accepted"},
      {"string beyond the file", [](GgufFile &f) { f.key("s", 8).metadata.put<uint64_t>(100000); },
       R"(metadata "s" takes 100000 bytes, but the file ends after)"},
      {"string of 2^62 bytes", [](GgufFile &f) { f.key("s", 8).metadata.put<uint64_t>(kHuge); },
       R"(metadata "s" is 4611686018427387904 bytes long)"},
      {"not UTF-8", [](GgufFile &f) { f.string("s", "\xC3("); }, R"(metadata "s" is not UTF-8)"},
      {"overlong UTF-8", [](GgufFile &f) { f.string("s", "\xC0\x80"); }, "is not UTF-8"},
      {"surrogate", [](GgufFile &f) { f.string("s", "\xED\xA0\x80"); }, "is not UTF-8"},
      {"key twice", [](GgufFile &f) { f.u32("llama.block_count", 3); },
       R"(metadata "llama.block_count" appears twice)"},
      {"type", [](GgufFile &f) { f.key("k", 13).metadata.put<uint32_t>(0); }, "has the type 13, known are 0 to 12"},
      {"type 2^32-1", [](GgufFile &f) { f.key("k", 0xFFFFFFFF).metadata.put<uint32_t>(0); }, "has the type 4294967295"},
      {"bool", [](GgufFile &f) { f.key("k", 7).metadata.put<uint8_t>(2); }, "a bool must be 0 or 1, found 2"},
      {"bool in an array",
       [](GgufFile &f) { f.key("k", 9).metadata.put<uint32_t>(7).put<uint64_t>(2).put<uint8_t>(1).put<uint8_t>(9); },
       "a bool must be 0 or 1, found 9"},
      {"array count", [](GgufFile &f) { f.key("k", 9).metadata.put<uint32_t>(4).put<uint64_t>(1000); },
       "claims 1000 elements of at least 4 bytes"},
      {"array count that overflows", [](GgufFile &f) { f.key("k", 9).metadata.put<uint32_t>(10).put<uint64_t>(kHuge); },
       "claims 4611686018427387904 elements of at least 8 bytes"},
      {"array of strings", [](GgufFile &f) { f.key("k", 9).metadata.put<uint32_t>(8).put<uint64_t>(1 << 20); },
       "claims 1048576 elements of at least 8 bytes"},
      {"array of arrays", [](GgufFile &f) { f.key("k", 9).metadata.put<uint32_t>(9).put<uint64_t>(1 << 20); },
       "claims 1048576 elements of at least 12 bytes"},
      {"deep arrays",
       [](GgufFile &f) {
         f.key("k", 9);
         for (int i = 0; i < 1000; ++i)
           f.metadata.put<uint32_t>(9).put<uint64_t>(1);
       },
       "arrays nested deeper than 4"},
      {"alignment 0", [](GgufFile &f) { f.u32("general.alignment", 0); },
       "expected a power of two between 8 and 1048576"},
      {"alignment 24", [](GgufFile &f) { f.u32("general.alignment", 24); }, "found 24"},
      {"alignment 2^31", [](GgufFile &f) { f.u32("general.alignment", 1u << 31); }, "found 2147483648"},
      {"alignment as text", [](GgufFile &f) { f.string("general.alignment", "32"); }, "expected a power of two"},
      {"split model", [](GgufFile &f) { f.key("split.count", 2).metadata.put<uint16_t>(3); },
       "one part of a split GGUF model (split.count = 3)", StatusCode::kUnimplemented},
      {"quantization version", [](GgufFile &f) { f.u32("general.quantization_version", 1); },
       "general.quantization_version 1, supported is 2", StatusCode::kUnimplemented},
      {"tensor name", [](GgufFile &f) { f.tensor("", {8}, kF32, 0); }, "tensor 3 of 3: the name is empty"},
      {"long tensor name", [](GgufFile &f) { f.tensor(std::string(600, 'n'), {8}, kF32, 0); }, "at most 512"},
      {"tensor twice", [](GgufFile &f) { f.tensor("a", {1}, kF32, 64); }, R"(two tensors are called "a")"},
      {"no dimensions", [](GgufFile &f) { f.tensor("c", {}, kF32, 0); }, R"(tensor "c" has 0 dimensions)"},
      {"five dimensions", [](GgufFile &f) { f.tensor("c", {1, 1, 1, 1, 1}, kF32, 0); },
       "has 5 dimensions, expected 1 to 4"},
      {"2^32-1 dimensions",
       [](GgufFile &f) {
         f.tensors.str("c").put<uint32_t>(0xFFFFFFFF).raw(std::string(64, '\0'));
         f.tensor_count = 3;
       },
       "has 4294967295 dimensions"},
      {"dimension of zero", [](GgufFile &f) { f.tensor("c", {8, 0}, kF32, 0); },
       "shape [0, 8] has a dimension of zero"},
      {"dimensions overflow", [](GgufFile &f) { f.tensor("c", {kHuge, 8}, kF32, 0); }, "does not fit 63 bits"},
      // The product wraps to a small number: 2^33 * 2^33 = 2^66.
      {"dimensions wrap", [](GgufFile &f) { f.tensor("c", {uint64_t{1} << 33, uint64_t{1} << 33}, kF32, 0); },
       "the number of elements does not fit 63 bits"},
      {"elements fit, bytes do not", [](GgufFile &f) { f.tensor("c", {uint64_t{1} << 62}, kF32, 0); },
       "the size in bytes does not fit 63 bits"},
      {"bytes need 64 bits", [](GgufFile &f) { f.tensor("c", {uint64_t{1} << 61}, kF32, 0); },
       "the size in bytes does not fit 63 bits"},
      {"half a block", [](GgufFile &f) { f.tensor("c", {48}, kQ4_0, 0); },
       "the row length 48 is not a multiple of the 32"},
      {"blocks across rows", [](GgufFile &f) { f.tensor("c", {128, 2}, kQ6_K, 0); }, "not a multiple of the 256"},
      {"type Q4_K", [](GgufFile &f) { f.tensor("c", {256}, 12, 0); }, R"(tensor "c" has the type Q4_K; supported are)",
       StatusCode::kUnimplemented},
      {"type IQ1_M", [](GgufFile &f) { f.tensor("c", {256}, 29, 0); }, "the type IQ1_M", StatusCode::kUnimplemented},
      {"unknown type", [](GgufFile &f) { f.tensor("c", {256}, 1000, 0); },
       "has the type 1000, which is no type of ggml"},
      {"offset out of line", [](GgufFile &f) { f.tensor("c", {1}, kF32, 68); },
       "the offset 68 is not a multiple of 32"},
      {"beyond the file", [](GgufFile &f) { f.tensor("c", {1}, kF32, 128); }, "the data has 82 bytes"},
      {"size beyond the file", [](GgufFile &f) { f.tensor("c", {1 << 20}, kF32, 0); },
       R"(tensor "c" [1048576] takes 4194304 bytes from byte 0 of the data, but the data has 82 bytes)"},
      {"offset + size overflows", [](GgufFile &f) { f.tensor("c", {8}, kF32, 0xFFFFFFFFFFFFFFE0); }, "it is truncated"},
      {"overlap", [](GgufFile &f) { f.tensor("c", {8}, kF32, 32); }, R"(tensors "a" (bytes)"},
      {"same place", [](GgufFile &f) { f.tensor("c", {8, 2}, kF32, 0); }, "overlap"},
  };
  TempFolder folder;
  ASSERT_TRUE(open(folder, valid().bytes()).ok());
  for (const BadFile &bad : table) {
    SCOPED_TRACE(bad.name);
    GgufFile file = valid();
    bad.change(file);
    const std::string bytes = file.bytes();
    expect_error(open(folder, bytes), bad.code, bad.message);
    EXPECT_FALSE(survives(folder.path("m.gguf")));
  }
}

TEST(Gguf, HeadersOfMoreThan100MegabytesAreRefused) {
  TempFolder folder;
  GgufFile file = valid();
  file.key("big", 9).metadata.put<uint32_t>(4).put<uint64_t>(uint64_t{30} << 20);
  const std::string path = folder.write("m.gguf", file.bytes());
  // Without data blocks: the file is as big as the array needs, the disk is not.
  std::filesystem::resize_file(path, uint64_t{200} << 20);
  expect_error(ModelFile::open(path), StatusCode::kDataLoss, "100 MB that a header may have");
}

TEST(Gguf, TruncatedAnywhere) {
  TempFolder folder;
  const std::string bytes = read_file(data("tokenizers/qwen2.gguf"));
  const std::string path = folder.write("m.gguf", bytes);
  for (size_t size = bytes.size(); size-- > 0;) {
    std::filesystem::resize_file(path, size);
    // Only the padding behind the header may go.
    const bool accepted = survives(path);
    EXPECT_TRUE(!accepted || size > bytes.size() - 32) << size;
    if (HasFailure())
      FAIL() << "at " << size << " bytes";
  }
  GgufFile file = valid();
  const std::string small = file.bytes();
  folder.write("m.gguf", small);
  for (size_t size = small.size(); size-- > 0;) {
    std::filesystem::resize_file(path, size);
    EXPECT_FALSE(survives(path)) << size;
  }
}

void flip_every_bit(const std::string &path, size_t count) {
  const int fd = ::open(path.c_str(), O_RDWR);
  ASSERT_GE(fd, 0);
  for (size_t i = 0; i < count; ++i) {
    unsigned char byte;
    ASSERT_EQ(::pread(fd, &byte, 1, static_cast<off_t>(i)), 1);
    for (int bit = 0; bit < 8; ++bit) {
      const unsigned char flipped = byte ^ static_cast<unsigned char>(1 << bit);
      ASSERT_EQ(::pwrite(fd, &flipped, 1, static_cast<off_t>(i)), 1);
      survives(path);
      if (testing::Test::HasFailure()) {
        ADD_FAILURE() << "byte " << i << ", bit " << bit;
        ::close(fd);
        return;
      }
    }
    ASSERT_EQ(::pwrite(fd, &byte, 1, static_cast<off_t>(i)), 1);
  }
  ::close(fd);
}

TEST(Gguf, AnyBitOfTheHeaderFlipped) {
  TempFolder folder;
  GgufFile file = valid();
  const std::string path = folder.write("m.gguf", file.bytes());
  flip_every_bit(path, file.bytes().size() - file.data_bytes);
  // The beginning and, behind the vocabulary, the end of a file with a tokenizer.
  const std::string tokenizer = read_file(data("tokenizers/llama-bpe.gguf"));
  flip_every_bit(folder.write("t.gguf", tokenizer), 400);
}

TEST(Gguf, EveryFieldOverwrittenByExtremes) {
  TempFolder folder;
  const std::string bytes = valid().bytes();
  const std::string path = folder.path("m.gguf");
  for (size_t at = 4; at + 8 <= bytes.size(); ++at)
    for (uint64_t value : {uint64_t{0}, ~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 31, uint64_t{0xFFFFFFFF},
                           (uint64_t{1} << 61) + 1}) {
      std::string changed = bytes;
      std::memcpy(changed.data() + at, &value, 8);
      folder.write("m.gguf", changed);
      survives(path);
      if (HasFailure())
        FAIL() << "at byte " << at << ", value " << value;
    }
}

TEST(Gguf, AFileThatShrinksIsAnError) {
  TempFolder folder;
  auto model = open(folder, valid().bytes());
  ASSERT_TRUE(model.ok());
  std::filesystem::resize_file(folder.path("m.gguf"), 100);
  std::vector<std::byte> bytes(18);
  const Status status = (*model)->read(*(*model)->find("b"), 0, bytes);
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("it was changed meanwhile"));
}

TEST(Gguf, ReadsStayInsideTheTensor) {
  TempFolder folder;
  auto model = open(folder, valid().bytes());
  ASSERT_TRUE(model.ok());
  const TensorInfo &tensor = *(*model)->find("b");
  std::vector<std::byte> bytes(18);
  EXPECT_TRUE((*model)->read(tensor, 0, bytes).ok());
  EXPECT_EQ((*model)->read(tensor, 1, bytes).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ((*model)->read(tensor, ~uint64_t{0}, bytes).code(), StatusCode::kInvalidArgument);
  TensorInfo foreign = tensor;
  foreign.file = 1;
  EXPECT_EQ((*model)->read(foreign, 0, bytes).code(), StatusCode::kInvalidArgument);
}

TEST(ModelFile, RefusesWhatIsNoModel) {
  TempFolder folder;
  expect_error(ModelFile::open(folder.path("nothing.gguf")), StatusCode::kNotFound, "nothing.gguf: cannot be opened");
  expect_error(ModelFile::open(folder.path()), StatusCode::kNotFound, "it has no config.json");
  expect_error(ModelFile::open(folder.write("short.gguf", "GG")), StatusCode::kDataLoss, "2 bytes, too short");
  expect_error(ModelFile::open(folder.write("x.bin", "PK\x03\x04zip")), StatusCode::kDataLoss, "expected a GGUF file");
  expect_error(ModelFile::open(folder.write("model.safetensors", "")), StatusCode::kInvalidArgument,
               "name the model's folder");
  ASSERT_EQ(::mkfifo(folder.path("pipe").c_str(), 0600), 0);
  expect_error(ModelFile::open(folder.path("pipe")), StatusCode::kInvalidArgument, "found a device or pipe");
}

TEST(ModelFile, TensorFormats) {
  for (int i = 0; i <= static_cast<int>(TensorFormat::kQ6_K); ++i) {
    const auto format = static_cast<TensorFormat>(i);
    auto found = tensor_format_from_name(tensor_format_info(format).name);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(*found, format);
  }
  EXPECT_EQ(tensor_format_info(TensorFormat::kQ6_K).block_bytes, 210u);
  expect_error(tensor_format_from_name("q3_k"), StatusCode::kNotFound, R"(no tensor format is called "q3_k")");
}

}  // namespace
