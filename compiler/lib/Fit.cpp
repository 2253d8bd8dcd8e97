//===- Fit.cpp - memory of plans that are not built --------------------------===//
//
// The largest context and the most requests are found by bisection, each step of which plans memory anew: buckets,
// kernel scratch and so the arena depend on both. Memory grows with either but for such steps, so the answer is checked
// at its edge: it fits, and one more does not.
//
//===------------------------------------------------------------------------===//
#include "mili/Compiler/Fit.h"

#include "mili/Compiler/Pipeline.h"
#include "mili/Frontends/ModelFile.h"

#include "llvm/ADT/StringRef.h"

#include <algorithm>
#include <functional>

namespace mili {
namespace {

/// Bounds of the command line's options.
constexpr uint32_t kMostContext = 1u << 24, kMostRequests = 1024;
constexpr uint32_t kPage = 64;

/// The largest n in [low, high] for which `fits` holds, given that it holds for all smaller ones; 0 if for none.
StatusOr<uint32_t> largest(uint32_t low, uint32_t high, const std::function<StatusOr<bool>(uint32_t)> &fits) {
  uint32_t best = low - 1;
  for (uint32_t first = low, last = high; first <= last;) {
    const uint32_t middle = first + (last - first) / 2;
    MILI_ASSIGN_OR_RETURN(const bool ok, fits(middle));
    if (ok) {
      best = middle;
      first = middle + 1;
    } else {
      last = middle - 1;
    }
  }
  return best < low ? 0 : best;
}

StatusOr<MemoryFigures> figures_of(const CompileOptions &options, const ModelFile &model, const CompileHooks &hooks) {
  CompileOptions planned = options;
  planned.compile_to = Phase::kPlanMemory;
  planned.output.clear();
  planned.dump_dir.clear();
  planned.cuda_dir.clear();
  planned.explain = ExplainFormat::kNone;
  StatusOr<CompileResult> result = compile_model(planned, model, hooks);
  if (!result.ok())
    return result.status();
  return *std::move(result->memory);
}

}  // namespace

StatusOr<MemoryFigures> plan_figures(const CompileOptions &options, const CompileHooks &hooks) {
  MILI_ASSIGN_OR_RETURN(std::unique_ptr<ModelFile> model, ModelFile::open(options.model, !options.synthetic_weights));
  return figures_of(options, *model, hooks);
}

StatusOr<FitReport> fit(const FitRequest &request, const CompileHooks &hooks) {
  if (request.budget == 0)
    return invalid_argument("--fit: a budget of 0 bytes fits nothing");
  const bool cuda = mlir::mili::targetDevice(request.options) == "cuda";
  FitReport report;
  report.reserve = cuda ? kDriverReserve : 0;
  MILI_ASSIGN_OR_RETURN(std::unique_ptr<ModelFile> model,
                        ModelFile::open(request.options.model, !request.options.synthetic_weights));
  MILI_ASSIGN_OR_RETURN(report.figures, figures_of(request.options, *model, hooks));
  auto total = [&](const MemoryFigures &figures) { return figures.total(request.workers) + report.reserve; };
  report.total = total(report.figures);
  report.fits = report.total <= request.budget;
  report.requests = request.options.requests;
  report.context = static_cast<uint32_t>(report.figures.context);

  // Only the first run warns of what all runs have in common.
  const CompileHooks silent;
  auto fits = [&](uint32_t requests, uint32_t context) -> StatusOr<bool> {
    CompileOptions options = request.options;
    options.requests = requests;
    options.context = context;
    StatusOr<MemoryFigures> figures = figures_of(options, *model, silent);
    // Bounds beyond what can be counted do not fit either.
    if (!figures.ok())
      return requests == report.requests && context == report.context ? StatusOr<bool>(figures.status())
                                                                      : StatusOr<bool>(false);
    return total(*figures) <= request.budget;
  };
  MILI_ASSIGN_OR_RETURN(const uint32_t pages, largest(1, kMostContext / kPage, [&](uint32_t pages) {
                          return fits(report.requests, pages * kPage);
                        }));
  if (pages > 0)
    report.largest_context = pages * kPage;
  MILI_ASSIGN_OR_RETURN(const uint32_t requests,
                        largest(1, kMostRequests, [&](uint32_t requests) { return fits(requests, report.context); }));
  if (requests > 0)
    report.most_requests = requests;

  auto add = [&](std::string what, std::string option, uint64_t bytes, bool estimate = false) {
    report.changes.push_back({std::move(what), std::move(option), bytes, bytes <= request.budget, estimate});
  };
  if (!cuda && request.options.activation_dtype != "bf16") {
    CompileOptions options = request.options;
    options.activation_dtype = "bf16";
    if (StatusOr<MemoryFigures> figures = figures_of(options, *model, silent); figures.ok())
      add("KV cache and activations in bf16", "--activation-dtype bf16", total(*figures));
  }
  if (request.options.prefill_tokens == 0) {
    CompileOptions options = request.options;
    options.prefill_tokens = 128;
    if (StatusOr<MemoryFigures> figures = figures_of(options, *model, silent); figures.ok())
      add("prompts in steps of 128 tokens", "--prefill-tokens 128", total(*figures));
  }
  // What other formats would save of what the plan has in 16 bits or more.
  const bool wide_kv = cuda || request.options.activation_dtype == "bf16";
  const uint64_t kv = wide_kv ? report.figures.kv / 2 : report.figures.kv / 4 * 3;
  add("KV cache in 8 bits", "", report.total - kv, true);
  if (cuda) {
    const uint64_t eight = report.figures.weights / 2, four = report.figures.weights / 4 * 3;
    add("weights in 8 bits", "", report.total - eight, true);
    add("weights in 4 bits", "", report.total - four, true);
    add("weights and KV cache in 8 bits", "", report.total - eight - kv, true);
    add("weights in 4 bits, KV cache in 8", "", report.total - four - kv, true);
    return report;
  }
  // CPU plans keep the file's formats, so a file in another one is all that it takes: blocks of 32 weights.
  uint64_t stored = 0, blocks = 0;
  for (const TensorInfo &tensor : model->tensors())
    if (tensor.shape.size() > 1) {
      stored += tensor.size;
      blocks += tensor.elements() / 32;
    }
  for (auto [format, bytes] : {std::pair{"Q8_0", uint64_t{34}}, std::pair{"Q4_0", uint64_t{18}}})
    if (blocks * bytes < stored / 20 * 19) {
      const double left = static_cast<double>(blocks * bytes) / static_cast<double>(stored);
      const auto saved = static_cast<uint64_t>(static_cast<double>(report.figures.weights) * (1 - left));
      add(std::string("weights in ") + format, std::string("a GGUF file in ") + format + " as MODEL",
          report.total - saved, true);
    }
  return report;
}

}  // namespace mili
