#include "device_conformance.h"

#include "toy_plan.h"

#include <cstring>
#include <unistd.h>

namespace mili {

toy::ToyPlan DeviceConformance::toy() {
  if (GetParam().cuda)
    return toy::toy_cuda_plan();
  toy::ToyPlan toy = toy::toy_plan();
  toy.kernels[0].symbol = "toy_count";
  toy.kernels[1].symbol = "toy_reverse";
  return toy;
}

void DeviceConformance::SetUp() {
  device = GetParam().make();
  if (!device && !GetParam().absent.empty())
    GTEST_SKIP() << GetParam().absent;
  const toy::ToyPlan toy = DeviceConformance::toy();
  const std::string path = toy::temporary_path("plan.mili");
  ASSERT_TRUE(toy.write(path).ok());
  auto opened = Plan::open(path);
  unlink(path.c_str());
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  plan = std::make_unique<Plan>(std::move(*opened));
  ASSERT_TRUE(device);
}

TEST_P(DeviceConformance, MemoryIsZeroAlignedAndCounted) {
  const uint64_t before = device->allocation_count();
  auto buffer = device->allocate(10000, "a test");
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(device->allocation_count(), before + 1);
  EXPECT_EQ(device->allocated_bytes(), 10000u);
  {
    auto second = device->allocate(500, "another");
  }
  EXPECT_EQ(device->allocated_bytes(), 10000u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->address()) % (GetParam().cuda ? 256 : 4096), 0u);
  std::vector<std::byte> host(10000, std::byte{7});
  ASSERT_TRUE(device->copy_to_host(host.data(), buffer->address(), host.size()).ok());
  for (std::byte byte : host)
    ASSERT_EQ(byte, std::byte{0});
}

