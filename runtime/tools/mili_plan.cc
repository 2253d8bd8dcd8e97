// mili-plan: looks into plans.
#include "plan_diff.h"
#include "tool_support.h"

#include "mili/runtime/memory.h"
#include "mili/runtime/plan.h"
#include "mili/runtime/work.h"
#include "mili/schema/cuda_generated.h"
#include "mili/schema/plan_generated.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <map>
#include <set>
#include <sstream>

namespace {

using namespace mili;
constexpr const char *kTool = "mili-plan";

const char *section_name(uint32_t kind) {
  switch (static_cast<SectionKind>(kind)) {
  case SectionKind::kMeta: return "meta";
  case SectionKind::kTokenizer: return "tokenizer";
  case SectionKind::kHostObject: return "host object";
  case SectionKind::kWeights: return "weights";
  case SectionKind::kCudaSource: return "CUDA source";
  case SectionKind::kCubins: return "cubins";
  }
  return "unknown";
}

std::string shape_text(const flatbuffers::Vector<uint64_t> &shape) {
  std::string text;
  for (uint64_t d : shape)
    text += (text.empty() ? "" : "x") + std::to_string(d);
  return text;
}

std::string arg_text(const plan::Plan &meta, const plan::Arg &arg) {
  const char *access = arg.access() == plan::Access::Read    ? "read"
                       : arg.access() == plan::Access::Write ? "write"
                                                             : "readwrite";
  switch (arg.kind()) {
  case plan::ArgKind::Arena: return fmt::format("{} arena[{:#x} + {}]", access, arg.offset(), arg.size());
  case plan::ArgKind::Weight: return fmt::format("weight {}", meta.weights()->Get(arg.index())->name()->str());
  case plan::ArgKind::Counters: return fmt::format("counters[{:#x} + {}]", arg.offset(), arg.size());
  case plan::ArgKind::State: return fmt::format("{} state {}", access, meta.states()->Get(arg.index())->name()->str());
  }
  return "?";
}

// The coefficients that are not 0.
std::string work_text(const plan::Work &work) {
  std::string text = fmt::format("per {}", plan::EnumNameRowCount(work.per()));
  const std::pair<const char *, uint64_t> figures[] = {{"bytes fixed", work.bytes_fixed()},
                                                       {"bytes a row", work.bytes_row()},
                                                       {"bytes a key", work.bytes_key()},
                                                       {"flops a row", work.flops_row()},
                                                       {"flops a pair", work.flops_pair()}};
  for (const auto &[name, value] : figures)
    if (value)
      text += fmt::format(", {} {}", name, value);
  if (work.visible_base() || work.visible_every() > 1)
    text += fmt::format(", a query sees up to {} keys", work.visible_base());
  if (work.visible_every() > 1)
    text += fmt::format(" and one in {}", work.visible_every());
  else if (work.visible_every() == 1)
    text += ", a query sees all keys before it";
  return text;
}

void print_memory(const Plan &plan) {
  const MemoryFigures &m = plan.memory();
  const plan::Plan &meta = plan.meta();
  fmt::print("memory for {} request{} of {} tokens\n", meta.requests(), meta.requests() == 1 ? "" : "s",
             meta.context());
  fmt::print("  weights         {:>14} bytes  {}\n", m.weights, format_bytes(m.weights));
  fmt::print("  arena           {:>14} bytes  {}\n", m.arena, format_bytes(m.arena));
  fmt::print("  kv              {:>14} bytes  {} ({} pages of {} tokens)\n", m.kv, format_bytes(m.kv), m.kv_pages, 64);
  fmt::print("  tables          {:>14} bytes\n", m.tables);
  if (meta.target()->name()->string_view() == "cuda") {
    fmt::print("  counters        {:>14} bytes\n", m.counters);
    fmt::print("  total           {:>14} bytes  {}, and up to {} that the driver takes for context, modules, graphs\n",
               m.total(0), format_bytes(m.total(0)), format_bytes(kDriverReserve));
    return;
  }
  fmt::print("  worker scratch  {:>14} bytes  per thread\n", m.worker_scratch);
  fmt::print("  total           {:>14} bytes  {} with 1 thread\n", m.total(1), format_bytes(m.total(1)));
}

// A line for each kernel: registers, spilled bytes, shared memory, for each architecture that the plan has images for.
void print_resources(const Plan &plan) {
  std::map<std::string, std::map<std::string, std::string>> cells;
  std::vector<std::string> archs;
  for (uint32_t i = 0; i < plan.sections().size(); ++i) {
    if (plan.sections()[i].kind != static_cast<uint32_t>(SectionKind::kCubins))
      continue;
    StatusOr<std::vector<std::byte>> bytes = plan.copy_section(i);
    if (!bytes.ok())
      continue;
    flatbuffers::Verifier verifier(reinterpret_cast<const uint8_t *>(bytes->data()), bytes->size());
    if (!verifier.VerifyBuffer<plan::Cubins>(nullptr))
      continue;
    const auto *cubins = flatbuffers::GetRoot<plan::Cubins>(bytes->data());
    archs.push_back(cubins->arch()->str());
    for (const plan::Cubin *cubin : *cubins->cubins())
      if (const plan::KernelResources *r = cubin->resources())
        cells[cubin->unit()->str()][archs.back()] =
            fmt::format("{} / {} / {}", r->registers(), r->spilled(), r->shared());
  }
  if (archs.empty())
    return;
  fmt::print("\nkernels compiled: registers of a thread / bytes spilled / static shared memory\n  {:<44}", "");
  for (const std::string &arch : archs)
    fmt::print(" {:>18}", arch);
  fmt::print("\n");
  for (auto &[unit, row] : cells) {
    fmt::print("  {:<44}", unit);
    for (const std::string &arch : archs)
      fmt::print(" {:>18}", row[arch]);
    fmt::print("\n");
  }
}

int show(const Plan &plan, bool weights, bool launches, bool kernels) {
  const plan::Plan &meta = plan.meta();
  const FileHeader &header = plan.header();
  fmt::print("{}\n", plan.path());
  fmt::print("  model           {} ({}), {} layers, vocabulary {}, {} parameters\n", meta.model()->name()->str(),
             meta.model()->family()->str(), meta.model()->layers(), meta.model()->vocab(), meta.model()->parameters());
  fmt::print("  made by         {}, plan format {}.{}\n", meta.producer()->str(), header.major, header.minor);
  fmt::print("  target          {}, activations {}{}{}\n", meta.target()->name()->str(),
             plan::EnumNameDtype(meta.activation_dtype()), meta.deterministic() ? ", deterministic" : "",
             meta.synthetic() ? fmt::format(", weights from seed {}", meta.synthetic()->seed()) : "");
  if (meta.target()->variants())
    for (const plan::Variant *variant : *meta.target()->variants()) {
      std::string features;
      for (const flatbuffers::String *feature : *variant->features())
        features += " " + feature->str();
      fmt::print("  variant         {} ({}): needs{}\n", variant->name()->str(),
                 tools::human_bytes(plan.sections()[variant->section()].size), features);
    }
  fmt::print("\nsections\n");
  for (size_t i = 0; i < plan.sections().size(); ++i) {
    const SectionEntry &s = plan.sections()[i];
    fmt::print("  {:>2}  {:<12} {:>14} bytes at {:#x}, hash {:016x}\n", i, section_name(s.kind), s.size, s.offset,
               s.hash);
  }
  fmt::print("\n");
  print_memory(plan);

  for (const plan::Rank *rank : *meta.ranks())
    for (const plan::Function *function : *rank->functions())
      for (const plan::Bucket *bucket : *function->buckets()) {
        fmt::print("\n{} {}: up to {} tokens, {} sequences, {} rows of logits; {} launches, arena {} (bound {}, "
                   "without reuse {})\n",
                   function->name()->str(), bucket->name()->str(), bucket->tokens(), bucket->sequences(),
                   bucket->logit_rows(), bucket->launches()->size(), format_bytes(bucket->arena_bytes()),
                   format_bytes(bucket->lower_bound()), format_bytes(bucket->naive()));
        if (!launches) {
          // One line a kernel: how often, and what it moves in a step at the bucket's bounds, the context half full.
          struct Use {
            uint32_t calls = 0;
            ExpectedWork work;
          };
          const std::vector<SequenceExtent> extents = extents_at_bounds(*bucket, meta.context());
          std::map<uint32_t, Use> uses;
          for (const plan::Launch *launch : *bucket->launches()) {
            Use &use = uses[launch->kernel()];
            ++use.calls;
            use.work += expected_work(*launch, {extents, bucket->logit_rows()});
          }
          for (const auto &[kernel, use] : uses)
            fmt::print("  {:<40} {:>4} x  {:>10} moved  {:>8.3g} flop\n", meta.kernels()->Get(kernel)->symbol()->str(),
                       use.calls, tools::human_bytes(static_cast<uint64_t>(use.work.bytes())), use.work.flops);
          continue;
        }
        for (const plan::Launch *launch : *bucket->launches()) {
          fmt::print("  {} <- {} tiles {}{}\n", launch->name()->str(),
                     meta.kernels()->Get(launch->kernel())->symbol()->str(), launch->tiles_fixed(),
                     launch->tiles_per() == plan::RowCount::One
                         ? ""
                         : fmt::format(" x ceil({} / {})", plan::EnumNameRowCount(launch->tiles_per()),
                                       launch->rows_per_tile()));
          for (const plan::Arg *arg : *launch->args())
            fmt::print("      {}\n", arg_text(meta, *arg));
          if (const plan::Work *work = launch->work())
            fmt::print("      work {}\n", work_text(*work));
        }
      }
  if (weights) {
    fmt::print("\nweights\n");
    for (const plan::Weight *weight : *meta.weights())
      fmt::print("  {:>12} at {:>12}  {:<6} {:<10} {:<16} {}\n", weight->size(), weight->offset(),
                 weight->format()->str(), weight->layout()->str(), shape_text(*weight->shape()), weight->name()->str());
  }
  if (kernels) {
    print_resources(plan);
    fmt::print("\nkernels\n");
    for (const plan::Kernel *kernel : *meta.kernels())
      fmt::print("  {} (scratch {} bytes a worker)\n{}\n", kernel->symbol()->str(), kernel->scratch_bytes(),
                 kernel->ir() ? kernel->ir()->str() : "");
  }
  return 0;
}

std::vector<std::string> lines_of(const std::string &text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    lines.push_back(line);
  return lines;
}

// Prints what changed; the exit code is diff's: 0 alike, 1 different.
int diff(const Plan &before, const Plan &after, const tools::PlanRates &rates, bool json) {
  const std::vector<tools::PlanChange> changes = tools::diff_plans(before, after, rates);
  if (json) {
    nlohmann::json out = nlohmann::json::array();
    for (const tools::PlanChange &change : changes)
      out.push_back({{"part", change.part}, {"what", change.what}, {"before", change.before}, {"after", change.after}});
    fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return changes.empty() ? 0 : tools::kFailed;
  }
  std::string part;
  for (const tools::PlanChange &change : changes) {
    if (change.part != part)
      fmt::print("{}{}\n", part.empty() ? "" : "\n", change.part);
    part = change.part;
    const std::vector<std::string> old = lines_of(change.before), now = lines_of(change.after);
    if (old.size() <= 1 && now.size() <= 1) {
      fmt::print("  {}: {} -> {}\n", change.what, change.before.empty() ? "none" : change.before,
                 change.after.empty() ? "none" : change.after);
      continue;
    }
    // Of texts the lines that only one of them has.
    fmt::print("  {}: {}\n", change.what, old.empty() ? "new" : now.empty() ? "gone" : "changed");
    const std::set<std::string> in_old(old.begin(), old.end()), in_now(now.begin(), now.end());
    for (const std::string &line : old)
      if (!now.empty() && !in_now.contains(line))
        fmt::print("    - {}\n", line);
    for (const std::string &line : now)
      if (!old.empty() && !in_old.contains(line))
        fmt::print("    + {}\n", line);
  }
  return changes.empty() ? 0 : tools::kFailed;
}

}  // namespace

