// Random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011), a function of (seed, stream, element) alone, so that
// any split into ranges gives the same values.
//
// state = (seed, stream), int64; key = seed, counter = (block, stream); block b holds words 4b .. 4b+3, and a 64-bit
// word i is (word 2i) · 2³² + word 2i+1.
// Args: p = {state, y}, rng_advance {state}; n = {count}, randint {count, low, high}; c = uniform {low, high},
// normal {mean, std}, dropout_mask {p}.
#pragma once

#include "copy.h"
#include "vmath.h"

namespace {

constexpr int kBlocks = 16;  // computed together: a multiple of the lanes of every instruction set
constexpr int kWords = 4 * kBlocks;

template <class T> inline constexpr int kDraws = kWords * 4 / static_cast<int>(sizeof(T));  // a 64-bit draw takes two

// As many 64-bit words as a vector of doubles has lanes.
template <int n> struct Wide {
  typedef uint64_t type __attribute__((vector_size(8 * n)));
};
template <> struct Wide<1> {
  using type = uint64_t;
};
using WordVec = Wide<lanes<double>>::type;

FASTBP_INLINE WordVec word_vec(uint64_t x) { return x + WordVec{}; }

FASTBP_INLINE WordVec low_product(WordVec a, uint32_t b) {
  return bits_as<WordVec>(mul_low(bits_as<ivecd>(a), iset1<double>(static_cast<int64_t>(b))));
}

// The words of blocks [block, block + kBlocks). A counter word is the low half of a 64-bit lane, so that one
// multiplication gives both halves of a product; two vectors at a time hide its latency.
inline void philox(const int64_t* state, uint64_t block, uint32_t* words) {
  constexpr int n = lanes<double>, pair = 2;
  const uint64_t seed = static_cast<uint64_t>(state[0]), stream = static_cast<uint64_t>(state[1]);
  alignas(64) uint64_t even[kBlocks], odd[kBlocks];  // words 0, 1 and words 2, 3 of each block
  for (int done = 0; done < kBlocks; done += pair * n) {
    WordVec c0[pair], c1[pair], c2[pair], c3[pair];
    for (int g = 0; g < pair; ++g) {
      uint64_t index[n];
      for (int j = 0; j < n; ++j) index[j] = block + static_cast<uint64_t>(done + g * n + j);
      __builtin_memcpy(&c0[g], index, sizeof index);
      c1[g] = c0[g] >> 32;
      c2[g] = word_vec(stream);
      c3[g] = word_vec(stream >> 32);
    }
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      for (int g = 0; g < pair; ++g) {
        const WordVec p0 = low_product(c0[g], 0xD2511F53u), p1 = low_product(c2[g], 0xCD9E8D57u);
        c0[g] = (p1 >> 32) ^ c1[g] ^ word_vec(k0);
        c2[g] = (p0 >> 32) ^ c3[g] ^ word_vec(k1);
        c1[g] = p1;
        c3[g] = p0;
      }
      k0 += 0x9E3779B9u;  // golden ratio
      k1 += 0xBB67AE85u;  // √3 − 1
    }
    for (int g = 0; g < pair; ++g) {
      const WordVec a = (c0[g] & 0xFFFFFFFFu) | (c1[g] << 32), b = (c2[g] & 0xFFFFFFFFu) | (c3[g] << 32);
      __builtin_memcpy(even + done + g * n, &a, sizeof a);
      __builtin_memcpy(odd + done + g * n, &b, sizeof b);
    }
  }
  uint64_t pairs[2 * kBlocks];
  for (int j = 0; j < kBlocks; ++j) {
    pairs[2 * j] = even[j];
    pairs[2 * j + 1] = odd[j];
  }
  __builtin_memcpy(words, pairs, sizeof pairs);
}

FASTBP_INLINE uint64_t word64(const uint32_t* words, int i) {
  return static_cast<uint64_t>(words[2 * i]) << 32 | words[2 * i + 1];
}

// Uniform in [0, 1): the highest 24 (53) bits of a word, each step exact.
FASTBP_INLINE void unit_draws(const uint32_t* words, float* u) {
  for (int i = 0; i < kDraws<float>; ++i) u[i] = static_cast<float>(static_cast<int32_t>(words[i] >> 8)) * 0x1p-24f;
}
FASTBP_INLINE void unit_draws(const uint32_t* words, double* u) {
  for (int i = 0; i < kDraws<double>; ++i) {
    const double high = words[2 * i], low = static_cast<int32_t>(words[2 * i + 1] >> 11);
    u[i] = (high * 0x1p21 + low) * 0x1p-53;
  }
}

// Calls fill(words, out) for every batch of N values that meets [begin, end); a batch that only overlaps it is cut.
template <int N, class T, class Fill>
FASTBP_INLINE void for_each_batch(const void* state, void* to, int64_t begin, int64_t end, Fill fill) {
  T* y = static_cast<T*>(to);
  for (int64_t first = begin / N * N; first < end; first += N) {
    alignas(64) uint32_t words[kWords];
    alignas(64) T part[N];
    philox(static_cast<const int64_t*>(state), static_cast<uint64_t>(first / N) * kBlocks, words);
    const bool whole = first >= begin && first + N <= end;
    fill(words, whole ? y + first : part);
    if (whole) continue;
    const int64_t from = first < begin ? begin : first, to_end = first + N < end ? first + N : end;
    for (int64_t i = from; i < to_end; ++i) y[i] = part[i - first];
  }
}

