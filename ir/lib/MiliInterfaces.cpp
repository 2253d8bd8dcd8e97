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

/// The weight as it lies in memory.
static uint64_t weightBytes(Value weight) {
  if (auto dequant = weight.getDefiningOp<DequantOp>())
    weight = dequant.getStorage();
  return getStorageBytes(cast<ShapedType>(weight.getType()));
}

static uint64_t product(int64_t rows, Value weight) {
  return 2 * static_cast<uint64_t>(rows) * cast<ShapedType>(weight.getType()).getNumElements();
}

/// Sequences of a step of `rows` rows.
static int64_t sequences(Operation *op, int64_t rows) {
  for (Operation *parent = op->getParentOp(); parent; parent = parent->getParentOp())
    if (auto bucket = parent->getAttrOfType<BucketAttr>(MiliDialect::getBucketAttrName()))
      return std::min(rows, bucket.getSequences());
  return rows;
}

uint64_t LinearOp::getFlops(int64_t rows, int64_t) {
  return product(rows, getWeight()) + (getBias() ? rows * features(getResult()) : 0);
}
uint64_t LinearOp::getFixedBytes(int64_t, int64_t) {
  return weightBytes(getWeight()) + (getBias() ? weightBytes(getBias()) : 0);
}

uint64_t LogitsOp::getFlops(int64_t rows, int64_t) {
  return product(rows, getWeight());
}
uint64_t LogitsOp::getFixedBytes(int64_t, int64_t) {
  return weightBytes(getWeight());
}

uint64_t SampleOp::getFlops(int64_t rows, int64_t) {
  return static_cast<uint64_t>(rows) * features(getLogits());
}

uint64_t EmbeddingOp::getFlops(int64_t, int64_t) {
  return 0;
}
uint64_t EmbeddingOp::getFixedBytes(int64_t rows, int64_t) {
  return rows * (weightBytes(getTable()) / getTable().getType().getDimSize(0));
}

uint64_t DequantOp::getFlops(int64_t, int64_t) {
  return 0;
}

uint64_t AttentionOp::getFlops(int64_t rows, int64_t context) {
  KvType kv = getKv().getType();
  context = visibleTokens(getMask(), context);
  return static_cast<uint64_t>(rows) * context * getHeads() * (2 * (kv.getK() + kv.getV()) + kSoftmaxFlops);
}
uint64_t AttentionOp::getFixedBytes(int64_t rows, int64_t context) {
  context = visibleTokens(getMask(), context);
  return static_cast<uint64_t>(sequences(*this, rows)) * context * getKv().getType().getPageBytes() /
         KvType::kPageTokens;
}

uint64_t KvAppendOp::getFlops(int64_t, int64_t) {
  return 0;
}

// A pair of elements takes four products and two sums.
uint64_t RopeOp::getFlops(int64_t rows, int64_t) {
  return 6 * rows * getHeads() * getRope().getFrequencies().size();
}

uint64_t RmsNormOp::getFlops(int64_t rows, int64_t) {
  return 4 * rows * features(getInput());
}
uint64_t RmsNormOp::getFixedBytes(int64_t, int64_t) {
  return weightBytes(getWeight());
}

uint64_t AddOp::getFlops(int64_t rows, int64_t) {
  return rows * features(getResult());
}
uint64_t ScaleOp::getFlops(int64_t rows, int64_t) {
  return rows * features(getResult());
}
uint64_t ActivationOp::getFlops(int64_t rows, int64_t) {
  return kActivationFlops * rows * features(getResult());
}
uint64_t GatedOp::getFlops(int64_t rows, int64_t) {
  return (kActivationFlops + 1) * rows * features(getResult());
}
uint64_t SplitOp::getFlops(int64_t, int64_t) {
  return 0;
}
