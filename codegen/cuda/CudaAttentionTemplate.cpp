//===- CudaAttentionTemplate.cpp - attention over paged state ----------------===//
//
// Steps of few tokens: attention_decode.cuh, which splits each sequence's context over blocks and, where the group says
// so, finishes queries and keys (norms, RoPE) and appends to the pages itself. Longer steps: attention_prefill.cuh,
// over tiles of queries that are final, with the step's keys and values in the pages.
//
//===------------------------------------------------------------------------===//
#include "mili/Codegen/CudaPrinter.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;
using llvm::formatv;

namespace {
/// The decode kernel wants a block for each multiprocessor of an H100, or two where contexts are long. Measured on an
/// H200, 8 KV heads x 128: 4096 keys of one sequence take 10.1, 11.3, 15.8 us in 16, 32, 64 splits, 32768 keys 39, 48,
/// 56 us in 32, 64, 128.
constexpr int64_t kMultiprocessors = 132;
/// Shared memory with which two blocks fill a multiprocessor of sm_90. Blocks that fit at two each must not crowd on
/// those that the kernel before leaves first (dependent launch): 32768 keys in 32 splits took 47 us instead of 38.
constexpr int64_t kHalfShared = 80 * 1024;

/// The same arithmetic as DecodeTile and PrefillTile of the device headers; emitted kernels assert that they agree.
struct Shape {
  AttentionOp op;
  KvType kv;
  int64_t heads, kvHeads, group, width;

  explicit Shape(AttentionOp op)
      : op(op), kv(op.getKv().getType()), heads(op.getHeads()), kvHeads(kv.getHeads()), group(heads / kvHeads),
        width(kv.getK()) {}

  static int64_t tiles(int64_t tokens, int64_t sequences, int64_t tileTokens) {
    return std::min(tokens, tokens / tileTokens + sequences);
  }
  int64_t decodeTileTokens() const { return group < 16 ? 16 / group : 1; }
  int64_t decodeRowBlocks() const { return llvm::divideCeil(group, 16); }
  int64_t decodeThreads() const { return width <= 128 ? 128 : 96; }
  int64_t decodeShared() const {
    int64_t slot = 16 * width * 2, slots = width <= 96 ? std::clamp<int64_t>(16384 / slot, 3, 8) : 3;
    return decodeThreads() / 32 * slots * slot + (width <= 96 ? 0 : slot);
  }
  int64_t prefillRows() const { return width <= 128 ? 128 : 64; }
  int64_t prefillTileTokens() const { return prefillRows() / group; }
  /// Of WgmmaPrefillTile.
  bool hasWgmma() const { return (width == 64 || width == 128) && group <= 128; }
  int64_t wgmmaShared() const {
    int64_t slots = width == 128 ? 4 : 8;
    return (slots + 2) * 128 * width * 2 + 2 * (8 + 128) * 4 + (2 * slots + 4) * 8;
  }
  int64_t prefillShared(bool hopper) const {
    int64_t keys = width <= (hopper ? 128 : 80) ? 64 : 32;
    return prefillRows() * width * 2 + 4 * keys * width * 2 + (5 * prefillRows() + 4) * 4;
  }
};

class CudaAttentionTemplate : public CudaKernelTemplate {
public:
  StringRef getName() const override { return "cuda.attention"; }

  bool match(GroupOp group) const override {
    auto op = dyn_cast_or_null<AttentionOp>(group.getHeroOp());
    if (!op || !isa<CausalAttr, WindowAttr, BlockSparseAttr>(op.getMask()) || !CudaPrinter::canHeadRow(op.getQuery()))
      return false;
    Shape shape(op);
    if (shape.kv.getK() != shape.kv.getV() || shape.width % 16 != 0 || shape.width > 256 ||
        !shape.kv.getElementType().isBF16() || shape.group > shape.prefillRows())
      return false;
    // Nothing after the attention; before it the chain of one append.
    for (Operation &other : group.getBody().front().without_terminator()) {
      if (!isa<AttentionOp, KvAppendOp, RopeOp, RmsNormOp, ScaleOp>(other))
        return false;
      auto norm = dyn_cast<RmsNormOp>(other);
      if (norm && featuresOf(norm.getWeight()) != shape.width)
        return false;
    }
    for (Operation *user : op->getUsers())
      if (!isa<YieldOp>(user))
        return false;
    Value state = op.getKv();
    if (auto append = state.getDefiningOp<KvAppendOp>())
      return isa<BlockArgument>(append.getKv()) && CudaPrinter::canHeadRow(append.getKey()) &&
             CudaPrinter::canHeadRow(append.getValue());
    return isa<BlockArgument>(state);
  }

