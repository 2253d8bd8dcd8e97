// NVRTC behind our declarations, and the cache of images on disk.
#include "cuda/kernel_compiler.h"
#include "need_nvrtc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sys/stat.h>
#include <unistd.h>

namespace mili::cuda {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class KernelCompiler : public testing::Test {
protected:
  void SetUp() override {
    static std::atomic<int> count = 0;
    folder = testing::TempDir() + "mili-kernels-" + std::to_string(getpid()) + "-" + std::to_string(count++);
  }
  void TearDown() override { fs::remove_all(folder); }

  std::string folder;
  std::vector<SourceText> headers = {{"size.h", "#define SIZE 64\n"}};
  SourceText unit = {"copy", "#include \"size.h\"\nextern \"C\" __global__ void copy(float *a) {\n"
                             "  __shared__ float s[SIZE];\n  s[threadIdx.x] = a[threadIdx.x];\n  __syncthreads();\n"
                             "  a[threadIdx.x] = s[SIZE - 1 - threadIdx.x];\n}\n"};
};

TEST_F(KernelCompiler, Architectures) {
  EXPECT_EQ(architecture_for(8, 0), "sm_80");
  EXPECT_EQ(architecture_for(8, 9), "sm_89");
  EXPECT_EQ(architecture_for(9, 0), "sm_90a");
  EXPECT_EQ(architecture_for(10, 0), "sm_100a");
  EXPECT_TRUE(runs_on("sm_90a", 9, 0));
  EXPECT_TRUE(runs_on("sm_80", 8, 6));
  EXPECT_FALSE(runs_on("sm_86", 8, 0));
  EXPECT_FALSE(runs_on("sm_80", 9, 0));
  EXPECT_FALSE(runs_on("sm_90a", 10, 0));
  for (const char *odd : {"", "sm_", "sm_9", "sm_9x", "compute_80", "sm_100a0"})
    EXPECT_FALSE(runs_on(odd, 9, 0)) << odd;
}

TEST_F(KernelCompiler, CacheReturnsWhatWasWritten) {
  const DiskCache cache(folder + "/deep/down");
  EXPECT_TRUE(cache.read("a").image.empty());
  cache.write("a", {"an image", {40, 8, 16, 128}});
  const KernelImage back = cache.read("a");
  EXPECT_EQ(back.image, "an image");
  EXPECT_EQ(back.resources.registers, 40u);
  EXPECT_EQ(back.resources.spilled, 8u);
  EXPECT_EQ(back.resources.stack, 16u);
  EXPECT_EQ(back.resources.shared, 128u);
  // Nothing temporary stays behind.
  EXPECT_EQ(std::distance(fs::directory_iterator(folder + "/deep/down"), fs::directory_iterator()), 1);
}

TEST_F(KernelCompiler, ADamagedEntryIsNoEntry) {
  const DiskCache cache(folder);
  cache.write("a", {std::string(1000, 'x'), {}});
  const auto size = fs::file_size(folder + "/a");
  for (uint64_t at : {uint64_t{0}, uint64_t{9}, uint64_t{40}, size - 1}) {
    cache.write("a", {std::string(1000, 'x'), {}});
    ASSERT_FALSE(cache.read("a").image.empty());
    std::fstream file(folder + "/a", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at));
    file.put('\x7f');
    file.close();
    EXPECT_TRUE(cache.read("a").image.empty()) << "byte " << at;
  }
  for (uint64_t left : {uint64_t{0}, uint64_t{7}, uint64_t{20}, size - 1}) {
    cache.write("a", {std::string(1000, 'x'), {}});
    fs::resize_file(folder + "/a", left);
    EXPECT_TRUE(cache.read("a").image.empty()) << left << " bytes left";
  }
}

TEST_F(KernelCompiler, ACacheThatCannotBeWrittenIsNoError) {
  std::ofstream(folder) << "a file where the folder should be";
  const DiskCache cache(folder + "/x");
  cache.write("a", {"an image", {}});
  EXPECT_TRUE(cache.read("a").image.empty());
  const DiskCache off("off");
  off.write("a", {"an image", {}});
  EXPECT_TRUE(off.read("a").image.empty());
}

TEST_F(KernelCompiler, KeysDependOnEverythingThatTheImageDependsOn) {
  const std::string key = DiskCache::key(headers, unit, "sm_80", "13.0");
  EXPECT_EQ(DiskCache::key(headers, unit, "sm_80", "13.0"), key);
  EXPECT_NE(DiskCache::key(headers, unit, "sm_90a", "13.0"), key);
  EXPECT_NE(DiskCache::key(headers, unit, "sm_80", "13.1"), key);
  auto other = headers;
  other[0].text += " ";
  EXPECT_NE(DiskCache::key(other, unit, "sm_80", "13.0"), key);
  other = headers;
  other[0].name = "sizes.h";
  EXPECT_NE(DiskCache::key(other, unit, "sm_80", "13.0"), key);
  SourceText changed = unit;
  changed.text += " ";
  EXPECT_NE(DiskCache::key(headers, changed, "sm_80", "13.0"), key);
}

TEST_F(KernelCompiler, CompilesInParallelAndReports) {
  MILI_NEED_NVRTC(nvrtc);
  std::vector<SourceText> units;
  std::vector<const SourceText *> pointers;
  for (int i = 0; i < 6; ++i) {
    units.push_back(unit);
    units.back().name = "copy" + std::to_string(i);
  }
  for (const SourceText &one : units)
    pointers.push_back(&one);
  for (const char *arch : {"sm_80", "sm_90a", "sm_100a"}) {
    double seconds = 0;
    auto images = compile_units(**nvrtc, headers, pointers, arch, 3, &seconds);
    ASSERT_TRUE(images.ok()) << images.status().to_string();
    ASSERT_EQ(images->size(), units.size());
    EXPECT_GT(seconds, 0);
    for (const KernelImage &image : *images) {
      EXPECT_EQ(image.image.substr(1, 3), "ELF");
      EXPECT_GE(image.resources.registers, 4u);
      EXPECT_EQ(image.resources.shared, 256u);  // 64 floats
      EXPECT_EQ(image.resources.spilled, 0u);
    }
  }
}

TEST_F(KernelCompiler, AMistakeIsNamedWithItsLine) {
  MILI_NEED_NVRTC(nvrtc);
  unit.text += "int x = nothing;\n";
  Status status = compile_unit(**nvrtc, headers, unit, "sm_80").status();
  EXPECT_EQ(status.code(), StatusCode::kInternal);
  EXPECT_THAT(status.message(), HasSubstr("refuses kernel \"copy\" for sm_80"));
  EXPECT_THAT(status.message(), HasSubstr("copy.cu(8)"));
  EXPECT_THAT(status.message(), HasSubstr("nothing"));
  EXPECT_FALSE(compile_unit(**nvrtc, {}, unit, "sm_80").ok()) << "a header is missing";
  EXPECT_FALSE(compile_unit(**nvrtc, headers, unit, "sm_7").ok()) << "no such architecture";
}

}  // namespace
}  // namespace mili::cuda
