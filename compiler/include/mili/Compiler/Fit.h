// Does a plan fit, before it is built? And if not, what would.
//
//   mili::FitRequest request;
//   request.options.model = "model.gguf";
//   request.options.requests = 8;
//   request.budget = uint64_t{24} << 30;
//   mili::StatusOr<mili::FitReport> report = mili::fit(request, {});
//
// The figures are those that the plan would state and the runtime allocate: compilation runs up to memory planning,
// which takes a fraction of a second, and reads no weights. What context, graphs and modules of a GPU's driver take
// beside them is no figure of the plan; a reserve stands for it (kDriverReserve).
#pragma once

#include "mili/Compiler/Compiler.h"
#include "mili/runtime/memory.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mili {

struct FitRequest {
  CompileOptions options;  // what would be compiled; output, dumps and reports are ignored
  uint64_t budget = 0;     // bytes
  uint32_t workers = 1;    // worker threads of a CPU plan, each with its scratch
};

// One way to need another amount of memory.
struct FitChange {
  std::string what;    // "KV cache in 8 bits"
  std::string option;  // what to add to the command line, or another MODEL; empty where MILI cannot do it yet
  uint64_t total = 0;  // bytes, reserve included
  bool fits = false;
  bool estimate = false;  // the total was not planned, but counted from what the plan has
};

struct FitReport {
  MemoryFigures figures;
  uint64_t reserve = 0;  // bytes for the driver of a GPU
  uint64_t total = 0;    // figures.total(workers) + reserve
  bool fits = false;
  uint32_t requests = 0, context = 0;  // what the figures are for
  // The most tokens of context, in whole pages, that fit with these requests: one page more does not. And the most
  // requests with this context. Empty where none fit.
  std::optional<uint32_t> largest_context, most_requests;
  std::vector<FitChange> changes;
};

// The memory that compile_model(options) would plan.
StatusOr<MemoryFigures> plan_figures(const CompileOptions &options, const CompileHooks &hooks);

// InvalidArgument for a budget of 0; otherwise the errors of compile_model.
StatusOr<FitReport> fit(const FitRequest &request, const CompileHooks &hooks);

}  // namespace mili
