// The one file compiled once per instruction set. Everything it includes lives in an anonymous namespace, and it uses
// no C++ library header, so that no function built for a newer instruction set can be linked into common code.
#include "kernel.h"

#include "simd.h"
#include "vmath.h"
#include "elementwise.h"
#include "broadcast.h"
#include "copy.h"
#include "index.h"
#include "gemm.h"
#include "reduce.h"
#include "softmax.h"
#include "norm.h"
#include "loss.h"
#include "rng.h"
#include "optim.h"
#include "measure.h"

#define FASTBP_JOIN2(a, b) a##b
#define FASTBP_JOIN(a, b) FASTBP_JOIN2(a, b)
#define FASTBP_TEXT2(a) #a
#define FASTBP_TEXT(a) FASTBP_TEXT2(a)

namespace {

template <int N> constexpr EntryList list(const Entry (&entries)[N]) { return {entries, N}; }

constexpr EntryList kLists[] = {
    list(Unaries::forward), list(Unaries::backward), list(kBroadcastEntries),   list(kCopyEntries),
    list(kIndexEntries),    list(kGemmEntries),      list(kReduceEntries),      list(kSoftmaxEntries),
    list(kNormEntries),     list(kLossEntries),      list(kElementLossEntries), list(kRngEntries),
    list(kOptimEntries),    list(kMeasureEntries),
};

constexpr KernelTable kTable = {FASTBP_TEXT(FASTBP_ISA_NAME), kLists, sizeof kLists / sizeof *kLists, &stream_gate};

}  // namespace

namespace fastbp {
const KernelTable* FASTBP_JOIN(kernel_table_, FASTBP_ISA_NAME)() { return &kTable; }
}  // namespace fastbp