  SmallVector<StringRef> getWeightLayouts(GroupOp, unsigned) const override { return {"vector_f32"}; }

  // Of prompts: on sm_90a wgmma for heads of 64 and 128, else mma.sync; or mma.sync everywhere.
  std::vector<std::pair<StringRef, std::vector<StringRef>>> getChoices() const override {
    return {{"prefill", {"wgmma", "mma"}}};
  }

  FailureOr<GroupPlan> plan(GroupOp group, BucketAttr bucket) const override {
    auto op = cast<AttentionOp>(group.getHeroOp());
    Shape shape(op);
    const bool finished = isa<BlockArgument>(op.getKv()) && isa<BlockArgument>(op.getQuery());
    CudaStage stage;
    GroupPlan plan;
    if (finished && (bucket.getTokens() > kDecodeTokens || isDeterministic(group))) {
      int64_t tiles = Shape::tiles(bucket.getTokens(), bucket.getSequences(), shape.prefillTileTokens());
      stage.name = "prefill";
      stage.tiles = tiles * shape.kvHeads;
      // Both kinds of tiles are 128 rows where there is a choice.
      const bool wgmma = shape.hasWgmma() && kernelChoice(group, "prefill") != "mma";
      for (int64_t arch : {80, 90, 100})
        if (wgmma && arch == 90)
          stage.launches.push_back(CudaLaunchAttr::get(group.getContext(), arch, 384, shape.wgmmaShared(), 1));
        else
          stage.launches.push_back(
              CudaLaunchAttr::get(group.getContext(), arch, 128, shape.prefillShared(arch == 90), 0));
      if (wgmma)
        stage.config = {{"wgmma_tiles", stage.tiles}};
      plan.stages.push_back(stage.get(group.getContext()));
      return plan;
    }
    int64_t context = 4096;
    if (auto attr = group->getParentOfType<ModuleOp>()->getAttrOfType<IntegerAttr>(MiliDialect::getContextAttrName()))
      context = attr.getInt();
    const int64_t queryTiles = Shape::tiles(bucket.getTokens(), bucket.getSequences(), shape.decodeTileTokens());
    // A window's first page and the tile's own tokens may add a page each.
    int64_t span = visibleTokens(op.getMask(), context);
    if (isa<WindowAttr>(op.getMask()))
      span = std::min(llvm::alignTo(context, 64), llvm::alignTo(span + shape.decodeTileTokens(), 64) + 64);
    const int64_t units = std::min(queryTiles, bucket.getSequences()) * shape.kvHeads,
                  pages = llvm::divideCeil(span, 64);
    const int64_t few = std::clamp<int64_t>(kMultiprocessors / units, 1, pages);
    const int64_t splits = std::clamp<int64_t>(2 * kMultiprocessors / units, 1, pages);
    stage.name = "decode";
    stage.tiles = queryTiles * shape.kvHeads * splits;
    const int64_t hopperShared =
        stage.tiles <= 2 * kMultiprocessors ? std::max(shape.decodeShared(), kHalfShared) : shape.decodeShared();
    for (int64_t arch : {80, 90, 100})
      stage.launches.push_back(CudaLaunchAttr::get(group.getContext(), arch, shape.decodeThreads(),
                                                   arch == 90 ? hopperShared : shape.decodeShared(), 0));
    stage.config = {{"splits", splits}, {"few_splits", few}};
    if (splits > 1) {
      plan.arenaScratch = queryTiles * shape.kvHeads * splits * shape.decodeRowBlocks() * 16 * (shape.width + 2) * 4;
      plan.counters = queryTiles * shape.kvHeads * shape.decodeRowBlocks() * 4;
      stage.config.push_back({"scratch", 1});
      stage.config.push_back({"counters", 1});
    }
    plan.stages.push_back(stage.get(group.getContext()));
    return plan;
  }

