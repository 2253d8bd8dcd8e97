//===- AttentionTemplate.cpp - attention over paged state --------------------===//
//
// A tile is one token and one KV head; the query heads of the group read each K and V row once. Keys come a page at a
// time with a running maximum and sum (online softmax, Milakov and Gimelshein, arXiv 1805.02867):
//
//   scores[g][j] = scale * q_g . k_j      lanes over the head's width, one reduction a key
//   m' = max(m, max_j scores), acc *= exp(m - m'), p = exp(scores - m'), l = l * exp(m - m') + sum p
//   acc[g] += p[g][j] * v_j               lanes over the head's width, up to 8 heads in registers
//
// Pages wholly before a window are skipped; of a block-sparse mask, whose blocks are pages, only the seen ones are
// walked.
//
//===------------------------------------------------------------------------===//
#include "mili/Codegen/RowProgram.h"

#include "mili/Codegen/CpuTemplates.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <limits>
#include <optional>

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;

namespace {

/// Query heads that share loads of K and V in registers.
constexpr int64_t kHeadsInRegisters = 8;

struct Shape {
  explicit Shape(AttentionOp op)
      : kv(cast<KvType>(op.getKv().getType())), kvHeads(kv.getHeads()),
        group(static_cast<int64_t>(op.getHeads()) / kv.getHeads()), kWidth(kv.getK()), vWidth(kv.getV()) {}
  KvType kv;
  int64_t kvHeads, group, kWidth, vWidth;

  // Worker scratch: queries, scores of a page, accumulators, the finished unit; then the row program's.
  int64_t queryBytes() const { return llvm::alignTo(group * kWidth * 4, 64); }
  int64_t scoreBytes() const { return group * KvType::kPageTokens * 4; }
  int64_t accumulatorBytes() const { return llvm::alignTo(group * vWidth * 4, 64); }
  int64_t fixedBytes() const { return queryBytes() + scoreBytes() + accumulatorBytes(); }
};

/// BlockPattern.h as instructions, for the block of a position that is known at run time.
class PatternWalk {
public:
  PatternWalk(CpuKernelBuilder &builder, const mili_attention::BlockPattern &p, Value block)
      : k(builder), p(p), i(block) {
    firstLocal = k.max(k.add(i, 1 - p.local), k.constant(0));
    globals = k.min(firstLocal, k.constant(p.global));
    between = k.sub(firstLocal, globals);
    if (p.stride > 0)
      middles = k.max(k.add(k.div(k.max(k.add(i, -p.global), k.constant(0)), p.stride), -nearer()), k.constant(0));
    else
      middles = k.min(between, k.constant(p.random));
    beforeLocal = k.add(globals, middles);
    count = k.add(k.sub(k.add(beforeLocal, i), firstLocal), 1);
  }

  Value count;

  Value nth(Value n) {
    Value local = k.add(firstLocal, k.sub(n, beforeLocal));
    if (p.stride == 0 && p.random == 0)
      return select(k.lessThan(n, globals), n, local);
    Value number = k.sub(n, globals);
    Value early = select(k.lessThan(n, globals), n, p.stride > 0 ? strided(number) : drawn(number));
    return select(k.lessThan(n, beforeLocal), early, local);
  }

private:
  int64_t nearer() const { return (p.local - 1) / p.stride; }
  Value select(Value condition, Value a, Value b) { return arith::SelectOp::create(k.b, k.loc, condition, a, b); }

  Value strided(Value number) { return k.sub(i, k.mul(k.add(k.sub(middles, number), nearer()), p.stride)); }

  Value drawn(Value number) {
    Value low = k.div(k.mul(number, between), p.random);
    Value high = k.div(k.mul(k.add(number, 1), between), p.random);
    // At least 1: the value is not used where the range is empty, but it is computed.
    Value width = k.max(k.sub(high, low), k.constant(1));
    Value draw = arith::RemUIOp::create(k.b, k.loc, hash(number), width);
    Value all = k.lessThan(k.constant(p.random), between);
    return k.add(globals, select(all, k.add(low, draw), number));
  }

  Value hash(Value number) {
    auto constant = [&](uint32_t value) -> Value {
      return arith::ConstantIntOp::create(k.b, k.loc, k.i32, static_cast<int32_t>(value));
    };
    auto times = [&](Value a, uint32_t factor) -> Value {
      return arith::MulIOp::create(k.b, k.loc, a, constant(factor));
    };
    auto plus = [&](Value a, Value b) -> Value { return arith::AddIOp::create(k.b, k.loc, a, b); };
    auto folded = [&](Value h, uint32_t bits) -> Value {
      return arith::XOrIOp::create(k.b, k.loc, h, arith::ShRUIOp::create(k.b, k.loc, h, constant(bits)));
    };
    auto narrow = [&](Value a) -> Value { return arith::TruncIOp::create(k.b, k.loc, k.i32, a); };
    Value h = plus(plus(constant(p.seed), times(narrow(i), 0x9e3779b1u)), times(narrow(number), 0x85ebca77u));
    h = times(folded(h, 16), 0x85ebca6bu);
    h = times(folded(h, 13), 0xc2b2ae35u);
    return arith::ExtUIOp::create(k.b, k.loc, k.i64, folded(h, 16));
  }

