//===- KernelRegistry.cpp - the templates of each target ---------------------===//
#include "mili/Codegen/CpuTemplates.h"
#include "mili/Codegen/KernelTemplate.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;

KernelTemplate::~KernelTemplate() = default;

void KernelRegistry::add(std::unique_ptr<KernelTemplate> kernelTemplate) {
  assert(!lookup(kernelTemplate->getName()) && "names of templates are unique");
  templates.push_back(std::move(kernelTemplate));
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

Operation *CpuKernel::getHeroOp() const {
  for (Operation &op : body)
    if (op.getName().getStringRef() == hero)
      return &op;
  return nullptr;
}
