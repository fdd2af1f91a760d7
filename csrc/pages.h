// Aligned memory, large blocks of it on huge pages where the system lends them: a page of 4 KB spans a single row of a
// large matrix, and to fill a fresh block of 64 MB takes 16 thousand page faults.
#pragma once

#include <stdint.h>

#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastbp {

constexpr int64_t kPage = 4096, kHugePage = 2 << 20;
// glibc maps blocks of this size afresh each time. Smaller ones it keeps and gives out again, but not when they are to
// be aligned to huge pages, so that these lie as they come.
constexpr int64_t kAlwaysMapped = 32 << 20;

// To be freed by std::free; null when there is no memory. `alignment` is a power of two.
inline void* allocate_aligned(int64_t alignment, int64_t bytes) {
  if (bytes >= kAlwaysMapped) alignment = kHugePage;
  const int64_t size = (bytes + alignment - 1) / alignment * alignment;
  void* block = std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(size));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (block && bytes >= 2 * kHugePage) {
    const int64_t begin = -reinterpret_cast<intptr_t>(block) & (kPage - 1);  // whole pages only; a refusal is no harm
    madvise(static_cast<char*>(block) + begin, static_cast<size_t>((bytes - begin) / kPage * kPage), MADV_HUGEPAGE);
  }
#endif
  return block;
}

}  // namespace fastbp
