#include "thread_count.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace fastbp {
namespace {

int physical_cores_in_affinity(int* logical) {
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    *logical = CPU_COUNT(&set);
    std::set<std::string> cores;  // hardware threads of one core list the same siblings
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &set)) continue;
      std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
      std::string siblings;
      if (!std::getline(file, siblings)) return *logical;
      cores.insert(siblings);
    }
    return static_cast<int>(cores.size());
  }
#endif
  *logical = std::max(1u, std::thread::hardware_concurrency());
  return *logical;
}

// Whole CPUs that the cgroup's bandwidth limit allows, or 0 where there is no limit.
int cgroup_quota() {
#ifdef __linux__
  double quota = -1, period = 0;
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  std::string first;
  if (v2 >> first >> period) {
    if (first != "max") quota = std::atof(first.c_str());
  } else {
    std::ifstream q("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), p("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    if (!(q >> quota) || !(p >> period)) return 0;
  }
  if (quota > 0 && period > 0) return std::max(1, static_cast<int>(quota / period));
#endif
  return 0;
}

}  // namespace

ThreadChoice default_thread_count(int most) {
  std::ostringstream why;
  int logical = 1;
  const int cores = physical_cores_in_affinity(&logical);
  const int quota = cgroup_quota();
  int count = std::min(cores, logical);
  if (quota) count = std::min(count, quota);
  why << "affinity " << logical << ", physical cores " << cores << ", cgroup quota ";
  if (quota) why << quota;
  else why << "none";
  return {std::clamp(count, 1, most), why.str()};
}

}  // namespace fastbp
