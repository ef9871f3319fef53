// How many processors to use: what the affinity mask allows (taskset, cpusets) and what the cgroup's CPU quota pays for
// (docker --cpus, Kubernetes limits). More threads than that only wait for each other.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "thread_pool.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace alma::cpu {
namespace {

int affinity() {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

#if defined(__linux__)
double quota_v2(const std::string& folder) {  // cpu.max: "<quota or max> <period>"
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return INFINITY;
  try {
    return std::stod(quota) / period;
  } catch (const std::exception&) {
    return INFINITY;
  }
}

double quota_v1(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");
  double quota = -1, period = 0;
  if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 || period <= 0) return INFINITY;
  return quota / period;
}

// The least quota of this process's cgroup and of its ancestors.
double cgroup_quota() {
  double quota = INFINITY;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // hierarchy:controllers:path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    bool has_cpu = v2;
    std::istringstream names(controllers);
    for (std::string name; std::getline(names, name, ',');) has_cpu = has_cpu || name == "cpu";
    if (!has_cpu) continue;
    std::string path = line.substr(second + 1);
    const std::string root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
    for (;;) {
      const std::string folder = path == "/" ? root : root + path;
      quota = std::min(quota, v2 ? quota_v2(folder) : quota_v1(folder));
      if (path.empty()) break;
      path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return quota;
}
#endif

}  // namespace

int usable_processors() {
  int processors = affinity();
#if defined(__linux__)
  const double quota = cgroup_quota();
  if (std::isfinite(quota)) processors = std::min(processors, std::max(1, static_cast<int>(std::ceil(quota))));
#endif
  return processors;
}

}  // namespace alma::cpu
