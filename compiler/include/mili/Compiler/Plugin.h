//===- Plugin.h - what a plugin is, and what it can add ----------*- C++ -*-===//
//
// A plugin is a shared library, linked with libMiliCompiler.so, that adds to the compiler: passes, dialects and models
// of interfaces, kernel templates, device headers, architectures, passes at fixed places of the pipeline.
//
//   MILI_PLUGIN("my-plugin", registration) {
//     registration.addPass<MyPass>();
//   }
//
// `mili-compile --plugin FILE` and `mili-opt --plugin FILE` load it (or `mili::load_plugin`). MILI_PLUGIN also writes
// the versions of MILI and of LLVM that the plugin was built with into a section of the file, which the loader reads
// before it maps anything: of a plugin that was built for other versions no code runs, not even its static
// initializers. MILI's C++ interfaces promise nothing between versions, so MILI's must be equal; LLVM's must be the
// same release series (22.1).
//
// CMake: find_package(Mili COMPONENTS Compiler), mili_add_pass_plugin(NAME SOURCES ...).
//
//===------------------------------------------------------------------------===//
#ifndef MILI_COMPILER_PLUGIN_H
#define MILI_COMPILER_PLUGIN_H

#include "mili/Compiler/Compiler.h"
#include "mili/Compiler/Version.h"

#include "mlir/Pass/Pass.h"
#include "mlir/Support/LLVM.h"
#include "llvm/Config/llvm-config.h"

#include <functional>
#include <memory>
#include <string>

namespace mlir {
class DialectRegistry;
class OpPassManager;
}  // namespace mlir

namespace mlir::mili {

namespace codegen {
class CpuKernelTemplate;
class CudaKernelTemplate;
}  // namespace codegen
struct Architecture;

/// A place of the pipeline where passes can be added: the beginning or the end of a phase. In text
/// "before-fuse", "after-fuse", or "fuse" for the latter. Phases from import (its end) to codegen (its beginning) have
/// them: there is no module before, and kernels are compiled after.
struct PipelinePoint {
  ::mili::Phase phase;
  bool after;
  bool operator==(const PipelinePoint &) const = default;
};
/// The error lists what there is.
::mili::StatusOr<PipelinePoint> parsePipelinePoint(StringRef text);

/// What a plugin adds is there for the rest of the process. What cannot be added (a name that is taken, a point of the
/// pipeline that does not exist) fails the loading of the plugin.
class PluginRegistration {
public:
  /// Dialects (`insert`) and models of interfaces for ops of others (`addExtension`); every context knows them.
  DialectRegistry &dialects();

  /// A pass, by the argument that it names itself with, for --pass-at and mili-opt.
  void addPass(const std::function<std::unique_ptr<Pass>()> &create);
  template <typename PassT>
  void addPass() {
    addPass([] { return std::make_unique<PassT>(); });
  }

  /// Templates of plugins are asked before MILI's own, in the order in which they were added.
  void addKernelTemplate(std::unique_ptr<codegen::CpuKernelTemplate> kernelTemplate);
  void addKernelTemplate(std::unique_ptr<codegen::CudaKernelTemplate> kernelTemplate);

  /// A header that CUDA sources of the plugin's templates include as `name`. Plans for CUDA carry it.
  void addDeviceHeader(const std::string &name, const std::string &text);

  /// A family of models; a class or GGUF name that is known already belongs to the plugin's family from now on.
  void addArchitecture(Architecture architecture);

  /// Called for every compilation when the pipeline is built; may add passes for modules and for functions.
  using Extension = std::function<void(OpPassManager &, const ::mili::CompileOptions &)>;
  void addToPipeline(StringRef point, Extension extension);

  /// The first thing that failed.
  const ::mili::Status &status() const { return first; }

private:
  void fail(const std::string &message);
  ::mili::Status first;
};

/// Dialects and interface models of every plugin that was loaded.
void appendPluginDialects(DialectRegistry &registry);
/// Passes that plugins added at `point`.
void buildPluginPasses(OpPassManager &pm, PipelinePoint point, const ::mili::CompileOptions &options);

}  // namespace mlir::mili

/// Defines a plugin: its name in messages, then the body of the function that registers what it brings; `REGISTRATION`
/// names its argument. The text is a list of key=value with a zero byte after each.
#define MILI_PLUGIN(NAME, REGISTRATION)                                                                                \
  extern "C" {                                                                                                         \
  extern const char miliPluginInfo[];                                                                                  \
  __attribute__((section(".mili.plugin"), used, visibility("default"))) const char miliPluginInfo[] =                  \
      "name=" NAME "\0mili=" MILI_VERSION_STRING "\0llvm=" LLVM_VERSION_STRING;                                        \
  __attribute__((visibility("default"))) void miliRegisterPlugin(::mlir::mili::PluginRegistration &);                  \
  }                                                                                                                    \
  void miliRegisterPlugin(::mlir::mili::PluginRegistration &REGISTRATION)

#endif  // MILI_COMPILER_PLUGIN_H
