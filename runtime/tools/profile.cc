#include "profile.h"

#include "tool_support.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <map>
#include <vector>

namespace mili::tools {

DeviceCeilings measure_ceilings(Engine &engine) {
  DeviceCeilings ceilings;
  if (const uint32_t workers = engine.device().workers())
    ceilings.read_bytes_per_second = measure_read_bandwidth(workers);
  else if (auto measured = engine.device().measure_ceilings(); measured.ok())
    ceilings = *measured;
  return ceilings;
}

std::string profile_table(const Engine &engine, std::string_view title, const DeviceCeilings &ceilings) {
  struct Entry {
    uint64_t calls = 0;
    double seconds = 0;
    ExpectedWork work;
  };
  std::map<std::string, Entry> entries;
  std::map<std::string, std::pair<uint64_t, double>> steps;  // of each bucket: how many, their time
  double total = 0;
  for (const LaunchProfile &launch : engine.profile()) {
    Entry &entry = entries[launch.bucket + " " + launch.kernel];
    entry.calls += launch.calls;
    entry.seconds += launch.seconds;
    entry.work += launch.work;
    steps[launch.bucket].first = launch.calls;
    steps[launch.bucket].second += launch.seconds;
    total += launch.seconds;
  }
  std::vector<std::pair<std::string, Entry>> order(entries.begin(), entries.end());
  std::sort(order.begin(), order.end(), [](auto &a, auto &b) { return a.second.seconds > b.second.seconds; });
  std::string text = fmt::format("{}: {:.3f} ms in kernels (", title, 1e3 * total);
  for (bool first = true; const auto &[bucket, sum] : steps) {
    text += fmt::format("{}{}: {} steps of {:.4f} ms", first ? "" : ", ", bucket, sum.first,
                        1e3 * sum.second / static_cast<double>(sum.first));
    first = false;
  }
  text += ")\n\n| kernel | calls | µs each | share | bytes each | flops each | of read | of product |\n"
          "|---|---:|---:|---:|---:|---:|---:|---:|\n";
  auto share = [](double amount, double seconds, double ceiling) {
    return ceiling > 0 ? fmt::format("{:.0f}%", 100 * amount / seconds / ceiling) : std::string();
  };
  for (const auto &[name, entry] : order) {
    const auto calls = static_cast<double>(entry.calls);
    text += fmt::format("| {} | {} | {:.2f} | {:.1f}% | {} | {:.3g} | {} | {} |\n", name, entry.calls,
                        1e6 * entry.seconds / calls, 100 * entry.seconds / total,
                        human_bytes(static_cast<uint64_t>(entry.work.bytes() / calls)), entry.work.flops / calls,
                        share(entry.work.bytes(), entry.seconds, ceilings.read_bytes_per_second),
                        share(entry.work.flops, entry.seconds, ceilings.bf16_flops_per_second));
  }
  return text + "\n";
}

Status write_trace(const Engine &engine, const std::string &path) {
  nlohmann::json events = nlohmann::json::array();
  std::map<std::string, std::pair<int, double>> threads;  // of each bucket: number, end of its last launch
  for (const LaunchProfile &launch : engine.profile()) {
    auto [thread, fresh] = threads.try_emplace(launch.bucket, static_cast<int>(threads.size()), 0.0);
    auto &[number, at] = thread->second;
    if (fresh)
      events.push_back({{"name", "thread_name"},
                        {"ph", "M"},
                        {"pid", 0},
                        {"tid", number},
                        {"args", {{"name", fmt::format("{}, mean of {} steps", launch.bucket, launch.calls)}}}});
    const double microseconds = 1e6 * launch.seconds / static_cast<double>(launch.calls);
    events.push_back({{"name", launch.name},
                      {"cat", launch.kernel},
                      {"ph", "X"},
                      {"pid", 0},
                      {"tid", number},
                      {"ts", at},
                      {"dur", microseconds},
                      {"args",
                       {{"kernel", launch.kernel},
                        {"bytes", launch.work.bytes() / static_cast<double>(launch.calls)},
                        {"flops", launch.work.flops / static_cast<double>(launch.calls)}}}});
    at += microseconds;
  }
  std::ofstream file(path);
  file << nlohmann::json{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ns"}}.dump(
              -1, ' ', false, nlohmann::json::error_handler_t::replace)
       << "\n";
  return file.flush() ? ok_status() : unavailable(path + ": the trace could not be written");
}

}  // namespace mili::tools
