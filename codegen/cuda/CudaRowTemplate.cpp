//===- CudaRowTemplate.cpp - groups without a product, a block a row ---------===//
#include "mili/Codegen/CudaPrinter.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;
using llvm::formatv;

namespace {
/// One way of a group in which heads are finished and put away: pieces of rows in memory, what happens to each head of
/// them, and where it goes.
struct HeadChain {
  Value source;        // a block argument, [T][...]
  int64_t offset = 0;  // of the piece in its rows
  int64_t heads = 0, width = 0;
  SmallVector<Operation *> finish;  // norms, rotations, scales, in order
  int64_t result = -1;              // yielded as this result, or
  KvAppendOp append;                // appended,
  bool isValue = false;             // as values rather than keys
};

/// The chains of a group that does nothing else; empty where it does, or where a chain does not fit heads.cuh.
SmallVector<HeadChain> headChains(Block &body) {
  SmallVector<HeadChain> chains;
  auto follow = [&](Value value, int64_t width) -> bool {
    HeadChain chain;
    chain.width = width;
    while (Operation *op = value.getDefiningOp()) {
      int64_t own = 0;
      if (auto rope = dyn_cast<RopeOp>(op)) {
        own = featuresOf(value) / static_cast<int64_t>(rope.getHeads());
        if (static_cast<int64_t>(rope.getRope().getFrequencies().size()) * 2 != own)
          return false;
      } else if (auto norm = dyn_cast<RmsNormOp>(op)) {
        own = featuresOf(norm.getWeight());
        if (!llvm::isPowerOf2_64(own) || !isa<BlockArgument>(norm.getWeight()))
          return false;
      } else if (auto split = dyn_cast<SplitOp>(op)) {
        if (split.getInterleave() || !isa<BlockArgument>(split.getInput()))
          return false;
        for (Value piece : split.getResults().take_front(cast<OpResult>(value).getResultNumber()))
          chain.offset += featuresOf(piece);
        chain.heads = featuresOf(value);
        value = split.getInput();
        break;
      } else if (!isa<ScaleOp>(op)) {
        return false;
      }
      if (own && chain.width && own != chain.width)
        return false;
      chain.width = own ? own : chain.width;
      chain.finish.insert(chain.finish.begin(), op);
      value = op->getOperand(0);
    }
    chain.source = value;
    const int64_t features = chain.heads ? chain.heads : featuresOf(value);
    if (!isa<BlockArgument>(value) || !elementOf(value).isBF16() || chain.width < 16 || chain.width > 512 ||
        chain.width % 16 != 0 || features % chain.width != 0 || featuresOf(value) % 8 != 0 || chain.offset % 8 != 0)
      return false;
    chain.heads = features / chain.width;
    chains.push_back(chain);
    return true;
  };
  for (auto [index, value] : llvm::enumerate(body.getTerminator()->getOperands())) {
    if (isa<RankedTensorType>(value.getType())) {
      if (!elementOf(value).isBF16() || !value.getDefiningOp() || !follow(value, 0))
        return {};
      chains.back().result = static_cast<int64_t>(index);
      continue;
    }
    auto append = value.getDefiningOp<KvAppendOp>();
    if (!append || !isa<BlockArgument>(append.getKv()))
      return {};
    KvType kv = append.getKv().getType();
    for (bool isValue : {false, true}) {
      if (!kv.getElementType().isBF16() ||
          !follow(isValue ? append.getValue() : append.getKey(), isValue ? kv.getV() : kv.getK()))
        return {};
      chains.back().append = append;
      chains.back().isValue = isValue;
    }
  }
  for (Operation &op : body.without_terminator())
    if (!isa<RopeOp, RmsNormOp, ScaleOp, SplitOp, KvAppendOp>(op))
      return {};
  return chains;
}

class CudaRowTemplate : public CudaKernelTemplate {
public:
  StringRef getName() const override { return "cuda.rows"; }

  bool match(GroupOp group) const override {
    return llvm::all_of(group.getBody().front(), [](Operation &op) {
      return isa<EmbeddingOp, DequantOp, RmsNormOp, AddOp, ScaleOp, ActivationOp, GatedOp, RopeOp, KvAppendOp, SplitOp,
                 YieldOp>(op);
    });
  }

  SmallVector<StringRef> getWeightLayouts(GroupOp group, unsigned index) const override {
    auto type = cast<RankedTensorType>(group.getInputs()[index].getType());
    return {type.getRank() == 1 ? "vector_f32" : "rows_bf16"};
  }

