//===- CpuObject.cpp - vector IR to a shared object --------------------------===//
//
//   vector, scf, arith, math -> llvm dialect -> LLVM IR -> -O3 for the variant's features -> ELF object -> lld
//
// Kernels must not call anything: the module is compiled as freestanding code (no loop becomes memset) and lld is asked
// to refuse undefined symbols.
//
//===------------------------------------------------------------------------===//
#include "mili/Codegen/CpuObject.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVMPass.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"

#include "llvm/ADT/ScopeExit.h"
#include "llvm/Analysis/TargetLibraryInfo.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Triple.h"

using namespace mlir;
using namespace mlir::mili::codegen;

static constexpr StringLiteral kTriple = "x86_64-unknown-linux-gnu";

static LogicalResult lowerToLLVMDialect(ModuleOp module) {
  PassManager pm(module.getContext());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createSCFToControlFlowPass());
  ConvertVectorToLLVMPassOptions vectors;
  vectors.reassociateFPReductions = true;
  pm.addPass(createConvertVectorToLLVMPass(vectors));
  pm.addPass(createConvertMathToLLVMPass());
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createConvertControlFlowToLLVMPass());
  pm.addPass(createConvertFuncToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  return pm.run(module);
}

static std::unique_ptr<llvm::TargetMachine> createTargetMachine(const CpuVariant &variant, Location loc) {
  static const bool initialized = [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    return true;
  }();
  (void)initialized;
  std::string error;
  llvm::Triple triple(kTriple);
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target) {
    emitError(loc) << "LLVM has no x86-64 target: " << error;
    return nullptr;
  }
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard;
  return std::unique_ptr<llvm::TargetMachine>(
      target->createTargetMachine(triple, "x86-64-v3", variant.llvmFeatures, options, llvm::Reloc::PIC_,
                                  llvm::CodeModel::Small, llvm::CodeGenOptLevel::Aggressive));
}

/// Links one relocatable object into a shared object with the lld that comes with this LLVM.
static FailureOr<std::string> link(StringRef object, Location loc) {
  std::string lld;
  for (StringRef name : {"ld.lld-22", "ld.lld"})
    if (auto found = llvm::sys::findProgramByName(name)) {
      lld = *found;
      break;
    }
  if (lld.empty())
    return emitError(loc) << "ld.lld-22 was not found on PATH; on Debian: apt-get install lld-22", failure();
  SmallString<128> input, output, log;
  if (llvm::sys::fs::createTemporaryFile("mili", "o", input) ||
      llvm::sys::fs::createTemporaryFile("mili", "so", output) ||
      llvm::sys::fs::createTemporaryFile("mili", "log", log))
    return emitError(loc) << "no temporary file can be made; set TMPDIR", failure();
  auto cleanup = llvm::make_scope_exit([&] {
    for (auto &path : {input, output, log})
      llvm::sys::fs::remove(path);
  });
  {
    std::error_code error;
    llvm::raw_fd_ostream os(input, error);
    if (error)
      return emitError(loc) << input << ": " << error.message(), failure();
    os << object;
  }
  StringRef arguments[] = {
      lld, "-shared", "--no-undefined", "-z", "noexecstack", "--strip-all", "--hash-style=gnu", "-o", output, input};
  std::optional<StringRef> redirects[] = {std::nullopt, log.str(), log.str()};
  std::string message;
  int rc = llvm::sys::ExecuteAndWait(lld, arguments, std::nullopt, redirects, 0, 0, &message);
  if (rc != 0) {
    auto text = llvm::MemoryBuffer::getFile(log);
    return emitError(loc) << "linking the kernels failed: " << message << (text ? (*text)->getBuffer() : StringRef()),
           failure();
  }
  auto bytes = llvm::MemoryBuffer::getFile(output, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!bytes)
    return emitError(loc) << output << ": " << bytes.getError().message(), failure();
  return (*bytes)->getBuffer().str();
}

FailureOr<CompiledVariant> mlir::mili::codegen::compileCpuModule(ModuleOp functions, const CpuVariant &variant) {
  Location loc = functions.getLoc();
  if (failed(lowerToLLVMDialect(functions)))
    return failure();
  registerBuiltinDialectTranslation(*functions.getContext());
  registerLLVMDialectTranslation(*functions.getContext());
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> module = translateModuleToLLVMIR(functions, context);
  if (!module)
    return failure();
  std::unique_ptr<llvm::TargetMachine> machine = createTargetMachine(variant, loc);
  if (!machine)
    return failure();
  module->setTargetTriple(llvm::Triple(kTriple));
  module->setDataLayout(machine->createDataLayout());
  for (llvm::Function &function : *module) {
    if (function.isDeclaration())
      continue;
    function.addFnAttr("no-builtins");
    function.addFnAttr("target-features", variant.llvmFeatures);
    function.addFnAttr("target-cpu", "x86-64-v3");
    function.addFnAttr("prefer-vector-width", std::to_string(variant.lanes * 32));
    function.addFnAttr("frame-pointer", "none");
    function.setDoesNotThrow();
  }

  llvm::TargetLibraryInfoImpl libraries{llvm::Triple(kTriple)};
  libraries.disableAllFunctions();
  llvm::PassBuilder builder(machine.get());
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functionAnalyses;
  llvm::CGSCCAnalysisManager sccs;
  llvm::ModuleAnalysisManager modules;
  functionAnalyses.registerPass([&] { return llvm::TargetLibraryAnalysis(libraries); });
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(sccs);
  builder.registerFunctionAnalyses(functionAnalyses);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functionAnalyses, sccs, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2).run(*module, modules);

  SmallVector<char, 0> object;
  llvm::raw_svector_ostream os(object);
  llvm::legacy::PassManager emission;
  emission.add(new llvm::TargetLibraryInfoWrapperPass(libraries));
  if (machine->addPassesToEmitFile(emission, os, nullptr, llvm::CodeGenFileType::ObjectFile))
    return emitError(loc) << "LLVM's x86-64 target cannot write objects", failure();
  emission.run(*module);

  FailureOr<std::string> bytes = link(StringRef(object.data(), object.size()), loc);
  if (failed(bytes))
    return failure();
  CompiledVariant compiled{variant.name.str(), {}, std::move(*bytes)};
  for (StringRef feature : variant.cpuFeatures)
    compiled.features.push_back(feature.str());
  return compiled;
}

FailureOr<SmallVector<CompiledVariant>> mlir::mili::codegen::emitCpuObjects(ModuleOp planModule) {
  SmallVector<CompiledVariant> result;
  for (const CpuVariant &variant : cpuVariants()) {
    FailureOr<OwningOpRef<ModuleOp>> functions = emitCpuFunctions(planModule, variant);
    if (failed(functions))
      return failure();
    FailureOr<CompiledVariant> compiled = compileCpuModule(**functions, variant);
    if (failed(compiled))
      return failure();
    result.push_back(std::move(*compiled));
  }
  return result;
}
