//===- MemoryPlan.cpp - mili-memory-plan --------------------------------------===//
//
// From groups to the executable plan, one bucket function at a time. The order of groups in a function is the order of
// launches; a barrier separates them.
//
//   1. Liveness. Every result of a group that is not a state is a buffer from the group that writes it to the last one
//   that
//      reads it; the returned logits live to the end; a group's arena scratch lives during the group. Sizes are the
//      bounds of the bucket: rows (tokens, or wanted rows from `mili.logits` on) x features x bytes.
//   2. In-place reuse. A result takes over the buffer of an operand that dies in the group when the kernel cannot read
//   an
//      element after it wrote it: the operand is read by one op of the body alone, and from there to the result there
//      are only ops that work element by element on one type, each with one use. Then the tile that writes element (t,
//      c) is the only reader of it. This keeps the residual stream in one place. Anything else (RoPE, products, norms)
//      gets a buffer of its own.
//   3. Offsets: see OffsetAssignment.cpp. 256-byte aligned.
//   4. Records. Weights that any bucket uses become `mili_plan.weight`; equal groups of a bucket (same body up to names
//   of
//      weights, template, stages, layouts) become one `mili_plan.kernel`; each stage of a group becomes a
//      `mili_plan.launch`, its expected work (`CostedOp`) attributed to the group's last stage, which runs the hero.
//
// A launch's arguments are the group's inputs in order, then its results in order, then its scratch. Left out: the
// batch, which every kernel gets by itself; the function's token ids (`tensor<?xi32>`), which are a table of the batch;
// and results that are states, which are updated in place.
//
// The module's figures (`mili_plan.memory`) come from the functions with which the runtime allocates
// (mili/runtime/memory.h).
//
//===------------------------------------------------------------------------===//
#include "mili/Passes/Passes.h"

#include "../Support/Names.h"
#include "../Support/Rows.h"
#include "mili/IR/MiliDialect.h"
#include "mili/IR/MiliPlan.h"
#include "mili/Passes/OffsetAssignment.h"
#include "mili/runtime/memory.h"
#include "mili/runtime/plan_format.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

namespace mlir::mili {
#define GEN_PASS_DEF_MEMORYPLAN
#include "mili/Passes/Passes.h.inc"

namespace {

/// Slices begin at multiples of this many bytes, so that vector loads of any width are aligned.
constexpr int64_t kSliceAlign = 256;

/// A kernel in the making: the first group of its kind, whose body it takes.
struct Kernel {
  GroupOp group;
  ArrayAttr layouts;
  std::string name;
};

/// What becomes of one function.
struct BucketPlan {
  func::FuncOp function;
  BucketAttr bucket;
  SmallVector<GroupOp> groups;
  std::vector<ArenaBuffer> buffers;
  DenseMap<Value, size_t> bufferOf;  // activations
  DenseMap<Operation *, size_t> scratchOf;
  DenseMap<Value, FlatSymbolRefAttr> stateOf;
  ArenaFigures figures;
  Value logits, sampled;  // sampled may be null
};

/// The batch and its tables are no arguments of a launch.
bool comesWithBatch(Value value) {
  if (isa<BatchType>(value.getType()))
    return true;
  auto tensor = dyn_cast<RankedTensorType>(value.getType());
  return isa<BlockArgument>(value) && tensor && tensor.getRank() == 1 && tensor.getElementType().isInteger(32);
}

bool isState(Value value) {
  return isa<KvType, RecurrentType>(value.getType());
}

/// The arguments of the body that `result` may overwrite, by rule 2 above.
SmallVector<BlockArgument> findOverwritable(OpResult result) {
  auto group = cast<GroupOp>(result.getOwner());
  SmallVector<BlockArgument> found;
  SmallVector<Value> worklist{group.getBody().front().getTerminator()->getOperand(result.getResultNumber())};
  while (!worklist.empty()) {
    Operation *op = worklist.pop_back_val().getDefiningOp();
    auto fusible = dyn_cast_or_null<FusibleOp>(op);
    if (!fusible || !op->hasTrait<OpTrait::SameOperandsAndResultType>() || fusible.getEpilogueGranularity() != 1)
      continue;
    for (Value operand : op->getOperands()) {
      if (!operand.hasOneUse())
        continue;
      if (auto argument = dyn_cast<BlockArgument>(operand))
        found.push_back(argument);
      else
        worklist.push_back(operand);
    }
  }
  return found;
}

struct MemoryPlan : impl::MemoryPlanBase<MemoryPlan> {
  using MemoryPlanBase::MemoryPlanBase;

