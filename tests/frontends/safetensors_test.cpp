#include "support.h"

#include <fcntl.h>
#include <unistd.h>

using namespace mili;
using namespace mili::test;
using nlohmann::json;
using testing::HasSubstr;

namespace {

constexpr const char *kTwo = R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                             R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})";

// A folder with config.json and this model.safetensors.
StatusOr<std::unique_ptr<ModelFile>> open(const TempFolder &folder, const std::string &bytes) {
  folder.write("config.json", "{}");
  folder.write("model.safetensors", bytes);
  return ModelFile::open(folder.path());
}

void expect_tensors(const std::string &folder) {
  auto model = ModelFile::open(folder);
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  const json expected = read_json(folder + "/tensors.json");
  ASSERT_EQ((*model)->tensors().size(), expected.size());
  for (const TensorInfo &tensor : (*model)->tensors()) {
    SCOPED_TRACE(tensor.name);
    const json &want = expected.at(tensor.name);
    EXPECT_EQ(tensor_format_info(tensor.format).name, want["format"].get<std::string>());
    EXPECT_EQ(tensor.shape, want["shape"].get<std::vector<uint64_t>>());
    EXPECT_EQ(tensor.size, want["bytes"].get<uint64_t>());
    std::vector<std::byte> bytes(tensor.size);
    ASSERT_TRUE((*model)->read(tensor, 0, bytes).ok());
    char hash[17];
    std::snprintf(hash, sizeof(hash), "%016llx", static_cast<unsigned long long>(fnv1a(bytes)));
    EXPECT_EQ(hash, want["fnv1a"].get<std::string>());
  }
}

// Only matrices of one format and shape whose bytes agree to the last: probes at both ends and in the middle would miss
// a difference elsewhere.
TEST(Safetensors, NamesCopiesOfMatrices) {
  constexpr size_t kBytes = 3 << 20;
  const auto entry = [](const char *name, const char *type, const char *shape, size_t begin, size_t bytes) {
    return std::string("\"") + name + R"(":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":[)" +
           std::to_string(begin) + "," + std::to_string(begin + bytes) + "]}";
  };
  std::string header = "{";
  const char *names[] = {"first", "copy", "other", "wide", "whole"};
  for (size_t i = 0; i < 5; ++i)
    header += entry(names[i], i == 4 ? "BF16" : "F32",
                    i == 3   ? "[512,1536]"
                    : i == 4 ? "[1536,1024]"
                             : "[1536,512]",
                    i * kBytes, kBytes) +
              ",";
  header += entry("v", "F32", "[4]", 5 * kBytes, 16) + "," + entry("w", "F32", "[4]", 5 * kBytes + 16, 16) + "}";
  std::string bytes = safetensors_file(header, 5 * kBytes + 32);
  bytes[bytes.size() - 32 - 3 * kBytes + (2 << 20) + 77] ^= 1;  // of "other"
  TempFolder folder;
  auto model = open(folder, bytes);
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  const std::map<std::string, std::string> copies = {{"first", "copy"}};
  for (int times = 0; times < 2; ++times) {
    auto found = (*model)->duplicates();
    ASSERT_TRUE(found.ok()) << found.status().to_string();
    EXPECT_EQ(*found, copies);
  }
}

TEST(Safetensors, ReadsWhatTheReferencePackageWrote) {
  expect_tensors(data("hf-single"));
  expect_tensors(data("hf-sharded"));
  auto model = ModelFile::open(data("hf-sharded"));
  ASSERT_TRUE(model.ok());
  EXPECT_EQ((*model)->kind(), ModelFileKind::kHuggingFace);
  EXPECT_EQ((*model)->name(), "hf-sharded");
  EXPECT_EQ((*model)->config()["hidden_size"], 8);
  EXPECT_EQ((*model)->generation_config()["temperature"], 0.6);
  EXPECT_EQ((*model)->find("model.scale")->elements(), 1u) << "a scalar";
  expect_error((*model)->tokenizer(), StatusCode::kNotFound, "the model carries no tokenizer");
}

