//===- Plugin.cpp - loading plugins -------------------------------------------===//
#include "mili/Compiler/Plugin.h"

#include "mili/Codegen/CpuTemplates.h"
#include "mili/Codegen/CudaProgram.h"
#include "mili/Codegen/CudaTemplates.h"
#include "mili/Frontends/Architecture.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/DynamicLibrary.h"
#include "llvm/Support/FileSystem.h"

using namespace mlir;
using namespace mlir::mili;
using ::mili::Phase;

namespace {
/// What the plugins of this process have added that has no registry of its own.
struct Additions {
  DialectRegistry dialects;
  std::vector<std::pair<PipelinePoint, PluginRegistration::Extension>> extensions;
  llvm::StringSet<> loaded;  // real paths
};
Additions &additions() {
  static Additions instance;
  return instance;
}
}  // namespace

//===- Points of the pipeline --------------------------------------------------===//

static std::string pointName(PipelinePoint point) {
  return (point.after ? "after-" : "before-") + std::string(phase_name(point.phase));
}

::mili::StatusOr<PipelinePoint> mlir::mili::parsePipelinePoint(StringRef text) {
  std::string known;
  for (int i = 0; i <= static_cast<int>(Phase::kCodegen); ++i)
    for (bool after : {false, true}) {
      PipelinePoint point{static_cast<Phase>(i), after};
      if ((point.phase == Phase::kImport && !after) || (point.phase == Phase::kCodegen && after))
        continue;
      // A phase alone is its end.
      if (pointName(point) == text || (after && phase_name(point.phase) == std::string_view(text)))
        return point;
      known += (known.empty() ? "" : ", ") + pointName(point);
    }
  return ::mili::invalid_argument("no point of the pipeline is called '" + text.str() + "'; there are " + known);
}

//===- Registration ------------------------------------------------------------===//

void PluginRegistration::fail(const std::string &message) {
  if (first.ok())
    first = ::mili::invalid_argument(message);
}

DialectRegistry &PluginRegistration::dialects() {
  return additions().dialects;
}

void PluginRegistration::addPass(const std::function<std::unique_ptr<Pass>()> &create) {
  StringRef argument = create()->getArgument();
  if (argument.empty())
    return fail("a pass of it has no argument (getArgument) to be called by");
  if (PassInfo::lookup(argument))
    return fail("there is a pass " + argument.str() + " already");
  registerPass(create);
}

void PluginRegistration::addKernelTemplate(std::unique_ptr<codegen::CpuKernelTemplate> kernelTemplate) {
  std::string name = kernelTemplate->getName().str();
  if (!codegen::KernelRegistry::forTarget("cpu")->addFromPlugin(std::move(kernelTemplate)))
    fail("there is a kernel template '" + name + "' for cpu already");
}

void PluginRegistration::addKernelTemplate(std::unique_ptr<codegen::CudaKernelTemplate> kernelTemplate) {
  std::string name = kernelTemplate->getName().str();
  if (!codegen::KernelRegistry::forTarget("cuda")->addFromPlugin(std::move(kernelTemplate)))
    fail("there is a kernel template '" + name + "' for cuda already");
}

void PluginRegistration::addDeviceHeader(const std::string &name, const std::string &text) {
  if (!codegen::addCudaHeader({name, text}))
    fail("there is a device header '" + name + "' already");
}

void PluginRegistration::addArchitecture(Architecture architecture) {
  RegisterArchitecture registered(std::move(architecture));
}

void PluginRegistration::addToPipeline(StringRef point, Extension extension) {
  auto parsed = parsePipelinePoint(point);
  if (!parsed.ok())
    return fail(parsed.status().message());
  additions().extensions.emplace_back(*parsed, std::move(extension));
}

void mlir::mili::appendPluginDialects(DialectRegistry &registry) {
  additions().dialects.appendTo(registry);
}

void mlir::mili::buildPluginPasses(OpPassManager &pm, PipelinePoint point, const ::mili::CompileOptions &options) {
  for (const auto &[where, extension] : additions().extensions)
    if (where == point)
      extension(pm, options);
}

//===- Loading -----------------------------------------------------------------===//

/// The key=value entries that MILI_PLUGIN wrote, read without mapping the library.
static ::mili::StatusOr<llvm::StringMap<std::string>> readInfo(const std::string &path) {
  auto file = llvm::object::ObjectFile::createObjectFile(path);
  if (!file)
    return ::mili::invalid_argument(path + ": not a shared library: " + llvm::toString(file.takeError()));
  for (const llvm::object::SectionRef &section : file->getBinary()->sections()) {
    auto name = section.getName();
    if (!name) {
      llvm::consumeError(name.takeError());
      continue;
    }
    if (*name != ".mili.plugin")
      continue;
    auto contents = section.getContents();
    if (!contents)
      return ::mili::data_loss(path +
                               ": its section .mili.plugin cannot be read: " + llvm::toString(contents.takeError()));
    SmallVector<StringRef> entries;
    contents->split(entries, '\0', -1, /*KeepEmpty=*/false);
    llvm::StringMap<std::string> info;
    for (StringRef entry : entries)
      info[entry.split('=').first] = entry.split('=').second.str();
    if (info.contains("name") && info.contains("mili") && info.contains("llvm"))
      return info;
  }
  return ::mili::invalid_argument(path + ": not a plugin of MILI: it does not say which versions it was built with; "
                                         "build it with mili_add_pass_plugin() and MILI_PLUGIN");
}

static std::string series(StringRef version) {
  auto [major, rest] = version.split('.');
  return (major + "." + rest.split('.').first).str();
}

namespace mili {

Status load_plugin(const std::string &path) {
  llvm::SmallString<256> real;
  if (std::error_code error = llvm::sys::fs::real_path(path, real))
    return not_found(path + ": " + error.message());
  if (additions().loaded.contains(real))
    return ok_status();
  MILI_ASSIGN_OR_RETURN(llvm::StringMap<std::string> info, readInfo(path));
  const std::string plugin = path + ": plugin '" + info["name"] + "' ";
  if (info["mili"] != MILI_VERSION_STRING)
    return failed_precondition(plugin + "was built for MILI " + info["mili"] +
                               ", this is MILI " MILI_VERSION_STRING
                               "; rebuild it against this version's libmili-dev (none of its code ran)");
  if (series(info["llvm"]) != series(LLVM_VERSION_STRING))
    return failed_precondition(plugin + "was built for LLVM " + info["llvm"] +
                               ", this MILI uses LLVM " LLVM_VERSION_STRING
                               "; rebuild it against that version (none of its code ran)");
  std::string error;
  llvm::sys::DynamicLibrary library = llvm::sys::DynamicLibrary::getPermanentLibrary(real.c_str(), &error);
  if (!library.isValid())
    return failed_precondition(plugin + "cannot be loaded: " + error);
  auto registerPlugin =
      reinterpret_cast<void (*)(PluginRegistration &)>(library.getAddressOfSymbol("miliRegisterPlugin"));
  if (!registerPlugin)
    return failed_precondition(plugin + "does not export miliRegisterPlugin; define it with MILI_PLUGIN");
  PluginRegistration registration;
  registerPlugin(registration);
  if (!registration.status().ok())
    return failed_precondition(plugin + "cannot be registered: " + registration.status().message());
  additions().loaded.insert(real);
  return ok_status();
}

}  // namespace mili
