// What every device must do, written against the Device interface alone. A device's test program makes a
// DeviceUnderTest and instantiates the suite:
//
//   INSTANTIATE_TEST_SUITE_P(Cpu, DeviceConformance, testing::Values(DeviceUnderTest{"cpu2", make}));
#pragma once

#include "mili/runtime/device.h"
#include "mili/runtime/plan.h"
#include "toy_plan.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>

namespace mili {

struct DeviceUnderTest {
  std::string name;
  std::function<std::unique_ptr<Device>()> make;  // null: the device is not there
  bool cuda = false;
  std::string absent = {};  // why make() gives nothing

  // What GoogleTest and CTest call it.
  friend void PrintTo(const DeviceUnderTest &device, std::ostream *out) { *out << device.name; }
};

class DeviceConformance : public testing::TestWithParam<DeviceUnderTest> {
protected:
  void SetUp() override;
  // A plan with the suite's kernels for the device; a test may bend it before it writes it.
  static toy::ToyPlan toy();
  // The plan of the suite: kernel 0 adds one to each tile's counter, kernel 1 reverses 256 counters and adds one.
  std::unique_ptr<Plan> plan;
  std::unique_ptr<Device> device;
};

}  // namespace mili