TEST(Safetensors, WeightsAreOptionalOnRequest) {
  TempFolder folder;
  folder.write("config.json", R"({"model_type": "llama"})");
  expect_error(ModelFile::open(folder.path()), StatusCode::kNotFound, "expected model.safetensors or");
  auto model = ModelFile::open(folder.path(), /*need_weights=*/false);
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  EXPECT_TRUE((*model)->tensors().empty());
  EXPECT_EQ((*model)->generation_config(), json::object());
  folder.write("pytorch_model.bin", "x");
  expect_error(ModelFile::open(folder.path()), StatusCode::kUnimplemented, "convert them to safetensors");
}

struct BadFile {
  const char *name;
  std::string bytes;
  const char *message;
  StatusCode code = StatusCode::kDataLoss;
};

std::string one(const char *entry, size_t data_bytes) {
  return safetensors_file(std::string(R"({"t":)") + entry + "}", data_bytes);
}

TEST(Safetensors, RefusesContradictions) {
  const BadFile table[] = {
      {"empty", "", "0 bytes, too short"},
      {"seven bytes", std::string(7, '\0'), "7 bytes, too short"},
      {"header of 0 bytes", std::string(8, '\0'), "the header must begin with '{'"},
      {"header beyond the file", safetensors_file("{}", 0, 3), "a header of 3 bytes, but the file has 10 bytes"},
      {"header of 2^63 bytes", safetensors_file("{}", 0, std::numeric_limits<int64_t>::max()), "at most 104857600"},
      {"header of 100 MB + 1", safetensors_file("{}", 0, (100 << 20) + 1), "at most 104857600"},
      {"space first", safetensors_file(" {}", 0), "the header must begin with '{'"},
      {"not JSON", safetensors_file("{]", 0), "not valid JSON at byte"},
      {"JSON ends early", safetensors_file(R"({"a":)", 0), "not valid JSON"},
      {"two values", safetensors_file("{}{}", 0), "not valid JSON"},
      {"invalid UTF-8", safetensors_file("{\"\xFF\":1}", 0), "not valid JSON"},
      {"deep", safetensors_file(R"({"a":{"b":[[[[[1]]]]]}})", 0), "nested deeper than 4"},
      {"tensor twice",
       safetensors_file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                        4),
       R"(the key "a" appears twice)"},
      {"field twice", one(R"({"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]})", 4),
       R"(the key "dtype" appears twice)"},
      {"metadata twice", safetensors_file(R"({"__metadata__":{},"__metadata__":{}})", 0), "appears twice"},
      {"metadata a number", safetensors_file(R"({"__metadata__":{"a":1}})", 0), "expected strings"},
      {"metadata a list", safetensors_file(R"({"__metadata__":[]})", 0), "expected an object"},
      {"entry a number", one("1", 0), R"(tensor "t": expected an object, found 1)"},
      {"unknown field", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"scale":1})", 4),
       R"(unknown field "scale")"},
      {"no dtype", one(R"({"shape":[1],"data_offsets":[0,4]})", 4), "field 'dtype': expected a string"},
      {"no shape", one(R"({"dtype":"F32","data_offsets":[0,4]})", 4), "field 'shape': expected an array"},
      {"no offsets", one(R"({"dtype":"F32","shape":[1]})", 4), "field 'data_offsets': expected two numbers"},
      {"three offsets", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4,4]})", 4), "expected two numbers"},
      {"dtype F64", one(R"({"dtype":"F64","shape":[1],"data_offsets":[0,8]})", 8), R"(the dtype "F64"; supported are)",
       StatusCode::kUnimplemented},
      {"dtype F8_E4M3", one(R"({"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]})", 1), R"(the dtype "F8_E4M3")",
       StatusCode::kUnimplemented},
      {"negative dimension", one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", 4),
       "expected sizes, found -1"},
      {"fractional dimension", one(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})", 4),
       "expected sizes, found 1.0"},
      {"dimension 2^64", one(R"({"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]})", 4),
       "expected sizes"},
      {"five dimensions", one(R"({"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[0,4]})", 4), "5 dimensions"},
      {"dimension of zero", one(R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})", 0), "has a dimension of zero"},
      {"dimensions wrap", one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]})", 4),
       "does not fit 63 bits"},
      {"bytes wrap", one(R"({"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]})", 4),
       "does not fit 63 bits"},
      {"size and offsets", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 8),
       "f32 [2] takes 8 bytes, but data_offsets [0,4] give it 4"},
      {"offsets swapped", one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 4),
       "expected a range within the 4"},
      {"offsets beyond the file", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 4),
       "expected a range within the 4 bytes of data, found [0,8]"},
      {"offsets of 2^64-1",
       one(R"({"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551615]})", 4),
       "expected a range within"},
      {"negative offset", one(R"({"dtype":"F32","shape":[1],"data_offsets":[-4,0]})", 4), "expected a range within"},
      {"overlap",
       safetensors_file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                        R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                        12),
       R"(tensors "a" (bytes)"},
      {"gap between",
       safetensors_file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                        12),
       "the tensors cover 8 of the 12 bytes"},
      {"gap before", one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", 8), "cover 4 of the 8 bytes"},
      {"gap behind", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", 5), "cover 4 of the 5 bytes"},
      {"empty name", safetensors_file(R"({"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
       "name of 0 bytes"},
  };
  TempFolder folder;
  ASSERT_TRUE(open(folder, safetensors_file(kTwo, 32)).ok());
  for (const BadFile &bad : table) {
    SCOPED_TRACE(bad.name);
    expect_error(open(folder, bad.bytes), bad.code, bad.message);
    EXPECT_FALSE(survives(folder.path()));
  }
}

TEST(Safetensors, TruncatedAnywhere) {
  TempFolder folder;
  folder.copy("hf-single");
  const std::string path = folder.path("model.safetensors");
  for (size_t size = std::filesystem::file_size(path); size-- > 0;) {
    std::filesystem::resize_file(path, size);
    expect_error(ModelFile::open(folder.path()), StatusCode::kDataLoss, "model.safetensors");
    if (HasFailure())
      FAIL() << "at " << size << " bytes";
  }
}

TEST(Safetensors, AnyBitOfTheHeaderFlipped) {
  TempFolder folder;
  folder.copy("hf-single");
  const std::string path = folder.path("model.safetensors"), bytes = read_file(path);
  uint64_t header;
  std::memcpy(&header, bytes.data(), 8);
  for (size_t i = 0; i < 8 + header; ++i)
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      folder.write("model.safetensors", changed);
      survives(folder.path());
      if (HasFailure())
        FAIL() << "byte " << i << ", bit " << bit;
    }
}

