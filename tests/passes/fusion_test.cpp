// Passes as the driver makes them: with a target's filter and a report.
#include "mili/IR/MiliDialect.h"
#include "mili/Passes/FusionReport.h"
#include "mili/Passes/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace mlir;
using namespace mlir::mili;
using testing::ElementsAre;

namespace {

constexpr const char *kSource = R"(
#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5, 0.25, 0.125]>
!kv = !mili.kv<heads = 4, k = 8, v = 8, f32>
module {
  mili.state @kv : !kv
  func.func @forward(%x: tensor<?x32xf32>, %batch: !mili.batch) -> tensor<?x32xf32>
      attributes {mili.bucket = #mili.bucket<tokens = 1, sequences = 1, logit_rows = 1>} {
    %g = mili.weight "g" : tensor<32xf32>
    %n = mili.rms_norm %x, %g eps 1.0e-6 : tensor<?x32xf32>, tensor<32xf32> loc("norm")
    %wq = mili.weight "q" : tensor<32x32xf32>
    %q = mili.linear %n, %wq : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32> loc("attn.q")
    %wk = mili.weight "k" : tensor<32x32xf32>
    %k = mili.linear %n, %wk : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32> loc("attn.k")
    %wv = mili.weight "v" : tensor<32x32xbf16>
    %v = mili.linear %n, %wv : tensor<?x32xf32>, tensor<32x32xbf16> -> tensor<?x32xf32> loc("attn.v")
    %qr = mili.rope %q, %batch heads 4 #rope : tensor<?x32xf32> loc("attn.q_rope")
    %kr = mili.rope %k, %batch heads 4 #rope : tensor<?x32xf32> loc("attn.k_rope")
    %kv0 = mili.state_get @kv : !kv
    %kv1 = mili.kv_append %kv0, %kr, %v, %batch : !kv, tensor<?x32xf32>, tensor<?x32xf32> loc("attn.append")
    mili.state_set @kv, %kv1 : !kv
    %a = mili.attention %qr, %kv1, %batch mask(#mili.causal) heads 4 scale 0.5 : tensor<?x32xf32>, !kv -> tensor<?x32xf32> loc("attn.core")
    return %a : tensor<?x32xf32>
  }
}
)";

class FusionTest : public testing::Test {
protected:
  FusionTest() {
    DialectRegistry registry;
    registry.insert<MiliDialect, func::FuncDialect>();
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
    module = parseSourceString<ModuleOp>(kSource, &context);
  }

  /// Merges and fuses; the groups as "name: op, op".
  std::vector<std::string> run(GroupFilter filter) {
    PassManager pm(&context);
    pm.addNestedPass<func::FuncOp>(createMergeProjections(MergeProjectionsOptions(), &report));
    pm.addPass(createFuseGroups(FuseGroupsOptions(), std::move(filter), &report));
    EXPECT_TRUE(succeeded(pm.run(*module)));
    std::vector<std::string> groups;
    for (const FusionGroup &group : report.groups) {
      groups.push_back(group.name + ":");
      for (const std::string &op : group.ops)
        groups.back() += " " + op;
    }
    return groups;
  }

  std::string reasonOf(const std::string &producer, const std::string &consumer) const {
    for (const FusionEdge &edge : report.edges)
      if (edge.producer == producer && edge.consumer == consumer)
        return edge.reason;
    return "no such edge";
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
  FusionReport report;
};

TEST_F(FusionTest, MergeSaysWhyOneStaysApart) {
  ASSERT_TRUE(module);
  run({});
  ASSERT_EQ(report.merges.size(), 2u);
  EXPECT_THAT(report.merges[0].linears, ElementsAre("attn.q", "attn.k"));
  EXPECT_TRUE(report.merges[0].merged);
  EXPECT_THAT(report.merges[1].linears, ElementsAre("attn.v"));
  EXPECT_FALSE(report.merges[1].merged);
  EXPECT_EQ(report.merges[1].reason, "weights are stored in different formats (f32, bf16)");
}

TEST_F(FusionTest, GroupsWithoutAFilter) {
  ASSERT_TRUE(module);
  // The norm is recomputed in both products. No tile of either holds K and V of a head, so attention appends them.
  EXPECT_THAT(run({}), ElementsAre("attn.qk: norm attn.qk attn.qk attn.q_rope attn.k_rope", "attn.v: norm attn.v",
                                   "attn.core: attn.append attn.core"));
  EXPECT_EQ(reasonOf("attn.k_rope", "attn.append"),
            "its other operand comes from outside and a tile cannot tell which features of it are its own");
}

TEST_F(FusionTest, FilterRefusesEpilogueAndPrologue) {
  ASSERT_TRUE(module);
  auto groups = run([&](const FusionCandidate &candidate) -> std::optional<std::string> {
    EXPECT_EQ(candidate.tokens, 1);
    EXPECT_EQ(candidate.members.front(), candidate.hero);
    if (isa<RopeOp>(candidate.op)) {
      if (!candidate.prologue)
        EXPECT_EQ(candidate.tileFeatures, 8);  // a head
      return "no angles here";
    }
    if (candidate.prologue)
      return "no prologue here";
    return std::nullopt;
  });
  EXPECT_THAT(groups, ElementsAre("attn.qk: attn.qk attn.qk", "attn.v: attn.v", "attn.core: attn.core", "norm: norm",
                                  "attn.q_rope: attn.q_rope", "attn.k_rope: attn.k_rope attn.append"));
  EXPECT_EQ(reasonOf("attn.qk", "attn.k_rope"), "no angles here");
  EXPECT_EQ(reasonOf("norm", "attn.v"), "attn.qk needs it stored: no prologue here");
}

TEST_F(FusionTest, EveryValueBetweenTwoOpsIsAccountedFor) {
  ASSERT_TRUE(module);
  run({});
  EXPECT_EQ(report.edges.size(), 9u);
  for (const FusionEdge &edge : report.edges) {
    EXPECT_FALSE(edge.reason.empty()) << edge.producer << " to " << edge.consumer;
    // A state is updated in place: fused or not, the same bytes move.
    EXPECT_EQ(edge.fused && edge.kind != "kv_append-attention", edge.bytesSaved > 0)
        << edge.producer << " to " << edge.consumer;
  }
  // One write and two reads of the norm's result less one more read of its input, of 128 bytes, for two edges.
  for (const FusionEdge &edge : report.edges)
    if (edge.kind == "rms_norm-linear")
      EXPECT_EQ(edge.bytesSaved, 128);
}

}  // namespace