  FailureOr<GroupPlan> plan(GroupOp group, BucketAttr) const override {
    if (Value result = inRegisters(group.getBody().front())) {
      // Rows in registers, 16 elements a thread.
      int64_t threads = std::clamp<int64_t>(llvm::alignTo(llvm::divideCeil(featuresOf(result), 16), 32), 32, 512);
      CudaStage stage;
      stage.name = "row";
      stage.per = isOnWantedRows(group) ? RowCount::logit_rows : RowCount::tokens;
      stage.launch(group.getContext(), threads, 0);
      stage.config = {{"threads", threads}};
      GroupPlan plan;
      plan.stages.push_back(stage.get(group.getContext()));
      return plan;
    }
    if (SmallVector<HeadChain> chains = headChains(group.getBody().front()); !chains.empty()) {
      // About 8 vectors of 16 bytes under way in a thread, as few threads as whole warps of it make.
      int64_t units = 0;
      for (const HeadChain &chain : chains)
        units += chain.heads * chain.width / 8;
      int64_t threads = std::clamp<int64_t>(llvm::alignTo(llvm::divideCeil(units, 12), 32), 32, 256);
      CudaStage stage;
      stage.name = "heads";
      stage.per = isOnWantedRows(group) ? RowCount::logit_rows : RowCount::tokens;
      stage.launch(group.getContext(), threads, 0);
      stage.config = {{"threads", threads}, {"wanted", stage.per == RowCount::logit_rows}};
      GroupPlan plan;
      plan.stages.push_back(stage.get(group.getContext()));
      return plan;
    }
    int64_t widest = 0;
    for (Operation &op : group.getBody().front().without_terminator())
      for (Value value : op.getResults())
        if (isa<RankedTensorType>(value.getType()))
          widest = std::max(widest, featuresOf(value));
    CudaStage stage;
    stage.name = "rows";
    stage.per = isOnWantedRows(group) ? RowCount::logit_rows : RowCount::tokens;
    int64_t threads = std::clamp<int64_t>(llvm::alignTo(llvm::divideCeil(widest, 8), 32), 64, 256);
    int64_t shared = CudaPrinter::rowBuffers(group.getBody().front());
    if (shared > 99 * 1024)
      return group.emitError("mili-codegen: a row kernel of this group needs ")
             << shared << " bytes of shared memory, the limit is " << 99 * 1024;
    stage.launch(group.getContext(), threads, shared);
    stage.config = {{"threads", threads}, {"wanted", stage.per == RowCount::logit_rows}};
    GroupPlan plan;
    plan.stages.push_back(stage.get(group.getContext()));
    return plan;
  }

  LogicalResult emit(CudaWriter &writer, const CudaKernel &kernel) const override {
    if (kernel.stage.getName() == "row")
      return emitRow(writer, kernel);
    const bool heads = kernel.stage.getName() == "heads";
    writer.include(heads ? "mili/device/heads.cuh" : "mili/device/rows.cuh");
    CudaPrinter printer(writer, kernel);
    int64_t threads = kernel.get("threads");
    writer.open(formatv("extern \"C\" __global__ __launch_bounds__({0}) void MILI_KERNEL({1})", threads,
                        printer.params().declaration()));
    writer.line("mili::begin_kernel();");
    writer.line("const mili::int64_t row = blockIdx.x;");
    bool wanted = kernel.get("wanted") != 0;
    writer.line(formatv("if (row >= batch->{0})", wanted ? "logit_rows" : "tokens"));
    writer.line("  return;");
    writer.line(formatv("const mili::int64_t token = {0};", wanted ? "batch->logit_tokens[row]" : "row"));
    if (heads) {
      emitHeads(writer, printer, kernel);
      writer.close();
      return success();
    }
    writer.line("float *shared = reinterpret_cast<float *>(mili_shared_memory);");
    writer.line(formatv("const mili::BlockTeam<{0}> team{{shared};", threads));
    if (failed(printer.rows()))
      return failure();
    writer.close();
    return success();
  }

private:
  /// The result of a group of element-wise ops and perhaps a norm of whole rows at their end, which a row in registers
  /// does; else null.
  static Value inRegisters(Block &body) {
    Operation *yield = body.getTerminator();
    if (yield->getNumOperands() != 1)
      return {};
    Value result = yield->getOperand(0);
    auto norm = result.getDefiningOp<RmsNormOp>();
    if (!result.getDefiningOp() || !isa<RankedTensorType>(result.getType()) || !elementOf(result).isBF16() ||
        !CudaPrinter::canInput(result) || featuresOf(result) % 8 != 0 || featuresOf(result) > (norm ? 16384 : 32768))
      return {};
    for (Operation &op : body.without_terminator())
      if (&op != norm && !isa<AddOp, ScaleOp, ActivationOp, GatedOp>(op))
        return {};
    return result;
  }

