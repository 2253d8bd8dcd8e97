//===- interfaces_test.cpp - what ops answer to passes ----------------------===//
#include "mili/IR/MiliDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

using namespace mlir;
using namespace mlir::mili;

namespace {

/// A layer: tied and quantized embedding, merged QKV with a norm per head, merged gate and up.
constexpr const char *kLayer = R"mlir(
#rope = #mili.rope<"default", pairing = half, amplitude = 1.0 : f32, frequencies = [1.0, 0.5]>
!kv = !mili.kv<heads = 2, k = 4, v = 4, f32>
mili.state @kv : !kv
func.func @forward(%tokens: tensor<?xi32>, %batch: !mili.batch) -> tensor<?x64xf32>
    attributes {mili.bucket = #mili.bucket<tokens = 8, sequences = 2, logit_rows = 2>} {
  %e = mili.weight "embed" : tensor<64x32x!mili.block<q4_1>>
  %table = mili.dequant %e : tensor<64x32x!mili.block<q4_1>> -> tensor<64x32xf32>
  %x = mili.embedding %tokens, %table : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
  %xs = mili.scale %x by 12.0 : tensor<?x32xf32>
  %g = mili.weight "norm" : tensor<32xf32>
  %n = mili.rms_norm %xs, %g eps 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  %w = mili.weight "q", "k", "v" : tensor<32x32xf32>
  %b = mili.weight "b" : tensor<32xf32>
  %qkv = mili.linear %n, %w bias %b : tensor<?x32xf32>, tensor<32x32xf32>, tensor<32xf32> -> tensor<?x32xf32>
  %q, %k, %v = mili.split %qkv : tensor<?x32xf32> -> tensor<?x16xf32>, tensor<?x8xf32>, tensor<?x8xf32>
  %gq = mili.weight "q_norm" : tensor<4xf32>
  %qn = mili.rms_norm %q, %gq eps 1.0e-6 : tensor<?x16xf32>, tensor<4xf32>
  %qr = mili.rope %qn, %batch heads 4 #rope : tensor<?x16xf32>
  %kr = mili.rope %k, %batch heads 2 #rope : tensor<?x8xf32>
  %kv0 = mili.state_get @kv : !kv
  %kv1 = mili.kv_append %kv0, %kr, %v, %batch : !kv, tensor<?x8xf32>, tensor<?x8xf32>
  mili.state_set @kv, %kv1 : !kv
  %a = mili.attention %qr, %kv1, %batch mask(#mili.window<16>) heads 4 scale 0.5 : tensor<?x16xf32>, !kv -> tensor<?x16xf32>
  %wo = mili.weight "o" : tensor<32x16xf32>
  %o = mili.linear %a, %wo : tensor<?x16xf32>, tensor<32x16xf32> -> tensor<?x32xf32>
  %x1 = mili.add %xs, %o : tensor<?x32xf32>
  %wgu = mili.weight "gate", "up", interleave = 8 : tensor<64x32xf32>
  %gu = mili.linear %x1, %wgu : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  %gate, %up = mili.split %gu interleave 8 : tensor<?x64xf32> -> tensor<?x32xf32>, tensor<?x32xf32>
  %h = mili.gated <silu> %gate, %up : tensor<?x32xf32>
  %h1 = mili.activation <relu> %h : tensor<?x32xf32>
  %l = mili.logits %h1, %table, %batch : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  %ls = mili.scale %l by 0.5 : tensor<?x64xf32>
  return %ls : tensor<?x64xf32>
}
)mlir";

class Interfaces : public ::testing::Test {
protected:
  Interfaces() {
    context.loadDialect<MiliDialect, func::FuncDialect>();
    module = parseSourceString<ModuleOp>(kLayer, &context);
  }

  void SetUp() override { ASSERT_TRUE(module); }

