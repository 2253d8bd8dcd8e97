#include "mili/runtime/device.h"

#include "cpu_topology.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sched.h>
#include <set>
#include <string>

namespace mili {
namespace {

// The kernel lists a feature in /proc/cpuinfo only where the system also enables its registers, which is what matters.
std::set<std::string, std::less<>> read_features() {
  std::set<std::string, std::less<>> features;
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("flags") && !line.starts_with("Features"))
      continue;
    size_t at = line.find(':');
    while (at != std::string::npos && at < line.size()) {
      size_t begin = line.find_first_not_of(" \t:", at);
      if (begin == std::string::npos)
        break;
      at = line.find_first_of(" \t", begin);
      features.insert(line.substr(begin, at == std::string::npos ? std::string::npos : at - begin));
    }
    break;
  }
  return features;
}

int read_number(const std::string &path) {
  std::ifstream file(path);
  int value = -1;
  file >> value;
  return file ? value : -1;
}

// CPUs' worth of time that the cgroup grants, or a large number.
uint32_t quota_cpus() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0)
    return 1u << 20;
  double cpus = std::atof(quota.c_str()) / period;
  return cpus < 1 ? 1 : static_cast<uint32_t>(cpus);
}

}  // namespace

bool cpu_has_feature(std::string_view name) {
  static const std::set<std::string, std::less<>> features = read_features();
  return features.find(name) != features.end();
}

std::vector<int> physical_cores() {
  // A mask larger than cpu_set_t's 1024 CPUs needs more room; ask until it fits.
  std::vector<int> cores;
  for (size_t cpus = 1024; cpus <= size_t{1} << 20; cpus *= 4) {
    cpu_set_t *set = CPU_ALLOC(cpus);
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    if (sched_getaffinity(0, bytes, set) == 0) {
      std::set<std::pair<int, int>> seen;
      for (size_t cpu = 0; cpu < cpus; ++cpu) {
        if (!CPU_ISSET_S(cpu, bytes, set))
          continue;
        const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
        int package = read_number(topology + "physical_package_id"), core = read_number(topology + "core_id");
        if (core < 0 || seen.emplace(package, core).second)
          cores.push_back(static_cast<int>(cpu));
      }
      CPU_FREE(set);
      break;
    }
    CPU_FREE(set);
  }
  if (cores.empty())
    cores.push_back(0);
  return cores;
}

uint32_t default_cpu_threads() {
  return std::max<uint32_t>(1, std::min<uint32_t>(static_cast<uint32_t>(physical_cores().size()), quota_cpus()));
}

}  // namespace mili