// y = low + u (high − low)
template <class T> void uniform(const Args& a, int64_t begin, int64_t end, Scratch) {
  const T low = static_cast<T>(a.c[0]), width = static_cast<T>(a.c[1]) - low;
  for_each_batch<kDraws<T>, T>(a.p[0], a.p[1], begin, end, [=](const uint32_t* words, T* y) {
    T u[kDraws<T>];
    unit_draws(words, u);
    for (int i = 0; i < kDraws<T>; ++i) y[i] = low + u[i] * width;
  });
}

// Box and Muller: of two uniforms u, v the normals √(−2 log(1 − u)) cos 2πv and the same with sin; 1 − u is never 0.
template <class T> void normal(const Args& a, int64_t begin, int64_t end, Scratch) {
  constexpr int half = kDraws<T> / 2;
  const T mean = static_cast<T>(a.c[0]), std = static_cast<T>(a.c[1]);
  for_each_batch<kDraws<T>, T>(a.p[0], a.p[1], begin, end, [=](const uint32_t* words, T* y) {
    T u[kDraws<T>], c[half], s[half];
    unit_draws(words, u);
    for (int i = 0; i < half; ++i) {
      c[i] = T(1) - u[2 * i];
      s[i] = T(6.283185307179586) * u[2 * i + 1];
    }
    for (int i = 0; i < half; i += lanes<T>) {
      const vec<T> radius = sqrt(set1<T>(-2) * vlog(load(c + i))), angle = load(s + i);
      store(c + i, radius * vcos(angle));
      store(s + i, radius * vsin(angle));
    }
    for (int i = 0; i < half; ++i) {
      y[2 * i] = mean + c[i] * std;
      y[2 * i + 1] = mean + s[i] * std;
    }
  });
}

// 0 where 32-bit word i < p · 2³², else 1 / (1 − p): one 32-bit word an element for both types.
template <class T> void dropout_mask(const Args& a, int64_t begin, int64_t end, Scratch) {
  const double p = a.c[0];
  const T keep = static_cast<T>(1 / (1 - p));
  const double bound = __builtin_ceil(p * 0x1p32);
  const bool all_kept = !(bound > 0), all_dropped = bound >= 0x1p32;
  const uint32_t first_kept = all_kept || all_dropped ? 0 : static_cast<uint32_t>(bound);
  const T above = all_dropped ? T(0) : keep;
  for_each_batch<kWords, T>(a.p[0], a.p[1], begin, end, [=](const uint32_t* words, T* mask) {
    for (int i = 0; i < kWords; ++i) mask[i] = words[i] < first_kept ? T(0) : above;
  });
}

__extension__ typedef unsigned __int128 WideProduct;

// The high half of a product: a word scaled to [0, n), with a bias below n / 2⁶⁴.
FASTBP_INLINE uint64_t scaled(uint64_t word, uint64_t n) {
  return static_cast<uint64_t>(static_cast<WideProduct>(word) * n >> 64);
}

inline void randint(const Args& a, int64_t begin, int64_t end, Scratch) {
  const uint64_t low = static_cast<uint64_t>(a.n[1]), width = static_cast<uint64_t>(a.n[2]) - low;
  for_each_batch<kDraws<int64_t>, int64_t>(a.p[0], a.p[1], begin, end, [=](const uint32_t* words, int64_t* y) {
    for (int i = 0; i < kDraws<int64_t>; ++i) y[i] = static_cast<int64_t>(low + scaled(word64(words, i), width));
  });
}

// Fisher and Yates from the end, where step i swaps i with a j ≤ i drawn from 64-bit word i. A batch draws all its j
// first, so that their cache lines are on the way when the swaps come.
inline void permutation(const Args& a, int64_t, int64_t, Scratch) {
  constexpr int n = kDraws<int64_t>;
  int64_t* y = static_cast<int64_t*>(a.p[1]);
  const int64_t count = a.n[0];
  for (int64_t i = 0; i < count; ++i) y[i] = i;
  for (int64_t first = (count - 1) / n * n; first >= 0; first -= n) {
    uint32_t words[kWords];
    uint64_t other[n];
    philox(static_cast<const int64_t*>(a.p[0]), static_cast<uint64_t>(first / n) * kBlocks, words);
    const int drawn = static_cast<int>(count - first < n ? count - first : n);
    for (int k = 0; k < drawn; ++k) {
      other[k] = scaled(word64(words, k), static_cast<uint64_t>(first + k) + 1);
      __builtin_prefetch(y + other[k], 1);
    }
    for (int k = drawn - 1; k >= 0; --k) {
      const int64_t kept = y[first + k];
      y[first + k] = y[other[k]];
      y[other[k]] = kept;
    }
  }
}

inline void rng_advance(const Args& a, int64_t, int64_t, Scratch) {
  uint64_t* stream = static_cast<uint64_t*>(a.p[0]) + 1;
  *stream += 1;
}

constexpr Entry kRngEntries[] = {
    single_entry("uniform", 2, costly_kernel<24>(uniform<float>), costly_kernel<48>(uniform<double>)),
    single_entry("normal", 2, costly_kernel<96>(normal<float>), costly_kernel<192>(normal<double>)),
    single_entry("dropout_mask", 1, costly_kernel<24>(dropout_mask<float>), costly_kernel<24>(dropout_mask<double>)),
    single_entry("permutation", 0, {}, {}, lone_kernel(permutation)),
    single_entry("randint", 2, {}, {}, costly_kernel<48>(randint)),
    single_entry("rng_advance", 0, {}, {}, lone_kernel(rng_advance)),
};

}  // namespace
