// Weights that the device generates for a plan made from a configuration alone: normal, std 0.02, gains around 1, each
// tensor its own. Needs a GPU, or the emulator in its place.
#include "mili/Compiler/Compiler.h"
#include "mili/runtime/device.h"
#include "mili/runtime/plan.h"
#include "mili/schema/plan_generated.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <set>
#include <unistd.h>

namespace {

using namespace mili;

class SyntheticWeights : public testing::Test {
protected:
  // The plan of tests/data/e2e/narrow with this seed.
  Plan compile(uint64_t seed) {
    CompileOptions options;
    options.model = std::string(MILI_TEST_DATA) + "/e2e/narrow";
    options.output = testing::TempDir() + "synthetic-" + std::to_string(getpid()) + ".mili";
    options.target = "cuda:source";
    options.synthetic_weights = seed;
    auto compiled = compile_model(options, {});
    EXPECT_TRUE(compiled.ok()) << compiled.status().to_string();
    auto plan = Plan::open(options.output);
    EXPECT_TRUE(plan.ok()) << plan.status().to_string();
    std::filesystem::remove(options.output);
    return std::move(*plan);
  }
  // All weights as the device has them, one after the other as in the plan.
  Status generate(const Plan &plan, std::vector<std::byte> &bytes) {
    MILI_ASSIGN_OR_RETURN(auto device, create_cuda_device({}));
    MILI_ASSIGN_OR_RETURN(auto module, device->load_module(plan));
    MILI_ASSIGN_OR_RETURN(DeviceAddress weights, device->load_weights(plan, {}));
    bytes.resize(plan.memory().weights);
    return device->copy_to_host(bytes.data(), weights, bytes.size());
  }
};

// The elements of a weight.
std::vector<double> values(const plan::Weight &weight, const std::vector<std::byte> &bytes) {
  std::vector<double> result;
  const std::byte *data = bytes.data() + weight.offset();
  const bool wide = weight.format()->string_view() == "f32";
  for (uint64_t at = 0; at < weight.size(); at += wide ? 4 : 2) {
    uint32_t bits = 0;
    std::memcpy(wide ? reinterpret_cast<std::byte *>(&bits) : reinterpret_cast<std::byte *>(&bits) + 2, data + at,
                wide ? 4 : 2);
    float value = 0;
    std::memcpy(&value, &bits, 4);
    result.push_back(value);
  }
  return result;
}

TEST_F(SyntheticWeights, AreNormalAndEachItsOwn) {
  const Plan plan = compile(7);
  EXPECT_EQ(plan.weights().size(), 0u);  // nothing was moved
  std::vector<std::byte> bytes;
  Status status = generate(plan, bytes);
  if (status.code() == StatusCode::kUnavailable)
    GTEST_SKIP() << status.message();
  ASSERT_TRUE(status.ok()) << status.to_string();
  std::set<std::string> contents;
  uint64_t matrices = 0;
  for (const plan::Weight *weight : *plan.meta().weights()) {
    const std::vector<double> x = values(*weight, bytes);
    const auto n = static_cast<double>(x.size());
    const bool gain = weight->shape()->size() == 1;
    double mean = 0, square = 0, far = 0;
    for (double v : x)
      mean += v / n;
    for (double v : x)
      square += (v - mean) * (v - mean) / n;
    for (double v : x)
      far += std::abs(v - mean) > 0.04;
    // Five standard deviations of each estimate.
    EXPECT_NEAR(mean, gain ? 1 : 0, 5 * 0.02 / std::sqrt(n)) << weight->name()->str();
    EXPECT_NEAR(std::sqrt(square), 0.02, 0.02 * 5 / std::sqrt(2 * n)) << weight->name()->str();
    EXPECT_NEAR(far / n, 0.0455, 5 * std::sqrt(0.0455 / n)) << weight->name()->str();
    contents.emplace(reinterpret_cast<const char *>(bytes.data() + weight->offset()),
                     std::min<size_t>(weight->size(), 64));
    matrices += !gain;
  }
  EXPECT_EQ(contents.size(), plan.meta().weights()->size());
  EXPECT_GE(matrices, 6u);

  // The seed is all that they depend on.
  std::vector<std::byte> again, other;
  ASSERT_TRUE(generate(compile(7), again).ok());
  ASSERT_TRUE(generate(compile(8), other).ok());
  EXPECT_EQ(bytes, again);
  EXPECT_NE(bytes, other);
}

}  // namespace
