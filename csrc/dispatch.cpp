#include "dispatch.h"

#include <atomic>
#include <fstream>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fastbp {

// The tables that this build has: kernels.cpp, once for each.
const KernelTable* kernel_table_scalar();
const KernelTable* kernel_table_avx2();
const KernelTable* kernel_table_avx512();
const KernelTable* kernel_table_neon();

namespace {

#if defined(__x86_64__)
struct Features {
  bool v3 = false, v4 = false;  // the x86-64 psABI levels that the tables are compiled for
};

Features cpu_features() {
  Features found;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
  const bool fma = c & bit_FMA, movbe = c & bit_MOVBE, osxsave = c & bit_OSXSAVE, avx = c & bit_AVX,
             f16c = c & bit_F16C;
  if (!osxsave || !avx) return found;
  // XCR0: does the operating system save the wide registers? Bits 1-2: SSE, AVX; 5-7: mask registers and zmm.
  unsigned xcr0, high;
  asm("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
  if ((xcr0 & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  const bool avx2 = b & bit_AVX2, bmi = (b & bit_BMI) && (b & bit_BMI2);
  const unsigned wide = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
  const bool avx512 = (b & wide) == wide && (xcr0 & 0xE6) == 0xE6;
  const bool lzcnt = __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & bit_ABM);
  found.v3 = avx2 && bmi && fma && movbe && f16c && lzcnt;
#ifdef FASTBP_EMULATE_AVX512
  constexpr bool emulated = true;
#else
  constexpr bool emulated = false;
#endif
  found.v4 = found.v3 && (avx512 || emulated);
  return found;
}
#endif

// Bytes of the last-level cache that this thread's core can fill. Of sysfs, because sysconf counts all such caches of
// the package together.
int64_t last_cache_bytes() {
#ifdef __linux__
  for (const char* index : {"3", "2"}) {
    std::ifstream file(std::string("/sys/devices/system/cpu/cpu0/cache/index") + index + "/size");
    int64_t kilobytes;
    char unit;
    if (file >> kilobytes >> unit && kilobytes > 0 && unit == 'K') return kilobytes * 1024;
  }
#endif
  return int64_t{32} << 20;
}

std::vector<const KernelTable*> find_tables() {
  std::vector<const KernelTable*> tables;
#ifdef FASTBP_HAVE_SCALAR
  tables.push_back(kernel_table_scalar());
#endif
#if defined(__x86_64__)
  [[maybe_unused]] const Features features = cpu_features();
#endif
#ifdef FASTBP_HAVE_AVX2
  if (features.v3) tables.push_back(kernel_table_avx2());
#endif
#ifdef FASTBP_HAVE_AVX512
  if (features.v4) tables.push_back(kernel_table_avx512());
#endif
#ifdef FASTBP_HAVE_NEON
  tables.push_back(kernel_table_neon());
#endif
  for (const int64_t bytes = last_cache_bytes(); const KernelTable* table : tables) *table->stream_gate = bytes;
  return tables;
}

std::atomic<const KernelTable*> active{nullptr};

}  // namespace

const std::vector<const KernelTable*>& available_tables() {
  static const std::vector<const KernelTable*> tables = find_tables();
  return tables;
}

const KernelTable* active_table() {
  const KernelTable* table = active.load(std::memory_order_relaxed);
  if (!table) active.store(table = available_tables().back(), std::memory_order_relaxed);
  return table;
}

bool set_active_table(const std::string& isa) {
  for (const KernelTable* table : available_tables()) {
    if (isa != table->isa) continue;
    active.store(table);
    return true;
  }
  return false;
}

int64_t stream_gate() { return *active_table()->stream_gate; }

void set_stream_gate(int64_t bytes) {
  for (const KernelTable* table : available_tables()) *table->stream_gate = bytes;
}

const Entry& active_entry(int list, int index) { return active_table()->lists[list].entries[index]; }

}  // namespace fastbp
