// What the emulated GPU must find in a kernel, and what it must not take for a fault. Runs with the emulator alone.
#include "cuda/cuda_api.h"
#include "cuda/kernel_compiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using namespace mili;
using namespace mili::cuda;
using testing::AllOf;
using testing::HasSubstr;

constexpr int kWords = 64;

class Emulator : public testing::Test {
protected:
  void SetUp() override {
    auto got = Driver::get();
    auto compiler = Nvrtc::get();
    ASSERT_TRUE(got.ok() && compiler.ok());
    driver = *got;
    nvrtc = *compiler;
    char name[64] = {};
    driver->cuDeviceGetName(name, sizeof(name), 0);
    ASSERT_STREQ(name, "MILI emulator");
    CUcontext context;
    driver->cuDevicePrimaryCtxRetain(&context, 0);
    ASSERT_EQ(driver->cuMemAlloc(&memory, kWords * 4), kSuccess);
  }
  void TearDown() override {
    driver->cuMemFree(memory);
    driver->cuDevicePrimaryCtxRelease(0);
  }

  // Compiles `body` as the body of `void k(unsigned *out)`, runs it and gives the error, empty where there is none.
  std::string run(const std::string &body, unsigned threads = 64, unsigned blocks = 1, unsigned shared = 1024,
                  const std::string &before = "") {
    // The emulator's own headers take the places of these.
    const std::vector<SourceText> headers = {{"mili/device/ptx.cuh", "#error not replaced"}};
    const SourceText unit{"k",
                          "#include \"mili/device/ptx.cuh\"\n" + before +
                              "\nextern \"C\" __global__ void k(unsigned *out) {\n  const unsigned t = threadIdx.x;\n" +
                              body + "\n}\n"};
    auto image = compile_unit(*nvrtc, headers, unit, "sm_90a");
    if (!image.ok())
      return image.status().to_string();
    CUmodule module;
    CUfunction function;
    EXPECT_EQ(driver->cuModuleLoadData(&module, image->image.data()), kSuccess);
    EXPECT_EQ(driver->cuModuleGetFunction(&function, module, "k"), kSuccess);
    void *parameters[] = {&memory};
    const CUresult error =
        driver->cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, shared, nullptr, parameters, nullptr);
    const std::string text = error == kSuccess ? "" : driver->describe(error);
    driver->cuModuleUnload(module);
    return text;
  }
  std::vector<uint32_t> words() {
    std::vector<uint32_t> result(kWords);
    EXPECT_EQ(driver->cuMemcpyDtoHAsync(result.data(), memory, kWords * 4, nullptr), kSuccess);
    return result;
  }

  const Driver *driver = nullptr;
  const Nvrtc *nvrtc = nullptr;
  CUdeviceptr memory = 0;
};

TEST_F(Emulator, RunsWhatIsRight) {
  EXPECT_EQ(run("__shared__ unsigned other[64];\n"
                "other[t] = t;\n"
                "__syncthreads();\n"
                "unsigned sum = other[63 - t];\n"
                "for (int step = 16; step > 0; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);\n"
                "out[t] = sum + __popc(__ballot_sync(~0u, t % 2 == 0));"),
            "");
  for (int i = 0; i < kWords; ++i)
    EXPECT_EQ(words()[static_cast<size_t>(i)], (i < 32 ? 1520u : 496u) + 16);
}

TEST_F(Emulator, FindsAMissingBarrier) {
  EXPECT_EQ(run("__shared__ unsigned other[64];\nother[t] = t;\nout[t] = other[63 - t];"), "");
  const std::vector<uint32_t> got = words();
  EXPECT_GT(std::count(got.begin(), got.end(), ~0u), 0) << "what was not written yet is poison";
}

TEST_F(Emulator, FindsAMissingWaitOfACopy) {
  const std::string copy = "if (t == 0) out[0] = 7;\n__syncthreads();\n"
                           "if (t < 4) copy_async16(shared_address(mili_shared_memory + 16 * t), out + 4 * t);\n"
                           "copy_async_commit();\n";
  const std::string use = "__syncthreads();\n"
                          "const unsigned value = reinterpret_cast<unsigned *>(mili_shared_memory)[0];\n"
                          "__syncthreads();\nout[t] = value;";
  EXPECT_EQ(run(copy + "copy_async_wait<0>();\n" + use, 64, 1, 1024, "using namespace mili;"), "");
  EXPECT_EQ(words()[5], 7u);
  EXPECT_EQ(run(copy + use, 64, 1, 1024, "using namespace mili;"), "");
  EXPECT_EQ(words()[5], ~0u);
}

TEST_F(Emulator, NamesTheThreadThatLeavesDeviceMemory) {
  EXPECT_THAT(run("if (blockIdx.x == 1 && t == 5) out[64] = 1;", 32, 3),
              AllOf(HasSubstr("kernel k, block 1 of 3, thread 5 of 32"), HasSubstr("in no allocation")));
  // The first fault stays.
  EXPECT_NE(run(""), "");
}

TEST_F(Emulator, FindsAWriteBeforeAnAllocation) {
  EXPECT_THAT(run("if (t == 0) out[-1] = 1;"), HasSubstr("before or behind an allocation"));
}

TEST_F(Emulator, FindsAWritePastSharedMemory) {
  EXPECT_THAT(run("mili_shared_memory[1024 + t] = 1;"), HasSubstr("past the 1024 bytes"));
  driver->cuDevicePrimaryCtxRelease(0);
  CUcontext context;
  driver->cuDevicePrimaryCtxRetain(&context, 0);
  EXPECT_THAT(run("unsigned r[4];\nmili::load_matrix_x4(r, mili::shared_address(mili_shared_memory) + t * 64);\nout[t] "
                  "= r[0];"),
              HasSubstr("of which the block has 1024"));
}

TEST_F(Emulator, FindsThreadsThatWaitForever) {
  EXPECT_THAT(run("if (t < 32) __syncthreads(); else __syncwarp(t == 40 ? ~0u : ~(1u << 8));"),
              AllOf(HasSubstr("forever"), HasSubstr("__syncthreads"), HasSubstr("__syncwarp")));
}

TEST_F(Emulator, FindsLanesThatCameForDifferentThings) {
  EXPECT_THAT(run("if (t % 2) __syncwarp(); else out[t] = __ballot_sync(~0u, true);"), HasSubstr("is at"));
}

TEST_F(Emulator, FindsAShuffleFromALaneThatIsNotThere) {
  EXPECT_THAT(run("if (t < 16) out[t] = __shfl_xor_sync(0xffffu, t, 16);", 32), HasSubstr("asks for lane"));
}

TEST_F(Emulator, ExitedThreadsLeaveABarrier) {
  EXPECT_EQ(run("if (t >= 32) return;\n__syncthreads();\nout[t] = 1;"), "");
}

TEST_F(Emulator, FindsAStackThatOverflows) {
  EXPECT_THAT(run("volatile unsigned deep[20000];\nfor (int i = 19999; i >= 0; --i) deep[i] = t;\nout[t] = deep[t];"),
              HasSubstr("of stack"));
}

TEST_F(Emulator, RefusesALaunchThatAGpuWouldRefuse) {
  EXPECT_THAT(run("", 2048), HasSubstr("INVALID_VALUE"));
  EXPECT_THAT(run("", 32, 1, 64 * 1024), HasSubstr("INVALID_VALUE")) << "more than 48 KB has to be asked for";
}

}  // namespace
