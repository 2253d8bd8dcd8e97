// The device suite on a GPU, and what only a GPU device does. Skipped, with the reason, where there is none.
#include "device_conformance.h"

#include "cuda/cuda_api.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <unistd.h>

namespace mili {
namespace {

using testing::HasSubstr;

CudaOptions uncached(bool graphs = true) {
  CudaOptions options;
  options.cache_dir = "off";
  options.graphs = graphs;
  return options;
}

// Why there is no GPU to test on; empty where there is one.
std::string absence() {
  auto device = create_cuda_device(uncached());
  if (!device.ok())
    return device.status().message();
  auto nvrtc = cuda::Nvrtc::get();
  return nvrtc.ok() ? std::string() : nvrtc.status().message();
}

DeviceUnderTest gpu(const std::string &name, bool graphs) {
  DeviceUnderTest device;
  device.name = name;
  device.cuda = true;
  device.absent = absence();
  device.make = [=]() -> std::unique_ptr<Device> {
    auto made = create_cuda_device(uncached(graphs));
    return made.ok() ? std::move(*made) : nullptr;
  };
  return device;
}

INSTANTIATE_TEST_SUITE_P(Cuda, DeviceConformance, testing::Values(gpu("graphs", true), gpu("launches", false)),
                         [](const auto &info) { return info.param.name; });

class CudaDevice : public testing::Test {
protected:
  void SetUp() override {
    if (std::string reason = absence(); !reason.empty())
      GTEST_SKIP() << reason;
  }
  Plan open(const toy::ToyPlan &toy) {
    const std::string path = toy::temporary_path("cuda.mili");
    EXPECT_TRUE(toy.write(path).ok());
    auto plan = Plan::open(path);
    unlink(path.c_str());
    EXPECT_TRUE(plan.ok()) << plan.status().to_string();
    return std::move(*plan);
  }
  ModuleLoadReport load(const Plan &plan, const CudaOptions &options) {
    auto device = create_cuda_device(options);
    EXPECT_TRUE(device.ok());
    auto module = (*device)->load_module(plan);
    EXPECT_TRUE(module.ok()) << module.status().to_string();
    return module.ok() ? (*module)->load_report() : ModuleLoadReport();
  }
};

TEST_F(CudaDevice, ImagesComeFromTheCacheTheSecondTime) {
  Plan plan = open(toy::toy_cuda_plan());
  CudaOptions options;
  options.cache_dir = testing::TempDir() + "mili-cache-" + std::to_string(getpid());
  ModuleLoadReport first = load(plan, options), second = load(plan, options);
  EXPECT_EQ(first.compiled, 2u);
  EXPECT_EQ(second.compiled, 0u);
  EXPECT_EQ(second.from_cache, 2u);
  // A damaged entry is compiled again.
  for (const auto &entry : std::filesystem::directory_iterator(options.cache_dir)) {
    std::filesystem::resize_file(entry.path(), 100);
    break;
  }
  ModuleLoadReport third = load(plan, options);
  EXPECT_EQ(third.compiled, 1u);
  EXPECT_EQ(third.from_cache, 1u);
  std::filesystem::remove_all(options.cache_dir);
}

TEST_F(CudaDevice, AnImageThatTheDriverRefusesIsNamed) {
  toy::ToyPlan toy = toy::toy_cuda_plan();
  int major = 0, minor = 0;
  auto driver = cuda::Driver::get();
  (*driver)->cuDeviceGetAttribute(&major, cuda::kAttributeMajor, 0);
  (*driver)->cuDeviceGetAttribute(&minor, cuda::kAttributeMinor, 0);
  std::string arch = "sm_" + std::to_string(major * 10 + minor) + (major >= 9 ? "a" : "");
  toy.cuda_images = {{arch, {{"toy_count", "not an image"}, {"toy_reverse", "nor this"}}}};
  Plan plan = open(toy);
  auto device = create_cuda_device(uncached());
  Status status = (*device)->load_module(plan).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr("kernel toy_count"));
  // Told not to use them, it compiles.
  CudaOptions options = uncached();
  options.use_cubins = false;
  EXPECT_EQ(load(plan, options).compiled, 2u);
}

TEST_F(CudaDevice, NoSuchDevice) {
  CudaOptions options = uncached();
  options.device = 99;
  Status status = create_cuda_device(options).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("--device 99"));
}

TEST_F(CudaDevice, AKernelWithAMistake) {
  toy::ToyPlan toy = toy::toy_cuda_plan();
  toy.cuda_units[0].second += "int x = nothing;\n";
  Plan plan = open(toy);
  auto device = create_cuda_device(uncached());
  Status status = (*device)->load_module(plan).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr("toy_count"));
  EXPECT_THAT(status.message(), HasSubstr("nothing"));
}

// On the emulated GPU alone, which can be one of those that are too old (MILI_EMULATED_ARCH).
TEST(CudaDeviceOld, SaysWhatWasFoundAndWhatHelps) {
  const char *arch = std::getenv("MILI_EMULATED_ARCH");
  if (!arch || std::atoi(arch) >= 8)
    GTEST_SKIP() << "no GPU of compute capability 7.5 or before is emulated";
  Status status = create_cuda_device(uncached()).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr(std::string("compute capability ") + arch));
  EXPECT_THAT(status.message(), HasSubstr("need 8.0 or later"));
  EXPECT_THAT(status.message(), HasSubstr("--device"));
  EXPECT_THAT(status.message(), HasSubstr("--target cpu"));
}

// What a machine without a GPU says; runs everywhere.
TEST(CudaDeviceRefusals, SaysWhatWasFoundAndWhatHelps) {
  if (absence().empty())
    GTEST_SKIP() << "this machine has a GPU";
  auto device = create_cuda_device({});
  if (device.ok())
    GTEST_SKIP() << "this machine has a GPU, but no NVRTC";
  EXPECT_EQ(device.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(device.status().message(), HasSubstr("driver"));
  EXPECT_THAT(device.status().message(), testing::AnyOf(HasSubstr("--target cpu"), HasSubstr("CUDA_VISIBLE_DEVICES"),
                                                        HasSubstr("CUDA 12.0 or later")));
}

}  // namespace
}  // namespace mili
