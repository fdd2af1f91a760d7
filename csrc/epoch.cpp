#include "epoch.h"

#include <algorithm>
#include <cstring>

namespace fastbp {
namespace {

// Phase 0 of a step keeps the results of the step before and gathers rows; the program's stages follow.
void run_phase(const Job& job, int64_t phase, int share, int shares, Scratch scratch) {
  const Epoch& epoch = *static_cast<const Epoch*>(job.self);
  const Job& inner = epoch.program.job();
  const int64_t step = phase / (inner.phases + 1), stage = phase % (inner.phases + 1) - 1;
  if (epoch.program.is_ending() && step >= epoch.begun) return;  // a guard has ended a step before this one
  if (stage >= 0) return inner.run(inner, stage, share, shares, scratch);
  if (share == 0) {
    epoch.begun = step + 1;
    epoch.program.save();
    if (step > 0)
      for (const Record& r : epoch.results) std::memcpy(r.table + (step - 1) * r.bytes, r.memory, size_t(r.bytes));
    for (const Record& r : epoch.settings) std::memcpy(r.memory, r.table + step * r.bytes, size_t(r.bytes));
  }
  const int64_t begin = epoch.rows * share / shares, end = epoch.rows * (share + 1) / shares;
  for (const Feed& feed : epoch.feeds) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = step * epoch.rows + i, row = epoch.order ? epoch.order[at] : at;
      std::memcpy(feed.target + i * feed.row_bytes, feed.source + row * feed.row_bytes, size_t(feed.row_bytes));
    }
  }
}

}  // namespace

int64_t Epoch::run() const {
  Job job = program.job();
  job.phases = steps * (job.phases + 1);
  job.times = steps;
  job.run = run_phase;
  job.self = this;
  run_job(job);
  const int64_t done = program.ended() ? begun - 1 : steps;
  for (const Record& r : results) std::memcpy(r.table + (begun - 1) * r.bytes, r.memory, size_t(r.bytes));
  return done;
}

}  // namespace fastbp
