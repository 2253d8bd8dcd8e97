//===- Phases.cpp - names of the phases -------------------------------------===//
#include "mili/Compiler/Compiler.h"

#include <array>

namespace mili {

namespace {
struct PhaseText {
  std::string_view name, summary;
};
constexpr std::array<PhaseText, kPhaseCount> kPhases = {{
    {"import", "reading the model's structure"},
    {"optimize", "merging projections, dropping what is unused"},
    {"quantize", "choosing element types"},
    {"partition", "placing on ranks"},
    {"specialize", "one function per bucket of steps"},
    {"fuse", "grouping ops, choosing kernels"},
    {"plan-memory", "laying out the arena"},
    {"codegen", "compiling kernels"},
    {"pack", "packing weights"},
}};
}  // namespace

std::string_view phase_name(Phase phase) {
  return kPhases[static_cast<size_t>(phase)].name;
}
std::string_view phase_summary(Phase phase) {
  return kPhases[static_cast<size_t>(phase)].summary;
}

std::optional<Phase> phase_from_name(std::string_view name) {
  for (size_t i = 0; i < kPhases.size(); ++i)
    if (kPhases[i].name == name)
      return static_cast<Phase>(i);
  return std::nullopt;
}

}  // namespace mili
