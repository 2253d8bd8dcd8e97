//===- Compiler.cpp - a model through every phase ---------------------------===//
#include "mili/Compiler/Compiler.h"

#include "cuda/kernel_compiler.h"
#include "mili/Codegen/CpuObject.h"
#include "mili/Codegen/PlanFile.h"
#include "mili/Compiler/Pipeline.h"
#include "mili/Compiler/Plugin.h"
#include "mili/Frontends/Import.h"
#include "mili/Frontends/ModelFile.h"
#include "mili/IR/MiliDialect.h"
#include "mili/IR/MiliPlan.h"
#include "mili/Passes/FusionReport.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace mili {
namespace {

/// Collects what the compiler says instead of printing it: errors for the returned status, warnings for the hook.
class Diagnostics {
public:
  Diagnostics(MLIRContext *context, const CompileHooks &hooks)
      : handler(context, [this, &hooks](Diagnostic &diagnostic) {
          std::string text;
          llvm::raw_string_ostream os(text);
          if (auto name = dyn_cast<NameLoc>(diagnostic.getLocation()))
            os << name.getName().getValue() << ": ";
          else if (!isa<UnknownLoc>(diagnostic.getLocation()))
            os << diagnostic.getLocation() << ": ";
          os << diagnostic;
          if (diagnostic.getSeverity() == DiagnosticSeverity::Error) {
            for (Diagnostic &note : diagnostic.getNotes())
              os << "\n  note: " << note;
            errors += (errors.empty() ? "" : "\n") + text;
          } else if (diagnostic.getSeverity() == DiagnosticSeverity::Warning && hooks.warning) {
            hooks.warning(text);
          }
          return success();
        }) {}
  Status failed(const std::string &model, Phase phase) const {
    std::string what = errors.empty() ? "failed without a diagnostic; this is a fault of mili-compile" : errors;
    return failed_precondition(model + ": " + std::string(phase_name(phase)) + ": " + what);
  }

private:
  std::string errors;
  ScopedDiagnosticHandler handler;
};

std::string printModule(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream os(text);
  OpPrintingFlags flags;
  flags.enableDebugInfo(false).printNameLocAsPrefix(true);
  module.print(os, flags);
  return text;
}

Status dumpPhase(const CompileOptions &options, Phase phase, ModuleOp module) {
  if (std::error_code error = llvm::sys::fs::create_directories(options.dump_dir))
    return invalid_argument("--dump-phases: " + options.dump_dir + ": " + error.message());
  llvm::SmallString<128> path(options.dump_dir);
  llvm::sys::path::append(path, llvm::formatv("{0:d2}-{1}.mlir", static_cast<int>(phase), phase_name(phase)).str());
  std::error_code error;
  llvm::raw_fd_ostream file(path, error);
  if (error)
    return invalid_argument("--dump-phases: " + path.str().str() + ": " + error.message());
  file << printModule(module);
  return ok_status();
}

/// --emit-cuda: the units as DIR/NAME.cu, the headers below DIR by the names that they are included by, so that
/// `nvcc -I DIR DIR/NAME.cu` compiles one by hand.
Status writeSources(const mlir::mili::codegen::CudaProgram &program, const std::string &dir) {
  auto write = [&](const std::string &name, const std::string &text) -> Status {
    llvm::SmallString<128> path(dir);
    llvm::sys::path::append(path, name);
    std::error_code error = llvm::sys::fs::create_directories(llvm::sys::path::parent_path(path));
    if (!error) {
      llvm::raw_fd_ostream file(path, error);
      if (!error)
        file << text;
    }
    return error ? invalid_argument("--emit-cuda: " + path.str().str() + ": " + error.message()) : ok_status();
  };
  for (const auto &header : program.headers)
    MILI_RETURN_IF_ERROR(write(header.name, header.text));
  for (const auto &unit : program.units)
    MILI_RETURN_IF_ERROR(write(unit.name + ".cu", unit.text));
  return ok_status();
}

/// --cuda-headers: the texts of the device headers from a folder, by the names that they are included by.
Status readHeaders(mlir::mili::codegen::CudaProgram &program, const std::string &dir) {
  for (auto &header : program.headers) {
    llvm::SmallString<128> path(dir);
    llvm::sys::path::append(path, header.name);
    auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/true);
    if (!buffer)
      return invalid_argument("--cuda-headers: " + path.str().str() + ": " + buffer.getError().message());
    header.text = (*buffer)->getBuffer().str();
  }
  return ok_status();
}

