// NVRTC in a test: skipped with the reason where it is missing, unless MILI_REQUIRE_NVRTC is set (continuous
// integration), where its absence is a failure.
#pragma once

#include "cuda/cuda_api.h"

#include <gtest/gtest.h>

#include <cstdlib>

#define MILI_NEED_NVRTC(nvrtc)                                                                                         \
  auto nvrtc = ::mili::cuda::Nvrtc::get();                                                                             \
  if (!nvrtc.ok()) {                                                                                                   \
    ASSERT_FALSE(std::getenv("MILI_REQUIRE_NVRTC")) << nvrtc.status().message();                                       \
    GTEST_SKIP() << nvrtc.status().message();                                                                          \
  }