  LogicalResult emit(CudaWriter &writer, const CudaKernel &kernel) const override {
    auto op = cast<AttentionOp>(kernel.getHeroOp());
    Shape shape(op);
    const bool decode = kernel.stage.getName() == "decode";
    const bool wgmma = kernel.stage.getConfig().contains("wgmma_tiles");
    writer.include(decode ? "mili/device/attention_decode.cuh" : "mili/device/attention_prefill.cuh");
    if (wgmma)
      writer.include("mili/device/attention_prefill_wgmma.cuh");
    writer.include("mili/device/rows.cuh");
    CudaPrinter printer(writer, kernel);
    auto append = op.getKv().getDefiningOp<KvAppendOp>();
    Value state = append ? Value(append.getKv()) : op.getKv();

    writer.open("struct Config");
    writer.line(formatv("static constexpr int kHeads = {0}, kKvHeads = {1}, kHeadDim = {2};", shape.heads,
                        shape.kvHeads, shape.width));
    int64_t window = 0;
    if (auto mask = dyn_cast<WindowAttr>(op.getMask()))
      window = mask.getTokens();
    writer.line(
        formatv("static constexpr int kPageTable = {0}, kWindow = {1};", pageTableOf(op, shape.kv).index, window));
    auto sparse = dyn_cast<BlockSparseAttr>(op.getMask());
    writer.line(formatv("static constexpr bool kSparse = {0};", sparse ? "true" : "false"));
    if (sparse) {
      const mili_attention::BlockPattern pattern = sparse.getPattern();
      writer.line(
          formatv("static MILI_CONSTEXPR mili_attention::BlockPattern pattern() {{ return {{{0}, {1}, {2}, {3}, "
                  "{4}u}; }",
                  pattern.local, pattern.global, pattern.stride, pattern.random, pattern.seed));
    }
    writer.line(
        formatv("static constexpr float kScale = {0}, kSoftCap = 0.0f;", cudaFloat(op.getScale().convertToFloat())));
    writer.line("static constexpr bool kSinks = false;");
    if (decode)
      writer.line(formatv("static constexpr int kSplits = {0}, kFewSplits = {1};", kernel.get("splits"),
                          kernel.get("few_splits")));
    writer.close(";");
    StringRef tile = decode ? "mili::DecodeTile<Config>" : "mili::PrefillTile<Config>";
    writer.line(formatv("static_assert({0}::kThreads == {1} && {0}::kSharedBytes <= {2});", tile,
                        decode ? shape.decodeThreads() : 128,
                        decode ? shape.decodeShared() : shape.prefillShared(true)));
    writer.line(formatv("static_assert({0}::kTileTokens == {1});", tile,
                        decode ? shape.decodeTileTokens() : shape.prefillTileTokens()));
    writer.blank();

    Functor functor(writer, printer.params());
    const bool raw = isa<BlockArgument>(op.getQuery());
    writer.line("// Where queries" + Twine(append ? ", keys and values" : "") + " come from.");
    writer.open("struct Source");
    writer.line(formatv("static constexpr bool kAppends = {0};", append ? "true" : "false"));
    std::string construct;
    if (raw) {
      writer.line("static constexpr bool kRaw = true;");
      writer.line("const mili::bf16 *raw;");
    }
    auto head = [&](StringRef name, Value value) -> LogicalResult {
      writer.open("MILI_MEMBER void " + name + "(float *row, int token, int head, int) const");
      writer.line(formatv("constexpr int kHead = {0};", shape.width));
      if (failed(printer.headRow(functor, value)))
        return failure();
      writer.close();
      return success();
    };
    if ((!raw && failed(head("query", op.getQuery()))) || (append && failed(head("key", append.getKey()))) ||
        (append && failed(head("value", append.getValue()))))
      return failure();
    functor.declareMembers();
    writer.close(";");
    writer.blank();
    construct = functor.construct();
    if (raw) {
      std::string rest = StringRef(construct).drop_front().str();
      construct = "{" + printer.params().input(op.getQuery()).str() + (rest == "}" ? "" : ", ") + rest;
    }

    if (wgmma) {
      writer.line(formatv("static_assert(mili::WgmmaPrefillTile<Config>::kSharedBytes == {0});", shape.wgmmaShared()));
      writer.line("using Launch = mili::PrefillLaunch<Config>;");
    }
    writer.open(
        formatv("extern \"C\" __global__ __launch_bounds__({0}::kThreads, {0}::kMinBlocks) void MILI_KERNEL({1})",
                wgmma ? StringRef("Launch") : tile, printer.params().declaration()));
    if (decode)
      writer.line(formatv("mili::attention_decode<Config>(batch, Source{0}, {1}, nullptr, {2}, {3}, {4}, blockIdx.x);",
                          construct, printer.params().input(state), printer.params().output(),
                          kernel.get("scratch") ? "scratch" : "nullptr",
                          kernel.get("counters") ? "counters" : "nullptr"));
    else if (wgmma)
      writer.line(formatv("mili::attention_prefill_on_either<Config>(batch, Source{0}, {1}, nullptr, {2}, {3});",
                          construct, printer.params().input(state), printer.params().output(),
                          kernel.get("wgmma_tiles")));
    else
      writer.line(formatv("mili::attention_prefill<Config>(batch, Source{0}, {1}, nullptr, {2}, blockIdx.x);",
                          construct, printer.params().input(state), printer.params().output()));
    writer.close();
    return success();
  }
};
}  // namespace

std::unique_ptr<KernelTemplate> mlir::mili::codegen::createCudaAttentionTemplate() {
  return std::make_unique<CudaAttentionTemplate>();
}