/// Images for the architectures that the target names.
StatusOr<std::vector<mlir::mili::codegen::CudaCubins>> compileCubins(const mlir::mili::codegen::CudaProgram &program,
                                                                     const CompileOptions &options,
                                                                     const CompileHooks &hooks) {
  std::vector<mlir::mili::codegen::CudaCubins> result;
  StringRef list = StringRef(options.target).split(':').second;
  if (list == "source")
    return result;
  SmallVector<StringRef> archs = {"sm_80", "sm_90a", "sm_100a"};
  if (!list.empty()) {
    archs.clear();
    list.split(archs, ',');
  }
  for (StringRef arch : archs)
    if (!arch.starts_with("sm_") || arch.size() < 5)
      return invalid_argument("--target " + options.target + ": expected architectures like sm_90a, found '" +
                              arch.str() + "'");
  auto nvrtc = cuda::Nvrtc::get();
  if (!nvrtc.ok()) {
    // Without NVRTC the plan is still whole: whoever runs it compiles.
    if (!list.empty())
      return nvrtc.status().with_context("--target " + options.target);
    if (hooks.warning)
      hooks.warning("the plan carries no compiled kernels, the runtime will compile them: " + nvrtc.status().message());
    return result;
  }
  std::vector<cuda::SourceText> headers, units;
  for (const auto &file : program.headers)
    headers.push_back({file.name, file.text});
  for (const auto &file : program.units)
    units.push_back({file.name, file.text});
  const cuda::DiskCache cache("");
  uint64_t done = 0;
  for (StringRef arch : archs) {
    mlir::mili::codegen::CudaCubins cubins{arch.str(), (*nvrtc)->version(), {}};
    std::vector<const cuda::SourceText *> missing;
    std::vector<cuda::KernelImage> images(units.size());
    std::vector<size_t> places;
    for (size_t i = 0; i < units.size(); ++i) {
      images[i] = cache.read(cuda::DiskCache::key(headers, units[i], arch.str(), (*nvrtc)->version()));
      if (images[i].image.empty()) {
        missing.push_back(&units[i]);
        places.push_back(i);
      }
    }
    MILI_ASSIGN_OR_RETURN(std::vector<cuda::KernelImage> compiled,
                          cuda::compile_units(**nvrtc, headers, missing, arch.str(), 0, nullptr));
    for (size_t i = 0; i < missing.size(); ++i) {
      cache.write(cuda::DiskCache::key(headers, *missing[i], arch.str(), (*nvrtc)->version()), compiled[i]);
      images[places[i]] = std::move(compiled[i]);
    }
    for (size_t i = 0; i < units.size(); ++i)
      cubins.images.push_back({units[i].name, std::move(images[i].image), images[i].resources.registers,
                               images[i].resources.spilled, images[i].resources.stack, images[i].resources.shared});
    result.push_back(std::move(cubins));
    if (hooks.progress)
      hooks.progress({Phase::kCodegen, ++done, archs.size(), result.back().arch});
  }
  return result;
}

/// The figures that memory planning left on the module.
MemoryFigures readFigures(ModuleOp module) {
  auto memory = module->getAttrOfType<DictionaryAttr>(mlir::mili::plan::MiliPlanDialect::getMemoryAttrName());
  auto figure = [](DictionaryAttr from, StringRef name) {
    return static_cast<uint64_t>(from.getAs<IntegerAttr>(name).getInt());
  };
  MemoryFigures figures;
  figures.weights = figure(memory, "weights");
  figures.arena = figure(memory, "arena");
  figures.kv = figure(memory, "kv");
  figures.tables = figure(memory, "tables");
  figures.worker_scratch = figure(memory, "worker_scratch");
  figures.counters = figure(memory, "counters");
  figures.kv_pages = figure(memory, "kv_pages");
  figures.context = figure(memory, "context");
  figures.pages_per_sequence = pages_for(figures.context);
  for (auto table : memory.getAs<ArrayAttr>("page_tables").getAsRange<DictionaryAttr>())
    figures.page_tables.push_back({figure(table, "window"), figure(table, "ring"), figure(table, "pages")});
  return figures;
}

/// One --pass-at.
struct AddedPasses {
  mlir::mili::PipelinePoint point;
  std::string pipeline;
};