TEST_P(DeviceConformance, TooMuchMemorySaysWhatAndHowMuch) {
  Status status = device->allocate(uint64_t{1} << 60, "a test's pool").status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("a test's pool"), std::string::npos);
  EXPECT_NE(status.message().find("1.00 EiB"), std::string::npos);
  // What is there, and what would help.
  EXPECT_NE(status.message().find(" free"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("--requests"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("--context"), std::string::npos) << status.message();
  EXPECT_EQ(status.message().find("--device") != std::string::npos, GetParam().cuda) << status.message();
}

TEST_P(DeviceConformance, CopiesAndClears) {
  auto a = device->allocate(4096, "a"), b = device->allocate(4096, "b");
  std::vector<uint32_t> host(1024), back(1024);
  for (uint32_t i = 0; i < 1024; ++i)
    host[i] = i * 2654435761u;
  ASSERT_TRUE(device->copy_to_device(a->address(), host.data(), 4096).ok());
  ASSERT_TRUE(device->copy(b->address(), a->address(), 4096).ok());
  ASSERT_TRUE(device->clear(a->address(), 4096).ok());
  ASSERT_TRUE(device->copy_to_host(back.data(), b->address(), 4096).ok());
  EXPECT_EQ(back, host);
  ASSERT_TRUE(device->copy_to_host(back.data(), a->address(), 4096).ok());
  EXPECT_EQ(back, std::vector<uint32_t>(1024, 0));
}

TEST_P(DeviceConformance, WeightsAreThere) {
  auto weights = device->load_weights(*plan, {});
  ASSERT_TRUE(weights.ok());
  std::vector<std::byte> back(plan->weights().size());
  ASSERT_TRUE(device->copy_to_host(back.data(), *weights, back.size()).ok());
  EXPECT_EQ(std::memcmp(back.data(), plan->weights().data(), back.size()), 0);
}

TEST_P(DeviceConformance, EveryTileRunsOnceWhateverTheirNumber) {
  auto module = device->load_module(*plan);
  ASSERT_TRUE(module.ok()) << module.status().to_string();
  if (!GetParam().cuda) {
    EXPECT_EQ((*module)->variant(), "baseline");
  }
  auto counts = device->allocate(1024 * 8, "counts");
  for (uint64_t tiles : {1, 2, 3, 5, 7, 64, 1000}) {
    Launch launch{0, {counts->address()}, tiles, RowCount::kOne, 1};
    auto list = device->prepare(**module, {&launch, 1}, {1, 1, 1});
    ASSERT_TRUE(list.ok());
    ASSERT_TRUE(device->clear(counts->address(), 1024 * 8).ok());
    Batch batch;
    for (int i = 0; i < 3; ++i)
      ASSERT_TRUE(device->execute(**list, batch).ok());
    std::vector<uint64_t> back(1024);
    ASSERT_TRUE(device->copy_to_host(back.data(), counts->address(), 1024 * 8).ok());
    for (uint64_t i = 0; i < 1024; ++i)
      ASSERT_EQ(back[i], i < tiles ? 3u : 0u) << i << " of " << tiles;
  }
}

TEST_P(DeviceConformance, TilesFollowTheBatch) {
  auto module = device->load_module(*plan);
  auto counts = device->allocate(1024 * 8, "counts");
  Launch launch{0, {counts->address()}, 3, RowCount::kTokens, 4};
  auto list = device->prepare(**module, {&launch, 1}, {16, 1, 1});
  Batch batch;
  batch.tokens = 9;  // ceil(9 / 4) * 3 = 9 tiles
  ASSERT_TRUE(device->execute(**list, batch).ok());
  std::vector<uint64_t> back(16);
  ASSERT_TRUE(device->copy_to_host(back.data(), counts->address(), 16 * 8).ok());
  // Where launches are recorded ahead, the bound's 12 tiles run; kernels see by the batch that there is nothing to do.
  for (uint64_t i = 0; i < 16; ++i)
    EXPECT_EQ(back[i], i < (GetParam().cuda ? 12 : 9) ? 1u : 0u) << i;
}

TEST_P(DeviceConformance, ALaunchSeesWhatTheOneBeforeWrote) {
  auto module = device->load_module(*plan);
  auto a = device->allocate(256 * 8, "a"), b = device->allocate(256 * 8, "b");
  std::vector<Launch> launches;
  for (int i = 0; i < 200; ++i)
    launches.push_back(
        {1, {i % 2 ? b->address() : a->address(), i % 2 ? a->address() : b->address()}, 256, RowCount::kOne, 1});
  auto list = device->prepare(**module, launches, {1, 1, 1});
  ASSERT_TRUE(list.ok());
  EXPECT_EQ((*list)->launch_count(), 200u);
  const uint64_t before = device->allocation_count();
  Batch batch;
  std::vector<double> seconds(200, 0.0);
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(device->execute(**list, batch, i % 2 ? std::span<double>(seconds) : std::span<double>()).ok());
  EXPECT_EQ(device->allocation_count(), before);
  std::vector<uint64_t> back(256);
  ASSERT_TRUE(device->copy_to_host(back.data(), a->address(), 256 * 8).ok());
  EXPECT_EQ(back, std::vector<uint64_t>(256, 4000));
  for (double time : seconds)
    EXPECT_GT(time, 0);
  EXPECT_FALSE(device->execute(**list, batch, std::span(seconds).first(3)).ok());
}

TEST_P(DeviceConformance, ManyModulesAtOnceEachRunTheirOwnCode) {
  toy::ToyPlan swapped = toy();
  swapped.kernels[0].symbol = "toy_reverse";
  const std::string path = toy::temporary_path("swapped.mili");
  ASSERT_TRUE(swapped.write(path).ok());
  auto other = Plan::open(path);
  unlink(path.c_str());
  ASSERT_TRUE(other.ok());
  auto a = device->allocate(256 * 8, "a"), b = device->allocate(256 * 8, "b");
  Batch batch;
  for (int round = 0; round < 3; ++round) {
    auto first = device->load_module(*plan);
    auto second = device->load_module(*other);
    ASSERT_TRUE(first.ok() && second.ok());
    ASSERT_TRUE(device->clear(a->address(), 256 * 8).ok());
    Launch count{0, {a->address()}, 256, RowCount::kOne, 1};
    Launch reverse{0, {a->address(), b->address()}, 256, RowCount::kOne, 1};
    auto list = device->prepare(**first, {&count, 1}, {1, 1, 1});
    auto reverse_list = device->prepare(**second, {&reverse, 1}, {1, 1, 1});
    ASSERT_TRUE(device->execute(**list, batch).ok());
    ASSERT_TRUE(device->execute(**reverse_list, batch).ok());
    uint64_t value = 0;
    ASSERT_TRUE(device->copy_to_host(&value, b->address(), 8).ok());
    EXPECT_EQ(value, 2u);
  }
}

TEST_P(DeviceConformance, Events) {
  auto from = device->create_event(), to = device->create_event();
  ASSERT_TRUE(from.ok() && to.ok());
  EXPECT_EQ(device->wait(**from).code(), StatusCode::kFailedPrecondition);
  ASSERT_TRUE(device->record(**from).ok());
  ASSERT_TRUE(device->record(**to).ok());
  auto elapsed = device->elapsed(**from, **to);
  ASSERT_TRUE(elapsed.ok());
  EXPECT_GE(*elapsed, 0);
  EXPECT_LT(*elapsed, 10);
  EXPECT_TRUE(device->synchronize().ok());
}

TEST_P(DeviceConformance, RefusesWhatItCannotRun) {
  toy::ToyPlan toy = DeviceConformance::toy();
  const std::string path = toy::temporary_path("bad.mili");
  auto refusal = [&] {
    EXPECT_TRUE(toy.write(path).ok());
    auto bad = Plan::open(path);
    unlink(path.c_str());
    EXPECT_TRUE(bad.ok()) << bad.status().to_string();
    return device->load_module(*bad).status();
  };
  toy.kernels[2].symbol = "not_there";
  Status missing = refusal();
  EXPECT_EQ(missing.code(), StatusCode::kDataLoss);
  EXPECT_NE(missing.message().find("\"not_there\""), std::string::npos);
  if (GetParam().cuda)
    return;
  toy = toy::toy_plan();
  toy.variants = {{"imaginary", {"avx2", "no_such_feature"}, 0}};
  Status unavailable = refusal();
  EXPECT_EQ(unavailable.code(), StatusCode::kUnavailable);
  EXPECT_NE(unavailable.message().find("\"imaginary\" needs"), std::string::npos);
}

}  // namespace mili
