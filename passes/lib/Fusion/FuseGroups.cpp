//===- FuseGroups.cpp - mili-fuse-groups --------------------------------------===//
//
// Greedy, cost-guided clustering around heroes, in the manner of XLA's priority fusion and TVM's anchor patterns
// (arXiv 1802.04799), on roles that the ops themselves declare (`FusibleOp`), so that ops from outside the tree take
// part.
//
//   1. Ops are visited as heroes by falling priority, then in program order. An op without a group opens one.
//   2. Prologue. A producer of the hero's operands that offers the role runs at the start of the hero's kernel, once in
//      each worker. It is recomputed there, so it is taken by all of its consumers or by none (if one of them needs it
//      in memory nothing is saved), and only when the estimated time of the recomputation is at most that of a kernel
//      of its own: a launch, its traffic, its share of the work (`decidePrologue`). Ops that cannot lead a group
//      (dequantization) move no bytes and must be taken.
//   3. Epilogue. Users of the group's results that offer the role join, nearest first, transitively; a value that is
//      read outside too becomes one more result. Nothing is recomputed, so joining always saves a read and mostly a
//      write; it is refused when
//        - the group would have to run before and after another group (convexity, checked on the graph of groups);
//        - it reads a value from outside the group that is not laid out like its other operands (a tile of the product
//          holds some features of each row and finds the same ones of a residual, but not of K what belongs to its V);
//        - the features that one tile must then hold together (least common multiple of the epilogue's granularities)
//          exceed a limit, straddle the pieces of a split, or leave fewer tiles than workers;
//        - the target's filter or the user says no.
//   4. Groups become `mili.group`, named after the hero's source name; the function's ops are put into topological
//      order, which is the order of launches from here on.
//
// The report has every op, with its group, and every value that goes from one op to another, with the reason of its
// decision. An edge stays apart when both roles fail, so the reason names the cause in each role that was offered.
// Where an op has a place already (in a group that was formed before) that is the reason only if nothing else was found
// wrong: it is what a refusal in the other role led to.
//
//===------------------------------------------------------------------------===//
#include "mili/Passes/Passes.h"

#include "../Support/Names.h"
#include "../Support/Rows.h"
#include "mili/IR/MiliDialect.h"
#include "mili/Passes/FusionReport.h"

#include "mlir/Analysis/TopologicalSortUtils.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <numeric>

namespace mlir::mili {
#define GEN_PASS_DEF_FUSEGROUPS
#include "mili/Passes/Passes.h.inc"

namespace {

/// From here on an op is a product: its kernel is tiled over the features of its result.
constexpr unsigned kTiledPriority = 100;

constexpr llvm::StringLiteral kSwitchedOff = "switched off";

/// What costs are estimated for.
struct Target {
  int64_t workers;
  double launchNs, flopsPerNs, bytesPerNs;
  int64_t context, tileFeatures;
};

struct Group {
  Operation *hero;
  llvm::SetVector<Operation *> members;   // hero and epilogue, in the order in which they joined
  llvm::SetVector<Operation *> prologue;  // recomputed here
  int64_t tileFeatures = 1;
};

/// Whether a prologue is recomputed in its consumers, and the figures behind it.
struct PrologueDecision {
  bool fuse = false;
  std::string reason;
  Operation *refuser = nullptr;  // the consumer because of which it is not; null when all are alike
};

/// What came of trying an edge in each role; empty where it was not tried.
struct Attempts {
  std::string taken;               // why it was fused
  std::string prologue, epilogue;  // why it was refused in that role
};

/// Roles are offered by either end of an edge: an op knows those of its own dialect only.
bool mayPrecede(FusibleOp producer, OpOperand &use) {
  auto consumer = dyn_cast<FusibleOp>(use.getOwner());
  return producer.isPrologueFor(use) || (consumer && consumer.acceptsPrologue(use));
}
bool mayFollow(FusibleOp user, Operation *producer) {
  auto fusible = dyn_cast<FusibleOp>(producer);
  return user.isEpilogueFor(producer) || (fusible && fusible.acceptsEpilogue(user));
}

std::string microseconds(double ns) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << llvm::format("%.1f us", ns / 1000);
  return text;
}

class Fuser {
public:
  /// `bucket`: what decisions are made for.
  Fuser(func::FuncOp function, BucketAttr bucket, Target target, int64_t granularityLimit,
        const llvm::StringSet<> &disabled, const GroupFilter &filter)
      : function(function), block(function.getBody().front()), bucket(bucket), rows(function.getBody(), bucket),
        target(target), granularityLimit(granularityLimit), disabled(disabled), filter(filter) {}

