// Ranges of addresses, [first, second), to look for others that share memory with them.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace fastbp {

class Ranges {
 public:
  using Range = std::pair<uintptr_t, uintptr_t>;

  Ranges() = default;
  explicit Ranges(std::vector<Range> ranges) {
    std::sort(ranges.begin(), ranges.end());
    for (const Range& range : ranges) {
      if (!apart_.empty() && range.first <= apart_.back().second)
        apart_.back().second = std::max(apart_.back().second, range.second);
      else apart_.push_back(range);
    }
  }

  bool overlap(const char* begin, const char* end) const {
    const auto low = reinterpret_cast<uintptr_t>(begin), high = reinterpret_cast<uintptr_t>(end);
    const auto after = std::upper_bound(apart_.begin(), apart_.end(), low,
                                        [](uintptr_t address, const Range& range) { return address < range.second; });
    return after != apart_.end() && after->first < high;
  }

 private:
  std::vector<Range> apart_;  // in ascending order, those that touched as one
};

}  // namespace fastbp
