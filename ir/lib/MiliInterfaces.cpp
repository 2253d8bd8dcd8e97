//===- MiliInterfaces.cpp - fusion roles and costs --------------------------===//
//
// What fuses with what is decided here, op by op; passes only ask. The roles of fusion follow from the kernels' shape:
// a product reads whole rows of its input (so a norm or an element-wise op can run before it) and holds a few features
// of many rows at its end (so whatever needs no more features than a tile can run after it).
//
//===------------------------------------------------------------------------===//
#include "mili/IR/MiliDialect.h"

#include <algorithm>
#include <numeric>

using namespace mlir;
using namespace mlir::mili;

static int64_t features(Value value) {
  return cast<ShapedType>(value.getType()).getShape().back();
}

//===- Fusion roles ----------------------------------------------------------===//

static constexpr unsigned kProduct = 100, kGather = 60, kRow = 50, kSplit = 30, kHead = 20, kNever = 0;

unsigned LinearOp::getHeroPriority() {
  return kProduct;
}
unsigned LogitsOp::getHeroPriority() {
  return kProduct;
}
unsigned SampleOp::getHeroPriority() {
  return kProduct;
}
unsigned AttentionOp::getHeroPriority() {
  return kProduct;
}
unsigned EmbeddingOp::getHeroPriority() {
  return kGather;
}
unsigned RmsNormOp::getHeroPriority() {
  return kRow;
}
unsigned SplitOp::getHeroPriority() {
  return kSplit;
}
unsigned RopeOp::getHeroPriority() {
  return kHead;
}
unsigned KvAppendOp::getHeroPriority() {
  return kHead;
}
unsigned DequantOp::getHeroPriority() {
  return kNever;
}

/// The activation operand of a product, whose kernel reads it row by row.
static bool isProductInput(OpOperand &use) {
  return isa<LinearOp, LogitsOp>(use.getOwner()) && use.getOperandNumber() == 0;
}

/// Queries, and keys on their way into the pages that attention reads: a kernel may finish them head by head.
static bool isAttentionInput(OpOperand &use) {
  return (isa<AttentionOp>(use.getOwner()) && use.getOperandNumber() == 0) ||
         (isa<KvAppendOp>(use.getOwner()) && (use.getOperandNumber() == 1 || use.getOperandNumber() == 2));
}

bool RmsNormOp::isPrologueFor(OpOperand &use) {
  bool heads = features(getWeight()) < features(getInput());
  return isProductInput(use) || (heads && (isAttentionInput(use) || isa<RopeOp>(use.getOwner())));
}
bool RopeOp::isPrologueFor(OpOperand &use) {
  return isAttentionInput(use);
}
bool KvAppendOp::isPrologueFor(OpOperand &use) {
  return isa<AttentionOp>(use.getOwner()) && use.getOperandNumber() == 1;
}
bool AddOp::isPrologueFor(OpOperand &use) {
  return isProductInput(use);
}
bool ScaleOp::isPrologueFor(OpOperand &use) {
  return isProductInput(use);
}
bool ActivationOp::isPrologueFor(OpOperand &use) {
  return isProductInput(use);
}
bool GatedOp::isPrologueFor(OpOperand &use) {
  return isProductInput(use);
}
bool DequantOp::isPrologueFor(OpOperand &use) {
  return isa<LinearOp, LogitsOp, EmbeddingOp>(use.getOwner()) && use.getOperandNumber() == 1;
}

static bool consumes(Operation *op, Operation *producer) {
  return llvm::any_of(op->getOperands(), [&](Value operand) { return operand.getDefiningOp() == producer; });
}

/// Ops whose results an element-wise op can take while they are still in registers.
static bool endsInRegisters(Operation *producer) {
  return isa<LinearOp, RmsNormOp, RopeOp, AddOp, ScaleOp, ActivationOp, GatedOp, SplitOp>(producer);
}

bool AddOp::isEpilogueFor(Operation *producer) {
  return consumes(*this, producer) && endsInRegisters(producer);
}
bool ActivationOp::isEpilogueFor(Operation *producer) {
  return consumes(*this, producer) && (endsInRegisters(producer) || isa<LogitsOp>(producer));
}
bool GatedOp::isEpilogueFor(Operation *producer) {
  return consumes(*this, producer) && endsInRegisters(producer);
}
bool ScaleOp::isEpilogueFor(Operation *producer) {
  return consumes(*this, producer) && (endsInRegisters(producer) || isa<LogitsOp, EmbeddingOp>(producer));
}
bool SplitOp::isEpilogueFor(Operation *producer) {
  return consumes(*this, producer) && isa<LinearOp, AddOp, ScaleOp, ActivationOp, SplitOp>(producer);
}
bool RopeOp::isEpilogueFor(Operation *producer) {
  return consumes(*this, producer) && endsInRegisters(producer);
}
bool RmsNormOp::isEpilogueFor(Operation *producer) {
  // A norm over the whole row needs every tile of the product; the norm of a head needs its head.
  return consumes(*this, producer) && isa<LinearOp, AddOp, ScaleOp, ActivationOp, GatedOp, SplitOp>(producer) &&
         features(getWeight()) < features(getInput());
}
bool KvAppendOp::isEpilogueFor(Operation *producer) {
  return (getKey().getDefiningOp() == producer || getValue().getDefiningOp() == producer) && endsInRegisters(producer);
}

