// Groups as machine code: one group's text through kernel selection and the code generator, loaded into this process.
#pragma once

#include "mili/Codegen/CpuObject.h"
#include "mili/runtime/batch.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace mlir::mili::testing {

/// One group, and what a plan would say of it.
struct TestKernel {
  struct Stage {
    std::string symbol;
    int64_t tiles;
    bool perToken, perLogitRow;
    int64_t rowsPerTile, scratch;
  };
  std::string name;
  std::vector<Stage> stages;
  int64_t arenaScratch = 0;
};

/// Compiles every group of `text` (one function with a bucket for each) for one variant.
class KernelLibrary {
public:
  /// Null, with diagnostics on stderr, where something failed. `variant` is an index into cpuVariants().
  static std::unique_ptr<KernelLibrary> compile(const std::string &text, size_t variant);
  ~KernelLibrary();

  const TestKernel &kernel(const std::string &group) const;
  /// Runs every stage of a group, its tiles in two ranges, as two workers would. `args` as a launch has them, without
  /// the arena scratch. Worker and arena scratch have the stated size, begin as NaNs and are guarded by a page behind.
  void run(const std::string &group, std::vector<void *> args, const ::mili::Batch &batch) const;
  /// The shared object.
  const std::string &object() const { return bytes; }

private:
  std::vector<TestKernel> kernels;
  std::string bytes;
  void *handle = nullptr;
  int descriptor = -1;
};

/// Whether this machine runs the variant.
bool isSupported(size_t variant);

}  // namespace mlir::mili::testing