  /// The nth op of that name, e.g. op("linear", 1).
  Operation *op(StringRef name, int index = 0) {
    Operation *found = nullptr;
    module->walk([&](Operation *candidate) {
      if (candidate->getName().stripDialect() == name && index-- == 0)
        found = candidate;
    });
    EXPECT_TRUE(found) << name.str();
    return found;
  }
  FusibleOp fusible(StringRef name, int index = 0) { return cast<FusibleOp>(op(name, index)); }
  CostedOp costed(StringRef name, int index = 0) { return cast<CostedOp>(op(name, index)); }
  bool prologue(StringRef name, int index, StringRef owner, int ownerIndex, unsigned operand) {
    return fusible(name, index).isPrologueFor(op(owner, ownerIndex)->getOpOperand(operand));
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
};

TEST_F(Interfaces, HeroesByPriority) {
  EXPECT_EQ(fusible("linear").getHeroPriority(), 100u);
  EXPECT_EQ(fusible("logits").getHeroPriority(), 100u);
  EXPECT_EQ(fusible("attention").getHeroPriority(), 100u);
  EXPECT_EQ(fusible("embedding").getHeroPriority(), 60u);
  EXPECT_EQ(fusible("rms_norm").getHeroPriority(), 50u);
  EXPECT_EQ(fusible("split").getHeroPriority(), 30u);  // what follows writes the parts, not a copy of them
  EXPECT_EQ(fusible("rope").getHeroPriority(), 20u);
  EXPECT_EQ(fusible("kv_append").getHeroPriority(), 20u);
  for (StringRef name : {"add", "scale", "activation", "gated"})
    EXPECT_EQ(fusible(name).getHeroPriority(), 10u) << name.str();
  EXPECT_EQ(fusible("dequant").getHeroPriority(), 0u);
  EXPECT_FALSE(isa<FusibleOp>(op("weight")));
  EXPECT_FALSE(isa<FusibleOp>(op("state_get")));
}

TEST_F(Interfaces, ProloguesOfProducts) {
  EXPECT_TRUE(prologue("rms_norm", 0, "linear", 0, 0));
  EXPECT_TRUE(prologue("add", 0, "linear", 2, 0));
  EXPECT_TRUE(prologue("activation", 0, "logits", 0, 0));
  // A dequant goes with the weight operand, and with a table.
  EXPECT_TRUE(prologue("dequant", 0, "embedding", 0, 1));
  EXPECT_TRUE(prologue("dequant", 0, "logits", 0, 1));
  EXPECT_FALSE(prologue("dequant", 0, "linear", 0, 0));
  // Not into a row operation, attention or another element-wise op; products are nobody's prologue.
  EXPECT_FALSE(prologue("scale", 0, "rms_norm", 0, 0));
  EXPECT_FALSE(prologue("rms_norm", 0, "attention", 0, 0));
  EXPECT_FALSE(prologue("gated", 0, "activation", 0, 0));
  EXPECT_FALSE(prologue("linear", 1, "linear", 2, 0));
  EXPECT_FALSE(prologue("split", 1, "logits", 0, 0));
}

TEST_F(Interfaces, EpiloguesChain) {
  // linear -> split -> rms_norm per head -> rope -> kv_append
  EXPECT_TRUE(fusible("split").isEpilogueFor(op("linear")));
  EXPECT_TRUE(fusible("rms_norm", 1).isEpilogueFor(op("split")));
  EXPECT_TRUE(fusible("rope").isEpilogueFor(op("rms_norm", 1)));
  EXPECT_TRUE(fusible("rope", 1).isEpilogueFor(op("split")));
  EXPECT_TRUE(fusible("kv_append").isEpilogueFor(op("rope", 1)));
  EXPECT_TRUE(fusible("kv_append").isEpilogueFor(op("split")));
  // linear -> add; linear -> split -> gated -> activation
  EXPECT_TRUE(fusible("add").isEpilogueFor(op("linear", 1)));
  EXPECT_TRUE(fusible("gated").isEpilogueFor(op("split", 1)));
  EXPECT_TRUE(fusible("activation").isEpilogueFor(op("gated")));
  // Scales of embeddings and logits.
  EXPECT_TRUE(fusible("scale").isEpilogueFor(op("embedding")));
  EXPECT_TRUE(fusible("scale", 1).isEpilogueFor(op("logits")));
}

TEST_F(Interfaces, EpiloguesRefused) {
  // A norm over the whole row needs every tile.
  EXPECT_FALSE(fusible("rms_norm").isEpilogueFor(op("scale")));
  // Attention reads the whole state and the whole query.
  EXPECT_FALSE(fusible("attention").isEpilogueFor(op("kv_append")));
  EXPECT_FALSE(fusible("attention").isEpilogueFor(op("rope")));
  EXPECT_FALSE(fusible("linear", 1).isEpilogueFor(op("attention")));
  // Nothing comes from there.
  EXPECT_FALSE(fusible("add").isEpilogueFor(op("linear", 0)));
  EXPECT_FALSE(fusible("scale", 1).isEpilogueFor(op("linear", 0)));
  EXPECT_FALSE(fusible("kv_append").isEpilogueFor(op("rope", 0)));
  EXPECT_FALSE(fusible("kv_append").isEpilogueFor(op("state_get")));
}

TEST_F(Interfaces, EpilogueGranularity) {
  EXPECT_EQ(fusible("kv_append").getEpilogueGranularity(), 4);
  EXPECT_EQ(fusible("rope").getEpilogueGranularity(), 4);
  EXPECT_EQ(fusible("rms_norm", 1).getEpilogueGranularity(), 4);
  EXPECT_EQ(fusible("split", 0).getEpilogueGranularity(), 1);
  EXPECT_EQ(fusible("split", 1).getEpilogueGranularity(), 16);
  EXPECT_EQ(fusible("gated").getEpilogueGranularity(), 16);
  EXPECT_EQ(fusible("add").getEpilogueGranularity(), 1);
  // Halves of a row, once the runs no longer alternate.
  cast<SplitOp>(op("split", 1)).setInterleave(0);
  EXPECT_EQ(fusible("gated").getEpilogueGranularity(), 64);
}

TEST_F(Interfaces, Flops) {
  EXPECT_EQ(costed("linear").getFlops(3, 100), 3u * (2 * 32 * 32 + 32));  // with a bias
  EXPECT_EQ(costed("linear", 1).getFlops(3, 100), 3u * 2 * 32 * 16);
  EXPECT_EQ(costed("logits").getFlops(2, 100), 2u * 2 * 64 * 32);
  EXPECT_EQ(costed("rope").getFlops(3, 100), 3u * 4 * 2 * 6);
  EXPECT_EQ(costed("add").getFlops(3, 100), 3u * 32);
  EXPECT_EQ(costed("embedding").getFlops(3, 100), 0u);
  // The window bounds what attention sees.
  EXPECT_EQ(costed("attention").getFlops(3, 100), costed("attention").getFlops(3, 16));
  EXPECT_EQ(costed("attention").getFlops(3, 8) * 2, costed("attention").getFlops(3, 16));
}

TEST_F(Interfaces, WorkIsLinear) {
  auto work = [&](StringRef name, int index = 0) { return costed(name, index).getWork(getWeightBytes); };
  EXPECT_EQ(work("linear").fixedBytes, 4u * (32 * 32 + 32));
  EXPECT_EQ(work("linear").rowFlops, 2u * 32 * 32 + 32);
  EXPECT_EQ(work("linear").rowBytes, 0u);
  // Blocks of 32 elements in 20 bytes, seen through the dequant, which counts nothing itself.
  EXPECT_EQ(work("logits").fixedBytes, 64u * 20);
  EXPECT_EQ(work("dequant").fixedBytes, 0u);
  // A row of the table for each token.
  EXPECT_EQ(work("embedding").fixedBytes, 0u);
  EXPECT_EQ(work("embedding").rowBytes, 20u);
  EXPECT_EQ(work("rms_norm", 1).fixedBytes, 16u);
  EXPECT_EQ(work("add").fixedBytes, 0u);
  // 8 + 8 elements of f32 a key; a product with each element of K and V, 8 operations of the softmax.
  EXPECT_EQ(work("attention").keyBytes, 64u);
  EXPECT_EQ(work("attention").pairFlops, 4u * (2 * 8 + 8));
  EXPECT_EQ(work("attention").visible.base, 16);
  EXPECT_EQ(work("attention").visible.every, 0);
  // Whoever stores weights says how large they are: 100 bytes each.
  auto packed = [](Value) -> uint64_t { return 100; };
  EXPECT_EQ(costed("linear").getWork(packed).fixedBytes, 200u);
  EXPECT_EQ(costed("linear", 1).getWork(packed).fixedBytes, 100u);
  StepWork sum = work("attention");
  sum += work("linear");
  EXPECT_EQ(sum.visible.base, 16);
  EXPECT_EQ(sum.fixedBytes, work("linear").fixedBytes);
  EXPECT_EQ(sum.keyBytes, 64u);
}

// The line of a mask against its definition: the last position of a context, by whole blocks.
TEST_F(Interfaces, VisibleKeysFollowTheMask) {
  auto line = [](Attribute mask, int64_t n) {
    const VisibleKeys keys = visibleKeys(mask);
    return std::min(n, keys.base + (keys.every ? n / keys.every : 0));
  };
  for (int64_t n : {1, 15, 64, 1000, 4096, 100000}) {
    EXPECT_EQ(line(CausalAttr::get(&context), n), n);
    EXPECT_EQ(line(WindowAttr::get(&context, 96), n), std::min<int64_t>(n, 96));
  }
  const BlockSparseAttr masks[] = {
      BlockSparseAttr::get(&context, 1024, 0, 1024, 0, 0), BlockSparseAttr::get(&context, 64, 128, 256, 0, 0),
      BlockSparseAttr::get(&context, 192, 128, 0, 3, 1), BlockSparseAttr::get(&context, 512, 0, 0, 8, 3),
      BlockSparseAttr::get(&context, 128, 0, 64, 0, 0)};
  for (BlockSparseAttr mask : masks)
    for (int64_t blocks = 1; blocks < 300; ++blocks) {
      const int64_t n = blocks * KvType::kPageTokens;
      EXPECT_NEAR(static_cast<double>(line(mask, n)), static_cast<double>(visibleTokens(mask, n)), 64)
          << blocks << " blocks, local " << mask.getLocal() << ", stride " << mask.getStride();
    }
}

TEST_F(Interfaces, SizesOfTypes) {
  auto kv = KvType::get(&context, 3, 64, 32, Float32Type::get(&context), 0);
  EXPECT_EQ(kv.getPageBytes(), 3 * (64 + 32) * 64 * 4);
  auto recurrent = RecurrentType::get(&context, {4, 8}, BFloat16Type::get(&context), 2);
  EXPECT_EQ(recurrent.getSlotBytes(), 4 * 8 * 2 * 3);
  auto bytes = [&](BlockFormat format) {
    return getStorageBytes(RankedTensorType::get({2, 256}, BlockType::get(&context, format)));
  };
  EXPECT_EQ(bytes(BlockFormat::q4_0), 2u * 8 * 18);
  EXPECT_EQ(bytes(BlockFormat::q4_1), 2u * 8 * 20);
  EXPECT_EQ(bytes(BlockFormat::q8_0), 2u * 8 * 34);
  EXPECT_EQ(bytes(BlockFormat::q6_k), 2u * 210);
  EXPECT_EQ(getStorageBytes(RankedTensorType::get({2, 3}, BFloat16Type::get(&context))), 12u);
}

TEST_F(Interfaces, DisplayNames) {
  EXPECT_EQ(cast<WeightOp>(op("weight", 2)).getParam().getDisplayName(), "q+k+v");
}

}  // namespace
