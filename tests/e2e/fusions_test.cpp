// --explain accounts for everything, and any one fusion can be left out by the name that it prints.
#include "mili/Compiler/Pipeline.h"
#include "mili/Frontends/Import.h"
#include "mili/Frontends/ModelFile.h"
#include "mili/IR/MiliDialect.h"
#include "mili/Passes/FusionReport.h"
#include "mili/runtime/session.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <unistd.h>

using namespace mlir;
using namespace mlir::mili;
using ::mili::CompileOptions;
using ::mili::Phase;

namespace {

/// An op that computes: what fusion works on.
bool computes(Operation *op) {
  return op && isa<FusibleOp>(op) && !isa<GroupOp>(op);
}

struct Fused {
  std::map<std::string, int64_t> ops, edges;  // of each function before fusion
  std::map<std::string, int64_t> loose;       // ops outside groups afterwards
  std::map<std::string, int64_t> grouped;     // in them, recomputed ones each time
  FusionReport report;
};

/// A model through fusion; empty where something failed, with the reason as a test failure.
std::optional<Fused> fuse(CompileOptions options) {
  auto model = ::mili::ModelFile::open(options.model, !options.synthetic_weights);
  if (!model.ok()) {
    ADD_FAILURE() << model.status().to_string();
    return {};
  }
  DialectRegistry registry;
  registerCompilerDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  ImportOptions import;
  import.activationDtype = targetDevice(options) == "cuda" ? "bf16" : "f32";
  import.syntheticWeights = options.synthetic_weights.has_value();
  OwningOpRef<ModuleOp> module = importModel(**model, import, &context);
  if (!module)
    return {};
  (*module)->setAttr(MiliDialect::getRequestsAttrName(),
                     IntegerAttr::get(IntegerType::get(&context, 64), options.requests));
  Fused fused;
  for (Phase phase : {Phase::kOptimize, Phase::kSpecialize, Phase::kFuse}) {
    if (phase == Phase::kFuse)
      for (auto function : module->getOps<func::FuncOp>())
        for (Operation &op : function.getBody().front()) {
          if (!computes(&op))
            continue;
          ++fused.ops[function.getSymName().str()];
          std::set<Operation *> producers;
          for (Value operand : op.getOperands())
            if (computes(operand.getDefiningOp()))
              producers.insert(operand.getDefiningOp());
          fused.edges[function.getSymName().str()] += static_cast<int64_t>(producers.size());
        }
    PassManager pm(&context);
    buildPhase(pm, phase, options, *module, &fused.report);
    if (pm.size() != 0 && failed(pm.run(*module))) {
      ADD_FAILURE() << options.model << ": phase " << ::mili::phase_name(phase);
      return {};
    }
  }
  for (auto function : module->getOps<func::FuncOp>())
    function.walk([&](Operation *op) {
      if (computes(op))
        ++(isa<GroupOp>(op->getParentOp()) ? fused.grouped : fused.loose)[function.getSymName().str()];
    });
  return fused;
}

void expectAccounted(const CompileOptions &options) {
  SCOPED_TRACE(options.model + " for " + options.target);
  std::optional<Fused> fused = fuse(options);
  ASSERT_TRUE(fused);
  EXPECT_TRUE(fused->loose.empty());
  std::map<std::string, int64_t> ops, edges, listed;
  for (const FusionOp &op : fused->report.ops) {
    ++ops[op.function];
    EXPECT_FALSE(op.groups.empty()) << op.name;
  }
  EXPECT_EQ(ops, fused->ops) << "ops that compute, each once";
  std::set<std::string> reasons;
  for (const FusionEdge &edge : fused->report.edges) {
    ++edges[edge.function];
    EXPECT_FALSE(edge.reason.empty() || edge.producer.empty() || edge.consumer.empty()) << edge.kind;
  }
  for (const FusionGroup &group : fused->report.groups)
    listed[group.function] += static_cast<int64_t>(group.ops.size());
  EXPECT_EQ(edges, fused->edges) << "values between two ops, each once";
  // Every op is in a group, and the report's groups have exactly the ops of the IR's.
  EXPECT_EQ(listed, fused->grouped);
  for (const auto &[function, count] : fused->ops)
    EXPECT_GE(fused->grouped[function], count) << function;
}

TEST(Fusions, ExplainAccountsForEveryOpOfEveryFamily) {
  for (const auto &model : std::filesystem::directory_iterator(MILI_GOLDEN_DIR))
    for (const char *target : {"cpu", "cuda:source"}) {
      CompileOptions options;
      options.model = model.path();
      options.target = target;
      options.requests = 4;
      expectAccounted(options);
    }
  if (const char *smollm2 = std::getenv("MILI_SMOLLM2"); smollm2 && std::filesystem::exists(smollm2)) {
    CompileOptions options;
    options.model = smollm2;
    expectAccounted(options);
  }
}

TEST(Fusions, ExplainAccountsForEveryOpOfSmolLM2AndOf8B) {
  for (const char *shape : {"smollm2-135m", "llama-3.1-8b"}) {
    CompileOptions options;
    options.model = std::string(MILI_SHAPES_DIR) + "/" + shape;
    options.target = "cuda:source";
    options.synthetic_weights = 1;
    options.requests = 64;
    expectAccounted(options);
  }
}

/// f32 logits after a prompt, in the largest bucket and token by token.
std::vector<float> logitsOf(CompileOptions options) {
  options.output = ::testing::TempDir() + "fusions-" + std::to_string(getpid()) + ".mili";
  auto compiled = ::mili::compile_model(options, {});
  EXPECT_TRUE(compiled.ok()) << compiled.status().to_string();
  auto plan = ::mili::Plan::open(options.output);
  std::filesystem::remove(options.output);
  ::mili::EngineOptions engineOptions;
  engineOptions.cpu.threads = 2;
  auto engine = ::mili::Engine::load(*std::move(plan), engineOptions);
  EXPECT_TRUE(engine.ok()) << engine.status().to_string();
  auto pool = *::mili::SessionPool::create(**engine);
  auto session = *pool->create_session();
  std::vector<float> all;
  for (size_t count : {13, 1, 1}) {
    std::vector<int32_t> tokens;
    for (size_t i = 0; i < count; ++i)
      tokens.push_back(static_cast<int32_t>((session->length() + i) * 29 % 256));
    EXPECT_TRUE(session->append(tokens).ok());
    all.insert(all.end(), session->logits().begin(), session->logits().end());
  }
  return all;
}

/// Which ops run together.
std::multiset<std::vector<std::string>> groupsOf(const Fused &fused) {
  std::multiset<std::vector<std::string>> groups;
  for (const FusionGroup &group : fused.report.groups)
    groups.insert(group.ops);
  return groups;
}

class WithoutOne : public ::testing::TestWithParam<const char *> {};

TEST_P(WithoutOne, LogitsStayAndGroupsChange) {
  CompileOptions options;
  options.model = std::string(MILI_GOLDEN_DIR) + "/" + GetParam();
  options.context = 64;
  options.prefill_tokens = 16;
  options.activation_dtype = "f32";
  std::optional<Fused> everything = fuse(options);
  ASSERT_TRUE(everything);
  std::set<std::string> kinds;
  for (const FusionEdge &edge : everything->report.edges)
    if (edge.fused)
      kinds.insert(edge.kind);
  EXPECT_GE(kinds.size(), 5u);
  const std::vector<float> expected = logitsOf(options);
  for (const std::string &kind : kinds) {
    SCOPED_TRACE(kind);
    options.disabled_fusions = {kind};
    std::optional<Fused> without = fuse(options);
    ASSERT_TRUE(without);
    for (const FusionEdge &edge : without->report.edges)
      EXPECT_FALSE(edge.kind == kind && edge.fused) << edge.producer << " to " << edge.consumer;
    // Not always more of them: what no longer follows one product may be computed before the next.
    EXPECT_NE(groupsOf(*without), groupsOf(*everything));
    const std::vector<float> found = logitsOf(options);
    double error = 0, norm = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      error += (found[i] - expected[i]) * (found[i] - expected[i]);
      norm += expected[i] * expected[i];
    }
    EXPECT_LE(std::sqrt(error / norm), 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, WithoutOne, ::testing::Values("llama", "qwen3", "granite"));

}  // namespace