  CpuKernelBuilder &k;
  const mili_attention::BlockPattern p;
  Value i, firstLocal, globals, between, middles, beforeLocal;
};

class AttentionTemplate : public CpuKernelTemplate {
public:
  StringRef getName() const override { return "cpu.attention"; }

  bool match(GroupOp group) const override {
    auto attention = dyn_cast_or_null<AttentionOp>(group.getHeroOp());
    return attention && isa<BlockArgument>(attention.getQuery()) && isa<BlockArgument>(attention.getKv()) &&
           isa<CausalAttr, WindowAttr, BlockSparseAttr>(attention.getMask());
  }

  SmallVector<StringRef> getWeightLayouts(GroupOp, unsigned) const override { return {"row_major"}; }

  FailureOr<GroupPlan> plan(GroupOp group, BucketAttr) const override {
    Shape shape(cast<AttentionOp>(group.getHeroOp()));
    GroupPlan plan;
    int64_t scratch =
        shape.fixedBytes() + RowProgram::scratchBytes(group.getBody().front(), shape.group * shape.vWidth);
    plan.stages.push_back(StageAttr::get(group.getContext(), "attend", shape.kvHeads, RowCount::tokens, 1, scratch));
    return plan;
  }

  LogicalResult emit(CpuKernelBuilder &k, const CpuKernel &kernel) const override;
};

LogicalResult AttentionTemplate::emit(CpuKernelBuilder &k, const CpuKernel &kernel) const {
  auto op = cast<AttentionOp>(kernel.getHeroOp());
  const Shape shape(op);
  const int64_t group = shape.group, kWidth = shape.kWidth, vWidth = shape.vWidth, pageTokens = KvType::kPageTokens;
  Type stored = shape.kv.getElementType(), queryType = elementOf(op.getQuery());
  const int64_t storedBytes = k.bytesOf(stored), queryBytes = k.bytesOf(queryType);
  const int64_t kLanes = k.lanesFor(kWidth), vLanes = k.lanesFor(vWidth), sLanes = k.lanesFor(pageTokens);

  RowProgram program(k, kernel.body, k.at(k.scratch, shape.fixedBytes()));
  Value queries = k.scratch;
  Value scores = k.at(k.scratch, shape.queryBytes());
  Value accumulators = k.at(scores, shape.scoreBytes());
  Value query = k.argument(program.arguments().input(op.getQuery()));
  Value pool = k.argument(program.arguments().input(op.getKv()));
  Value positions = k.batchTable("positions"), segments = k.batchTable("segments"), pages = k.batchTable("page_table");
  const int64_t pageTable = pageTableOf(op, shape.kv).index;
  const float minusInfinity = -std::numeric_limits<float>::infinity();

  k.loop(k.begin, k.end, 1, [&](Value tile) {
    Value token = k.div(tile, shape.kvHeads), head = k.rem(tile, shape.kvHeads);
    Value position = k.tableEntry(positions, token), segment = k.tableEntry(segments, token);
    Value first = k.constant(0);
    if (auto window = dyn_cast<WindowAttr>(op.getMask()))
      first = k.max(first, k.add(position, 1 - window.getTokens()));
    Value tableRow = k.pageTableLine(pageTable, segment);

    // Queries of the group, scaled, as f32; accumulators to zero.
    Value source = k.at(query, k.mul(k.add(k.mul(token, shape.kvHeads), head), group * kWidth * queryBytes));
    k.loop(0, group * kWidth, kLanes, [&](Value i) {
      Value q = k.mulf(k.load(k.at(source, k.mul(i, queryBytes)), queryType, kLanes),
                       k.splat(op.getScale().convertToFloat(), kLanes));
      k.store(q, k.at(queries, k.mul(i, 4)), k.f32, kLanes);
    });
    k.loop(0, group * vWidth, vLanes,
           [&](Value i) { k.store(k.splat(0, vLanes), k.at(accumulators, k.mul(i, 4)), k.f32, vLanes); });

    SmallVector<Value> running;
    for (int64_t g = 0; g < group; ++g)
      running.push_back(k.constantF(minusInfinity));
    for (int64_t g = 0; g < group; ++g)
      running.push_back(k.constantF(0));
    Value ownPage = k.div(position, pageTokens);
    std::optional<PatternWalk> walk;
    if (auto sparse = dyn_cast<BlockSparseAttr>(op.getMask()))
      walk.emplace(k, sparse.getPattern(), ownPage);
    Value firstPage = walk ? k.constant(0) : k.div(first, pageTokens);
    Value endPage = walk ? walk->count : k.add(ownPage, 1);
    running = k.loop(firstPage, endPage, 1, running, [&](Value number, ValueRange carried) {
      Value p = walk ? walk->nth(number) : number;
      Value page = k.tableEntry(pages, k.add(tableRow, p));
      Value base = k.at(pool, k.mul(page, shape.kv.getPageBytes()));
      Value keys = k.at(base, k.mul(head, pageTokens * kWidth * storedBytes));
      Value values = k.at(k.at(base, shape.kvHeads * pageTokens * kWidth * storedBytes),
                          k.mul(head, pageTokens * vWidth * storedBytes));
      Value start = k.mul(p, pageTokens);
      Value from = k.max(k.sub(first, start), k.constant(0));
      Value to = k.min(k.add(k.sub(position, start), 1), k.constant(pageTokens));

      k.loop(0, group * pageTokens, sLanes,
             [&](Value i) { k.store(k.splat(minusInfinity, sLanes), k.at(scores, k.mul(i, 4)), k.f32, sLanes); });
      for (int64_t g0 = 0; g0 < group; g0 += kHeadsInRegisters) {
        const int64_t heads = std::min(kHeadsInRegisters, group - g0);
        k.loop(from, to, 1, [&](Value j) {
          Value key = k.at(keys, k.mul(j, kWidth * storedBytes));
          SmallVector<Value> dots(heads);
          for (int64_t c = 0; c < kWidth; c += kLanes) {
            Value x = k.load(k.at(key, c * storedBytes), stored, kLanes);
            for (int64_t g = 0; g < heads; ++g) {
              Value q = k.load(k.at(queries, ((g0 + g) * kWidth + c) * 4), k.f32, kLanes);
              dots[g] = dots[g] ? k.fma(x, q, dots[g]) : k.mulf(x, q);
            }
          }
          for (int64_t g = 0; g < heads; ++g)
            k.store(k.reduceAdd(dots[g]), k.at(scores, k.mul(k.add(j, (g0 + g) * pageTokens), 4)), k.f32, 1);
        });
      }

      SmallVector<Value> maxima, sums, corrections;
      for (int64_t g = 0; g < group; ++g) {
        Value row = k.at(scores, g * pageTokens * 4);
        Value top;
        SmallVector<Value> lanes;
        for (int64_t j = 0; j < pageTokens; j += sLanes) {
          lanes.push_back(k.load(k.at(row, j * 4), k.f32, sLanes));
          top = top ? k.maxf(top, lanes.back()) : lanes.back();
        }
        Value maximum = k.maxf(carried[g], k.reduceMax(top));
        Value correction = k.exp(k.subf(carried[g], maximum));
        Value sum;
        for (int64_t j = 0; j < pageTokens; j += sLanes) {
          Value e = k.exp(k.subf(lanes[j / sLanes], k.broadcast(maximum, sLanes)));
          k.store(e, k.at(row, j * 4), k.f32, sLanes);
          sum = sum ? k.addf(sum, e) : e;
        }
        maxima.push_back(maximum);
        corrections.push_back(correction);
        sums.push_back(k.fma(carried[group + g], correction, k.reduceAdd(sum)));
      }

      for (int64_t g0 = 0; g0 < group; g0 += kHeadsInRegisters) {
        const int64_t heads = std::min(kHeadsInRegisters, group - g0);
        k.loop(0, vWidth, vLanes, [&](Value c) {
          SmallVector<Value> acc;
          auto slot = [&](int64_t g) { return k.at(accumulators, k.mul(k.add(c, (g0 + g) * vWidth), 4)); };
          for (int64_t g = 0; g < heads; ++g)
            acc.push_back(k.mulf(k.load(slot(g), k.f32, vLanes), k.broadcast(corrections[g0 + g], vLanes)));
          Value column = k.at(values, k.mul(c, storedBytes));
          acc = k.loop(from, to, 1, acc, [&](Value j, ValueRange sum) {
            Value v = k.load(k.at(column, k.mul(j, vWidth * storedBytes)), stored, vLanes);
            SmallVector<Value> next;
            for (int64_t g = 0; g < heads; ++g) {
              Value p = k.load(k.at(scores, k.mul(k.add(j, (g0 + g) * pageTokens), 4)), k.f32, 1);
              next.push_back(k.fma(k.broadcast(p, vLanes), v, sum[g]));
            }
            return next;
          });
          for (int64_t g = 0; g < heads; ++g)
            k.store(acc[g], slot(g), k.f32, vLanes);
        });
      }
      SmallVector<Value> next = maxima;
      next.append(sums);
      return next;
    });

    for (int64_t g = 0; g < group; ++g) {
      Value factor = k.broadcast(k.divf(k.constantF(1), running[group + g]), vLanes);
      k.loop(0, vWidth, vLanes, [&](Value c) {
        Value slot = k.at(accumulators, k.mul(k.add(c, g * vWidth), 4));
        k.store(k.mulf(k.load(slot, k.f32, vLanes), factor), slot, k.f32, vLanes);
      });
    }
    program.setRow(token, token);
    program.run(op.getResult(), {accumulators, k.mul(head, group * vWidth), group * vWidth});
  });
  return success();
}

}  // namespace

std::unique_ptr<KernelTemplate> mlir::mili::codegen::createCpuAttentionTemplate() {
  return std::make_unique<AttentionTemplate>();
}