  LogicalResult run(FusionReport &report);
  int64_t numGroups() const { return static_cast<int64_t>(groups.size()); }

private:
  // Formation.
  void growPrologue(Group &group, Operation *consumer);
  void growEpilogue(Group &group);
  std::optional<std::string> refuseEpilogue(Group &group, Operation *producer, Operation *op);
  PrologueDecision decidePrologue(Operation *producer);
  bool dependsOnGroup(Operation *op, const Group &group) const;
  bool isDisabled(Operation *producer, Operation *consumer, Operation *joining) const;
  LogicalResult checkOps();
  LogicalResult checkComplete();
  // Result.
  std::string explain(Operation *producer, Operation *consumer, bool fused) const;
  bool isFused(Operation *producer, Operation *consumer) const;
  void collect(FusionReport &report);
  void materialize();
  bool leavesGroup(Value result, const Group &group) const;
  BucketAttr ownBucket() const { return function->getAttrOfType<BucketAttr>(MiliDialect::getBucketAttrName()); }
  bool contains(const Group &group, Operation *op) const {
    return group.members.contains(op) || group.prologue.contains(op);
  }

  func::FuncOp function;
  Block &block;
  BucketAttr bucket;
  RowCounts rows;
  Target target;
  int64_t granularityLimit;
  const llvm::StringSet<> &disabled;
  const GroupFilter &filter;

