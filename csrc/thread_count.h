// How many threads a process should use unless told otherwise.
#pragma once

#include <string>

namespace fastbp {

struct ThreadChoice {
  int count;
  std::string reason;  // for people
};

// The least of the processors in the affinity mask, their physical cores, and the whole CPUs of the cgroup's quota;
// from 1 to `most`.
ThreadChoice default_thread_count(int most);

}  // namespace fastbp
