//===- EmbeddingTemplate.cpp - rows of a table by token id -------------------===//
//
// One token a tile: the row is decoded into f32, then the row program (a scale, the store). A table that the head
// shares is in panels; one of its own in plain elements stays row by row.
//
//===------------------------------------------------------------------------===//
#include "PanelLayout.h"
#include "mili/Codegen/RowProgram.h"

#include "mili/Codegen/CpuTemplates.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;

namespace panel = ::mili::panel;

namespace {

BlockArgument tableArgument(Operation *embedding) {
  Value table = embedding->getOperand(1);
  if (auto dequant = table.getDefiningOp<DequantOp>())
    table = dequant.getStorage();
  return dyn_cast<BlockArgument>(table);
}

class EmbeddingTemplate : public CpuKernelTemplate {
public:
  StringRef getName() const override { return "cpu.embedding"; }

  bool match(GroupOp group) const override {
    Operation *hero = group.getHeroOp();
    return isa_and_nonnull<EmbeddingOp>(hero) && tableArgument(hero);
  }

  SmallVector<StringRef> getWeightLayouts(GroupOp group, unsigned index) const override {
    BlockArgument table = tableArgument(group.getHeroOp());
    if (index != table.getArgNumber())
      return {"row_major"};
    if (isa<BlockType>(elementOf(table)))
      return {"panel16"};
    return {"row_major", "panel16"};
  }

  FailureOr<GroupPlan> plan(GroupOp group, BucketAttr) const override {
    GroupPlan plan;
    plan.stages.push_back(StageAttr::get(group.getContext(), "gather", 1, RowCount::tokens, 1,
                                         RowProgram::scratchBytes(group.getBody().front(), 0)));
    return plan;
  }

