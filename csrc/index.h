// Integer indexing of rows: scatter and the reading of negative indices. gather and scatter_add are in copy.h.
//
// scatter     y[index[i], :] = x[i, :] for ascending i, so the last wins; p = {x, index, y}, n = {inner, indices}.
//             Partitioned by the columns of inner.
// wrap_index  y[i] = index[i] + (index[i] < 0 ? size : 0); p = {index, y}, n = {count, size}
#pragma once

#include "copy.h"

namespace {

template <class B> void scatter(const Args& a, int64_t begin, int64_t end, Scratch) {
  const B* x = static_cast<const B*>(a.p[0]);
  const int64_t* index = static_cast<const int64_t*>(a.p[1]);
  B* y = static_cast<B*>(a.p[2]);
  const int64_t inner = a.n[0], indices = a.n[1];
  for (int64_t i = 0; i < indices; ++i) copy_values(x + i * inner + begin, y + index[i] * inner + begin, end - begin);
}

inline void wrap_index(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t* index = static_cast<const int64_t*>(a.p[0]);
  int64_t* y = static_cast<int64_t*>(a.p[1]);
  for (int64_t i = begin; i < end; ++i) y[i] = index[i] + (index[i] < 0 ? a.n[1] : 0);
}

constexpr Entry kIndexEntries[] = {
    {"scatter",
     Family::kSingle,
     0,
     {column_kernel(scatter<uint32_t>), column_kernel(scatter<uint64_t>), column_kernel(scatter<uint64_t>),
      column_kernel(scatter<uint8_t>)}},
    {"wrap_index", Family::kSingle, 1, {{}, {}, flat_kernel(wrap_index)}},
};

}  // namespace
