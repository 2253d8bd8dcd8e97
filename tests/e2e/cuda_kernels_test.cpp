// Every kernel that the compiler emits for target cuda goes through NVRTC for sm_80, sm_90a and sm_100a, and what the
// assembler reports must fit: nothing spilled, a launchable block, shared memory within what every part of the family
// has (99 KB from sm_80 on, since sm_86 and sm_89 have no more; 227 KB on sm_90).
//
// Models: the eleven golden ones, the shapes of Llama-3.1-8B and -3.2-1B, and a small one for each width of a head,
// with and without a window and norms of heads. Images are kept in MILI_KERNEL_CACHE_DIR, so that only what changed
// compiles again.
#include "mili/Compiler/Compiler.h"
#include "mili/runtime/plan.h"
#include "mili/schema/cuda_generated.h"
#include "mili/schema/plan_generated.h"

#include "need_nvrtc.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <unistd.h>

namespace {

using namespace mili;
namespace fs = std::filesystem;
using nlohmann::json;

struct Case {
  std::string name;
  json config;  // empty: the golden model of that name
  bool deterministic = false;
};

void PrintTo(const Case &one, std::ostream *os) {
  *os << one.name;
}

json llama(int hidden, int layers, int heads, int kv_heads, int head_dim, int ff, int vocab) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", hidden},
          {"num_hidden_layers", layers},
          {"num_attention_heads", heads},
          {"num_key_value_heads", kv_heads},
          {"head_dim", head_dim},
          {"intermediate_size", ff},
          {"vocab_size", vocab},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 500000.0},
          {"hidden_act", "silu"},
          {"max_position_embeddings", 8192},
          {"tie_word_embeddings", false},
          {"torch_dtype", "bfloat16"}};
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char *name : {"llama", "llama-linear", "qwen2", "qwen3", "qwen3-yarn", "mistral-window", "phi3",
                           "phi3-longrope", "smollm3", "olmo2", "granite"})
    all.push_back({name, {}});
  all.push_back({"llama-8b-shape", llama(4096, 2, 32, 8, 128, 14336, 128256)});
  all.push_back({"llama-1b-shape", llama(2048, 2, 32, 8, 64, 8192, 128256)});
  for (int width : {16, 32, 64, 80, 96, 128, 256}) {
    const std::string suffix = "-heads-of-" + std::to_string(width);
    all.push_back({"llama" + suffix, llama(8 * width, 2, 8, 2, width, 512, 1000)});
    json mistral = llama(8 * width, 2, 8, 2, width, 512, 1000);
    mistral["architectures"] = {"MistralForCausalLM"};
    mistral["model_type"] = "mistral";
    mistral["sliding_window"] = 200;
    all.push_back({"mistral" + suffix, mistral});
    json qwen = llama(8 * width, 2, 8, 2, width, 512, 1000);
    qwen["architectures"] = {"Qwen3ForCausalLM"};
    qwen["model_type"] = "qwen3";
    all.push_back({"qwen3" + suffix, qwen});
  }
  all.push_back({"llama-8b-shape-deterministic", llama(4096, 2, 32, 8, 128, 14336, 128256), true});
  return all;
}

class CudaKernels : public ::testing::TestWithParam<Case> {};

TEST_P(CudaKernels, CompileAndFit) {
  MILI_NEED_NVRTC(nvrtc);
  // mili-compile's own cache, in a folder of the build's.
  setenv("MILI_CACHE_DIR", MILI_KERNEL_CACHE_DIR, 1);
  const Case &param = GetParam();
  const std::string work = ::testing::TempDir() + "cuda-kernels-" + std::to_string(getpid()) + "-" + param.name;
  CompileOptions options;
  options.model = std::string(MILI_GOLDEN_DIR) + "/" + param.name;
  if (!param.config.is_null()) {
    fs::create_directories(work);
    std::ofstream(work + "/config.json") << param.config.dump();
    options.model = work;
    options.synthetic_weights = 1;
  }
  options.output = work + ".mili";
  options.target = "cuda";
  options.requests = 64;
  options.context = 1024;
  options.deterministic = param.deterministic;
  StatusOr<CompileResult> compiled = compile_model(options, {});
  fs::remove_all(work);
  ASSERT_TRUE(compiled.ok()) << compiled.status().to_string();
  StatusOr<Plan> plan = Plan::open(options.output);
  fs::remove(options.output);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();

  size_t units = 0;
  std::map<std::string, std::map<std::string, const plan::KernelResources *>> reports;
  std::vector<std::vector<std::byte>> sections;
  for (uint32_t i = 0; i < plan->sections().size(); ++i) {
    const uint32_t kind = plan->sections()[i].kind;
    if (kind != static_cast<uint32_t>(SectionKind::kCubins) && kind != static_cast<uint32_t>(SectionKind::kCudaSource))
      continue;
    auto bytes = plan->copy_section(i);
    ASSERT_TRUE(bytes.ok());
    sections.push_back(std::move(*bytes));
    if (kind == static_cast<uint32_t>(SectionKind::kCudaSource)) {
      units = flatbuffers::GetRoot<plan::CudaSources>(sections.back().data())->units()->size();
      continue;
    }
    const auto *cubins = flatbuffers::GetRoot<plan::Cubins>(sections.back().data());
    for (const plan::Cubin *cubin : *cubins->cubins()) {
      EXPECT_GT(cubin->image()->size(), 500u) << cubin->unit()->str();
      ASSERT_TRUE(cubin->resources());
      reports[cubins->arch()->str()][cubin->unit()->str()] = cubin->resources();
    }
  }
  ASSERT_EQ(reports.size(), 3u);
  const std::map<std::string, std::pair<uint32_t, uint32_t>> parts = {
      {"sm_80", {80, 99 << 10}}, {"sm_90a", {90, 227 << 10}}, {"sm_100a", {100, 227 << 10}}};
  uint32_t most = 0;
  for (const auto &[arch, part] : parts) {
    ASSERT_EQ(reports[arch].size(), units) << arch;
    for (const plan::Kernel *kernel : *plan->meta().kernels()) {
      const std::string label = kernel->symbol()->str() + " on " + arch;
      ASSERT_TRUE(reports[arch].contains(kernel->symbol()->str())) << label;
      const plan::KernelResources &need = *reports[arch].at(kernel->symbol()->str());
      const plan::CudaLaunch *launch = nullptr;
      for (const plan::CudaLaunch *candidate : *kernel->cuda())
        if (candidate->arch() <= part.first)
          launch = candidate;
      ASSERT_TRUE(launch) << label;
      EXPECT_EQ(need.spilled(), 0u) << label << " spills";
      EXPECT_GT(need.registers(), 0u) << label;
      // Registers are given to warps in units of 256, 64 Ki to a multiprocessor.
      const uint32_t of_warp = (need.registers() * 32 + 255) / 256 * 256;
      EXPECT_LE(of_warp * ((launch->threads() + 31) / 32) * std::max(1u, std::min(launch->blocks_per_sm(), 1u)), 65536u)
          << label << ": " << need.registers() << " registers for " << launch->threads() << " threads";
      EXPECT_LE(launch->shared() + need.shared(), part.second) << label;
      most = std::max(most, need.registers());
    }
  }
  RecordProperty("units", static_cast<int>(units));
  RecordProperty("most_registers", static_cast<int>(most));
}

INSTANTIATE_TEST_SUITE_P(Models, CudaKernels, ::testing::ValuesIn(cases()), [](const auto &info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
