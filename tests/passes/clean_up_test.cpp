// What the optimize phase takes away, as the compiler runs it: the passes are tested alone elsewhere.
#include "mili/Compiler/Pipeline.h"
#include "mili/IR/MiliDialect.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

#include <gtest/gtest.h>

#include <map>

using namespace mlir;
using namespace mlir::mili;

namespace {

TEST(CleanUp, OptimizeLeavesEachThingOnce) {
  DialectRegistry registry;
  registerCompilerDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(R"(
    module attributes {mili.duplicates = {"saved twice" = "head"}} {
      func.func @forward(%tokens: tensor<?xi32>, %batch: !mili.batch) -> tensor<?x64xf32> {
        %e = mili.weight "embed" : tensor<64x32xf32>
        %x = mili.embedding %tokens, %e : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
        %g = mili.weight "gain" : tensor<32xf32>
        // One norm, computed for each of its readers.
        %n0 = mili.rms_norm %x, %g eps 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
        %n1 = mili.rms_norm %x, %g eps 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
        // Two weights of equal bytes, one of which nothing reads by its own name.
        %w0 = mili.weight "head" : tensor<32x32xf32>
        %w1 = mili.weight "saved twice" : tensor<32x32xf32>
        %y0 = mili.linear %n0, %w0 : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
        %y1 = mili.linear %n1, %w1 : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
        // Constants: 0.5 * 2 is nothing to do; 3 * 0.5 is one product.
        %s0 = mili.scale %y0 by 0.5 : tensor<?x32xf32>
        %s1 = mili.scale %s0 by 2.0 : tensor<?x32xf32>
        %s2 = mili.scale %y1 by 3.0 : tensor<?x32xf32>
        %s3 = mili.scale %s2 by 0.5 : tensor<?x32xf32>
        %sum = mili.add %s1, %s3 : tensor<?x32xf32>
        // Nothing reads what follows, and then nothing reads its weight.
        %unread = mili.weight "unread" : tensor<32x32xf32>
        %dead = mili.linear %sum, %unread : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
        %l = mili.logits %sum, %e, %batch : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
        return %l : tensor<?x64xf32>
      }
    })",
                                                             &context);
  ASSERT_TRUE(module);
  PassManager pm(&context);
  buildPhase(pm, ::mili::Phase::kOptimize, {}, *module, nullptr);
  ASSERT_TRUE(succeeded(pm.run(*module)));
  std::map<std::string, int> ops;
  module->walk([&](Operation *op) { ++ops[op->getName().stripDialect().str()]; });
  const std::map<std::string, int> expected = {{"module", 1},   {"func", 1},   {"weight", 3}, {"embedding", 1},
                                               {"rms_norm", 1}, {"linear", 1}, {"scale", 1},  {"add", 1},
                                               {"logits", 1},   {"return", 1}};
  EXPECT_EQ(ops, expected);
}

}  // namespace
