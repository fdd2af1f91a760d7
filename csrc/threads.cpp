// The only file that knows threads: team, barrier, work gate, scratch memory, fork.
//
// The team is our own and not OpenMP's, because an OpenMP region waits for all of its threads: where one of them is not
// scheduled at once (other processes use the cores), the region takes as long as the scheduler likes. Here a share of
// the work belongs to a thread only once that thread has come for it; what nobody has come for, the others do. So a
// call takes no longer than on one thread, but for a share that was begun and then interrupted. It also lets
// ThreadSanitizer see the team, and the process may fork, and hold another library's OpenMP, without a second thought.
#include "threads.h"

#include "pages.h"
#include "thread_count.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <string>
#include <system_error>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif

namespace fastbp {
namespace {

constexpr int kMaxThreads = 256;
constexpr int kAlign = 64;
using Clock = std::chrono::steady_clock;

// ---------------------------------------------------------------- scratch memory

class Block {
 public:
  ~Block() { std::free(data_); }
  void* at_least(int64_t bytes) {
    if (bytes > size_) {
      const int64_t rounded = (bytes + kPage - 1) / kPage * kPage;
      std::free(data_);
      size_ = 0;
      data_ = allocate_aligned(kPage, rounded);
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

// ---------------------------------------------------------------- waiting

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waiting for another thread: at first on the core, about 10 µs, then giving it away to whoever wants it.
class Pause {
 public:
  void operator()() {
    if (spins_ < kSpins) relax();
    else std::this_thread::yield();
    ++spins_;
  }
  bool spun_out() const { return spins_ > kSpins; }
  bool long_enough_to_sleep() const { return spins_ > kSpins + kYields; }

 private:
  static constexpr int kSpins = 400, kYields = 300;  // a yield takes 0.3 to 0.5 µs: sleep after about 0.1 ms
  int spins_ = 0;
};

// ---------------------------------------------------------------- team

struct Range {
  int64_t begin, end;
};

// Share `index` of `parts` of [0, count), in whole grains, as even as they come, the larger ones first.
Range share(int64_t count, int64_t grain, int index, int parts) {
  const int64_t grains = (count + grain - 1) / grain;
  const auto cut = [&](int i) { return std::min((grains * i + parts - 1) / parts * grain, count); };
  return {cut(index), cut(index + 1)};
}

int64_t size_of(SizeFn function, const Args& args) { return function ? function(args) : 0; }

// A job that the team works on. Thread i comes for share i of a phase first, then for any that is left; whoever finds
// nothing left waits until all of the phase is done. A thread that comes late finds what was done without it, and goes
// on to where the others are.
struct Region {
  const Job* job;
  void* shared;
  char* local;
  int64_t local_stride;
  int shares;
  // How far a phase is; a phase finds its slot as an earlier one left it. Values are the phase + 1, above 32 bits that
  // count the shares done, or have one for each share taken.
  struct alignas(kAlign) Slot {
    std::atomic<uint64_t> done;
    std::atomic<uint64_t> taken[kMaxThreads / 32];
  };
  static constexpr int kSlots = 2;  // threads that work are at most one phase apart
  Slot slots[kSlots];

  void open(const Job& job_to_do, int count) {
    job = &job_to_do;
    shares = count;
    for (Slot& slot : slots) {
      slot.done.store(0, std::memory_order_relaxed);
      for (int i = 0; i <= (count - 1) / 32; ++i) slot.taken[i].store(0, std::memory_order_relaxed);
    }
  }

  static uint64_t tag(int64_t phase) { return static_cast<uint64_t>(phase + 1) << 32; }

  bool take(int64_t phase, int share) {
    std::atomic<uint64_t>& word = slots[phase % kSlots].taken[share / 32];
    const uint64_t bit = uint64_t{1} << share % 32;
    uint64_t seen = word.load(std::memory_order_relaxed);
    for (;;) {
      const uint64_t now = seen < tag(phase) ? tag(phase) : seen;
      if (now >= tag(phase + 1) || now & bit) return false;
      if (word.compare_exchange_weak(seen, now | bit, std::memory_order_relaxed)) return true;
    }
  }

  void finish(int64_t phase) {
    std::atomic<uint64_t>& done = slots[phase % kSlots].done;
    uint64_t seen = done.load(std::memory_order_relaxed);
    while (!done.compare_exchange_weak(seen, (seen < tag(phase) ? tag(phase) : seen) + 1, std::memory_order_acq_rel)) {
    }
  }

  void work(int me) {
    const Scratch scratch{shared, local ? local + local_stride * me : nullptr};
    for (int64_t p = 0; p < job->phases; ++p) {
      for (int i = 0; i < shares; ++i) {
        const int mine = (me + i) % shares;
        if (!take(p, mine)) continue;
        job->run(*job, p, mine, shares, scratch);
        finish(p);
      }
      if (p + 1 == job->phases) break;  // the region's end waits for the last
      const std::atomic<uint64_t>& done = slots[p % kSlots].done;
      for (Pause pause; done.load(std::memory_order_acquire) < tag(p) + static_cast<uint64_t>(shares);) pause();
    }
  }
};

// A thread of the team but the caller. `call` numbers the last region that it was asked to join.
struct alignas(kAlign) Worker {
  std::atomic<uint32_t> call{0};
  std::atomic<bool> asleep{false};
  bool started = false;
};

struct Team {
  std::string default_reason;
  std::atomic<const char*> reason;
  std::atomic<int> count;
  // Below it a call stays on the calling thread: a region costs about 0.6 µs, up to 1.5 µs where a cache line is slow
  // to come, and more where Python runs in between; 400 kFLOP take one core 4.5 µs. At 250 kFLOP a step whose largest
  // products are just above took up to 1.25 times as long as on one thread.
  std::atomic<int64_t> gate{400'000};
  std::atomic<bool> busy{false};

  // What follows is the property of who holds `busy`, but for the atomics.
  Block shared, local;
  Region region;
  // The region's number << 32, 1 << 16 while it is open, and how many workers are inside.
  alignas(kAlign) std::atomic<uint64_t> door{0};
  Worker workers[kMaxThreads];
  int64_t credit = 0;
  Clock::time_point alone_until{};
  std::chrono::nanoseconds penalty{0};

  Team() {
    ThreadChoice choice = default_thread_count(kMaxThreads);
    default_reason = std::move(choice.reason);
    reason = default_reason.c_str();
    count = choice.count;
  }
};

Team& team() {
  static Team* const instance = new Team;  // never destroyed: its threads may still run while the process exits
  return *instance;
}

constexpr uint64_t kOpen = 1 << 16, kInside = 0xFFFF;

bool enter(Team& t, uint32_t call) {
  uint64_t door = t.door.load(std::memory_order_acquire);
  while (door >> 32 == call && door & kOpen)
    if (t.door.compare_exchange_weak(door, door + 1, std::memory_order_acq_rel)) return true;
  return false;
}

void run_worker(Team& t, int me, uint32_t last) {
  Worker& self = t.workers[me];
  for (;;) {
    for (Pause pause; self.call.load(std::memory_order_acquire) == last; pause()) {
      if (!pause.long_enough_to_sleep()) continue;
      self.asleep.store(true);
      self.call.wait(last);
      self.asleep.store(false);
      break;
    }
    last = self.call.load(std::memory_order_acquire);
    if (enter(t, last)) {
      t.region.work(me);
      t.door.fetch_sub(1, std::memory_order_release);
    }
  }
}

// Starts worker `me` unless it runs; false where the system has no thread to give.
bool start(Team& t, int me) {
  Worker& worker = t.workers[me];
  if (worker.started) return true;
#if defined(__unix__) || defined(__APPLE__)
  sigset_t all, before;  // signals are for the threads that the application knows
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
  try {
    std::thread(run_worker, std::ref(t), me, worker.call.load()).detach();
    worker.started = true;
  } catch (const std::system_error&) {
  }
#if defined(__unix__) || defined(__APPLE__)
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
  return worker.started;
}

// How many threads a job is worth: half a gate's work for each.
int worth(const Team& t, const Job& job) {
  const int64_t gate = t.gate.load(std::memory_order_relaxed);
  if (job.work < gate) return 1;
  const int64_t count = std::min<int64_t>(t.count.load(std::memory_order_relaxed), job.most_shares);
  return static_cast<int>(gate < 2 ? count : std::min(count, job.work / (gate / 2)));
}

// Waking a thread costs the caller about 2 µs, and the thread comes 50 µs later. So sleepers are left alone until as
// much work has passed as takes one thread 50 µs: then they are wanted often, or for long.
bool may_wake(Team& t, int threads, int64_t work) {
  constexpr int64_t kWorth = 5'000'000;
  bool asleep = false;
  for (int i = 1; i < threads; ++i) asleep |= t.workers[i].asleep.load(std::memory_order_relaxed);
  if (!asleep) return true;
  t.credit = std::min(t.credit, kWorth) + std::min(work, kWorth);
  if (t.credit < kWorth && t.gate.load(std::memory_order_relaxed) > 0) return false;
  t.credit = 0;
  return true;
}

// A thread that began a share and was then not scheduled holds up the call: when one took more than twice the caller's
// own time, and it mattered, the cores are wanted elsewhere, and the caller goes alone for a while, each time longer.
// Calls that would take longer than that while are tried all the same: alone they would lose more than they risk.
void judge(Team& t, Clock::time_point begun, Clock::time_point worked) {
  using namespace std::chrono_literals;
  const auto now = Clock::now();
  if (now - worked > (worked - begun) + 100us) {
    t.penalty = std::clamp<std::chrono::nanoseconds>(2 * t.penalty, 1ms, 64ms);
    t.alone_until = now + t.penalty;
  } else {
    t.penalty = 0ns;
  }
}

// Whether a thread needs longer for so much work than `time`: 90 FLOP take it a nanosecond.
bool outlasts(int64_t work, std::chrono::nanoseconds time) { return work / 90 > time.count(); }

void run_in_team(Team& t, const Job& job, int threads, Clock::time_point begun) {
  Region& r = t.region;
  r.local_stride = (job.local_bytes + kAlign - 1) / kAlign * kAlign + kAlign;
  r.shared = t.shared.at_least(job.shared_bytes);
  r.local = static_cast<char*>(t.local.at_least(job.local_bytes ? r.local_stride * threads : 0));
  r.open(job, threads);

  const uint32_t call = static_cast<uint32_t>(t.door.load(std::memory_order_relaxed) >> 32) + 1;
  t.door.store(uint64_t{call} << 32 | kOpen, std::memory_order_release);
  for (int i = 1; i < threads; ++i) {
    Worker& worker = t.workers[i];
    worker.call.store(call);
    if (worker.asleep.load() && worker.asleep.exchange(false)) worker.call.notify_one();
  }
  r.work(0);
  // All shares are taken; workers that are inside still work on some, and no more come in.
  if ((t.door.fetch_and(~kOpen, std::memory_order_acq_rel) & kInside) == 0) return;
  Clock::time_point worked{};
  for (Pause pause; t.door.load(std::memory_order_acquire) & kInside; pause())
    if (pause.spun_out() && worked == Clock::time_point{}) worked = Clock::now();
  if (worked != Clock::time_point{}) judge(t, begun, worked);
  else t.penalty = {};
}

void run_alone(const Job& job) {
  const Scratch scratch{lone_shared.at_least(job.shared_bytes), lone_local.at_least(job.local_bytes)};
  for (int64_t p = 0; p < job.phases; ++p) job.run(job, p, 0, 1, scratch);
}

// A kernel's call as a job.
struct KernelCall {
  const Kernel& kernel;
  const Args& args;
  int64_t counts[kMaxPhases];
};

void run_share(const Job& job, int64_t p, int share_index, int shares, Scratch scratch) {
  const KernelCall& c = *static_cast<const KernelCall*>(job.self);
  const Phase& phase = c.kernel.phases[p];
  const Range range = share(c.counts[p], phase.grain, share_index, shares);
  if (range.begin < range.end) phase.run(c.args, range.begin, range.end, scratch);
}

// ---------------------------------------------------------------- fork

#if defined(__unix__) || defined(__APPLE__)
// A fork waits until no call is under way, so that the child never sees half of one. The child has the calling thread
// alone: it starts workers of its own when it next needs them. The parent's are not touched.
void before_fork() {
  for (Pause pause; team().busy.exchange(true, std::memory_order_acquire);) pause();
}
void after_fork_in_parent() { team().busy.store(false, std::memory_order_release); }
void after_fork_in_child() {
  Team& t = team();
  for (Worker& worker : t.workers) {
    worker.asleep.store(false);
    worker.started = false;
  }
  t.busy.store(false, std::memory_order_release);
}
[[maybe_unused]] const int fork_handlers = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
#endif

}  // namespace

void run_job(const Job& job) {
  Team& t = team();
  const int threads = worth(t, job);
  if (threads > 1 && !t.busy.exchange(true, std::memory_order_acquire)) {
    struct Release {
      std::atomic<bool>& flag;
      ~Release() { flag.store(false, std::memory_order_release); }
    } release{t.busy};
    const auto now = Clock::now();
    const int64_t total = job.work > INT64_MAX / job.times ? INT64_MAX : job.work * job.times;
    if ((now >= t.alone_until || outlasts(total, t.penalty)) && may_wake(t, threads, total)) {
      int ready = 1;
      while (ready < threads && start(t, ready)) ++ready;
      run_in_team(t, job, ready, now);
      return;
    }
  }
  run_alone(job);
}

void run_kernel(const Kernel& kernel, const Args& args) {
  KernelCall call{kernel, args, {}};
  Job job{0,
          size_of(kernel.work, args),
          1,
          0,
          size_of(kernel.shared_bytes, args),
          size_of(kernel.local_bytes, args),
          run_share,
          &call};
  for (; job.phases < kMaxPhases && kernel.phases[job.phases].run; ++job.phases) {
    const Phase& phase = kernel.phases[job.phases];
    call.counts[job.phases] = phase.count(args);
    job.most_shares = std::max(job.most_shares, (call.counts[job.phases] + phase.grain - 1) / phase.grain);
  }
  run_job(job);
}

int thread_count() { return team().count.load(); }
const char* thread_reason() { return team().reason.load(); }
int max_threads() { return kMaxThreads; }
void set_thread_count(int count, const char* reason) {
  team().count.store(count);
  team().reason.store(reason);
}
int64_t work_gate() { return team().gate.load(); }
void set_work_gate(int64_t operations) { team().gate.store(operations); }

}  // namespace fastbp
