// Replays a plan's launches over an arena whose cells remember which value lies in them: every read must find the value
// that the groups' SSA edges name, in whole, and the logits must be there at the end.
#include "mili/IR/MiliDialect.h"
#include "mili/IR/MiliPlan.h"
#include "mili/Passes/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <gtest/gtest.h>

#include <map>

using namespace mlir;
using namespace mlir::mili;

namespace {

/// A decoder with a gate, norms before each product and a residual stream.
std::string decoder(int layers) {
  std::string text = R"(
#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5, 0.25, 0.125]>
!x = tensor<?x64xf32>
!h = tensor<?x192xf32>
!kv = !mili.kv<heads = 8, k = 8, v = 8, f32>
module attributes {mili.requests = 2 : i64, mili.context = 128 : i64} {
)";
  for (int i = 0; i < layers; ++i)
    text += llvm::formatv("mili.state @kv{0} : !kv\n", i);
  text += R"(
func.func @forward(%tokens: tensor<?xi32>, %batch: !mili.batch) -> tensor<?x256xf32> {
  %embed = mili.weight "embed" : tensor<256x64xf32>
  %x0 = mili.embedding %tokens, %embed : tensor<?xi32>, tensor<256x64xf32> -> !x
)";
  auto linear = [&](StringRef result, StringRef input, int layer, int in, int out) {
    text += llvm::formatv("%w_{0}{2} = mili.weight \"{0}{2}\" : tensor<{4}x{3}xf32>\n"
                          "%{0}{2} = mili.linear %{1}{2}, %w_{0}{2} : tensor<?x{3}xf32>, tensor<{4}x{3}xf32> -> "
                          "tensor<?x{4}xf32>\n",
                          result, input, layer, in, out);
  };
  for (int i = 0; i < layers; ++i) {
    text += llvm::formatv("%g{0} = mili.weight \"g{0}\" : tensor<64xf32>\n"
                          "%n{0} = mili.rms_norm %x{0}, %g{0} eps 1.0e-6 : !x, tensor<64xf32>\n",
                          i);
    for (const char *name : {"q", "k", "v"})
      linear(name, "n", i, 64, 64);
    text += llvm::formatv(R"(
  %qr{0} = mili.rope %q{0}, %batch heads 8 #rope : !x
  %kr{0} = mili.rope %k{0}, %batch heads 8 #rope : !x
  %s{0} = mili.state_get @kv{0} : !kv
  %t{0} = mili.kv_append %s{0}, %kr{0}, %v{0}, %batch : !kv, !x, !x
  mili.state_set @kv{0}, %t{0} : !kv
  %a{0} = mili.attention %qr{0}, %t{0}, %batch mask(#mili.causal) heads 8 scale 0.5 : !x, !kv -> !x
)",
                          i);
    linear("o", "a", i, 64, 64);
    text += llvm::formatv("%y{0} = mili.add %x{0}, %o{0} : !x\n%f{0} = mili.weight \"f{0}\" : tensor<64xf32>\n"
                          "%m{0} = mili.rms_norm %y{0}, %f{0} eps 1.0e-6 : !x, tensor<64xf32>\n",
                          i);
    linear("gate", "m", i, 64, 192);
    linear("up", "m", i, 64, 192);
    text += llvm::formatv("%h{0} = mili.gated <silu> %gate{0}, %up{0} : !h\n", i);
    linear("d", "h", i, 192, 64);
    text += llvm::formatv("%x{1} = mili.add %y{0}, %d{0} : !x\n", i, i + 1);
  }
  text += llvm::formatv("%l = mili.logits %x{0}, %embed, %batch : !x, tensor<256x64xf32> -> tensor<?x256xf32>\n"
                        "return %l : tensor<?x256xf32>\n}\n}\n",
                        layers);
  return text;
}

/// What a launch reads and writes, by value: one number for each (group, result).
struct Expected {
  SmallVector<int> reads, writes;
  bool scratch;
};

constexpr int64_t kCell = 256;

class MemoryPlanTest : public testing::TestWithParam<const char *> {};

TEST_P(MemoryPlanTest, EveryReadFindsItsValue) {
  MLIRContext context;
  DialectRegistry registry;
  registry.insert<MiliDialect, plan::MiliPlanDialect, func::FuncDialect>();
  context.appendDialectRegistry(registry);
  context.loadAllAvailableDialects();
  std::string source = decoder(4);
  auto module = parseSourceString<ModuleOp>(source, &context);
  ASSERT_TRUE(module) << source;

  PassManager fuse(&context);
  SpecializeBucketsOptions buckets;
  buckets.buckets = {"1:1:1", "16:2:16", "512:2:16"};
  FuseGroupsOptions options;
  if (*GetParam())
    options.disable = {GetParam()};
  fuse.addNestedPass<func::FuncOp>(createMergeProjections(MergeProjectionsOptions(), nullptr));
  fuse.addPass(createSpecializeBuckets(buckets));
  fuse.addPass(createFuseGroups(options, {}, nullptr));
  ASSERT_TRUE(succeeded(fuse.run(*module)));

  // A selection of kernels; every third group wants scratch in the arena.
  Builder builder(&context);
  module->walk([&](WeightOp weight) { weight.setLayout("row_major"); });
  std::map<std::string, std::vector<Expected>> expected;
  std::map<std::string, int> logits;
  for (auto function : module->getOps<func::FuncOp>()) {
    DenseMap<Value, int> numbers;
    auto &launches = expected[function.getSymName().str()];
    for (auto group : function.getOps<GroupOp>()) {
      Expected launch;
      for (Value input : group.getInputs())
        if (numbers.contains(input))
          launch.reads.push_back(numbers.lookup(input));
      for (Value result : group.getResults())
        if (isa<RankedTensorType>(result.getType())) {
          int number = static_cast<int>(numbers.size()) + 1;
          numbers[result] = number;
          launch.writes.push_back(number);
        }
      launch.scratch = launches.size() % 3 == 0;
      group.setKernel("test");
      group.setStagesAttr(builder.getArrayAttr(StageAttr::get(&context, "main", 1, RowCount::one, 1, 0)));
      if (launch.scratch)
        group.setArenaScratch(3000 + 100 * static_cast<int64_t>(launches.size()));
      launches.push_back(launch);
    }
    logits[function.getSymName().str()] = numbers.lookup(function.getBody().front().getTerminator()->getOperand(0));
  }

  PassManager plan(&context);
  plan.addPass(createMemoryPlan());
  ASSERT_TRUE(succeeded(plan.run(*module)));

  int inPlace = 0;
  for (auto bucket : module->getOps<plan::BucketOp>()) {
    std::string name = bucket.getSymName().str();
    std::vector<int> cells(bucket.getArena() / kCell, 0);
    auto cellsOf = [&](plan::ArenaAttr slice) {
      return MutableArrayRef<int>(cells).slice(slice.getOffset() / kCell, llvm::divideCeil(slice.getSize(), kCell));
    };
    size_t index = 0;
    std::map<int, plan::ArenaAttr> placed;
    for (auto launch : bucket.getOps<plan::LaunchOp>()) {
      const Expected &want = expected.at(name).at(index++);
      SmallVector<plan::ArenaAttr> reads, writes, scratch;
      for (Attribute arg : launch.getArgs())
        if (auto slice = dyn_cast<plan::ArenaAttr>(arg))
          (slice.getAccess() == plan::Access::read    ? reads
           : slice.getAccess() == plan::Access::write ? writes
                                                      : scratch)
              .push_back(slice);
      ASSERT_EQ(reads.size(), want.reads.size()) << name << " " << launch.getName().str();
      ASSERT_EQ(writes.size(), want.writes.size()) << name << " " << launch.getName().str();
      ASSERT_EQ(scratch.size(), want.scratch ? 1u : 0u);
      // Scratch may be written at any time of the launch.
      for (plan::ArenaAttr slice : scratch)
        llvm::fill(cellsOf(slice), -1);
      for (auto [slice, value] : llvm::zip(reads, want.reads))
        for (int cell : cellsOf(slice))
          ASSERT_EQ(cell, value) << name << " " << launch.getName().str() << " at " << slice.getOffset();
      for (auto [slice, value] : llvm::zip(writes, want.writes)) {
        // Overwrites nothing that this launch reads, but for one operand in place.
        for (auto read : reads)
          if (read.getOffset() == slice.getOffset()) {
            ++inPlace;
            ASSERT_EQ(read.getSize(), slice.getSize());
          } else {
            ASSERT_TRUE(read.getOffset() + read.getSize() <= slice.getOffset() ||
                        slice.getOffset() + slice.getSize() <= read.getOffset());
          }
        for (auto other : scratch)
          ASSERT_TRUE(other.getOffset() + other.getSize() <= slice.getOffset() ||
                      slice.getOffset() + slice.getSize() <= other.getOffset());
        llvm::fill(cellsOf(slice), value);
        placed[value] = slice;
      }
    }
    EXPECT_EQ(index, expected.at(name).size());
    plan::ArenaAttr last = placed.at(logits.at(name));
    EXPECT_EQ(last.getOffset(), static_cast<int64_t>(bucket.getLogits()));
    for (int cell : cellsOf(last))
      EXPECT_EQ(cell, logits.at(name));
    EXPECT_LE(bucket.getArena(), bucket.getLowerBound() + bucket.getLowerBound() / 50) << name;
  }
  EXPECT_GT(inPlace, 0);
}

INSTANTIATE_TEST_SUITE_P(Fusions, MemoryPlanTest, testing::Values("", "all", "add", "rms_norm", "split", "rope"),
                         [](const auto &info) { return *info.param ? std::string(info.param) : "everything"; });

}  // namespace
