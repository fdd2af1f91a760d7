"""Random numbers: Philox4x32-10 keyed by (seed, stream, element).

state is an int64 tensor (seed, stream). Word i is word i mod 4 of block i div 4; a 64-bit word i is (word 2i)·2³² +
word 2i+1. Everything here but the normals is exact: equal bits on all backends.
Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

from __future__ import annotations

import math

import numpy as np

from fastbp.kernels.facts import kernel

MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
KEY_STEPS = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)  # golden ratio, √3 − 1
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Ten rounds of Philox4x32: counter (n, 4) and key (2,), 32-bit words held in uint64 → words (n, 4), uint64."""
    c0, c1, c2, c3 = counter.T
    for _ in range(10):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ key[0], p1 & LOW, (p0 >> HALF) ^ c3 ^ key[1], p0 & LOW
        key = (key + KEY_STEPS) & LOW
    return np.stack([c0, c1, c2, c3], axis=1)


def words32(state: np.ndarray, count: int) -> np.ndarray:
    """The first `count` 32-bit words, uint64: key = seed, counter = (block, stream), low halves first."""
    seed, stream = state.astype(np.uint64)
    block = np.arange(-(-count // 4), dtype=np.uint64)
    counter = np.stack(
        [block & LOW, block >> HALF, *(np.full_like(block, s) for s in (stream & LOW, stream >> HALF))], axis=1
    )
    return philox(counter, np.array([seed & LOW, seed >> HALF])).reshape(-1)[:count]


def words64(state: np.ndarray, count: int) -> np.ndarray:
    """The first `count` 64-bit words."""
    words = words32(state, 2 * count)
    return (words[0::2] << HALF) | words[1::2]


def unit(state: np.ndarray, count: int, dtype: np.dtype) -> np.ndarray:
    """`count` values in [0, 1): the highest 24 bits of 32-bit words for float32, the highest 53 of 64-bit words for
    float64."""
    if dtype == np.float32:
        return (words32(state, count) >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)
    return (words64(state, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def scaled(word: np.ndarray, n: np.ndarray) -> np.ndarray:
    """word·n div 2⁶⁴ of uint64: a 64-bit word scaled to [0, n)."""
    w1, w0, n1, n0 = word >> HALF, word & LOW, n >> HALF, n & LOW
    middle = w1 * n0 + (w0 * n0 >> HALF)
    return w1 * n1 + (middle >> HALF) + ((middle & LOW) + w0 * n1 >> HALF)


@kernel(inputs="state", outputs="y", whole="state", operations=24)
def uniform(state: np.ndarray, low: float, high: float, y: np.ndarray) -> None:
    """y = low + u·(high − low), u uniform in [0, 1); every step rounded to the type of y."""
    T = y.dtype.type
    u = unit(state, y.size, y.dtype).reshape(y.shape)
    y[...] = T(low) + u * (T(high) - T(low))


@kernel(inputs="state", outputs="y", whole="state", operations=96)
def normal(state: np.ndarray, mean: float, std: float, y: np.ndarray) -> None:
    """y = mean + z·std with z standard normal by Box and Muller: of uniforms u, v = elements 2i, 2i + 1 come
    z = r·cos a and r·sin a, where r = √(−2 log(1 − u)) and a = 2πv, a rounded to the type of y."""
    u, v = unit(state, y.size + y.size % 2, y.dtype).reshape(-1, 2).T
    radius = np.sqrt(-2 * np.log((1 - u).astype(np.float64)))
    angle = (y.dtype.type(2 * math.pi) * v).astype(np.float64)
    z = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[: y.size]
    T = y.dtype.type
    y[...] = T(mean) + z.astype(y.dtype).reshape(y.shape) * T(std)


@kernel(inputs="state", outputs="mask", whole="state", operations=24)
def dropout_mask(state: np.ndarray, p: float, mask: np.ndarray) -> None:
    """mask[i] = 0 where 32-bit word i < p·2³², else 1/(1 − p); one word an element for both types."""
    dropped = words32(state, mask.size).reshape(mask.shape) < np.float64(p) * 2.0**32
    mask[...] = np.where(dropped, 0, 1 / (1 - np.float64(p)))


@kernel(inputs="state", outputs="y", partition="none", operations=48, dtypes="int64")
def permutation(state: np.ndarray, y: np.ndarray) -> None:
    """y = 0 … n−1 permuted by Fisher and Yates: for i = n−1 … 1 swap y[i] and y[j], j = word64_i·(i+1) div 2⁶⁴."""
    places = np.arange(y.size, dtype=np.uint64)
    other = scaled(words64(state, y.size), places + np.uint64(1))
    y[...] = np.arange(y.size)
    for i in range(y.size - 1, 0, -1):
        j = int(other[i])
        y[i], y[j] = y[j], y[i]


@kernel(inputs="state", outputs="y", whole="state", operations=48, dtypes="int64")
def randint(state: np.ndarray, low: int, high: int, y: np.ndarray) -> None:
    """y[i] = low + word64_i·(high − low) div 2⁶⁴: integers in [low, high)."""
    draws = scaled(words64(state, y.size), np.array((high - low) % 2**64, np.uint64))
    y[...] = (draws + np.array(low % 2**64, np.uint64)).astype(np.int64).reshape(y.shape)


@kernel(inplace="state", partition="none", dtypes="int64")
def rng_advance(state: np.ndarray) -> None:
    """state[1] += 1: the next stream."""
    state[1:2] += 1