  LogicalResult emit(CpuKernelBuilder &k, const CpuKernel &kernel) const override;
};

/// Decodes row `id` of a table in panels into `target`, f32.
void decodePanelRow(CpuKernelBuilder &k, Value table, Value id, RankedTensorType type, Value target) {
  const int64_t columns = type.getShape()[1];
  Type element = type.getElementType();
  Value lane = k.rem(id, panel::kRows), index = k.div(id, panel::kRows);
  auto block = dyn_cast<BlockType>(element);
  if (!block) {
    const int64_t size = k.bytesOf(element);
    Value source = k.at(k.at(table, k.mul(index, columns * panel::kRows * size)), k.mul(lane, size));
    k.loop(0, columns, 1, [&](Value c) {
      k.store(k.load(k.at(source, k.mul(c, panel::kRows * size)), element, 1), k.at(target, k.mul(c, 4)), k.f32, 1);
    });
    return;
  }
  const BlockFormat stored = block.getFormat();
  const panel::Format format = stored == BlockFormat::q4_0   ? panel::Format::kQ4_0
                               : stored == BlockFormat::q4_1 ? panel::Format::kQ4_1
                               : stored == BlockFormat::q8_0 ? panel::Format::kQ8_0
                                                             : panel::Format::kQ6_K;
  const panel::FormatInfo &info = panel::info(format);
  Type f16 = k.b.getF16Type();
  Value base = k.at(table, k.mul(index, panel::panelBytes(format, columns)));
  VectorType words = k.vec(4, k.i32);
  // Four consecutive elements: the bytes of one word, as integers.
  auto word = [&](Value address) -> Value {
    return arith::ExtUIOp::create(k.b, k.loc, words, k.loadBytes(address, 4));
  };
  auto shifted = [&](Value v, int32_t bits, int32_t mask) -> Value {
    Value s = arith::ShRUIOp::create(k.b, k.loc, v, k.splatI32(bits, 4));
    return arith::AndIOp::create(k.b, k.loc, s, k.splatI32(mask, 4));
  };
  auto put = [&](Value q, int32_t offset, Value scale, Value min, Value element0) {
    Value centered = arith::SubIOp::create(k.b, k.loc, q, k.splatI32(offset, 4));
    Value x = arith::SIToFPOp::create(k.b, k.loc, k.vec(4), centered);
    Value s = k.broadcast(scale, 4);
    k.store(min ? k.fma(x, s, k.broadcast(min, 4)) : k.mulf(x, s), k.at(target, k.mul(element0, 4)), k.f32, 4);
  };
  k.loop(0, columns / info.blockElements, 1, [&](Value b) {
    Value at = k.at(base, k.mul(b, info.blockBytes));
    Value d = k.load(k.at(at, k.mul(lane, 2)), f16, 1);
    Value quants = k.at(k.at(at, info.scaleBytes), k.mul(lane, 4));
    Value first = k.mul(b, info.blockElements);
    if (format == panel::Format::kQ8_0) {
      for (int64_t j = 0; j < 8; ++j)
        put(word(k.at(quants, j * 64)), 128, d, {}, k.add(first, 4 * j));
    } else if (format != panel::Format::kQ6_K) {
      const bool hasMin = format == panel::Format::kQ4_1;
      Value m = hasMin ? k.load(k.at(k.at(at, 32), k.mul(lane, 2)), f16, 1) : Value();
      for (int64_t j = 0; j < 4; ++j) {
        Value v = word(k.at(quants, j * 64));
        put(shifted(v, 0, 15), hasMin ? 0 : 8, d, m, k.add(first, 4 * j));
        put(shifted(v, 4, 15), hasMin ? 0 : 8, d, m, k.add(first, 16 + 4 * j));
      }
    } else {
      k.loop(0, 8, 1, [&](Value s) {
        Value low = k.at(quants, k.mul(s, 256)), high = k.at(k.at(quants, 2048), k.mul(s, 128));
        Value scales[2];
        for (int64_t h = 0; h < 2; ++h) {
          Value raw = k.loadI8(k.at(k.at(at, 32 + h * 16), k.add(k.mul(s, 32), lane)));
          scales[h] = k.mulf(d, arith::SIToFPOp::create(k.b, k.loc, k.f32, raw));
        }
        for (int64_t group = 0; group < 8; ++group) {
          Value q = shifted(word(k.at(low, group % 4 * 64)), group < 4 ? 0 : 4, 15);
          Value two = shifted(word(k.at(high, group / 4 * 64)), group % 4 * 2, 3);
          q = arith::OrIOp::create(k.b, k.loc, q, arith::ShLIOp::create(k.b, k.loc, two, k.splatI32(4, 4)));
          put(q, 32, scales[group / 4], {}, k.add(k.add(first, k.mul(s, 32)), group * 4));
        }
      });
    }
  });
}

LogicalResult EmbeddingTemplate::emit(CpuKernelBuilder &k, const CpuKernel &kernel) const {
  Operation *hero = kernel.getHeroOp();
  BlockArgument table = tableArgument(hero);
  auto type = cast<RankedTensorType>(table.getType());
  const int64_t columns = type.getShape()[1];
  KernelArguments args(kernel.body);
  Value base = k.argument(args.input(table)), ids = k.batchTable("token_ids");
  // The row itself, then the row program's scratch; the embedding's own result is part of what it counts.
  const int64_t rowBytes = llvm::alignTo(columns * 4, 64);
  RowProgram program(k, kernel.body, k.at(k.scratch, rowBytes));
  k.loop(k.begin, k.end, 1, [&](Value token) {
    Value id = k.tableEntry(ids, token);
    if (kernel.layouts[table.getArgNumber()] == "panel16") {
      decodePanelRow(k, base, id, type, k.scratch);
    } else {
      Type element = type.getElementType();
      const int64_t size = k.bytesOf(element), lanes = k.lanesFor(columns);
      Value source = k.at(base, k.mul(id, columns * size));
      k.loop(0, columns, lanes, [&](Value c) {
        k.store(k.load(k.at(source, k.mul(c, size)), element, lanes), k.at(k.scratch, k.mul(c, 4)), k.f32, lanes);
      });
    }
    program.setRow(token, token);
    program.run(hero->getResult(0), {k.scratch, k.constant(0), columns});
  });
  return success();
}

}  // namespace

std::unique_ptr<KernelTemplate> mlir::mili::codegen::createCpuEmbeddingTemplate() {
  return std::make_unique<EmbeddingTemplate>();
}