  LogicalResult analyze(BucketPlan &plan);
  LogicalResult emit(SmallVector<BucketPlan> &plans);
  LogicalResult emitMemory(ArrayRef<BucketPlan> plans);
  size_t findKernel(GroupOp group, ArrayAttr layouts, BucketPlan &plan, size_t begin);
  ArrayAttr layoutsOf(GroupOp group);
  plan::WorkAttr estimate(GroupOp group, const RowCounts &rows);

  void runOnOperation() override {
    SmallVector<BucketPlan> plans;
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (auto bucket = function->getAttrOfType<BucketAttr>(MiliDialect::getBucketAttrName())) {
        plans.emplace_back();
        plans.back().function = function;
        plans.back().bucket = bucket;
      }
    if (plans.empty()) {
      getOperation().emitError("mili-memory-plan: no function has ")
          << MiliDialect::getBucketAttrName() << "; run mili-specialize-buckets first";
      return signalPassFailure();
    }
    for (BucketPlan &plan : plans)
      if (failed(analyze(plan)))
        return signalPassFailure();
    if (failed(emit(plans)))
      return signalPassFailure();
  }

  SmallVector<Kernel> kernels;
  int64_t requestCount = 0, contextTokens = 0, counterBytes = 0;
};

LogicalResult MemoryPlan::analyze(BucketPlan &plan) {
  func::FuncOp function = plan.function;
  if (function.isExternal() || !function.getBody().hasOneBlock())
    return function.emitError("mili-memory-plan: expected a body of one block");
  for (BlockArgument argument : function.getArguments())
    if (!comesWithBatch(argument))
      return function.emitError("mili-memory-plan: expected arguments that are token ids (tensor<?xi32>) or the batch, "
                                "found ")
             << argument.getType();

  // Steps, and the state that each version belongs to.
  DenseMap<Operation *, int64_t> stepOf;
  for (Operation &op : function.getBody().front()) {
    if (auto get = dyn_cast<StateGetOp>(op)) {
      plan.stateOf[get.getResult()] = get.getStateAttr();
    } else if (auto group = dyn_cast<GroupOp>(op)) {
      if (!group.getKernelAttr() || !group.getStagesAttr() || group.getStagesAttr().empty())
        return group.emitError("mili-memory-plan: no kernel was selected for the group");
      stepOf[group] = static_cast<int64_t>(plan.groups.size());
      plan.groups.push_back(group);
      for (auto [i, result] : llvm::enumerate(group.getResults())) {
        if (!isState(result))
          continue;
        // Back through the appends of the body to the argument.
        Value version = group.getBody().front().getTerminator()->getOperand(i);
        while (Operation *def = version.getDefiningOp()) {
          auto previous = llvm::find_if(def->getOperands(), [](Value operand) { return isState(operand); });
          if (previous == def->getOperands().end())
            break;
          version = *previous;
        }
        auto argument = dyn_cast<BlockArgument>(version);
        FlatSymbolRefAttr symbol =
            argument ? plan.stateOf.lookup(group.getInputs()[argument.getArgNumber()]) : FlatSymbolRefAttr();
        if (!symbol)
          return group.emitError("mili-memory-plan: result #") << i << " is not a version of a module state";
        plan.stateOf[result] = symbol;
      }
    } else if (!isa<WeightOp, StateSetOp, func::ReturnOp>(op)) {
      return op.emitError("mili-memory-plan: expected only groups, weights and states; run mili-fuse-groups first");
    }
  }

  RowCounts rows(function.getBody(), plan.bucket);
  auto end = static_cast<int64_t>(plan.groups.size());
  auto lastUse = [&](Value value) {
    int64_t last = stepOf.lookup(value.getDefiningOp());
    for (Operation *user : value.getUsers())
      last = std::max(last, isa<func::ReturnOp>(user) ? end : stepOf.lookup(user));
    return last;
  };
  for (auto [step, group] : llvm::enumerate(plan.groups)) {
    auto position = static_cast<int64_t>(step);
    for (OpResult result : group->getResults()) {
      if (isState(result))
        continue;
      auto type = dyn_cast<RankedTensorType>(result.getType());
      if (!type || llvm::count_if(type.getShape(), ShapedType::isDynamic) > 1 ||
          (!type.hasStaticShape() && !type.isDynamicDim(0)))
        return group.emitError("mili-memory-plan: cannot bound the size of a result of type ") << result.getType();
      // A bucket without wanted rows runs its head on none; its slices still need an address.
      int64_t bytes = std::max<int64_t>(rows.getBytes(result), type.getElementTypeBitWidth() / 8);
      bool inPlace =
          reuse && llvm::any_of(findOverwritable(result), [&](BlockArgument argument) {
            Value operand = group.getInputs()[argument.getArgNumber()];
            auto it = plan.bufferOf.find(operand);
            if (it == plan.bufferOf.end() || operand.getType() != result.getType() ||
                llvm::count(group.getInputs(), operand) != 1)
              return false;
            // Dies here, and no other result of this group took it already.
            size_t index = it->second;
            ArenaBuffer &buffer = plan.buffers[index];
            if (buffer.last != position || buffer.size != bytes || llvm::any_of(group.getResults(), [&](Value other) {
                  auto taken = plan.bufferOf.find(other);
                  return taken != plan.bufferOf.end() && taken->second == index;
                }))
              return false;
            buffer.last = lastUse(result);
            plan.bufferOf[result] = index;
            return true;
          });
      if (inPlace) {
        ++numInPlace;
        continue;
      }
      plan.bufferOf[result] = plan.buffers.size();
      plan.buffers.push_back({bytes, position, lastUse(result), 0});
    }
    if (int64_t bytes = group.getArenaScratch().value_or(0)) {
      plan.scratchOf[group] = plan.buffers.size();
      plan.buffers.push_back({bytes, position, position, 0});
    }
  }
  auto returned = function.getBody().front().getTerminator()->getOperands();
  if (returned.empty() || returned.size() > 2 ||
      !llvm::all_of(returned, [&](Value value) { return plan.bufferOf.contains(value); }) ||
      (returned.size() == 2 && !cast<RankedTensorType>(returned.back().getType()).getElementType().isInteger(32)))
    return function.emitError("mili-memory-plan: expected to return the logits that a group computes, and perhaps the "
                              "tokens sampled from them, found ")
           << returned.size() << " values";
  plan.logits = returned.front();
  if (returned.size() == 2)
    plan.sampled = returned.back();
  int64_t naive = 0;
  for (GroupOp group : plan.groups) {
    for (Value result : group.getResults())
      if (!isState(result))
        naive += llvm::alignTo(std::max<int64_t>(rows.getBytes(result), 1), kSliceAlign);
    naive += llvm::alignTo(group.getArenaScratch().value_or(0), kSliceAlign);
  }
  if (!reuse)
    for (ArenaBuffer &buffer : plan.buffers) {
      buffer.first = 0;
      buffer.last = static_cast<int64_t>(plan.groups.size());
    }
  plan.figures = assignOffsets(plan.buffers, kSliceAlign);
  plan.figures.naive = naive;  // without in-place reuse
  return success();
}

/// One string for each input: the layout of a weight, "" for anything else.
ArrayAttr MemoryPlan::layoutsOf(GroupOp group) {
  Builder builder(&getContext());
  return builder.getStrArrayAttr(llvm::map_to_vector(group.getInputs(), [](Value input) -> StringRef {
    auto weight = input.getDefiningOp<WeightOp>();
    return weight && weight.getLayoutAttr() ? weight.getLayoutAttr().getValue() : StringRef();
  }));
}

/// Index of the kernel that runs the group, from `begin` on, where this bucket's kernels begin.
size_t MemoryPlan::findKernel(GroupOp group, ArrayAttr layouts, BucketPlan &plan, size_t begin) {
  for (size_t i = begin; i < kernels.size(); ++i) {
    GroupOp other = kernels[i].group;
    if (other.getKernelAttr() == group.getKernelAttr() && other.getHeroAttr() == group.getHeroAttr() &&
        other.getStagesAttr() == group.getStagesAttr() && kernels[i].layouts == layouts &&
        other.getArenaScratchAttr() == group.getArenaScratchAttr() &&
        other.getCountersAttr() == group.getCountersAttr() &&
        OperationEquivalence::isRegionEquivalentTo(&other.getBody(), &group.getBody(),
                                                   OperationEquivalence::IgnoreLocations))
      return i;
  }
  // Named after what it runs: the hero, its storage format, the other ops in order.
  std::string name = getMnemonic(group.getHeroOp()).str();
  for (Value input : group.getInputs())
    if (auto tensor = dyn_cast<RankedTensorType>(input.getType()))
      if (auto block = dyn_cast<BlockType>(tensor.getElementType()))
        name += "_" + stringifyBlockFormat(block.getFormat()).str();
  StringRef previous;
  for (Operation &op : group.getBody().front()) {
    if (&op == group.getHeroOp() || isa<DequantOp, SplitOp, YieldOp>(op))
      continue;
    if (StringRef mnemonic = getMnemonic(&op); mnemonic != previous) {
      name += "_" + mnemonic.str();
      previous = mnemonic;
    }
  }
  name += "_t" + std::to_string(plan.bucket.getTokens());
  int same = 1;
  std::string unique = name;
  while (llvm::any_of(kernels, [&](const Kernel &kernel) { return kernel.name == unique; }) ||
         getOperation().lookupSymbol(unique))
    unique = name + "_" + std::to_string(++same);
  kernels.push_back({group, layouts, unique});
  return kernels.size() - 1;
}

/// Expected work of a group: activations in and out once for each row, the rest by `CostedOp`.
plan::WorkAttr MemoryPlan::estimate(GroupOp group, const RowCounts &rows) {
  StepWork work;
  // What a group reads in the rows that nobody wants, it need not read.
  bool wanted = llvm::any_of(group.getResults(), [&](Value result) { return rows.isWanted(result); });
  for (Value value : llvm::concat<Value>(group.getInputs(), group.getResults()))
    if (RowCounts::isActivation(value) && !comesWithBatch(value))
      work.rowBytes += RowCounts::getRowBytes(value);
  // Weights that the plan stores in another format than the model's are read as they are stored.
  auto storedBytes = [&](Value value) -> uint64_t {
    if (auto dequant = value.getDefiningOp<DequantOp>())
      value = dequant.getStorage();
    if (auto argument = dyn_cast<BlockArgument>(value))
      if (auto weight = group.getInputs()[argument.getArgNumber()].getDefiningOp<WeightOp>())
        if (auto packed = weight->getAttrOfType<IntegerAttr>("packed_bytes"))
          return packed.getInt();
    return getWeightBytes(value);
  };
  for (Operation &op : group.getBody().front())
    if (auto costed = dyn_cast<CostedOp>(op))
      work += costed.getWork(storedBytes);
  auto figure = [](uint64_t value) { return static_cast<int64_t>(value); };
  return plan::WorkAttr::get(&getContext(), wanted ? RowCount::logit_rows : RowCount::tokens, figure(work.fixedBytes),
                             figure(work.rowBytes), figure(work.keyBytes), figure(work.rowFlops),
                             figure(work.pairFlops), work.visible.base, work.visible.every);
}

LogicalResult MemoryPlan::emitMemory(ArrayRef<BucketPlan> plans) {
  ModuleOp module = getOperation();
  ::mili::MemoryInputs inputs;
  inputs.requests = requestCount;
  inputs.context = contextTokens;
  for (auto state : module.getOps<StateOp>()) {
    ::mili::StateSize size;
    if (auto kv = dyn_cast<KvType>(state.getType())) {
      size.heads = kv.getHeads();
      size.k = kv.getK();
      size.v = kv.getV();
      size.elem_bytes = kv.getElementType().getWidth() / 8;
      size.window = kv.getWindow();
    } else {
      size.paged = false;
      size.slot_bytes = cast<RecurrentType>(state.getType()).getSlotBytes();
    }
    inputs.states.push_back(size);
  }
  for (auto weight : module.getOps<plan::WeightOp>()) {
    auto packed = weight->getAttrOfType<IntegerAttr>("packed_bytes");
    uint64_t bytes = packed ? packed.getInt() : getStorageBytes(cast<ShapedType>(weight.getType()));
    inputs.weight_bytes = llvm::alignTo(inputs.weight_bytes, ::mili::kWeightAlign) + bytes;
  }
  for (const BucketPlan &plan : plans)
    inputs.buckets.push_back(
        {static_cast<uint64_t>(plan.bucket.getTokens()), static_cast<uint64_t>(plan.bucket.getSequences()),
         static_cast<uint64_t>(plan.bucket.getLogitRows()), static_cast<uint64_t>(plan.figures.peak)});
  for (auto kernel : module.getOps<plan::KernelOp>())
    for (auto stage : kernel.getStages().getAsRange<StageAttr>())
      inputs.kernel_scratch.push_back(stage.getScratch());
  inputs.counter_bytes = llvm::alignTo(counterBytes, kSliceAlign);
  auto figures = ::mili::plan_memory(inputs);
  if (!figures.ok())
    return module.emitError("mili-memory-plan: ") << figures.status().message();

  Builder builder(&getContext());
  NamedAttrList list;
  auto set = [&](StringRef name, uint64_t value) {
    list.set(name, builder.getI64IntegerAttr(static_cast<int64_t>(value)));
  };
  set("weights", figures->weights);
  set("arena", figures->arena);
  set("kv", figures->kv);
  set("tables", figures->tables);
  set("worker_scratch", figures->worker_scratch);
  set("counters", figures->counters);
  set("kv_pages", figures->kv_pages);
  SmallVector<Attribute> tables;
  for (const ::mili::PageTable &table : figures->page_tables)
    tables.push_back(builder.getDictionaryAttr(
        {builder.getNamedAttr("window", builder.getI64IntegerAttr(static_cast<int64_t>(table.window))),
         builder.getNamedAttr("ring", builder.getI64IntegerAttr(static_cast<int64_t>(table.ring))),
         builder.getNamedAttr("pages", builder.getI64IntegerAttr(static_cast<int64_t>(table.pages)))}));
  list.set("page_tables", builder.getArrayAttr(tables));
  set("requests", inputs.requests);
  set("context", inputs.context);
  module->setAttr(plan::MiliPlanDialect::getMemoryAttrName(), list.getDictionary(&getContext()));
  return success();
}

LogicalResult MemoryPlan::emit(SmallVector<BucketPlan> &plans) {
  ModuleOp module = getOperation();
  auto figure = [&](int64_t option, StringRef attribute, int64_t most, int64_t &value) -> LogicalResult {
    value = option;
    if (!value)
      if (auto attr = module->getAttrOfType<IntegerAttr>(attribute))
        value = attr.getInt();
    if (value <= 0 || value > most)
      return module.emitError("mili-memory-plan: expected a positive ")
             << attribute << " of at most " << most << " on the module or as an option, found " << value;
    return success();
  };
  if (failed(figure(requests, MiliDialect::getRequestsAttrName(), kMaxDimension, requestCount)) ||
      failed(figure(context, MiliDialect::getContextAttrName(), kMaxContext, contextTokens)))
    return failure();
  if (!report.empty() && report != "table")
    return module.emitError("mili-memory-plan: report must be table, found '") << report.getValue() << "'";

  OpBuilder builder(&getContext());
  builder.setInsertionPointToEnd(module.getBody());

  // Weights of all buckets, in the order of their first use.
  llvm::MapVector<std::tuple<Attribute, Attribute, Type>, FlatSymbolRefAttr> weights;
  for (BucketPlan &plan : plans)
    for (GroupOp group : plan.groups)
      for (Value input : group.getInputs()) {
        auto weight = input.getDefiningOp<WeightOp>();
        if (!weight)
          continue;
        StringAttr layout = weight.getLayoutAttr();
        if (!layout)
          return weight.emitError("mili-memory-plan: no layout was selected for the weight");
        auto [it, inserted] = weights.try_emplace({weight.getParam(), layout, weight.getType()});
        if (!inserted)
          continue;
        std::string name = "w" + std::to_string(weights.size() - 1);
        auto record = plan::WeightOp::create(builder, weight.getLoc(), name, weight.getParam(), layout.getValue(),
                                             weight.getType());
        if (Attribute packed = weight->getAttr("packed_bytes"))
          record->setAttr("packed_bytes", packed);
        it->second = FlatSymbolRefAttr::get(&getContext(), name);
      }

  // Kernels are found while the bodies are in place, then created, then launched.
  struct Launch {
    GroupOp group;
    size_t kernel;
    plan::WorkAttr work;
  };
  SmallVector<SmallVector<Launch>> launches;
  SmallVector<BucketAttr> kernelBuckets;
  for (BucketPlan &plan : plans) {
    RowCounts rows(plan.function.getBody(), plan.bucket);
    size_t begin = kernels.size();
    launches.emplace_back();
    for (GroupOp group : plan.groups) {
      launches.back().push_back({group, findKernel(group, layoutsOf(group), plan, begin), estimate(group, rows)});
    }
    kernelBuckets.resize(kernels.size(), plan.bucket);
  }
  DenseMap<Operation *, SmallVector<bool>>
      updated;  // per group: inputs that are states of which it gives a new version
  for (BucketPlan &plan : plans)
    for (GroupOp group : plan.groups)
      for (Value input : group.getInputs())
        updated[group].push_back(isState(input) && llvm::any_of(group.getResults(), [&](Value result) {
                                   return isState(result) && plan.stateOf.lookup(result) == plan.stateOf.lookup(input);
                                 }));
  for (auto [kernel, bucket] : llvm::zip_equal(kernels, kernelBuckets)) {
    GroupOp group = kernel.group;
    auto record = plan::KernelOp::create(builder, group.getLoc(), kernel.name, group.getKernelAttr().getValue(),
                                         group.getHero(), group.getStagesAttr(), bucket, kernel.layouts);
    record.getBody().takeBody(group.getBody());
  }
  numKernels += kernels.size();

  for (auto [plan, bucketLaunches] : llvm::zip_equal(plans, launches)) {
    RowCounts rows(plan.function.getBody(), plan.bucket);
    const ArenaFigures &figures = plan.figures;
    const ArenaBuffer &logits = plan.buffers[plan.bufferOf.lookup(plan.logits)];
    std::string name = plan.function.getSymName().str();
    auto record = plan::BucketOp::create(builder, plan.function.getLoc(), name, plan.bucket, figures.peak,
                                         figures.lowerBound, figures.naive, logits.offset, IntegerAttr());
    if (plan.sampled)
      record.setSampled(plan.buffers[plan.bufferOf.lookup(plan.sampled)].offset);
    if (Attribute function = plan.function->getAttr(MiliDialect::getFunctionAttrName()))
      record->setAttr("function", function);
    OpBuilder inner(&getContext());
    inner.setInsertionPointToEnd(&record.getBody().emplaceBlock());
    auto slice = [&](plan::Access access, const ArenaBuffer &buffer) {
      return plan::ArenaAttr::get(&getContext(), access, buffer.offset, buffer.size);
    };
    for (Launch &launch : bucketLaunches) {
      GroupOp group = launch.group;
      SmallVector<Attribute> args;
      for (auto [i, input] : llvm::enumerate(group.getInputs())) {
        if (comesWithBatch(input))
          continue;
        if (auto weight = input.getDefiningOp<WeightOp>()) {
          args.push_back(plan::WeightRefAttr::get(
              &getContext(), weights.lookup({weight.getParam(), weight.getLayoutAttr(), weight.getType()})));
        } else if (isState(input)) {
          args.push_back(plan::StateRefAttr::get(&getContext(),
                                                 updated[group][i] ? plan::Access::readwrite : plan::Access::read,
                                                 plan.stateOf.lookup(input)));
        } else {
          args.push_back(slice(plan::Access::read, plan.buffers[plan.bufferOf.lookup(input)]));
        }
      }
      for (Value result : group.getResults())
        if (!isState(result))
          args.push_back(slice(plan::Access::write, plan.buffers[plan.bufferOf.lookup(result)]));
      if (auto it = plan.scratchOf.find(group); it != plan.scratchOf.end())
        args.push_back(slice(plan::Access::readwrite, plan.buffers[it->second]));
      if (int64_t bytes = group.getCounters().value_or(0)) {
        args.push_back(plan::CountersAttr::get(&getContext(), bytes));
        counterBytes = std::max(counterBytes, bytes);
      }
      size_t stages = group.getStagesAttr().size();
      for (size_t stage = 0; stage < stages; ++stage) {
        bool last = stage + 1 == stages;
        plan::LaunchOp::create(inner, group.getLoc(), kernels[launch.kernel].name, stage, group.getName(),
                               builder.getArrayAttr(args), last ? launch.work : plan::WorkAttr());
      }
    }
    if (report == "table") {
      auto ratio = figures.lowerBound
                       ? 100.0 * static_cast<double>(figures.peak) / static_cast<double>(figures.lowerBound)
                       : 100.0;
      llvm::errs() << name << ": arena " << figures.peak << " bytes, lower bound " << figures.lowerBound << " ("
                   << llvm::format("%.1f", ratio) << "%), naive " << figures.naive << ", " << bucketLaunches.size()
                   << " groups\n";
    }
  }
  for (BucketPlan &plan : plans)
    plan.function.erase();
  return emitMemory(plans);
}
}  // namespace
}  // namespace mlir::mili