int64_t KvAppendOp::getEpilogueGranularity() {
  KvType kv = getKv().getType();  // rows of K and V lie head by head in the pages
  return std::lcm<int64_t>(kv.getK(), kv.getV());
}
int64_t RopeOp::getEpilogueGranularity() {
  return features(getInput()) / static_cast<int64_t>(getHeads());
}
int64_t RmsNormOp::getEpilogueGranularity() {
  return features(getWeight());
}
int64_t SplitOp::getEpilogueGranularity() {
  return std::max<int64_t>(1, 2 * static_cast<int64_t>(getInterleave()));
}
int64_t GatedOp::getEpilogueGranularity() {
  // Gate and up of one product: a run of each when they alternate, else they lie half a row apart.
  auto split = getGate().getDefiningOp<SplitOp>();
  if (!split || getUp().getDefiningOp() != split)
    return 1;
  return split.getInterleave() ? split.getEpilogueGranularity() : features(split.getInput());
}

//===- Costs -----------------------------------------------------------------===//

/// Operations counted for one transcendental function (exp and what surrounds it). Only ratios matter to decisions.
static constexpr uint64_t kActivationFlops = 8, kSoftmaxFlops = 8;

uint64_t mlir::mili::getStorageBytes(ShapedType type) {
  uint64_t elements = type.getNumElements();
  if (auto block = dyn_cast<BlockType>(type.getElementType()))
    return elements / block.getBlockElements() * block.getBlockBytes();
  return (elements * type.getElementTypeBitWidth() + 7) / 8;
}

uint64_t mlir::mili::getWeightBytes(Value weight) {
  if (auto dequant = weight.getDefiningOp<DequantOp>())
    weight = dequant.getStorage();
  return getStorageBytes(cast<ShapedType>(weight.getType()));
}

StepWork &StepWork::operator+=(const StepWork &other) {
  fixedBytes += other.fixedBytes;
  rowBytes += other.rowBytes;
  keyBytes += other.keyBytes;
  rowFlops += other.rowFlops;
  pairFlops += other.pairFlops;
  if (other.keyBytes || other.pairFlops)
    visible = other.visible;
  return *this;
}

uint64_t CostedOp::getFlops(int64_t rows, int64_t context) {
  const StepWork work = getWork(getWeightBytes);
  const VisibleKeys &visible = work.visible;
  const int64_t seen = std::min(context, visible.base + (visible.every ? context / visible.every : 0));
  return static_cast<uint64_t>(rows) * (work.rowFlops + work.pairFlops * static_cast<uint64_t>(seen));
}

/// Operations of a product for each row.
static uint64_t product(Value weight) {
  return 2 * static_cast<uint64_t>(cast<ShapedType>(weight.getType()).getNumElements());
}

StepWork LinearOp::getWork(StoredBytes storedBytes) {
  StepWork work;
  work.fixedBytes = storedBytes(getWeight());
  work.rowFlops = product(getWeight());
  if (getBias()) {
    work.fixedBytes += storedBytes(getBias());
    work.rowFlops += features(getResult());
  }
  return work;
}

StepWork LogitsOp::getWork(StoredBytes storedBytes) {
  StepWork work;
  work.fixedBytes = storedBytes(getWeight());
  work.rowFlops = product(getWeight());
  return work;
}

/// Work of an op that reads activations alone: operations for each row.
static StepWork perRow(uint64_t flops) {
  StepWork work;
  work.rowFlops = flops;
  return work;
}

StepWork SampleOp::getWork(StoredBytes) {
  return perRow(features(getLogits()));
}

StepWork EmbeddingOp::getWork(StoredBytes storedBytes) {
  StepWork work;
  work.rowBytes = storedBytes(getTable()) / getTable().getType().getDimSize(0);
  return work;
}

StepWork DequantOp::getWork(StoredBytes) {
  return {};
}

StepWork AttentionOp::getWork(StoredBytes) {
  KvType kv = getKv().getType();
  StepWork work;
  work.keyBytes = kv.getPageBytes() / KvType::kPageTokens;
  work.pairFlops = getHeads() * (2 * (kv.getK() + kv.getV()) + kSoftmaxFlops);
  work.visible = visibleKeys(getMask());
  return work;
}

StepWork KvAppendOp::getWork(StoredBytes) {
  return {};
}

// A pair of elements takes four products and two sums.
StepWork RopeOp::getWork(StoredBytes) {
  return perRow(6 * getHeads() * getRope().getFrequencies().size());
}

StepWork RmsNormOp::getWork(StoredBytes storedBytes) {
  StepWork work = perRow(4 * features(getInput()));
  work.fixedBytes = storedBytes(getWeight());
  return work;
}

StepWork AddOp::getWork(StoredBytes) {
  return perRow(features(getResult()));
}
StepWork ScaleOp::getWork(StoredBytes) {
  return perRow(features(getResult()));
}
StepWork ActivationOp::getWork(StoredBytes) {
  return perRow(kActivationFlops * features(getResult()));
}
StepWork GatedOp::getWork(StoredBytes) {
  return perRow((kActivationFlops + 1) * features(getResult()));
}
StepWork SplitOp::getWork(StoredBytes) {
  return {};
}
