//===- CudaLinearTemplate.cpp - products and logits --------------------------===//
//
// Up to 4 rows: matrix-vector products (gemv.cuh), which read the input and a fused norm themselves. More rows: tensor
// cores (gemm.cuh) on an input that lies in memory as rows of bf16; a fused input, and the wanted rows of the head, are
// gathered first by a stage of their own.
//
// Tiles are chosen by a model of one multiprocessor (chooseTiles).
//
//===------------------------------------------------------------------------===//
#include "mili/Codegen/CudaPrinter.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;
using llvm::formatv;

namespace {

/// What plans are made for: an H100. Other parts run the same grids.
constexpr int64_t kMultiprocessors = 132;
/// Shared memory of a block that every part since sm_80 has.
constexpr int64_t kCommonShared = 99 * 1024;
constexpr int64_t kHopperShared = 227 * 1024;
/// Rows that a matrix-vector product takes at most.
constexpr int64_t kGemvRows = 4;

struct Product {
  Operation *op;
  Value input, weight, result;
  bool wanted;  // rows are wanted rows
  int64_t features, depth;

  explicit Product(Operation *hero) : op(hero) {
    if (auto logits = dyn_cast<LogitsOp>(hero)) {
      input = logits.getInput();
      weight = logits.getWeight();
      result = logits.getResult();
      wanted = true;
    } else {
      auto linear = cast<LinearOp>(hero);
      input = linear.getInput();
      weight = linear.getWeight();
      result = linear.getResult();
      wanted = false;
    }
    features = featuresOf(result);
    depth = featuresOf(input);
  }
  RowCount per() const { return wanted ? RowCount::logit_rows : RowCount::tokens; }
  int64_t rows(BucketAttr bucket) const {
    return std::max<int64_t>(1, wanted ? bucket.getLogitRows() : bucket.getTokens());
  }
};

/// Tile sizes of gemm.cuh.
struct Tiles {
  int64_t features = 64, rows = 64, splits = 1, stages = 4, stagesMma = 2, rowsMma = 64, blocksPerSm = 1;

  int64_t stageBytes(int64_t tileRows) const { return (features + tileRows) * 128; }
  int64_t warpgroups() const { return features / 64; }
  // Ring, turning space (16 x 20 floats for each consumer warp), two barriers for each stage.
  int64_t sharedHopper() const { return stages * stageBytes(rows) + warpgroups() * 4 * 1280 + stages * 16; }
  int64_t sharedMma() const { return stagesMma * stageBytes(rowsMma) + 8 * 1280; }
};

/// Cycles of a product, estimated; what chooseTiles minimizes. Constants fit measurements on an H200 (8B shapes at 64
/// rows, each tile size and number of splits; 512 and 2048 rows).
struct TileCosts {
  const Product &product;
  int64_t rows;

  int64_t steps() const { return llvm::divideCeil(product.depth, 64); }
  double weightBytes() const {
    return 2.0 * static_cast<double>(product.features) * static_cast<double>(product.depth);
  }
  int64_t items(const Tiles &tiles) const {
    return llvm::divideCeil(product.features, tiles.features) * llvm::divideCeil(rows, tiles.rows) * tiles.splits;
  }
  /// 2048 multiply-adds a cycle and multiprocessor.
  static double compute(const Tiles &tiles) {
    return static_cast<double>(tiles.features * std::max<int64_t>(tiles.rows, 32) * 64) / 2048.0;
  }

  /// Up to 128 rows: bound by the stream of weights. A block alone takes 42 bytes a cycle into shared memory, two
  /// together 46; all of memory gives 18 for each multiprocessor. Splits cost a round of atomics, and the last to
  /// arrive reads all parts alone.
  double streaming(const Tiles &tiles) const {
    const auto area = static_cast<double>(tiles.features * tiles.rows);
    const auto stage = static_cast<double>(tiles.stageBytes(tiles.rows));
    const double finish = 700.0 + area / 32.0;
    auto item = [&](int64_t together) {
      const auto blocks = static_cast<double>(together);
      return std::max(compute(tiles) * blocks, stage * blocks / (together == 1 ? 42.0 : 46.0)) *
                 static_cast<double>(llvm::divideCeil(steps(), tiles.splits)) +
             finish;
    };
    const int64_t slots = tiles.blocksPerSm * kMultiprocessors, full = items(tiles) / slots,
                  rest = items(tiles) % slots;
    double time = static_cast<double>(full) * item(tiles.blocksPerSm);
    if (rest > 0)
      time += item(std::min<int64_t>(tiles.blocksPerSm, llvm::divideCeil(rest, kMultiprocessors)));
    const double parts = tiles.splits > 1 ? 8.0 * area * static_cast<double>(items(tiles)) : 0.0;
    time = std::max(time, (weightBytes() + parts) / (18.0 * kMultiprocessors) + finish);
    if (tiles.splits > 1)
      time += 2500.0 + 900.0 * static_cast<double>(tiles.splits) * (1.0 + area / 4096.0);
    return time;
  }

