"""A program that has run once takes no memory from the heap between the beginning and the end of a run.

Counted by functions in the place of malloc and its kin, in a process of its own. What the count finds beside the run
is the binding's: vectors of the arguments and of the results.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPILER = next((path for name in ("g++", "c++", "clang++") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(
    COMPILER is None or platform.libc_ver()[0] != "glibc" or "LD_PRELOAD" in os.environ,
    reason="needs a compiler, and glibc with its malloc",
)

COUNTER = r"""
#include <atomic>
#include <cerrno>
#include <cstddef>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}
static std::atomic<bool> counting{false};
static std::atomic<long> calls{0};
static void note() { if (counting.load(std::memory_order_relaxed)) ++calls; }

extern "C" {
void* malloc(size_t n) { note(); return __libc_malloc(n); }
void* calloc(size_t count, size_t n) { note(); return __libc_calloc(count, n); }
void* realloc(void* p, size_t n) { note(); return __libc_realloc(p, n); }
void* aligned_alloc(size_t a, size_t n) { note(); return __libc_memalign(a, n); }
void* memalign(size_t a, size_t n) { note(); return __libc_memalign(a, n); }
int posix_memalign(void** p, size_t a, size_t n) { note(); *p = __libc_memalign(a, n); return *p ? 0 : ENOMEM; }
void begin_to_count() { calls = 0; counting = true; }
long end_of_count() { counting = false; return calls; }
}
"""

PROGRAM = """
import ctypes, gc, json, sys
import numpy as np
import fastbp
from fastbp import nn, optim
from fastbp.kernels.storage import empty
from fastbp.nn import functional as F

threads, rows, hidden, require_finite = json.loads(sys.argv[1])
counter = ctypes.CDLL(None)
counter.end_of_count.restype = ctypes.c_long
fastbp.set_num_threads(threads)
fastbp.manual_seed(0)
model = nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, 4))
optimizer = optim.Adam(model.parameters())


def step(x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


compiled = fastbp.compile(step, require_finite=require_finite)
rng = np.random.default_rng(0)


def batches(count):
    x = rng.standard_normal((rows * count, 8)).astype(np.float32)
    return fastbp.tensor(x), fastbp.tensor(rng.integers(0, 4, rows * count))


x, y = batches(1)
compiled(x, y)
variant = compiled._last
program, inputs, outputs = variant.built.program, [x.buffer, y.buffer], variant.outputs


def run():
    program.run(inputs, outputs)


def call():
    compiled(x, y)


def epoch_of(count):
    arrays = [t.buffer for t in batches(count)]
    placed = [empty(b.shape, b.dtype) for b in variant.inputs]
    memory = [empty((b.storage[1],), 3) for b in outputs]
    results = [(b.placed(m, 0), empty((count, *b.shape), b.dtype)) for b, m in zip(outputs, memory)]
    return lambda: program.run_epoch(placed, memory, arrays, None, 0, count, rows, [], results, True)


def counted(function, times):
    # The fewest of several counts: what Python itself allocates at times is no part of it.
    found = []
    for _ in range(3):
        counter.begin_to_count()
        for _ in range(times):
            function()
        found.append(counter.end_of_count())
    return min(found)


gc.disable()
few, many = epoch_of(10), epoch_of(110)
for function in (run, call, few, many):
    function()
counts = {"runs": counted(run, 1000), "calls": counted(call, 1000)}
counts |= {"few": counted(few, 1), "many": counted(many, 1)}
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counter")
    source, library = folder / "counter.cpp", folder / "counter.so"
    source.write_text(COUNTER)
    subprocess.run([str(COMPILER), "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("rows", "hidden", "require_finite"),
    [(32, 16, False), (32, 16, True), (32, 256, False), (600, 16, True)],
    ids=["small", "guarded", "with panels", "in chunks"],
)
def test_runs_take_nothing_from_the_heap(counter, threads, rows, hidden, require_finite):
    environment = {**os.environ, "LD_PRELOAD": str(counter), "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", PROGRAM, json.dumps([threads, rows, hidden, require_finite])]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    counts = json.loads(done.stdout)
    assert counts["few"] == counts["many"], "an epoch allocates by step"
    assert 0 < counts["few"] < 20  # the functions in malloc's place were called: its lists of arguments
    # Pointers to the inputs and to the outputs, and the results; a call of the compiled function: the results only.
    assert counts["runs"] <= 3 * 1000
    assert counts["calls"] <= 1000
