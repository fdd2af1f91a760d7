// The team of threads and how a kernel is run on it.
#pragma once

#include "kernel.h"

namespace fastbp {

// Runs all phases of a kernel, split over the team when its work exceeds the gate and the team is free, else on the
// calling thread alone. The result is the same bits either way. Throws std::bad_alloc, before any work, when scratch
// memory cannot be had.
void run_kernel(const Kernel& kernel, const Args& args);

int thread_count();
const char* thread_reason();  // why that many, for people
// 1 .. max_threads(), and why, as text that stays.
void set_thread_count(int count, const char* reason = "set_num_threads");
int max_threads();

int64_t work_gate();  // operations below which a call stays on the calling thread
void set_work_gate(int64_t operations);

}  // namespace fastbp
