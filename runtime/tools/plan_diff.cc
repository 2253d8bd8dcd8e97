#include "plan_diff.h"

#include "mili/runtime/hash.h"
#include "mili/runtime/memory.h"
#include "mili/runtime/work.h"
#include "mili/schema/cuda_generated.h"
#include "mili/schema/plan_generated.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

namespace mili::tools {
namespace {

using Facts = std::vector<std::pair<std::string, std::string>>;  // what, and how it is; in the order of the report
using Parts = std::vector<std::pair<std::string, Facts>>;

std::string bytes_text(uint64_t bytes) {
  return bytes < 1024 ? fmt::format("{} bytes", bytes) : fmt::format("{} ({} bytes)", format_bytes(bytes), bytes);
}

// "layers.*.attn.core" of "layers.12.attn.core": what equal layers share.
std::string without_layer(const std::string &name) {
  const size_t begin = name.find("layers.");
  if (begin == std::string::npos)
    return name;
  const size_t number = begin + 7, end = std::min(name.find('.', number), name.size());
  if (end == number ||
      !std::all_of(name.begin() + static_cast<ptrdiff_t>(number), name.begin() + static_cast<ptrdiff_t>(end),
                   [](char c) { return c >= '0' && c <= '9'; }))
    return name;
  return name.substr(0, number) + "*" + name.substr(end);
}

Facts plan_facts(const Plan &plan) {
  const plan::Plan &meta = plan.meta();
  Facts facts = {{"model", meta.model()->name()->str()},
                 {"family", meta.model()->family()->str()},
                 {"parameters", std::to_string(meta.model()->parameters())},
                 {"made by", meta.producer()->str()},
                 {"target", meta.target()->name()->str()},
                 {"activations", plan::EnumNameDtype(meta.activation_dtype())},
                 {"requests", std::to_string(meta.requests())},
                 {"context", std::to_string(meta.context())},
                 {"deterministic", meta.deterministic() ? "yes" : "no"}};
  if (meta.target()->variants())
    for (const plan::Variant *variant : *meta.target()->variants())
      facts.push_back({"variant " + variant->name()->str(), "present"});
  std::map<std::string, std::pair<uint64_t, uint64_t>> layouts;
  for (const plan::Weight *weight : *meta.weights()) {
    auto &[count, bytes] = layouts[weight->format()->str() + " " + weight->layout()->str()];
    ++count;
    bytes += weight->size();
  }
  for (const auto &[layout, use] : layouts)
    facts.push_back({"weights in " + layout, fmt::format("{}, {}", use.first, format_bytes(use.second))});
  return facts;
}

Facts memory_facts(const Plan &plan) {
  const MemoryFigures &m = plan.memory();
  Facts facts = {{"weights", bytes_text(m.weights)},
                 {"arena", bytes_text(m.arena)},
                 {"kv", bytes_text(m.kv)},
                 {"tables", bytes_text(m.tables)},
                 {"counters", bytes_text(m.counters)},
                 {"worker scratch", bytes_text(m.worker_scratch)},
                 {"total", bytes_text(m.total(1))}};
  for (const PageTable &table : m.page_tables)
    facts.push_back({table.window ? fmt::format("pages of a window of {}", table.window) : "pages",
                     fmt::format("{}, {} a sequence", table.pages, table.ring)});
  return facts;
}

PlanRates rates_for(const plan::Plan &meta, const PlanRates &given) {
  const bool cuda = meta.target()->name()->string_view() == "cuda";
  return {given.bytes_per_second > 0 ? given.bytes_per_second
          : cuda                     ? 3350e9
                                     : 50e9,
          given.flops_per_second > 0 ? given.flops_per_second
          : cuda                     ? 800e12
                                     : 1e12};
}

Facts bucket_facts(const plan::Plan &meta, const plan::Bucket &bucket, const PlanRates &given) {
  const PlanRates rates = rates_for(meta, given);
  const std::vector<SequenceExtent> extents = extents_at_bounds(bucket, meta.context());
  const StepExtent step{extents, bucket.logit_rows()};
  ExpectedWork sum;
  double seconds = 0;
  // Groups that are the same in many layers are one fact; so is a kernel that some of them use.
  std::map<std::string, std::map<std::string, uint32_t>> groups;
  for (const plan::Launch *launch : *bucket.launches()) {
    const ExpectedWork work = expected_work(*launch, step);
    sum += work;
    seconds += std::max(work.bytes() / rates.bytes_per_second, work.flops / rates.flops_per_second);
    ++groups[without_layer(launch->name()->str())][meta.kernels()->Get(launch->kernel())->symbol()->str()];
  }
  Facts facts = {{"bounds", fmt::format("{} tokens, {} sequences, {} rows of logits", bucket.tokens(),
                                        bucket.sequences(), bucket.logit_rows())},
                 {"launches", std::to_string(bucket.launches()->size())},
                 {"arena", bytes_text(bucket.arena_bytes())},
                 {"moves", bytes_text(static_cast<uint64_t>(sum.bytes()))},
                 {"operations", fmt::format("{:.4g}", sum.flops)},
                 {"expected time", fmt::format("{:.4g} ms at {:.4g} GB/s, {:.4g} TFLOP/s", 1e3 * seconds,
                                               rates.bytes_per_second / 1e9, rates.flops_per_second / 1e12)}};
  for (const auto &[group, kernels] : groups) {
    std::string text;
    for (const auto &[kernel, count] : kernels)
      text += (text.empty() ? "" : ", ") + (count > 1 ? fmt::format("{} x {}", count, kernel) : kernel);
    facts.push_back({"group " + group, text});
  }
  return facts;
}

Facts kernel_facts(const Plan &plan) {
  std::map<std::string, uint64_t> sources;                              // hashes of the units' texts
  std::map<std::string, std::map<std::string, std::string>> resources;  // of a unit, by architecture
  for (uint32_t i = 0; i < plan.sections().size(); ++i) {
    const auto kind = static_cast<SectionKind>(plan.sections()[i].kind);
    if (kind != SectionKind::kCubins && kind != SectionKind::kCudaSource)
      continue;
    StatusOr<std::vector<std::byte>> bytes = plan.copy_section(i);
    if (!bytes.ok())
      continue;
    flatbuffers::Verifier verifier(reinterpret_cast<const uint8_t *>(bytes->data()), bytes->size());
    if (kind == SectionKind::kCudaSource) {
      if (verifier.VerifyBuffer<plan::CudaSources>(nullptr))
        for (const plan::SourceFile *unit : *flatbuffers::GetRoot<plan::CudaSources>(bytes->data())->units()) {
          RunningHash hash;
          hash.update(std::as_bytes(std::span(unit->text()->data(), unit->text()->size())));
          sources[unit->name()->str()] = hash.digest();
        }
      continue;
    }
    if (!verifier.VerifyBuffer<plan::Cubins>(nullptr))
      continue;
    const auto *cubins = flatbuffers::GetRoot<plan::Cubins>(bytes->data());
    for (const plan::Cubin *cubin : *cubins->cubins())
      if (const plan::KernelResources *r = cubin->resources())
        resources[cubin->unit()->str()][cubins->arch()->str()] = fmt::format(
            "{} registers, {} bytes spilled, {} bytes of shared memory", r->registers(), r->spilled(), r->shared());
  }
  Facts facts;
  for (const plan::Kernel *kernel : *plan.meta().kernels()) {
    const std::string name = kernel->symbol()->str();
    std::string text = kernel->ir() ? kernel->ir()->str() : "";
    if (kernel->scratch_bytes())
      text += fmt::format("\nscratch {} bytes a worker", kernel->scratch_bytes());
    if (kernel->cuda())
      for (const plan::CudaLaunch *launch : *kernel->cuda())
        text += fmt::format("\nfrom sm_{} on {} threads, {} bytes of shared memory, {} blocks a multiprocessor",
                            launch->arch(), launch->threads(), launch->shared(), launch->blocks_per_sm());
    if (const auto source = sources.find(name); source != sources.end())
      text += fmt::format("\nsource {:016x}", source->second);
    for (const auto &[arch, need] : resources[name])
      text += "\n" + arch + ": " + need;
    // Kernels of several buckets can be one unit of source.
    const auto same = std::find_if(facts.begin(), facts.end(), [&](const auto &fact) { return fact.first == name; });
    if (same == facts.end())
      facts.push_back({name, text});
    else
      same->second += "\n" + text;
  }
  return facts;
}

Parts parts_of(const Plan &plan, const PlanRates &rates) {
  Parts parts = {{"plan", plan_facts(plan)}, {"memory", memory_facts(plan)}};
  for (const plan::Rank *rank : *plan.meta().ranks())
    for (const plan::Function *function : *rank->functions())
      for (const plan::Bucket *bucket : *function->buckets())
        parts.push_back({bucket->name()->str(), bucket_facts(plan.meta(), *bucket, rates)});
  parts.push_back({"kernels", kernel_facts(plan)});
  return parts;
}

template <typename List>
auto find(const List &list, const std::string &name) {
  return std::find_if(list.begin(), list.end(), [&](const auto &entry) { return entry.first == name; });
}

}  // namespace

std::vector<PlanChange> diff_plans(const Plan &before, const Plan &after, const PlanRates &rates) {
  const Parts a = parts_of(before, rates), b = parts_of(after, rates);
  std::vector<PlanChange> changes;
  const Facts none;
  auto compare = [&](const std::string &part, const Facts &old, const Facts &now) {
    for (const auto &[what, text] : old) {
      const auto other = find(now, what);
      if (other == now.end() || other->second != text)
        changes.push_back({part, what, text, other == now.end() ? "" : other->second});
    }
    for (const auto &[what, text] : now)
      if (find(old, what) == old.end())
        changes.push_back({part, what, "", text});
  };
  for (const auto &[part, facts] : a) {
    const auto other = find(b, part);
    compare(part, facts, other == b.end() ? none : other->second);
  }
  for (const auto &[part, facts] : b)
    if (find(a, part) == a.end())
      compare(part, none, facts);
  // The longest part last.
  std::stable_partition(changes.begin(), changes.end(),
                        [](const PlanChange &change) { return change.part != "kernels"; });
  return changes;
}

}  // namespace mili::tools