  /// More rows: bound by the tensor cores, or by copies of small tiles.
  double computing(const Tiles &tiles) const {
    const double together =
        std::min(static_cast<double>(tiles.blocksPerSm), static_cast<double>(items(tiles)) / kMultiprocessors);
    const double copy =
        static_cast<double>(tiles.stageBytes(tiles.rows)) / std::min(45.0, 26.0 * std::max(1.0, together));
    const double item = std::max(compute(tiles), copy) * static_cast<double>(steps()) + 700.0 +
                        static_cast<double>(tiles.features * tiles.rows) / 32.0;
    const double waves = std::ceil(static_cast<double>(items(tiles)) / kMultiprocessors);
    return std::max(waves * item, weightBytes() / (19.0 * kMultiprocessors)) + 0.05 * waves * item;
  }
};

/// With `deterministic` the depth is never split: every bucket then sums in the same order.
Tiles chooseTiles(const Product &product, int64_t rows, bool deterministic) {
  const TileCosts costs{product, rows};
  Tiles best;
  double bestTime = std::numeric_limits<double>::infinity();
  for (int64_t tileFeatures : {64, 128})
    for (int64_t tileRows : {16, 32, 64, 128, 256}) {
      // Wide tiles of rows only where there are rows for them.
      if (tileRows > 16 && tileRows / 2 >= rows)
        continue;
      if (tileRows == 256 && tileFeatures == 64)
        continue;
      for (int64_t splits : {1, 2, 3, 4, 6, 8}) {
        if (splits > 1 && (deterministic || costs.steps() / splits < 8 || rows > 128))
          continue;
        Tiles candidate;
        candidate.features = tileFeatures;
        candidate.rows = tileRows;
        candidate.splits = splits;
        const int64_t stage = candidate.stageBytes(tileRows);
        // Two blocks a multiprocessor while tiles are small: one loads while the other finishes. Few tiles get a
        // multiprocessor each; the ring takes more than half of the shared memory then, or a dependent launch would put
        // two blocks on the multiprocessors that are free first and leave others empty.
        candidate.blocksPerSm = stage <= 24 * 1024 && costs.items(candidate) > kMultiprocessors ? 2 : 1;
        const int64_t room = kHopperShared / candidate.blocksPerSm - 8 * 1280 - 1024;
        candidate.stages = std::clamp<int64_t>(room / stage, 2, candidate.blocksPerSm == 1 ? 16 : 8);
        candidate.rowsMma = std::min<int64_t>(tileRows, 128);
        candidate.stagesMma =
            std::clamp<int64_t>((kCommonShared - 8 * 1280) / candidate.stageBytes(candidate.rowsMma), 2, 4);
        const double time = rows <= 128 ? costs.streaming(candidate) : costs.computing(candidate);
        if (time < bestTime * 0.999) {
          bestTime = time;
          best = candidate;
        }
      }
    }
  return best;
}

class CudaLinearTemplate : public CudaKernelTemplate {
public:
  StringRef getName() const override { return "cuda.linear"; }

  bool match(GroupOp group) const override {
    Operation *hero = group.getHeroOp();
    if (!isa_and_present<LinearOp, LogitsOp>(hero))
      return false;
    Product product(hero);
    return product.depth % 8 == 0 && elementOf(product.input).isBF16() &&
           isa<BlockArgument>(storedWeight(product.weight)) && CudaPrinter::canInput(product.input) &&
           CudaPrinter::canEpilogue(product.result) &&
           (CudaPrinter::unitOf(product.result) == 8 || product.features % 16 == 0);
  }

  SmallVector<StringRef> getWeightLayouts(GroupOp group, unsigned index) const override {
    auto type = cast<RankedTensorType>(group.getInputs()[index].getType());
    return {type.getRank() == 1 ? "vector_f32" : "rows_bf16"};
  }

  FailureOr<GroupPlan> plan(GroupOp group, BucketAttr bucket) const override {
    Product product(group.getHeroOp());
    const int64_t rows = product.rows(bucket);
    const bool deterministic = isDeterministic(group);
    if (!deterministic && rows <= kGemvRows && rows * product.depth * 2 <= 90 * 1024)
      return planGemv(group, product, rows);
    return planGemm(group, product, rows, deterministic);
  }

