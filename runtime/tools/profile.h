// What the tools show of a profiled run: ceilings, a table of kernels, a trace.
#pragma once

#include "mili/runtime/engine.h"

#include <string>
#include <string_view>

namespace mili::tools {

// Of the engine's device; on a CPU the read bandwidth of its worker threads. Zeros where something cannot be measured.
DeviceCeilings measure_ceilings(Engine &engine);

// The kernels of the steps since profiling began, by time, as a Markdown table under `title`: calls, time of each and
// its share of all, bytes and operations of each as the plan expects them of what the steps held, and these as shares
// of the ceilings.
std::string profile_table(const Engine &engine, std::string_view title, const DeviceCeilings &ceilings);

// The same as a trace for chrome://tracing or Perfetto: a thread for each bucket, on it the launches of a step one
// after the other with their mean times. Mean bytes and operations are arguments of each.
Status write_trace(const Engine &engine, const std::string &path);

}  // namespace mili::tools
