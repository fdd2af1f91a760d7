// The only file that knows threads: default count, OpenMP team, barrier, work gate, scratch memory, fork.
#include "threads.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>
#include <set>
#include <sstream>
#include <string>
#include <thread>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif

namespace fastbp {
namespace {

constexpr int kMaxThreads = 256;
constexpr int kAlign = 64;

// ---------------------------------------------------------------- default thread count

struct Choice {
  int count;
  std::string reason;
};

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

Choice choose_threads() {
#ifndef _OPENMP
  return {1, "built without OpenMP"};
#else
  if (const char* text = std::getenv("FASTBP_NUM_THREADS")) {
    char* end = nullptr;
    const long count = std::strtol(text, &end, 10);
    if (end != text && *end == 0 && count >= 1 && count <= kMaxThreads)
      return {static_cast<int>(count), "FASTBP_NUM_THREADS"};
  }
  int logical = 1;
  const int cores = physical_cores_in_affinity(&logical);
  const int quota = cgroup_quota();
  int count = std::min(cores, logical);
  if (quota) count = std::min(count, quota);
  std::ostringstream why;
  why << "affinity " << logical << ", physical cores " << cores << ", cgroup quota ";
  if (quota) why << quota;
  else why << "none";
  return {std::clamp(count, 1, kMaxThreads), why.str()};
#endif
}

// ---------------------------------------------------------------- scratch memory

class Block {
 public:
  ~Block() { std::free(data_); }
  void* at_least(int64_t bytes) {
    if (bytes > size_) {
      const int64_t rounded = (bytes + 4095) / 4096 * 4096;
      std::free(data_);
      size_ = 0;
      data_ = std::aligned_alloc(4096, static_cast<size_t>(rounded));
      if (!data_) throw std::bad_alloc();
      size_ = rounded;
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  int64_t size_ = 0;
};

// Alone, a thread uses scratch of its own; the team's is guarded by `busy`.
thread_local Block lone_shared, lone_local;

// ---------------------------------------------------------------- team

struct Team {
  Choice choice = choose_threads();
  std::atomic<int64_t> gate{150'000};  // a region costs about 0.65 µs, what one core does of 150 kFLOP at half its peak
  std::atomic<bool> busy{false};
  Block shared, local;
};

Team& team() {
  static Team* const instance = new Team;  // never destroyed: a thread may still run while the process exits
  return *instance;
}

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Sense-reversing: the last to arrive opens the next generation. Spins about 10 µs, then gives the core away.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}
  void wait() {
    const int generation = generation_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.store(generation + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; generation_.load(std::memory_order_acquire) == generation; ++spins) {
      if (spins < 400) relax();
      else std::this_thread::yield();
    }
  }

 private:
  const int size_;
  alignas(kAlign) std::atomic<int> arrived_{0};
  alignas(kAlign) std::atomic<int> generation_{0};
};

struct Range {
  int64_t begin, end;
};

// Share `index` of `parts` of [0, count), in whole grains, as even as they come.
Range share(int64_t count, int64_t grain, int index, int parts) {
  const int64_t grains = (count + grain - 1) / grain;
  const int64_t begin = grains * index / parts * grain, end = grains * (index + 1) / parts * grain;
  return {std::min(begin, count), std::min(end, count)};
}

int64_t size_of(SizeFn function, const Args& args) { return function ? function(args) : 0; }

void run_alone(const Kernel& kernel, const Args& args, int64_t shared_bytes, int64_t local_bytes) {
  const Scratch scratch{lone_shared.at_least(shared_bytes), lone_local.at_least(local_bytes)};
  for (const Phase& phase : kernel.phases) {
    if (!phase.run) break;
    if (const int64_t count = phase.count(args)) phase.run(args, 0, count, scratch);
  }
}

#ifdef _OPENMP
void run_in_team(const Kernel& kernel, const Args& args, int64_t shared_bytes, int64_t local_bytes, int threads) {
  const int64_t stride = (local_bytes + kAlign - 1) / kAlign * kAlign + kAlign;
  void* const shared = team().shared.at_least(shared_bytes);
  char* const local = static_cast<char*>(team().local.at_least(local_bytes ? stride * threads : 0));
  int64_t counts[kMaxPhases] = {};
  int phases = 0;
  for (; phases < kMaxPhases && kernel.phases[phases].run; ++phases) counts[phases] = kernel.phases[phases].count(args);
  Barrier* barrier = nullptr;
  alignas(Barrier) char barrier_memory[sizeof(Barrier)];
  std::atomic<bool> ready{false};
#pragma omp parallel num_threads(threads)
  {
    const int size = omp_get_num_threads(), me = omp_get_thread_num();
    if (me == 0) {
      barrier = new (barrier_memory) Barrier(size);  // sized by the team that OpenMP gave
      ready.store(true, std::memory_order_release);
    } else {
      while (!ready.load(std::memory_order_acquire)) relax();
    }
    const Scratch scratch{shared, local ? local + stride * me : nullptr};
    for (int i = 0; i < phases; ++i) {
      if (i) barrier->wait();
      const Range range = share(counts[i], kernel.phases[i].grain, me, size);
      if (range.begin < range.end) kernel.phases[i].run(args, range.begin, range.end, scratch);
    }
  }
}

#ifdef __linux__
// libgomp's team does not survive a fork: the child would wait for threads that it does not have. Pausing the runtime
// in the parent, just before, ends the team in both; each starts a new one when it next needs it.
void before_fork() { omp_pause_resource_all(omp_pause_soft); }
void after_fork_in_child() { team().busy.store(false); }
[[maybe_unused]] const int fork_handlers = pthread_atfork(before_fork, nullptr, after_fork_in_child);
#endif
#endif

}  // namespace

void run_kernel(const Kernel& kernel, const Args& args) {
  const int64_t shared_bytes = size_of(kernel.shared_bytes, args), local_bytes = size_of(kernel.local_bytes, args);
#ifdef _OPENMP
  Team& t = team();
  const int threads = t.choice.count;
  if (threads > 1 && size_of(kernel.work, args) >= t.gate.load(std::memory_order_relaxed) && !omp_in_parallel() &&
      !t.busy.exchange(true, std::memory_order_acquire)) {
    struct Release {
      std::atomic<bool>& flag;
      ~Release() { flag.store(false, std::memory_order_release); }
    } release{t.busy};
    run_in_team(kernel, args, shared_bytes, local_bytes, threads);
    return;
  }
#endif
  run_alone(kernel, args, shared_bytes, local_bytes);
}

int thread_count() { return team().choice.count; }
const char* thread_reason() { return team().choice.reason.c_str(); }
int max_threads() {
#ifdef _OPENMP
  return kMaxThreads;
#else
  return 1;
#endif
}
void set_thread_count(int count) { team().choice = {count, "set_num_threads"}; }
int64_t work_gate() { return team().gate.load(); }
void set_work_gate(int64_t operations) { team().gate.store(operations); }

}  // namespace fastbp