TEST(Safetensors, AFileThatShrinksIsAnError) {
  TempFolder folder;
  auto model = open(folder, safetensors_file(kTwo, 32));
  ASSERT_TRUE(model.ok());
  std::filesystem::resize_file(folder.path("model.safetensors"), 150);
  std::vector<std::byte> bytes(8);
  const Status status = (*model)->read(*(*model)->find("b"), 0, bytes);
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("it was changed meanwhile"));
}

// The header of a model that transformers wrote; its data is a hole in a file of the real size.
TEST(Safetensors, ReadsTheHeaderOfARealModel) {
  TempFolder folder;
  folder.write("config.json", "{}");
  const std::string path = folder.write("model.safetensors", read_file(data("llama-header.bin")));
  expect_error(ModelFile::open(folder.path()), StatusCode::kDataLoss, "expected a range within the 0 bytes of data");
  std::filesystem::resize_file(path, 1151832);
  auto model = ModelFile::open(folder.path());
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  EXPECT_EQ((*model)->tensors().size(), 30u);
  const TensorInfo *down = (*model)->find("model.layers.0.mlp.down_proj.weight");
  ASSERT_TRUE(down);
  EXPECT_EQ(down->shape, (std::vector<uint64_t>{128, 256}));
  EXPECT_EQ(down->format, TensorFormat::kBF16);
  EXPECT_TRUE(survives(folder.path()));
}

class Shards : public testing::Test {
protected:
  void SetUp() override {
    folder.copy("hf-sharded");
    index = read_json(index_path());
  }
  std::string index_path() const { return folder.path("model.safetensors.index.json"); }
  void refuse(const json &changed, const char *message, StatusCode code = StatusCode::kDataLoss) {
    folder.write("model.safetensors.index.json", changed.dump());
    expect_error(ModelFile::open(folder.path()), code, message);
  }

