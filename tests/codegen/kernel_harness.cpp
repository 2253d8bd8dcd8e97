#include "kernel_harness.h"

#include "mili/Codegen/KernelTemplate.h"
#include "mili/Codegen/Passes.h"
#include "mili/IR/MiliDialect.h"
#include "mili/IR/MiliPlan.h"
#include "mili/runtime/cpu_abi.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/TargetParser/Host.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::testing;

namespace {

/// Memory that ends (up to 64-byte alignment of its start) at a page that faults.
class GuardedBuffer {
public:
  explicit GuardedBuffer(int64_t size) {
    const int64_t page = sysconf(_SC_PAGESIZE), body = llvm::alignTo(size + 64, page);
    length = body + page;
    base = static_cast<char *>(mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base + body, page, PROT_NONE);
    memset(base, 0xff, body);
    start = base + body - llvm::alignTo(size, 64);
  }
  GuardedBuffer(const GuardedBuffer &) = delete;
  ~GuardedBuffer() { munmap(base, length); }
  void *data() const { return start; }

private:
  char *base, *start;
  int64_t length;
};

}  // namespace

bool mlir::mili::testing::isSupported(size_t variant) {
  llvm::StringMap<bool> features = llvm::sys::getHostCPUFeatures();
  return features.lookup("avx2") && features.lookup("fma") &&
         (!codegen::cpuVariants()[variant].vnni || features.lookup("avx512vnni"));
}

std::unique_ptr<KernelLibrary> KernelLibrary::compile(const std::string &text, size_t variant) {
  DialectRegistry registry;
  registry.insert<MiliDialect, plan::MiliPlanDialect, func::FuncDialect>();
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(text, &context);
  if (!module)
    return nullptr;
  context.loadAllAvailableDialects();
  PassManager pm(&context);
  pm.addPass(codegen::createSelectKernels());
  if (failed(pm.run(*module)))
    return nullptr;

  auto library = std::make_unique<KernelLibrary>();
  OpBuilder builder(&context);
  auto planned = OwningOpRef<ModuleOp>(ModuleOp::create(module->getLoc()));
  builder.setInsertionPointToEnd(planned->getBody());
  module->walk([&](GroupOp group) {
    SmallVector<Attribute> layouts;
    for (Value input : group.getInputs()) {
      auto weight = input.getDefiningOp<WeightOp>();
      layouts.push_back(builder.getStringAttr(weight ? *weight.getLayout() : StringRef()));
    }
    auto bucket = group->getParentOp()->getAttrOfType<BucketAttr>(MiliDialect::getBucketAttrName());
    auto kernel =
        plan::KernelOp::create(builder, group.getLoc(), group.getNameAttr(), group.getKernelAttr(), group.getHeroAttr(),
                               group.getStagesAttr(), bucket, builder.getArrayAttr(layouts));
    kernel.getBody().takeBody(group.getBody());
    TestKernel record;
    record.name = group.getName().str();
    record.arenaScratch = group.getArenaScratch().value_or(0);
    for (auto stage : kernel.getStages().getAsRange<StageAttr>())
      record.stages.push_back({kernel.getStages().size() > 1 ? record.name + "." + stage.getName().str() : record.name,
                               stage.getTiles(), stage.getPer() == RowCount::tokens,
                               stage.getPer() == RowCount::logit_rows, stage.getRowsPerTile(), stage.getScratch()});
    library->kernels.push_back(std::move(record));
  });

  const codegen::CpuVariant &target = codegen::cpuVariants()[variant];
  FailureOr<OwningOpRef<ModuleOp>> functions = codegen::emitCpuFunctions(*planned, target);
  if (failed(functions))
    return nullptr;
  FailureOr<codegen::CompiledVariant> compiled = codegen::compileCpuModule(**functions, target);
  if (failed(compiled))
    return nullptr;
  library->bytes = std::move(compiled->bytes);
  if (!isSupported(variant))
    return library;
  library->descriptor = memfd_create("mili-test-kernels", 0);
  if (write(library->descriptor, library->bytes.data(), library->bytes.size()) !=
      static_cast<ssize_t>(library->bytes.size()))
    return nullptr;
  std::string path = "/proc/self/fd/" + std::to_string(library->descriptor);
  library->handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  EXPECT_NE(library->handle, nullptr) << dlerror();
  return library;
}

KernelLibrary::~KernelLibrary() {
  if (handle)
    dlclose(handle);
  if (descriptor >= 0)
    close(descriptor);
}

const TestKernel &KernelLibrary::kernel(const std::string &group) const {
  auto it = llvm::find_if(kernels, [&](const TestKernel &k) { return k.name == group; });
  assert(it != kernels.end() && "no group of this name");
  return *it;
}

void KernelLibrary::run(const std::string &group, std::vector<void *> args, const ::mili::Batch &batch) const {
  const TestKernel &record = kernel(group);
  GuardedBuffer arena(record.arenaScratch);
  if (record.arenaScratch)
    args.push_back(arena.data());
  for (const TestKernel::Stage &stage : record.stages) {
    auto function = reinterpret_cast<::mili::CpuKernel>(dlsym(handle, stage.symbol.c_str()));
    ASSERT_NE(function, nullptr) << stage.symbol;
    int64_t rows = stage.perToken ? batch.tokens : stage.perLogitRow ? batch.logit_rows : 0;
    uint64_t tiles =
        stage.tiles * (stage.perToken || stage.perLogitRow ? llvm::divideCeil(rows, stage.rowsPerTile) : 1);
    const uint64_t middle = tiles / 2;
    for (auto [begin, end] : {std::pair{middle, tiles}, std::pair{uint64_t{0}, middle}}) {
      GuardedBuffer scratch(stage.scratch);
      if (begin < end)
        function(args.data(), &batch, begin, end, scratch.data());
    }
  }
}