/// Parses a pipeline for modules, or else for functions: one for functions need not say so.
Status parsePasses(const std::string &text, OpPassManager &pm) {
  std::string error;
  llvm::raw_string_ostream os(error);
  // A pipeline that does not parse may have been added in part, so it is tried apart.
  auto parses = [](const std::string &pipeline, raw_ostream &os) {
    OpPassManager scratch(ModuleOp::getOperationName());
    return succeeded(parsePassPipeline(pipeline, scratch, os));
  };
  if (parses(text, os))
    return succeeded(parsePassPipeline(text, pm, os)) ? ok_status() : internal_error(error);
  const std::string nested = "func.func(" + text + ")";
  std::string nestedError;
  llvm::raw_string_ostream nestedOs(nestedError);
  if (parses(nested, nestedOs))
    return succeeded(parsePassPipeline(nested, pm, os)) ? ok_status() : internal_error(error);
  if (StringRef(error).contains("did you intend to nest"))
    error = nestedError;
  // "MLIR Textual PassPipeline Parser:1:1: error: what", the pipeline, a mark below it; options complain before.
  SmallVector<StringRef> lines;
  StringRef(error).split(lines, '\n', -1, /*KeepEmpty=*/false);
  std::string what;
  for (StringRef line : lines) {
    if (line == text || line == nested || line.trim() == "^")
      continue;
    auto [before, after] = line.split("error: ");
    what += (what.empty() ? "" : "; ") + (after.empty() ? before : after).str();
  }
  return invalid_argument(what + " (mili-opt --help lists passes and their options; a plugin's need --plugin FILE)");
}

/// The options' pass_at, each checked against the passes that there are.
StatusOr<std::vector<AddedPasses>> readAddedPasses(const CompileOptions &options) {
  std::vector<AddedPasses> result;
  for (const std::string &text : options.pass_at) {
    const std::string where = "--pass-at " + text;
    auto [point, pipeline] = StringRef(text).split(':');
    if (pipeline.empty())
      return invalid_argument(where + ": expected POINT:PASSES, e.g. after-fuse:my-pass{x=1}");
    auto parsed = mlir::mili::parsePipelinePoint(point);
    if (!parsed.ok())
      return parsed.status().with_context(where);
    result.push_back({*parsed, pipeline.str()});
    OpPassManager scratch(ModuleOp::getOperationName());
    if (Status status = parsePasses(result.back().pipeline, scratch); !status.ok())
      return status.with_context(where);
  }
  return result;
}

/// Passes of plugins, then of --pass-at.
Status addPasses(OpPassManager &pm, mlir::mili::PipelinePoint point, const std::vector<AddedPasses> &added,
                 const CompileOptions &options) {
  mlir::mili::buildPluginPasses(pm, point, options);
  for (const AddedPasses &passes : added)
    if (passes.point == point)
      MILI_RETURN_IF_ERROR(parsePasses(passes.pipeline, pm));
  return ok_status();
}

/// What can be said without the model: refuses options that do not go together, loads plugins, reads pass_at.
StatusOr<std::vector<AddedPasses>> prepare(const CompileOptions &options) {
  const bool cuda = mlir::mili::targetDevice(options) == "cuda";
  if (!cuda && options.target != "cpu")
    return invalid_argument("--target " + options.target +
                            ": expected cpu, cuda, cuda:source or cuda:ARCH,... (cuda:sm_90a)");
  if (!cuda && !options.cuda_headers.empty())
    return invalid_argument("--cuda-headers " + options.cuda_headers +
                            ": only target cuda has device headers, found --target " + options.target);
  if (!cuda && !options.cuda_dir.empty())
    return invalid_argument("--emit-cuda " + options.cuda_dir + ": only target cuda has CUDA sources, found --target " +
                            options.target);
  for (const std::string &plugin : options.plugins)
    MILI_RETURN_IF_ERROR(load_plugin(plugin));
  mlir::mili::registerCompilerPasses();
  return readAddedPasses(options);
}

/// Tells the passes which tensors of the model are copies of others.
Status nameDuplicates(ModuleOp module, const ModelFile &model) {
  MILI_ASSIGN_OR_RETURN(const auto duplicates, model.duplicates());
  if (duplicates.empty())
    return ok_status();
  Builder builder(module.getContext());
  NamedAttrList copies;
  for (const auto &[copy, first] : duplicates)
    copies.append(copy, builder.getStringAttr(first));
  module->setAttr(mlir::mili::MiliDialect::getDuplicatesAttrName(), copies.getDictionary(module.getContext()));
  return ok_status();
}

std::string printReport(const mlir::mili::FusionReport &report, ExplainFormat format) {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (format == ExplainFormat::kTable)
    report.printTable(os);
  else if (format == ExplainFormat::kJson)
    report.printJson(os);
  return text;
}

}  // namespace

StatusOr<CompileResult> compile_model(const CompileOptions &options, const CompileHooks &hooks) {
  MILI_RETURN_IF_ERROR(prepare(options).status());
  if (hooks.progress)
    hooks.progress({Phase::kImport, 0, 0, {}});
  MILI_ASSIGN_OR_RETURN(std::unique_ptr<ModelFile> model, ModelFile::open(options.model, !options.synthetic_weights));
  return compile_model(options, *model, hooks);
}