  LogicalResult emit(CudaWriter &writer, const CudaKernel &kernel) const override {
    Product product(kernel.getHeroOp());
    if (kernel.stage.getName() == "gemv")
      return emitGemv(writer, kernel, product);
    return kernel.stage.getName() == "input" ? emitInput(writer, kernel, product) : emitGemm(writer, kernel, product);
  }

private:
  GroupPlan planGemv(GroupOp group, const Product &product, int64_t rows) const {
    MLIRContext *context = group.getContext();
    const int64_t unit = CudaPrinter::unitOf(product.result);
    // A warp a feature; smaller blocks where there are few features.
    int64_t threads = 512;
    if (unit == 8 && llvm::divideCeil(product.features, 16) < kMultiprocessors)
      threads = 256;
    const int64_t tile = threads / 32;
    const int64_t unroll = std::clamp<int64_t>(llvm::divideCeil(product.depth, 256), 1, 4);
    const int64_t shared = llvm::alignTo(rows * product.depth * 2, 128) + 2 * rows * tile * 4;
    const int64_t residents = rows > 2 ? 1024 / threads / 2 : 1024 / threads;
    const int64_t blocks = std::clamp<int64_t>(std::min(residents, (200 * 1024) / shared), 1, 4);
    CudaStage stage;
    stage.name = "gemv";
    stage.tiles = llvm::divideCeil(product.features, tile);
    stage.launch(context, threads, shared, blocks);
    stage.config = {{"rows", rows}, {"threads", threads}, {"unroll", unroll}, {"blocks", residents}};
    GroupPlan plan;
    plan.stages.push_back(stage.get(context));
    return plan;
  }

  GroupPlan planGemm(GroupOp group, const Product &product, int64_t rows, bool deterministic) const {
    MLIRContext *context = group.getContext();
    Builder builder(context);
    const Tiles tiles = chooseTiles(product, rows, deterministic);
    const bool gathered = product.wanted || !isa<BlockArgument>(product.input);
    const int64_t inputBytes = gathered ? llvm::alignTo(rows * product.depth * 2, 256) : 0;
    const int64_t featureTiles = llvm::divideCeil(product.features, tiles.features);
    auto partials = [&](int64_t tileRows) {
      return featureTiles * llvm::divideCeil(rows, tileRows) * tiles.splits * tiles.features * tileRows * 4;
    };
    GroupPlan plan;
    int64_t scratch = inputBytes;
    if (tiles.splits > 1) {
      scratch += std::max(partials(tiles.rows), partials(tiles.rowsMma));
      plan.counters = featureTiles * llvm::divideCeil(rows, tiles.rowsMma) * 8 * 4;
    }
    plan.arenaScratch = scratch;

    // Arguments: inputs, results, scratch.
    unsigned arguments = 0;
    int64_t weightArgument = 0, inputArgument = 0;
    for (BlockArgument argument : group.getBody().front().getArguments()) {
      if (!isKernelArgument(argument))
        continue;
      if (argument == storedWeight(product.weight))
        weightArgument = arguments;
      if (argument == product.input)
        inputArgument = arguments;
      ++arguments;
    }
    for (Type type : group.getResultTypes())
      arguments += !isa<KvType, RecurrentType>(type);
    if (gathered)
      inputArgument = arguments;

    SmallVector<std::pair<StringRef, int64_t>> shared = {{"scratch", scratch != 0}, {"counters", plan.counters != 0}};
    if (gathered) {
      CudaStage input;
      input.name = "input";
      input.per = product.per();
      int64_t threads = std::clamp<int64_t>(llvm::alignTo(llvm::divideCeil(product.depth, 16), 32), 64, 512);
      input.launch(context, threads, 0);
      input.config = {{"threads", threads}};
      llvm::append_range(input.config, shared);
      plan.stages.push_back(input.get(context));
    }
    CudaStage stage;
    stage.name = "product";
    stage.tiles = featureTiles * tiles.splits;
    stage.per = product.per();
    stage.rowsPerTile = tiles.rows;
    stage.launches = {
        CudaLaunchAttr::get(context, 80, 256, tiles.sharedMma(), 1),
        CudaLaunchAttr::get(context, 90, tiles.warpgroups() == 2 ? 384 : 160, tiles.sharedHopper(), tiles.blocksPerSm),
        CudaLaunchAttr::get(context, 100, 256, tiles.sharedMma(), 1)};
    stage.maps = {TensorMapAttr::get(context, weightArgument, product.features, product.depth, tiles.features),
                  TensorMapAttr::get(context, inputArgument, rows, product.depth, tiles.rows)};
    stage.config = {{"tile_features", tiles.features}, {"tile_rows", tiles.rows}, {"tile_rows_mma", tiles.rowsMma},
                    {"splits", tiles.splits},          {"stages", tiles.stages},  {"stages_mma", tiles.stagesMma},
                    {"blocks", tiles.blocksPerSm},     {"gathered", gathered},    {"input_bytes", inputBytes}};
    llvm::append_range(stage.config, shared);
    plan.stages.push_back(stage.get(context));
    return plan;
  }

