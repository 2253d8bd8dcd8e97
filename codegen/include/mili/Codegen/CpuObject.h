//===- CpuObject.h - from planned kernels to host objects --------*- C++ -*-===//
#ifndef MILI_CODEGEN_CPUOBJECT_H
#define MILI_CODEGEN_CPUOBJECT_H

#include "mili/Codegen/CpuTarget.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>
#include <vector>

namespace mlir::mili::codegen {

/// One variant of a plan's host object: an ELF shared object without undefined symbols.
struct CompiledVariant {
  std::string name;
  std::vector<std::string> features;  // /proc/cpuinfo's spelling
  std::string bytes;
};

/// The module of functions (vector, scf, arith, llvm ops) that holds every stage of every `mili_plan.kernel` of
/// `planModule` for one variant. Emits located diagnostics.
FailureOr<OwningOpRef<ModuleOp>> emitCpuFunctions(ModuleOp planModule, const CpuVariant &variant);

/// Lowers such a module to a shared object. The module is consumed.
FailureOr<CompiledVariant> compileCpuModule(ModuleOp functions, const CpuVariant &variant);

/// Every variant of every kernel.
FailureOr<SmallVector<CompiledVariant>> emitCpuObjects(ModuleOp planModule);

}  // namespace mlir::mili::codegen

#endif  // MILI_CODEGEN_CPUOBJECT_H
