// The team of threads and how a kernel is run on it.
#pragma once

#include "kernel.h"

namespace fastbp {

// Work in phases, each cut into as many shares as threads take part; all of a phase is done before the next begins.
struct Job {
  int64_t phases;
  int64_t work;                       // operations, about: below the gate the calling thread works alone
  int64_t times;                      // how often so much work comes, in a job of many steps
  int64_t most_shares;                // of any phase: more threads would find nothing to do
  int64_t shared_bytes, local_bytes;  // scratch of the team, and of each thread
  void (*run)(const Job& job, int64_t phase, int share, int shares, Scratch);
  const void* self;  // what `run` needs to know
};

// Runs a job, split over the team when its work exceeds the gate and the team is free, else on the calling thread
// alone, as one share. Throws std::bad_alloc, before any work, when scratch memory cannot be had.
void run_job(const Job& job);

// Runs all phases of a kernel, as a job. The result is the same bits however it is split.
void run_kernel(const Kernel& kernel, const Args& args);

int thread_count();
const char* thread_reason();  // why that many, for people
// 1 .. max_threads(), and why, as text that stays.
void set_thread_count(int count, const char* reason = "set_num_threads");
int max_threads();

int64_t work_gate();  // operations below which a call stays on the calling thread
void set_work_gate(int64_t operations);

}  // namespace fastbp