  LogicalResult emitGemv(CudaWriter &writer, const CudaKernel &kernel, const Product &product) const {
    writer.include("mili/device/gemv.cuh");
    CudaPrinter printer(writer, kernel);
    FailureOr<std::string> input = printer.input(product.input);
    FailureOr<std::string> epilogue = printer.epilogue(product.result, CudaPrinter::unitOf(product.result));
    if (failed(input) || failed(epilogue))
      return failure();
    writer.open("struct Config");
    writer.line(formatv("static constexpr int kRows = {0}, kFeatures = {1}, kDepth = {2};", kernel.get("rows"),
                        product.features, product.depth));
    writer.line(formatv("static constexpr int kThreads = {0}, kRowsPerWarp = 1, kUnroll = {1};", kernel.get("threads"),
                        kernel.get("unroll")));
    writer.line(formatv("static constexpr bool kWanted = {0};", product.wanted ? "true" : "false"));
    writer.close(";");
    writer.blank();
    writer.open(formatv("extern \"C\" __global__ __launch_bounds__({0}, {1}) void MILI_KERNEL({2})",
                        kernel.get("threads"), kernel.get("blocks"), printer.params().declaration()));
    writer.line(formatv("mili::gemv<Config>(batch, {0}, {1}, {2});", *input,
                        printer.params().input(storedWeight(product.weight)), *epilogue));
    writer.close();
    return success();
  }

  LogicalResult emitInput(CudaWriter &writer, const CudaKernel &kernel, const Product &product) const {
    writer.include("mili/device/gather.cuh");
    CudaPrinter printer(writer, kernel);
    FailureOr<std::string> input = printer.input(product.input);
    if (failed(input))
      return failure();
    writer.open("struct Config");
    writer.line(formatv("static constexpr int kDepth = {0}, kThreads = {1};", product.depth, kernel.get("threads")));
    writer.line(
        formatv("static constexpr bool kWanted = {0}, kRowsAreWanted = {0};", product.wanted ? "true" : "false"));
    writer.close(";");
    writer.blank();
    writer.open(formatv("extern \"C\" __global__ __launch_bounds__({0}) void MILI_KERNEL({1})", kernel.get("threads"),
                        printer.params().declaration()));
    writer.line(formatv("mili::gather_rows<Config>(batch, {0}, reinterpret_cast<mili::bf16 *>(scratch));", *input));
    writer.close();
    return success();
  }

  LogicalResult emitGemm(CudaWriter &writer, const CudaKernel &kernel, const Product &product) const {
    writer.include("mili/device/gemm.cuh");
    CudaPrinter printer(writer, kernel);
    FailureOr<std::string> epilogue = printer.epilogue(product.result, CudaPrinter::unitOf(product.result));
    if (failed(epilogue))
      return failure();
    writer.open("struct Config");
    writer.line(formatv("static constexpr int kFeatures = {0}, kDepth = {1};", product.features, product.depth));
    writer.line(formatv("static constexpr int kTileFeatures = {0}, kTileRows = {1}, kTileRowsMma = {2}, kSplits = {3};",
                        kernel.get("tile_features"), kernel.get("tile_rows"), kernel.get("tile_rows_mma"),
                        kernel.get("splits")));
    writer.line(formatv("static constexpr int kStages = {0}, kBlocks = {1}, kStagesMma = {2};", kernel.get("stages"),
                        kernel.get("blocks"), kernel.get("stages_mma")));
    writer.line(formatv("static constexpr bool kWanted = {0};", product.wanted ? "true" : "false"));
    writer.close(";");
    writer.blank();
    writer.open(formatv("extern \"C\" __global__ __launch_bounds__(mili::gemm_threads<Config>(), "
                        "mili::gemm_blocks({0})) void MILI_KERNEL({1})",
                        kernel.get("blocks"), printer.params().declaration()));
    std::string input = kernel.get("gathered") ? std::string("reinterpret_cast<const mili::bf16 *>(scratch)")
                                               : printer.params().input(product.input).str();
    std::string partials = kernel.get("splits") > 1 ? formatv("scratch + {0}", kernel.get("input_bytes") / 4).str()
                                                    : std::string("nullptr");
    writer.line(formatv("mili::gemm<Config>(batch, {0}, {1}, {2}, {3}, {4}, {5}, {6});",
                        printer.params().input(storedWeight(product.weight)), input, printer.params().map(0),
                        printer.params().map(1), *epilogue, partials, kernel.get("counters") ? "counters" : "nullptr"));
    writer.close();
    return success();
  }
};
}  // namespace

std::unique_ptr<KernelTemplate> mlir::mili::codegen::createCudaLinearTemplate() {
  return std::make_unique<CudaLinearTemplate>();
}
