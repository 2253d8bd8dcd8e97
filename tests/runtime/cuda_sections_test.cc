// CUDA_SOURCE and CUBINS sections of plans from strangers: read or refused, never a crash.
#include "cuda/kernel_loader.h"
#include "toy_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <random>
#include <unistd.h>

namespace mili {
namespace {

using testing::HasSubstr;

class CudaSections : public testing::Test {
protected:
  void SetUp() override {
    toy = toy::toy_cuda_plan();
    toy.cuda_images = {{"sm_80", {{"first", std::string(300, 'a')}, {"second", std::string(70, 'b')}}},
                       {"sm_90a", {{"first", std::string(200, 'c')}}}};
  }
  void TearDown() override { unlink(path.c_str()); }

  StatusOr<Plan> open() {
    EXPECT_TRUE(toy.write(path).ok());
    return Plan::open(path);
  }
  // Reads both kinds of sections of the plan as `toy` bends it; whether both were accepted.
  bool reads() {
    auto plan = open();
    EXPECT_TRUE(plan.ok()) << plan.status().to_string();
    auto sources = cuda::read_sources(*plan);
    uint64_t bytes = 0;
    if (sources.ok())
      for (const auto *list : {&sources->headers, &sources->units})
        for (const cuda::SourceText &text : *list)
          bytes += text.name.size() + text.text.size();
    std::string available;
    auto images = cuda::read_images(*plan, 8, 0, sources.ok() ? sources->hash : 0, available);
    if (images.ok())
      for (const auto &[unit, image] : *images)
        bytes += unit.size() + image.size();
    // What is returned is a copy of part of the file, so a length that was made up would show here or under ASan.
    EXPECT_LE(bytes, 4 * std::filesystem::file_size(path));
    for (const Status &status : {sources.status(), images.status()})
      if (!status.ok()) {
        EXPECT_EQ(status.code(), StatusCode::kDataLoss);
        EXPECT_THAT(status.message(), HasSubstr("not well formed"));
      }
    return sources.ok() && images.ok();
  }

  toy::ToyPlan toy;
  const std::string path = toy::temporary_path("cuda.mili");
};

TEST_F(CudaSections, ImagesOfTheArchitectureThatFits) {
  auto plan = open();
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  auto sources = cuda::read_sources(*plan);
  ASSERT_TRUE(sources.ok()) << sources.status().to_string();
  ASSERT_EQ(sources->units.size(), toy.cuda_units.size());
  EXPECT_EQ(sources->units[0].text, toy.cuda_units[0].second);
  std::string available;
  auto images = cuda::read_images(*plan, 8, 6, sources->hash, available);
  ASSERT_TRUE(images.ok()) << images.status().to_string();
  EXPECT_EQ(available, "sm_80, sm_90a");
  ASSERT_EQ(images->size(), 2u);
  EXPECT_EQ(images->at("second"), std::string(70, 'b'));
  EXPECT_EQ(cuda::read_images(*plan, 9, 0, sources->hash, available)->at("first"), std::string(200, 'c'));
  EXPECT_TRUE(cuda::read_images(*plan, 10, 0, sources->hash, available)->empty());
  EXPECT_TRUE(cuda::read_images(*plan, 8, 0, sources->hash + 1, available)->empty()) << "images of another source";
}

TEST_F(CudaSections, NoSourceIsSaidWithTheRemedy) {
  toy = toy::toy_plan();
  auto plan = open();
  ASSERT_TRUE(plan.ok());
  Status status = cuda::read_sources(*plan).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("--target cuda"));
}

TEST_F(CudaSections, BentBytesAreReadOrRefused) {
  std::mt19937 random(20261124);
  auto any = [&](size_t below) { return std::uniform_int_distribution<size_t>(0, below - 1)(random); };
  int refused = 0;
  for (int round = 0; round < 600; ++round) {
    const SectionKind kind = round % 2 ? SectionKind::kCudaSource : SectionKind::kCubins;
    toy.bend = [&](SectionKind bent, std::vector<std::byte> &bytes) {
      if (bent != kind)
        return;
      switch (any(4)) {
      case 0: bytes.resize(any(bytes.size()) + 1); break;
      case 1:  // the root's offset and the tables near it decide about everything else
        bytes[any(std::min<size_t>(bytes.size(), 64))] ^= std::byte(1 + any(255));
        break;
      case 2: {
        const uint32_t words[] = {
            0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffc, static_cast<uint32_t>(bytes.size())};
        std::memcpy(&bytes[any(bytes.size() / 4) * 4], &words[any(std::size(words))], 4);
        break;
      }
      default:
        for (size_t i = 0, count = 1 + any(16); i < count; ++i)
          bytes[any(bytes.size())] = std::byte(any(256));
      }
    };
    refused += !reads();
  }
  EXPECT_GT(refused, 100) << "the bends do not reach what is checked";
}

}  // namespace
}  // namespace mili