  std::vector<std::unique_ptr<Group>> groups;
  DenseMap<Operation *, Group *> groupOf;                  // members alone
  DenseMap<Operation *, SmallVector<Group *>> recomputed;  // prologues
  DenseMap<Operation *, PrologueDecision> prologues;
  DenseMap<std::pair<Operation *, Operation *>, Attempts> attempts;  // (producer, consumer)
};

/// Kinds that `disable` may name for this edge: producer-consumer, the op that joins, all.
bool Fuser::isDisabled(Operation *producer, Operation *consumer, Operation *joining) const {
  return disabled.contains("all") || disabled.contains(getMnemonic(joining)) ||
         disabled.contains((getMnemonic(producer) + "-" + getMnemonic(consumer)).str());
}

/// Whether `op`, from outside `group`, can only run after the group: a walk back over operands that treats every
/// finished group as one node, since its kernel needs all of its inputs.
bool Fuser::dependsOnGroup(Operation *op, const Group &group) const {
  SmallVector<Operation *> worklist{op};
  llvm::SmallPtrSet<Operation *, 32> visited{op};
  while (!worklist.empty()) {
    Operation *current = worklist.pop_back_val();
    auto visit = [&](Operation *node) {
      for (Value operand : node->getOperands())
        if (Operation *def = operand.getDefiningOp(); def && visited.insert(def).second)
          worklist.push_back(def);
    };
    if (group.members.contains(current))
      return true;
    if (Group *owner = groupOf.lookup(current)) {
      for (Operation *member : owner->members) {
        visited.insert(member);
        visit(member);
      }
    } else {
      visit(current);
    }
  }
  return false;
}

/// Times in nanoseconds of one step, `rows` the number of rows that are needed:
///   separate  a launch + the work and traffic, shared by the workers (at most one row each at a time)
///   fused     the work, done by every worker for all rows that its consumer needs
/// The consumers' reads are left out: they read the producer's input instead of its output.
PrologueDecision Fuser::decidePrologue(Operation *producer) {
  auto it = prologues.find(producer);
  if (it != prologues.end())
    return it->second;
  PrologueDecision &decision = prologues[producer];
  auto fusible = cast<FusibleOp>(producer);
  bool must = fusible.getHeroPriority() == 0;
  auto refuse = [&](std::string reason, Operation *refuser = nullptr) {
    decision = {false, std::move(reason), refuser};
    return decision;
  };

  llvm::SetVector<Operation *> consumers;
  bool kept = false;
  for (OpOperand &use : producer->getUses()) {
    Operation *consumer = use.getOwner();
    // A new version of a state leaves the group that makes it, whatever else reads it.
    if (isa<StateSetOp>(consumer)) {
      kept = true;
      continue;
    }
    if (!mayPrecede(fusible, use))
      return refuse(getMnemonic(consumer).str() + " reads it from memory", consumer);
    if (!must && isDisabled(producer, consumer, producer))
      return refuse(kSwitchedOff.str(), consumer);
    consumers.insert(consumer);
  }
  if (kept && (consumers.size() != 1 || producer->getNumResults() != 1))
    return refuse("a state is appended to once, and several groups read the new version");
  if (must) {
    decision = {true, "unpacked where it is read, never stored", nullptr};
    return decision;
  }
  for (Operation *consumer : consumers) {
    if (groupOf.lookup(consumer) && groupOf.lookup(consumer)->hero != consumer)
      return refuse(getMnemonic(consumer).str() + " leads no group", consumer);
    if (consumer->getName() == producer->getName())
      return refuse("two ops of one kind cannot lead one group", consumer);
    if (filter) {
      FusionCandidate candidate{consumer, ArrayRef<Operation *>(consumer), producer, true, 1, bucket.getTokens()};
      if (std::optional<std::string> reason = filter(candidate))
        return refuse(std::move(*reason), consumer);
    }
  }
  auto costed = dyn_cast<CostedOp>(producer);
  if (!costed)
    return refuse("its cost is unknown");
  int64_t ownRows = rows.getRows(producer->getResult(0));
  double parallel = static_cast<double>(std::clamp<int64_t>(ownRows, 1, target.workers));
  double traffic = 0;
  for (Value value : llvm::concat<Value>(producer->getOperands(), producer->getResults()))
    if (rows.isActivation(value))
      traffic += static_cast<double>(rows.getBytes(value));
  auto work = [&](int64_t n) { return static_cast<double>(costed.getFlops(n, target.context)) / target.flopsPerNs; };
  double separate = target.launchNs + (work(ownRows) + traffic / target.bytesPerNs) / parallel;
  double fused = 0;
  for (Operation *consumer : consumers)
    fused += work(rows.getRows(consumer->getResult(0)));
  std::string again = "recomputed by each worker";
  if (consumers.size() > 1)
    again += " in " + std::to_string(consumers.size()) + " groups";
  // Queries and keys are finished by the tile that reads them: once for each tile of their own head, not by every
  // worker.
  if (llvm::all_of(consumers, [](Operation *op) { return isa<AttentionOp, KvAppendOp, RopeOp>(op); })) {
    fused /= parallel;
    again = "finished by the tiles that read it";
  }
  if (fused > separate)
    return refuse(again + " it would take " + microseconds(fused) + ", a kernel of its own " + microseconds(separate));
  decision = {true,
              "prologue, " + again + ": " + microseconds(fused) + " against " + microseconds(separate) +
                  " for a kernel of its own",
              nullptr};
  return decision;
}

/// Takes the producers of `consumer`'s operands that offer to run before it.
void Fuser::growPrologue(Group &group, Operation *consumer) {
  for (OpOperand &operand : consumer->getOpOperands()) {
    auto producer = operand.get().getDefiningOp<FusibleOp>();
    if (!producer || groupOf.contains(producer) || !mayPrecede(producer, operand))
      continue;
    bool must = producer.getHeroPriority() == 0;
    // Only what feeds the hero runs before it; behind an epilogue op only what has no kernel of its own does.
    if (!must && consumer != group.hero && !group.prologue.contains(consumer))
      continue;
    PrologueDecision decision = decidePrologue(producer);
    Attempts &attempt = attempts[{producer, consumer}];
    if (!decision.fuse) {
      bool here = !decision.refuser || decision.refuser == consumer;
      attempt.prologue =
          here ? decision.reason : getSourceName(decision.refuser) + " needs it stored: " + decision.reason;
      continue;
    }
    attempt.taken = decision.reason;
    if (group.prologue.insert(producer))
      recomputed[producer].push_back(&group);
    growPrologue(group, producer);
  }
}

std::optional<std::string> Fuser::refuseEpilogue(Group &group, Operation *producer, Operation *op) {
  for (Value operand : op->getOperands()) {
    Operation *def = operand.getDefiningOp();
    if (!def)
      continue;
    if (group.members.contains(def)) {
      if (isDisabled(def, op, op))
        return def == producer ? kSwitchedOff.str()
                               : getMnemonic(op).str() + " would be fused with " + getSourceName(def) +
                                     " as well, which is switched off";
      continue;
    }
    if (dependsOnGroup(def, group))
      return "its other operand needs this group's result first";
  }
  bool tiled = cast<FusibleOp>(group.hero).getHeroPriority() >= kTiledPriority;
  // A tile finds the features that it holds in another operand only where all operands are alike.
  if (tiled && !op->hasTrait<OpTrait::SameOperandsAndResultType>())
    for (Value operand : op->getOperands())
      if (rows.isActivation(operand) && !group.members.contains(operand.getDefiningOp()))
        return "its other operand comes from outside and a tile cannot tell which features of it are its own";
  int64_t unit = tiled ? std::lcm(group.tileFeatures, cast<FusibleOp>(op).getEpilogueGranularity()) : 1;
  if (tiled && unit > 1 && unit > target.tileFeatures) {
    if (unit > granularityLimit)
      return "needs " + std::to_string(unit) + " features in one tile, the limit is " +
             std::to_string(granularityLimit);
    int64_t width = cast<RankedTensorType>(group.hero->getResult(0).getType()).getShape().back();
    if (width / unit < target.workers)
      return "needs " + std::to_string(unit) + " of " + std::to_string(width) + " features in one tile, which leaves " +
             std::to_string(width / unit) + " tiles for " + std::to_string(target.workers) + " workers";
    for (Operation *member : llvm::concat<Operation *const>(group.members, ArrayRef<Operation *>(op)))
      if (auto split = dyn_cast<SplitOp>(member); split && !split.getInterleave())
        for (Value piece : split.getResults())
          if (cast<RankedTensorType>(piece.getType()).getShape().back() % unit)
            return "needs " + std::to_string(unit) + " features in one tile, which would straddle the pieces of " +
                   getSourceName(split);
  }
  if (filter) {
    FusionCandidate candidate{group.hero, group.members.getArrayRef(), op, false, unit, bucket.getTokens()};
    if (std::optional<std::string> reason = filter(candidate))
      return reason;
  }
  group.tileFeatures = unit;
  return std::nullopt;
}

void Fuser::growEpilogue(Group &group) {
  // By position in the block, so that what is nearest is tried first; `members` grows while it is walked.
  for (unsigned i = 0; i < group.members.size(); ++i) {
    Operation *producer = group.members[i];
    SmallVector<Operation *> users;
    for (Operation *user : producer->getUsers())
      if (!llvm::is_contained(users, user))
        users.push_back(user);
    llvm::sort(users, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
    for (Operation *user : users) {
      auto fusible = dyn_cast<FusibleOp>(user);
      if (!fusible || group.members.contains(user) || !mayFollow(fusible, producer))
        continue;
      if (groupOf.contains(user) || recomputed.contains(user))
        continue;
      Attempts &attempt = attempts[{producer, user}];
      if (std::optional<std::string> refused = refuseEpilogue(group, producer, user)) {
        attempt.epilogue = std::move(*refused);
        continue;
      }
      attempt.taken = "epilogue";
      group.members.insert(user);
      groupOf[user] = &group;
      growPrologue(group, user);
    }
  }
}

/// Everything in the function can be part of a kernel, or is about weights and states.
LogicalResult Fuser::checkOps() {
  for (Operation &op : block)
    if (!isa<FusibleOp, WeightOp, StateGetOp, StateSetOp>(op) && !op.hasTrait<OpTrait::IsTerminator>())
      return op.emitError("mili-fuse-groups: cannot be part of a kernel: the op does not implement FusibleOp");
  return success();
}

/// Every op is in a group; what cannot lead one runs in each of its consumers' groups.
LogicalResult Fuser::checkComplete() {
  for (Operation &op : block) {
    if (groupOf.contains(&op) || !isa<FusibleOp>(op))
      continue;
    auto it = recomputed.find(&op);
    for (Operation *user : op.getUsers()) {
      if (it != recomputed.end() && isa<StateSetOp>(user))  // a result of the group that makes it
        continue;
      if (it == recomputed.end() || llvm::none_of(it->second, [&](Group *group) { return contains(*group, user); })) {
        InFlightDiagnostic diagnostic = op.emitError(
            "mili-fuse-groups: cannot lead a group and must run inside its consumer, which does not take it");
        diagnostic.attachNote(user->getLoc()) << "the consumer is this " << user->getName();
        return diagnostic;
      }
    }
  }
  return success();
}

/// Whether something outside the group reads a member's result. Recomputed producers read through the groups that run
/// them.
bool Fuser::leavesGroup(Value result, const Group &group) const {
  return llvm::any_of(result.getUsers(), [&](Operation *user) {
    auto it = recomputed.find(user);
    if (it != recomputed.end())
      return llvm::any_of(it->second, [&](Group *other) { return other != &group; });
    return !group.members.contains(user);
  });
}

/// Whether the value stays in registers or shared memory: both ops run in one group.
bool Fuser::isFused(Operation *producer, Operation *consumer) const {
  if (recomputed.contains(consumer))  // a prologue inside a prologue
    return recomputed.contains(producer);
  Group *group = groupOf.lookup(consumer);
  return group && contains(*group, producer);
}

/// Why an edge came out as it did; see the top of the file.
std::string Fuser::explain(Operation *producer, Operation *consumer, bool fused) const {
  bool asEpilogue = mayFollow(cast<FusibleOp>(consumer), producer);
  bool asPrologue = llvm::any_of(consumer->getOpOperands(), [&](OpOperand &use) {
    return use.get().getDefiningOp() == producer && mayPrecede(cast<FusibleOp>(producer), use);
  });
  Attempts attempt = attempts.lookup({producer, consumer});
  if (fused) {
    if (!attempt.taken.empty())
      return attempt.taken;
    return asEpilogue ? "epilogue" : "inside the group by another edge";
  }
  std::string before = getMnemonic(producer).str(), after = getMnemonic(consumer).str();
  if (!asEpilogue && !asPrologue)
    return "no kernel runs " + before + " before this " + after + ", or " + after + " after this " + before;
  if (!attempt.prologue.empty() && !attempt.epilogue.empty() && attempt.prologue != attempt.epilogue)
    return "before it: " + attempt.prologue + "; after it: " + attempt.epilogue;
  if (!attempt.prologue.empty() || !attempt.epilogue.empty())
    return attempt.prologue.empty() ? attempt.epilogue : attempt.prologue;
  auto placeOf = [&](Operation *op) -> std::string {
    if (auto it = recomputed.find(op); it != recomputed.end())
      return "runs before " + getSourceName(it->second.front()->hero) + " already";
    Group *group = groupOf.lookup(op);
    return group->hero == op ? "leads a group" : "runs in the group of " + getSourceName(group->hero) + " already";
  };
  std::string ofProducer = placeOf(producer), ofConsumer = placeOf(consumer);
  return before + " " + ofProducer + ", " + after + " " + ofConsumer;
}

/// Every op, and every value between two of them, of which each is a candidate.
void Fuser::collect(FusionReport &report) {
  std::string name = function.getSymName().str();
  int64_t tokens = ownBucket().getTokens();
  DenseMap<Operation *, int64_t> indexOf;
  DenseMap<Group *, int64_t> groupIndex;
  for (auto [index, group] : llvm::enumerate(groups))
    groupIndex[group.get()] = static_cast<int64_t>(index);
  for (Operation &op : block) {
    if (!isa<FusibleOp>(op))
      continue;
    auto index = static_cast<int64_t>(indexOf.size());
    indexOf[&op] = index;
    FusionOp entry{name, tokens, index, getSourceName(&op), op.getName().getStringRef().str(), {}, false};
    if (Group *group = groupOf.lookup(&op)) {
      entry.groups.push_back(groupIndex.lookup(group));
    } else {
      for (Group *group : recomputed.lookup(&op))
        entry.groups.push_back(groupIndex.lookup(group));
      entry.recomputed = !entry.groups.empty();
    }
    report.ops.push_back(std::move(entry));
  }

  // Traffic that a value no longer causes: a read in each consumer that it is fused into; the write, where nothing
  // outside reads it; less what the copies of a recomputed producer read more than one of them did. The last two belong
  // to all fused edges of the value alike.
  auto sharedSavings = [&](Operation *producer, Value value, int64_t consumers) {
    int64_t shared = 0;
    auto copies = static_cast<int64_t>(recomputed.lookup(producer).size());
    if (copies || !leavesGroup(value, *groupOf.lookup(producer)))
      shared += rows.getBytes(value);
    if (copies > 1)
      for (Value input : llvm::SetVector<Value>(producer->operand_begin(), producer->operand_end()))
        if (rows.isActivation(input) && !recomputed.contains(input.getDefiningOp()))
          shared -= rows.getBytes(input) * (copies - 1);
    return std::pair(shared / consumers, shared % consumers);
  };
  DenseMap<Value, int64_t> fusedConsumers;
  auto forEachProducer = [&](Operation &op, auto callback) {
    llvm::MapVector<Operation *, llvm::SetVector<Value>> values;
    for (Value operand : op.getOperands())
      if (Operation *def = operand.getDefiningOp(); isa_and_present<FusibleOp>(def))
        values[def].insert(operand);
    for (auto &[producer, operands] : values)
      callback(producer, operands.getArrayRef());
  };
  for (Operation &op : block)
    if (isa<FusibleOp>(op))
      forEachProducer(op, [&](Operation *producer, ArrayRef<Value> values) {
        if (isFused(producer, &op))
          for (Value value : values)
            ++fusedConsumers[value];
      });
  llvm::SmallPtrSet<Value, 32> begun;
  for (Operation &op : block) {
    if (!isa<FusibleOp>(op))
      continue;
    forEachProducer(op, [&](Operation *producer, ArrayRef<Value> values) {
      FusionEdge edge;
      edge.function = name;
      edge.tokens = tokens;
      edge.producer = getSourceName(producer);
      edge.consumer = getSourceName(&op);
      edge.producerOp = indexOf.lookup(producer);
      edge.consumerOp = indexOf.lookup(&op);
      for (Value value : values)
        edge.values.push_back(cast<OpResult>(value).getResultNumber());
      edge.kind = (getMnemonic(producer) + "-" + getMnemonic(&op)).str();
      edge.fused = isFused(producer, &op);
      if (edge.fused && cast<FusibleOp>(producer).getHeroPriority() > 0)
        for (Value value : values) {
          if (!rows.isActivation(value))
            continue;
          auto [share, rest] = sharedSavings(producer, value, fusedConsumers.lookup(value));
          edge.bytesSaved += rows.getBytes(value) + share + (begun.insert(value).second ? rest : 0);
        }
      edge.reason = explain(producer, &op, edge.fused);
      report.edges.push_back(std::move(edge));
    });
  }
  for (auto &group : groups) {
    FusionGroup entry{name,
                      tokens,
                      groupIndex.lookup(group.get()),
                      getSourceName(group->hero),
                      group->hero->getName().getStringRef().str(),
                      {}};
    SmallVector<Operation *> ops(group->prologue.begin(), group->prologue.end());
    llvm::append_range(ops, group->members);
    llvm::sort(ops, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
    for (Operation *op : ops)
      entry.ops.push_back(getSourceName(op));
    report.groups.push_back(std::move(entry));
  }
}

void Fuser::materialize() {
  // Position and outward results are read off the untouched block first.
  SmallVector<std::pair<Value, Value>> replacements;
  for (auto &group : groups) {
    SmallVector<Operation *> ops(group->prologue.begin(), group->prologue.end());
    llvm::append_range(ops, group->members);
    llvm::sort(ops, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });

    llvm::SetVector<Value> inputs;
    SmallVector<Value> outputs;
    for (Operation *op : ops)
      for (Value operand : op->getOperands())
        if (Operation *def = operand.getDefiningOp(); !def || !contains(*group, def))
          inputs.insert(operand);
    for (Operation *op : ops)
      for (Value result : op->getResults()) {
        // Of what is recomputed only a state leaves: it is made in one group alone.
        bool state = isa<KvType, RecurrentType>(result.getType());
        if ((group->members.contains(op) || state) && leavesGroup(result, *group))
          outputs.push_back(result);
      }

    OpBuilder builder(group->hero);
    auto types = llvm::map_to_vector(outputs, [](Value value) { return value.getType(); });
    OperationState state(group->hero->getLoc(), GroupOp::getOperationName());
    state.addOperands(inputs.getArrayRef());
    state.addTypes(types);
    state.addRegion();
    state.addAttribute("name", builder.getStringAttr(getSourceName(group->hero)));
    state.addAttribute("hero", builder.getStringAttr(group->hero->getName().getStringRef()));
    auto groupOp = cast<GroupOp>(builder.create(state));

    Block &entry = groupOp.getBody().emplaceBlock();
    IRMapping mapping;
    for (Value input : inputs)
      mapping.map(input, entry.addArgument(input.getType(), input.getLoc()));
    builder.setInsertionPointToEnd(&entry);
    for (Operation *op : ops)
      builder.clone(*op, mapping);
    YieldOp::create(builder, groupOp.getLoc(),
                    llvm::map_to_vector(outputs, [&](Value value) { return mapping.lookup(value); }));
    for (auto [output, result] : llvm::zip_equal(outputs, groupOp.getResults()))
      replacements.emplace_back(output, result);
  }
  for (auto [output, result] : replacements)
    output.replaceAllUsesWith(result);
  SmallVector<Operation *> dead;
  for (Operation &op : block)
    if (isa<FusibleOp>(op))
      dead.push_back(&op);
  for (Operation *op : dead)
    op->dropAllReferences();
  for (Operation *op : dead)
    op->erase();
  sortTopologically(&block);
}

LogicalResult Fuser::run(FusionReport &report) {
  if (failed(checkOps()))
    return failure();
  SmallVector<FusibleOp> heroes;
  for (Operation &op : block)
    if (auto fusible = dyn_cast<FusibleOp>(op))
      heroes.push_back(fusible);
  llvm::stable_sort(heroes, [](FusibleOp a, FusibleOp b) { return a.getHeroPriority() > b.getHeroPriority(); });
  for (FusibleOp hero : heroes) {
    if (hero.getHeroPriority() == 0 || groupOf.contains(hero) || recomputed.contains(hero))
      continue;
    Group &group = *groups.emplace_back(std::make_unique<Group>());
    group.hero = hero;
    group.members.insert(hero);
    groupOf[hero] = &group;
    growPrologue(group, hero);
    growEpilogue(group);
  }
  if (failed(checkComplete()))
    return failure();
  collect(report);
  materialize();
  return success();
}

struct FuseGroups : impl::FuseGroupsBase<FuseGroups> {
  using FuseGroupsBase::FuseGroupsBase;
  FuseGroups(const FuseGroupsOptions &options, GroupFilter filter, FusionReport *report)
      : FuseGroupsBase(options), filter(std::move(filter)), outReport(report) {}

  GroupFilter filter;
  FusionReport *outReport = nullptr;

  /// A kind names ops that can fuse: "gated", "rms_norm-linear".
  LogicalResult checkKind(StringRef kind) {
    if (kind == "all")
      return success();
    SmallVector<StringRef> ends;
    kind.split(ends, '-');
    llvm::StringSet<> known;
    for (RegisteredOperationName name : getContext().getRegisteredOperations())
      if (name.hasInterface<FusibleOp>())
        known.insert(name.stripDialect());
    bool valid = ends.size() <= 2 && llvm::all_of(ends, [&](StringRef end) { return known.contains(end); });
    if (valid)
      return success();
    SmallVector<StringRef> names(known.keys());
    llvm::sort(names);
    return getOperation().emitError("mili-fuse-groups: disable: unknown kind of fusion '")
           << kind << "'; expected all, an op or producer-consumer, of the ops " << llvm::join(names, ", ");
  }

  LogicalResult fuse() {
    ModuleOp module = getOperation();
    for (auto [value, name] : {std::pair<int64_t, StringRef>{workers, "workers"},
                               {granularityLimit, "granularity-limit"},
                               {flopsPerNs, "flops-per-ns"},
                               {bytesPerNs, "bytes-per-ns"},
                               {tileFeatures, "tile-features"},
                               {context, "context"}})
      if (value <= 0 || value > kMaxContext)
        return module.emitError("mili-fuse-groups: ")
               << name << " must be positive and at most " << kMaxContext << ", found " << value;
    if (asTokens < 0 || asTokens > kMaxDimension)
      return module.emitError("mili-fuse-groups: as-tokens must not be negative and at most ")
             << kMaxDimension << ", found " << asTokens.getValue();
    if (launchNs < 0)
      return module.emitError("mili-fuse-groups: launch-ns must not be negative, found ") << launchNs.getValue();
    if (!report.empty() && report != "table" && report != "json")
      return module.emitError("mili-fuse-groups: report must be table or json, found '") << report.getValue() << "'";
    llvm::StringSet<> disabled;
    for (const std::string &kind : disable) {
      if (failed(checkKind(kind)))
        return failure();
      disabled.insert(kind);
    }

    FusionReport own;
    FusionReport &result = outReport ? *outReport : own;
    size_t before = result.edges.size();
    Target target{workers,
                  static_cast<double>(launchNs),
                  static_cast<double>(flopsPerNs),
                  static_cast<double>(bytesPerNs),
                  context,
                  tileFeatures};
    for (auto function : module.getOps<func::FuncOp>()) {
      if (function.isExternal())
        continue;
      if (!function->hasAttrOfType<BucketAttr>(MiliDialect::getBucketAttrName()))
        return function.emitError("mili-fuse-groups: the function has no ")
               << MiliDialect::getBucketAttrName() << "; run mili-specialize-buckets first";
      if (!function.getBody().hasOneBlock())
        return function.emitError("mili-fuse-groups: expected a body of one block, found ")
               << function.getBody().getBlocks().size();
      if (auto groups = function.getOps<GroupOp>(); !groups.empty())
        return (*groups.begin()).emitError("mili-fuse-groups: the function is fused already");
      auto bucket = function->getAttrOfType<BucketAttr>(MiliDialect::getBucketAttrName());
      if (asTokens > 0)
        bucket = BucketAttr::get(&getContext(), asTokens, 1, 1);
      Fuser fuser(function, bucket, target, granularityLimit, disabled, filter);
      if (failed(fuser.run(result)))
        return failure();
      numGroups += fuser.numGroups();
    }
    for (size_t i = before; i < result.edges.size(); ++i)
      numFused += result.edges[i].fused;
    if (report == "table")
      result.printTable(llvm::errs());
    else if (report == "json")
      result.printJson(llvm::errs());
    return success();
  }

  void runOnOperation() override {
    if (failed(fuse()))
      signalPassFailure();
  }
};
}  // namespace

std::unique_ptr<Pass> createFuseGroups(const FuseGroupsOptions &options, GroupFilter filter, FusionReport *report) {
  return std::make_unique<FuseGroups>(options, std::move(filter), report);
}

}  // namespace mlir::mili
