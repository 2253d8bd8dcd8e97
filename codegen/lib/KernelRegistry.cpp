//===- KernelRegistry.cpp - the templates of each target ---------------------===//
#include "mili/Codegen/CpuTemplates.h"
#include "mili/Codegen/CudaTemplates.h"
#include "mili/Codegen/KernelTemplate.h"
#include "mili/IR/MiliPlan.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/SmallPtrSet.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;

KernelTemplate::~KernelTemplate() = default;

int64_t mlir::mili::codegen::featuresOf(Value activation) {
  return cast<RankedTensorType>(activation.getType()).getShape().back();
}
Type mlir::mili::codegen::elementOf(Value tensor) {
  return cast<RankedTensorType>(tensor.getType()).getElementType();
}

bool mlir::mili::codegen::isDeterministic(Operation *op) {
  auto module = op->getParentOfType<ModuleOp>();
  return module && module->hasAttr(MiliDialect::getDeterministicAttrName());
}

StringRef mlir::mili::codegen::kernelChoice(Operation *op, StringRef stage) {
  auto module = op->getParentOfType<ModuleOp>();
  auto choices = module ? module->getAttrOfType<DictionaryAttr>(MiliDialect::getKernelsAttrName()) : DictionaryAttr();
  auto choice = choices ? choices.getAs<StringAttr>(stage) : StringAttr();
  return choice ? choice.getValue() : StringRef();
}

PageTableRef mlir::mili::codegen::pageTableOf(Operation *op, KvType type) {
  ModuleOp module = dyn_cast<ModuleOp>(op);
  if (!module)
    module = op->getParentOfType<ModuleOp>();
  auto memory =
      module ? module->getAttrOfType<DictionaryAttr>(plan::MiliPlanDialect::getMemoryAttrName()) : DictionaryAttr();
  auto tables = memory ? memory.getAs<ArrayAttr>("page_tables") : ArrayAttr();
  if (tables)
    for (auto [index, attr] : llvm::enumerate(tables.getAsRange<DictionaryAttr>()))
      if (attr.getAs<IntegerAttr>("window").getInt() == type.getWindow())
        return {static_cast<int64_t>(index), attr.getAs<IntegerAttr>("pages").getInt()};
  return {};
}

bool mlir::mili::codegen::isOnWantedRows(GroupOp group) {
  llvm::SmallPtrSet<Operation *, 32> visited{group};
  SmallVector<GroupOp> worklist{group};
  while (!worklist.empty())
    for (Value input : worklist.pop_back_val().getInputs()) {
      auto producer = input.getDefiningOp<GroupOp>();
      if (!producer || !visited.insert(producer).second)
        continue;
      if (llvm::any_of(producer.getBody().front(), [](Operation &op) { return isa<LogitsOp>(op); }))
        return true;
      worklist.push_back(producer);
    }
  return false;
}

void KernelRegistry::add(std::unique_ptr<KernelTemplate> kernelTemplate) {
  assert(!lookup(kernelTemplate->getName()) && "names of templates are unique");
  templates.push_back(std::move(kernelTemplate));
}

bool KernelRegistry::addFromPlugin(std::unique_ptr<KernelTemplate> kernelTemplate) {
  if (lookup(kernelTemplate->getName()))
    return false;
  templates.insert(templates.begin() + static_cast<ptrdiff_t>(fromPlugins++), std::move(kernelTemplate));
  return true;
}

bool KernelRegistry::fuses(Operation *hero, Operation *op, bool prologue) const {
  return llvm::any_of(templates, [&](const auto &entry) { return entry->fuses(hero, op, prologue); });
}

const KernelTemplate *KernelRegistry::lookup(StringRef name) const {
  for (const auto &entry : templates)
    if (entry->getName() == name)
      return entry.get();
  return nullptr;
}

const KernelTemplate *KernelRegistry::match(GroupOp group) const {
  for (const auto &entry : templates)
    if (entry->match(group))
      return entry.get();
  return nullptr;
}

KernelRegistry *KernelRegistry::forTarget(StringRef target) {
  static KernelRegistry cuda = [] {
    KernelRegistry registry;
    registry.add(createCudaLinearTemplate());
    registry.add(createCudaAttentionTemplate());
    registry.add(createCudaSampleTemplate());
    registry.add(createCudaRowTemplate());
    return registry;
  }();
  if (target == "cuda")
    return &cuda;
  if (target != "cpu")
    return nullptr;
  static KernelRegistry cpu = [] {
    KernelRegistry registry;
    registry.add(createCpuLinearTemplate());
    registry.add(createCpuAttentionTemplate());
    registry.add(createCpuEmbeddingTemplate());
    registry.add(createCpuRowTemplate());
    return registry;
  }();
  return &cpu;
}

static Operation *findHero(Block &body, StringRef hero) {
  for (Operation &op : body)
    if (op.getName().getStringRef() == hero)
      return &op;
  return nullptr;
}
Operation *CpuKernel::getHeroOp() const {
  return findHero(body, hero);
}
Operation *CudaKernel::getHeroOp() const {
  return findHero(body, hero);
}
