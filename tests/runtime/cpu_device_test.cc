#include "device_conformance.h"

#include <fstream>
#include <sstream>

namespace mili {
namespace {

DeviceUnderTest cpu(uint32_t threads, bool pin) {
  return {"threads" + std::to_string(threads) + (pin ? "pinned" : ""), [=]() -> std::unique_ptr<Device> {
            auto device = create_cpu_device({threads, pin});
            return device.ok() ? std::move(*device) : nullptr;
          }};
}

INSTANTIATE_TEST_SUITE_P(Cpu, DeviceConformance,
                         testing::Values(cpu(1, false), cpu(2, true), cpu(3, false), cpu(5, false), cpu(0, false)),
                         [](const auto &info) { return info.param.name; });

TEST(CpuDevice, FeaturesAreThoseOfProcCpuinfo) {
  std::ifstream file("/proc/cpuinfo");
  std::string line, word;
  while (std::getline(file, line) && !line.starts_with("flags"))
    continue;
  std::istringstream flags(line.substr(line.find(':') + 1));
  int count = 0;
  for (; flags >> word; ++count)
    EXPECT_TRUE(cpu_has_feature(word)) << word;
  EXPECT_GT(count, 10);
  EXPECT_FALSE(cpu_has_feature("no_such_feature"));
  EXPECT_FALSE(cpu_has_feature(""));
}

TEST(CpuDevice, Threads) {
  EXPECT_GE(default_cpu_threads(), 1u);
  EXPECT_EQ((*create_cpu_device({3, false}))->workers(), 3u);
  EXPECT_EQ((*create_cpu_device())->workers(), default_cpu_threads());
  EXPECT_EQ(create_cpu_device({5000, false}).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mili
