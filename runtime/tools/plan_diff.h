// What changed between two plans.
#pragma once

#include "mili/runtime/plan.h"

#include <string>
#include <vector>

namespace mili::tools {

// A difference: what of which part, and how each plan has it; empty where it has none.
struct PlanChange {
  std::string part;  // "plan", "memory", "forward_t1", "kernels"
  std::string what;
  std::string before, after;
};

// Rates at which expected times are counted; 0: those of a machine that plans of the target are made for, an H100 (3350
// GB/s, 800 TFLOP/s) or eight cores (50 GB/s, 1 TFLOP/s). A launch takes the longer of its bytes and its operations.
struct PlanRates {
  double bytes_per_second = 0, flops_per_second = 0;
};

// Every difference that a reader of the plans would ask for: model, target and bounds; memory; of each bucket its
// launches, groups, bytes, operations and expected time (at its bounds, the context half full); kernels by what they
// compute and need. Layers that differ alike are one line. Empty for plans that are alike, whatever the order of their
// sections or their weights' bytes.
std::vector<PlanChange> diff_plans(const Plan &before, const Plan &after, const PlanRates &rates);

}  // namespace mili::tools