  /// Loads of all chains first, then each chain's heads.
  void emitHeads(CudaWriter &writer, CudaPrinter &printer, const CudaKernel &kernel) const {
    SmallVector<HeadChain> chains = headChains(kernel.body);
    SmallVector<std::string> units, appended(chains.size());
    for (const HeadChain &chain : chains) {
      units.push_back(writer.unique(chain.result >= 0 ? "query" : chain.isValue ? "value" : "key"));
      writer.line(formatv("mili::HeadUnits<{0}, {1}, {2}> {3};", chain.heads, chain.width, kernel.get("threads"),
                          units.back()));
      writer.line(formatv("{0}.fetch({1} + row * {2} + {3});", units.back(), printer.params().input(chain.source),
                          featuresOf(chain.source), chain.offset));
    }
    llvm::MapVector<std::pair<Attribute, int64_t>, std::string> angles;
    for (const HeadChain &chain : chains)
      for (Operation *op : chain.finish)
        if (auto rope = dyn_cast<RopeOp>(op)) {
          std::string &name = angles[{rope.getRope(), chain.width}];
          if (!name.empty())
            continue;
          name = writer.unique("angles");
          writer.line(formatv("const mili::HeadAngles<{0}, {1}> {2}({3}, {4}, batch->positions[token]);", chain.width,
                              rope.getRope().getPairing() == RopePairing::adjacent ? "true" : "false", name,
                              printer.frequencies(rope),
                              cudaFloat(rope.getRope().getAmplitude().getValue().convertToFloat())));
        }
    for (auto [chain, appendedRow] : llvm::zip(chains, appended))
      if (chain.append) {
        KvType kv = chain.append.getKv().getType();
        appendedRow = writer.unique(chain.isValue ? "values" : "keys");
        writer.line(formatv("mili::bf16 *{0} = mili::pool_row<{1}, {2}, {3}, {4}, {5}>(batch, {6}, token);",
                            appendedRow, pageTableOf(chain.append, kv).index, kv.getHeads(), kv.getK(), kv.getV(),
                            chain.isValue ? "true" : "false", printer.params().input(chain.append.getKv())));
      }
    for (auto [chain, name, appendedRow] : llvm::zip(chains, units, appended)) {
      writer.open(name + ".store([&](float (&low)[8], float (&high)[8])");
      for (Operation *op : chain.finish) {
        if (auto rope = dyn_cast<RopeOp>(op)) {
          writer.line(angles[{rope.getRope(), chain.width}] + ".rotate(low, high);");
        } else if (auto norm = dyn_cast<RmsNormOp>(op)) {
          writer.line(formatv("mili::norm_head<{0}>(low, high, {1}, {2});", chain.width,
                              printer.params().input(norm.getWeight()), cudaFloat(norm.getEps().convertToFloat())));
        } else {
          std::string factor = cudaFloat(cast<ScaleOp>(op).getFactor().convertToFloat());
          writer.open("for (int i = 0; i < 8; ++i)");
          writer.line(formatv("low[i] *= {0}, high[i] *= {0};", factor));
          writer.close();
        }
      }
      std::string target;
      if (chain.append)
        target = formatv("{0} + head * {1}", appendedRow, KvType::kPageTokens * chain.width);
      else
        target = formatv("{0} + row * {1} + head * {2}", printer.params().result(chain.result),
                         chain.heads * chain.width, chain.width);
      writer.close(", [&](int head) { return " + target + "; });");
    }
  }

  LogicalResult emitRow(CudaWriter &writer, const CudaKernel &kernel) const {
    writer.include("mili/device/gather.cuh");
    CudaPrinter printer(writer, kernel);
    Value result = kernel.body.getTerminator()->getOperand(0);
    FailureOr<std::string> input = printer.input(result);
    if (failed(input))
      return failure();
    writer.open("struct Config");
    writer.line(
        formatv("static constexpr int kDepth = {0}, kThreads = {1};", featuresOf(result), kernel.get("threads")));
    // Rows are the activation's own, whatever tokens they are of.
    writer.line(formatv("static constexpr bool kWanted = false, kRowsAreWanted = {0};",
                        kernel.stage.getPer() == RowCount::logit_rows ? "true" : "false"));
    writer.close(";");
    writer.blank();
    writer.open(formatv("extern \"C\" __global__ __launch_bounds__({0}) void MILI_KERNEL({1})", kernel.get("threads"),
                        printer.params().declaration()));
    writer.line(formatv("mili::gather_rows<Config>(batch, {0}, {1});", *input, printer.params().output()));
    writer.close();
    return success();
  }
};
}  // namespace

std::unique_ptr<KernelTemplate> mlir::mili::codegen::createCudaRowTemplate() {
  return std::make_unique<CudaRowTemplate>();
}
