// The compiler as a library, free of MLIR's headers: what mili-compile calls, and what a program that compiles models
// itself would call.
//
//   mili::CompileOptions options;
//   options.model = "model.gguf";
//   options.output = "model.mili";
//   mili::Status status = mili::compile_model(options, {});
#pragma once

#include "mili/runtime/memory.h"
#include "mili/runtime/status.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mili {

class ModelFile;

// The phases of compilation, in order. This enum is their documentation; `phase_summary` has a line on each.
enum class Phase {
  kImport,      // model file to the mili dialect
  kOptimize,    // attention patterns, merged projections, tied and unused weights, canonical forms
  kQuantize,    // retypes weights, activations and state (no passes yet: files keep their own formats)
  kPartition,   // sharding over ranks (no passes yet: one rank)
  kSpecialize,  // one function per bucket of (tokens, sequences, wanted rows)
  kFuse,        // groups of one hero each, and the kernel template of each group
  kPlanMemory,  // liveness, arena offsets, launches: the mili_plan dialect
  kCodegen,     // kernels to object code
  kPack,        // weights through their layouts into the plan file
};
inline constexpr int kPhaseCount = 9;

// "import", "optimize", ..., "plan-memory", "codegen", "pack".
std::string_view phase_name(Phase phase);
std::string_view phase_summary(Phase phase);
std::optional<Phase> phase_from_name(std::string_view name);

enum class ExplainFormat { kNone, kTable, kJson };

struct CompileOptions {
  std::string model;   // a .gguf file or a Hugging Face folder
  std::string output;  // the plan file; not needed when stopping before pack
  // "cpu", "cuda" (source for every architecture, images for sm_80, sm_90a and sm_100a), "cuda:sm_90a,sm_80" (images
  // for these) or "cuda:source" (no images: the runtime compiles).
  std::string target = "cpu";
  std::string activation_dtype;  // of activations and KV state: "f32", "bf16"; empty: f32 on cpu, bf16 on cuda
  uint32_t requests = 1;         // sequences that can be live at once
  uint32_t context = 0;          // tokens per sequence; 0: what the model was trained for, at most 4096
  uint32_t prefill_tokens = 0;   // tokens of the largest bucket; 0: 512 on cpu, 2048 on cuda
  std::vector<std::string> disabled_fusions;  // kinds of fusion to leave out, by the names that --explain prints
  // Attention masks to use instead of the model's own, e.g. "window=4096@0-15" (mili-attention-set-pattern).
  std::vector<std::string> attention_patterns;
  // Which of several kernels to take, e.g. "prefill=mma" (mili-codegen-select-kernels).
  std::vector<std::string> kernels;
  bool merge_projections = true;
  bool arena_reuse = true;  // values share memory when their lives allow it
  // What a token computes depends on its sequence alone, bit by bit, not on what else is in a step: every bucket fuses
  // alike, sums in one order and attends with one kernel. Slower where steps are short.
  bool deterministic = false;
  Phase compile_to = Phase::kPack;  // stop after this phase and return its IR as text
  std::string dump_dir;             // write the IR after each phase here; empty: do not
  ExplainFormat explain = ExplainFormat::kNone;
  std::string cuda_dir;                       // write the CUDA sources here; empty: do not
  std::string cuda_headers;                   // take the device headers from this folder; empty: the compiler's own
  std::optional<uint64_t> synthetic_weights;  // seed: no weights are read, the device makes them (cuda)
  std::vector<std::string> plugins;           // shared libraries to load first (load_plugin)
  // "POINT:PASSES": passes at a point of the pipeline, "before-PHASE" or "after-PHASE", also written "PHASE" (import
  // has no before, codegen no after, pack neither), in MLIR's textual form: "after-fuse:my-pass{x=1}",
  // "before-fuse:func.func(a,b)". Those of one point run in order, after what plugins added there.
  std::vector<std::string> pass_at;
};

// Loads a plugin (mili/Compiler/Plugin.h); what it adds is there for the rest of the process. Loading one again does
// nothing. A plugin that was built for another version of MILI or LLVM is refused, with both versions, before any of
// its code runs. Not thread-safe, neither among calls nor with compile_model.
Status load_plugin(const std::string &path);

struct CompileProgress {
  Phase phase;
  uint64_t done = 0;   // bytes, during pack
  uint64_t total = 0;  // 0: the phase has no measure
  std::string_view item;
};

struct CompileHooks {
  std::function<void(const CompileProgress &)> progress;
  std::function<void(std::string_view)> warning;
};

struct CompileResult {
  std::optional<MemoryFigures> memory;  // once memory is planned
  std::string ir;                       // text of the module when compile_to is before pack
  std::string explain;                  // the report asked for
  uint64_t plan_bytes = 0;
};

// Errors carry every diagnostic of the compiler, one a line, each naming the tensor, field or op concerned.
StatusOr<CompileResult> compile_model(const CompileOptions &options, const CompileHooks &hooks);
// The same of a model that is open; options.model is its name in messages.
StatusOr<CompileResult> compile_model(const CompileOptions &options, const ModelFile &model, const CompileHooks &hooks);

}  // namespace mili