  TempFolder folder;
  json index;
};

TEST_F(Shards, NamesStayInTheFolder) {
  // The file exists where each name leads, so only the name can be the reason.
  TempFolder outside;
  outside.write("model-00001-of-00002.safetensors", read_file(folder.path("model-00001-of-00002.safetensors")));
  const std::string relative = "../" + std::filesystem::path(outside.path()).filename().string();
  std::filesystem::create_directory(folder.path("sub"));
  for (const std::string &name :
       {relative + "/model-00001-of-00002.safetensors", outside.path("model-00001-of-00002.safetensors"),
        std::string("sub/x.safetensors"), std::string("..\\x.safetensors"), std::string(".."), std::string("."),
        std::string(""), std::string(".hidden.safetensors"), std::string("x.bin"), std::string("x\0.safetensors", 14),
        std::string(300, 'x') + ".safetensors"}) {
    SCOPED_TRACE(name);
    json changed = index;
    changed["weight_map"]["model.embed_tokens.weight"] = name;
    refuse(changed, "expected the plain name of a .safetensors file in the same folder");
  }
}

TEST_F(Shards, LinksOfTheFolderItselfAreFollowed) {
  // As in Hugging Face's cache: snapshots/REV/model.safetensors -> ../../blobs/HASH.
  TempFolder blobs;
  const std::string name = "model-00001-of-00002.safetensors";
  std::filesystem::rename(folder.path(name), blobs.path("blob"));
  std::filesystem::create_symlink(blobs.path("blob"), folder.path(name));
  EXPECT_TRUE(ModelFile::open(folder.path()).ok());
  std::filesystem::remove(folder.path(name));
  std::filesystem::create_directory_symlink(blobs.path(), folder.path(name));
  expect_error(ModelFile::open(folder.path()), StatusCode::kInvalidArgument, "expected a regular file, found a folder");
  std::filesystem::remove(folder.path(name));
  std::filesystem::create_symlink(folder.path(name), folder.path(name));
  expect_error(ModelFile::open(folder.path()), StatusCode::kNotFound, "lists a file that cannot be read");
}

TEST_F(Shards, IndexAndShardsMustAgree) {
  json changed = index;
  changed["weight_map"].erase("model.norm.weight");
  refuse(changed, R"(model-00002-of-00002.safetensors" is missing from 'weight_map')");
  changed = index;
  changed["weight_map"]["model.norm.weight"] = "model-00001-of-00002.safetensors";
  refuse(changed, R"(puts the tensor "model.norm.weight" into "model-00001-of-00002.safetensors", but it is in)");
  changed = index;
  changed["weight_map"]["lm_head.weight"] = "model-00002-of-00002.safetensors";
  refuse(changed,
         R"(puts the tensor "lm_head.weight" into "model-00002-of-00002.safetensors", which does not have it)");
  changed = index;
  changed["weight_map"]["x"] = "model-00003-of-00003.safetensors";
  refuse(changed, "lists a file that cannot be read", StatusCode::kNotFound);
  refuse(json::object(), "non-empty object 'weight_map'");
  refuse(json::array(), "non-empty object 'weight_map'");
  refuse({{"weight_map", json::object()}}, "non-empty object 'weight_map'");
  refuse({{"weight_map", {{"a", 1}}}}, "expected file names, found 1");
  // The same tensor in both shards.
  folder.write("model-00001-of-00002.safetensors", read_file(folder.path("model-00002-of-00002.safetensors")));
  refuse(index, R"(puts the tensor)");
  folder.write("model.safetensors.index.json", R"({"weight_map": {"a": "a.safetensors", "a": "b.safetensors"}})");
  expect_error(ModelFile::open(folder.path()), StatusCode::kDataLoss, R"(the key "a" appears twice)");
}

TEST_F(Shards, IndexTruncatedAnywhere) {
  const std::string bytes = read_file(index_path());
  for (size_t size = bytes.rfind('}'); size-- > 0;) {
    folder.write("model.safetensors.index.json", bytes.substr(0, size));
    expect_error(ModelFile::open(folder.path()), StatusCode::kDataLoss, "model.safetensors.index.json");
  }
}

}  // namespace