int main(int argc, char **argv) {
  CLI::App app{"mili-plan: looks into plans"};
  app.set_version_flag("--version", "mili-plan " MILI_VERSION);
  app.require_subcommand(1);
  app.footer("Examples:\n  mili-plan show smollm2.mili\n  mili-plan show smollm2.mili --launches --weights\n"
             "  mili-plan verify smollm2.mili\n"
             "  mili-plan diff before.mili after.mili --read-bandwidth 3350 --flops 800");
  std::string path;
  bool weights = false, launches = false, kernels = false;
  CLI::App *show_command =
      app.add_subcommand("show", "what a plan holds: model, sections, exact memory, buckets, kernels");
  show_command->add_option("PLAN", path, "a plan (.mili)")->required();
  show_command->add_flag("--weights", weights, "list every weight");
  show_command->add_flag("--launches", launches, "list every launch with its arguments");
  show_command->add_flag("--kernels", kernels, "print the IR that each kernel was made from");
  CLI::App *verify_command = app.add_subcommand("verify", "check structure, sizes and hashes of the whole file");
  verify_command->add_option("PLAN", path, "a plan (.mili)")->required();
  std::string other;
  double bandwidth = 0, flops = 0;
  bool json = false;
  CLI::App *diff_command = app.add_subcommand("diff", "what changed from plan A to plan B: groups, kernels, memory, "
                                                      "expected bytes and time; exit code 1 if anything did");
  diff_command->add_option("A", path, "a plan (.mili)")->required();
  diff_command->add_option("B", other, "a plan (.mili)")->required();
  diff_command
      ->add_option("--read-bandwidth", bandwidth,
                   "GB/s at which expected times are counted [3350 for cuda, an H100's; 50 for cpu]")
      ->check(CLI::PositiveNumber);
  diff_command->add_option("--flops", flops, "TFLOP/s, likewise [800 for cuda; 1 for cpu]")->check(CLI::PositiveNumber);
  diff_command->add_flag("--json", json, "the changes as a JSON array");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &e) {
    return app.exit(e) == 0 ? 0 : tools::kUsage;
  }
  PlanOptions options;
  options.verify_weights = verify_command->parsed();
  StatusOr<Plan> plan = Plan::open(path, options);
  const int failure = diff_command->parsed() ? tools::kUsage : tools::kFailed;
  if (!plan.ok()) {
    tools::fail(kTool, plan.status());
    return failure;
  }
  if (diff_command->parsed()) {
    StatusOr<Plan> second = Plan::open(other, options);
    if (!second.ok()) {
      tools::fail(kTool, second.status());
      return failure;
    }
    return diff(*plan, *second, {bandwidth * 1e9, flops * 1e12}, json);
  }
  if (verify_command->parsed()) {
    fmt::print("{}: ok, {} sections, {}\n", path, plan->sections().size(),
               tools::human_bytes(plan->header().file_size));
    return 0;
  }
  return show(*plan, weights, launches, kernels);
}
