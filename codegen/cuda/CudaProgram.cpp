//===- CudaProgram.cpp -------------------------------------------------------===//
#include "mili/Codegen/CudaProgram.h"

#include "mili/Codegen/CudaTemplates.h"
#include "mili/IR/MiliPlan.h"

#include "mlir/IR/AsmState.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;

static std::vector<CudaFile> &pluginHeaders() {
  static std::vector<CudaFile> headers;
  return headers;
}

bool mlir::mili::codegen::addCudaHeader(CudaFile header) {
  auto same = [&](const CudaFile &other) { return other.name == header.name; };
  if (llvm::any_of(pluginHeaders(), same) || llvm::any_of(cudaHeaders(), same))
    return false;
  pluginHeaders().push_back(std::move(header));
  return true;
}

/// The group's IR, without what depends on the bucket.
static std::string describe(plan::KernelOp kernel, StageAttr stage, size_t stages) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << kernel.getKernelTemplate();
  if (stages > 1)
    os << ", stage \"" << stage.getName() << '"';
  os << "\n\n";
  OpPrintingFlags flags;
  flags.enableDebugInfo(false).printNameLocAsPrefix(true).elideLargeElementsAttrs(8);
  AsmState state(kernel, flags);
  for (Operation &op : kernel.getBody().front()) {
    op.print(os, state);
    os << "\n";
  }
  return text;
}

/// "linear_rms_norm_t4" and stage "gemv" give "linear_rms_norm_gemv".
static std::string baseName(StringRef kernel, StageAttr stage) {
  size_t at = kernel.rfind("_t");
  if (at != StringRef::npos && kernel.drop_front(at + 2).find_first_not_of("0123456789_") == StringRef::npos)
    kernel = kernel.take_front(at);
  std::string name = kernel.str();
  if (kernel != stage.getName())
    name += "_" + stage.getName().str();
  return name;
}

FailureOr<CudaProgram> mlir::mili::codegen::emitCudaProgram(ModuleOp planModule) {
  CudaProgram program;
  program.headers = cudaHeaders();
  llvm::append_range(program.headers, pluginHeaders());
  KernelRegistry *registry = KernelRegistry::forTarget("cuda");
  llvm::StringMap<std::string> unitOfText;  // with MILI_KERNEL for the name
  llvm::StringMap<unsigned> uses;
  auto addUnit = [&](StringRef base, const std::string &text) {
    std::string &name = unitOfText[text];
    if (!name.empty())
      return name;
    unsigned &count = uses[base];
    name = count == 0 ? base.str() : base.str() + "_" + std::to_string(count + 1);
    ++count;
    program.units.push_back({name, "#define MILI_KERNEL " + name + "\n" + text});
    return name;
  };
  for (auto kernel : llvm::to_vector(planModule.getOps<plan::KernelOp>())) {
    auto *emitter = static_cast<const CudaKernelTemplate *>(registry->lookup(kernel.getKernelTemplate()));
    if (!emitter)
      return kernel.emitError("mili-codegen: no kernel template '") << kernel.getKernelTemplate() << "'", failure();
    if (failed(verifyKernel(kernel, *emitter)))
      return failure();
    auto stages = llvm::to_vector(kernel.getStages().getAsRange<StageAttr>());
    for (auto [i, stage] : llvm::enumerate(stages)) {
      CudaWriter writer;
      CudaKernel description{kernel.getBody().front(), kernel.getHero(), stage, static_cast<unsigned>(i),
                             static_cast<unsigned>(stages.size())};
      if (failed(emitter->emit(writer, description)))
        return failure();
      std::string unit =
          addUnit(baseName(kernel.getSymName(), stage), writer.finish(describe(kernel, stage, stages.size())));
      program.symbols[kernel.getSymName().str()].push_back(unit);
    }
  }
  for (StringRef type : {"bf16", "f32"}) {
    std::string element = type == "f32" ? "float" : "mili::bf16";
    addUnit(("mili_fill_normal_" + type).str(),
            "// Synthetic weights.\n#include \"mili/device/fill.cuh\"\n\nextern \"C\" __global__ void MILI_KERNEL(" +
                element +
                " *data, mili::uint64_t count, float mean, float std, mili::uint64_t seed,\n"
                "                                     unsigned stream) {\n"
                "  mili::fill_normal(data, count, mean, std, seed, stream);\n}\n");
  }
  addUnit("mili_read_bytes",
          "// Reads `count` vectors of 16 bytes: the ceiling of everything that is bound by memory.\n"
          "#include \"mili/device/common.cuh\"\n\n"
          "extern \"C\" __global__ __launch_bounds__(512) void MILI_KERNEL(const mili::Vector16 *data, unsigned long "
          "count,\n"
          "                                                                unsigned *out) {\n"
          "  unsigned bits = 0;\n"
          "  const unsigned long stride = gridDim.x * 512ul;\n"
          "  unsigned long i = blockIdx.x * 512ul + threadIdx.x;\n"
          "  for (; i + 7 * stride < count; i += 8 * stride) {\n"
          "    mili::Vector16 v[8];\n"
          "#pragma unroll\n"
          "    for (int j = 0; j < 8; ++j)\n"
          "      v[j] = mili::load16_stream(data + i + j * stride);\n"
          "#pragma unroll\n"
          "    for (int j = 0; j < 8; ++j)\n"
          "      bits |= v[j].words[0] & v[j].words[1] & v[j].words[2] & v[j].words[3];\n"
          "  }\n"
          "  if (bits == 0x12345678)\n"
          "    *out = bits;\n"
          "}\n");
  return program;
}