StatusOr<CompileResult> compile_model(const CompileOptions &options, const ModelFile &model,
                                      const CompileHooks &hooks) {
  auto progress = [&](Phase phase) {
    if (hooks.progress)
      hooks.progress({phase, 0, 0, {}});
  };
  MILI_ASSIGN_OR_RETURN(const std::vector<AddedPasses> added, prepare(options));
  const bool cuda = mlir::mili::targetDevice(options) == "cuda";
  progress(Phase::kImport);

  DialectRegistry registry;
  mlir::mili::registerCompilerDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  context.printOpOnDiagnostic(false);  // messages name the op; its text would be the whole module's at times
  Diagnostics diagnostics(&context, hooks);

  mlir::mili::ImportOptions import;
  import.activationDtype = !options.activation_dtype.empty() ? options.activation_dtype : cuda ? "bf16" : "f32";
  if (cuda && import.activationDtype != "bf16")
    return unimplemented("--activation-dtype " + options.activation_dtype +
                         ": the kernels of target cuda have bf16 activations; f32 runs with --target cpu");
  import.context = options.context;
  import.syntheticWeights = options.synthetic_weights.has_value();
  if (options.synthetic_weights && !cuda)
    return invalid_argument("--synthetic-weights: only target cuda generates weights, found --target " +
                            options.target);
  OwningOpRef<ModuleOp> module = mlir::mili::importModel(model, import, &context);
  if (!module)
    return diagnostics.failed(options.model, Phase::kImport);
  if (!options.synthetic_weights)
    MILI_RETURN_IF_ERROR(nameDuplicates(*module, model));
  (*module)->setAttr(mlir::mili::MiliDialect::getRequestsAttrName(),
                     IntegerAttr::get(IntegerType::get(&context, 64), options.requests));
  if (options.deterministic)
    (*module)->setAttr(mlir::mili::MiliDialect::getDeterministicAttrName(), UnitAttr::get(&context));

  CompileResult result;
  mlir::mili::FusionReport report;
  mlir::mili::codegen::PlanTarget target;
  target.syntheticSeed = options.synthetic_weights;
  for (int i = 0; i <= static_cast<int>(options.compile_to); ++i) {
    Phase phase = static_cast<Phase>(i);
    progress(phase);
    // What plugins add may be for functions, too.
    PassManager pm(&context, ModuleOp::getOperationName(), OpPassManager::Nesting::Implicit);
    MILI_RETURN_IF_ERROR(addPasses(pm, {phase, false}, added, options));
    mlir::mili::buildPhase(pm, phase, options, *module, &report);
    MILI_RETURN_IF_ERROR(addPasses(pm, {phase, true}, added, options));
    if (pm.size() != 0 && failed(pm.run(*module)))
      return diagnostics.failed(options.model, phase);
    if (phase == Phase::kImport && failed(verify(*module)))
      return diagnostics.failed(options.model, phase);
    if (phase == Phase::kPlanMemory)
      result.memory = readFigures(*module);
    if (phase == Phase::kCodegen && cuda) {
      auto program = mlir::mili::codegen::emitCudaProgram(*module);
      if (failed(program))
        return diagnostics.failed(options.model, phase);
      if (!options.cuda_headers.empty())
        MILI_RETURN_IF_ERROR(readHeaders(*program, options.cuda_headers));
      if (!options.cuda_dir.empty())
        MILI_RETURN_IF_ERROR(writeSources(*program, options.cuda_dir));
      MILI_ASSIGN_OR_RETURN(target.cubins, compileCubins(*program, options, hooks));
      target.cuda = std::move(*program);
    } else if (phase == Phase::kCodegen) {
      auto compiled = mlir::mili::codegen::emitCpuObjects(*module);
      if (failed(compiled))
        return diagnostics.failed(options.model, phase);
      target.variants = std::move(*compiled);
    }
    if (phase == Phase::kPack) {
      auto packed = [&](uint64_t done, uint64_t total, std::string_view item) {
        if (hooks.progress)
          hooks.progress({Phase::kPack, done, total, item});
      };
      Status status = mlir::mili::codegen::writePlan(*module, target, model, options.output, packed);
      if (!status.ok())
        return status.with_context(options.model);
    } else if (!options.dump_dir.empty()) {
      MILI_RETURN_IF_ERROR(dumpPhase(options, phase, *module));
    }
  }
  if (options.compile_to == Phase::kPack) {
    if (llvm::sys::fs::file_size(options.output, result.plan_bytes))
      return internal_error(options.output + ": was written but cannot be read");
  } else {
    result.ir = printModule(*module);
  }
  if (options.explain != ExplainFormat::kNone)
    result.explain = printReport(report, options.explain);
  return result;
}

}  // namespace mili
