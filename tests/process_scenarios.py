"""What programs do with processes, threads and signals around training: run by test_processes.py, each in a process of
its own, as `python process_scenarios.py NAME`. A scenario that returns has succeeded.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable

import fastbp
from fastbp import _native, nn

ROUNDS = 20


def digest(seed: int = 0) -> str:
    """The weights after a short training, in which every kernel is split over the team."""
    _native.set_work_gate(0)
    fastbp.manual_seed(seed)
    x, y = fastbp.randn(70, 33), fastbp.randint(0, 10, (70,))
    model = nn.Sequential(nn.Linear(33, 40), nn.GELU(), nn.Dropout(0.1), nn.Linear(40, 10))
    return digest_of_steps(model, x, y)


def digest_of_steps(model: nn.Module, x: fastbp.Tensor, y: fastbp.Tensor) -> str:
    optimizer = fastbp.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def in_child(work: Callable[[], bool]) -> int:
    """Starts a forked child that ends with status 0 if `work` is true; returns its number."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return pid


def succeeded(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ---------------------------------------------------------------- fork


def fork_often() -> None:
    """Parent and child train at the same time after each fork, the child with a team of its own size."""
    expected = digest()
    for i in range(ROUNDS):

        def train(threads: int = 1 + i % 3) -> bool:
            fastbp.set_num_threads(threads)
            return digest() == expected

        child = in_child(train)
        assert digest() == expected
        assert succeeded(child), f"child {i}"
    assert fastbp.get_num_threads() == 2


def fork_before_the_first_kernel() -> None:
    read, write = os.pipe()

    def train() -> bool:
        os.write(write, digest().encode())
        return True

    child = in_child(train)
    expected = digest()
    assert succeeded(child)
    assert os.read(read, 100).decode() == expected


def fork_in_a_fork() -> None:
    expected = digest()

    def generation(left: int) -> bool:
        if left == 0:
            return digest() == expected
        child = in_child(lambda: generation(left - 1))
        return digest() == expected and succeeded(child)

    assert generation(4)


def fork_while_another_thread_draws() -> None:
    """The child can draw, though the thread that the generator was locked by is not there."""
    ended = threading.Event()

    def draw() -> None:
        while not ended.is_set():
            fastbp.randn(1_000_000)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        for _ in range(5):
            assert succeeded(in_child(lambda: fastbp.rand(2).shape == (2,)))
    finally:
        ended.set()
        thread.join()


def fork_while_another_thread_is_in_a_kernel() -> None:
    expected = digest()
    ended = threading.Event()
    a = fastbp.randn(300, 300)

    def multiply() -> None:
        while not ended.is_set():
            a @ a

    thread = threading.Thread(target=multiply)
    thread.start()
    try:
        for i in range(ROUNDS):
            assert succeeded(in_child(lambda: digest() == expected)), f"child {i}"
            assert digest() == expected
    finally:
        ended.set()
        thread.join()


def fork_from_a_thread() -> None:
    """The thread that forks is the child's only one, and has not run a kernel before."""
    expected = digest()
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(succeeded(in_child(lambda: digest() == expected))))
    thread.start()
    thread.join()
    assert results == [True]
    assert digest() == expected


# ---------------------------------------------------------------- pools


def pool(method: str) -> None:
    expected = [digest(seed) for seed in range(4)]
    with multiprocessing.get_context(method).Pool(2) as workers:
        assert workers.map(digest, range(4), chunksize=1) == expected
    assert digest(0) == expected[0]


def pool_by_fork() -> None:
    pool("fork")


def pool_by_spawn() -> None:
    pool("spawn")


def joblib_workers() -> None:
    import joblib

    expected = [digest(seed) for seed in range(4)]
    work = joblib.Parallel(n_jobs=4, backend="loky")
    assert work(joblib.delayed(digest)(seed) for seed in range(4)) == expected
    assert digest(0) == expected[0]


# ---------------------------------------------------------------- threads


def threads_at_once() -> None:
    """Who finds the team busy works alone; the results are those of training one after the other."""
    _native.set_work_gate(0)

    def problem(seed: int) -> tuple[nn.Module, fastbp.Tensor, fastbp.Tensor]:
        fastbp.manual_seed(seed)
        model = nn.Sequential(nn.Linear(33, 40), nn.Tanh(), nn.Linear(40, 10))
        return model, fastbp.randn(70, 33), fastbp.randint(0, 10, (70,))

    seeds = range(10)
    expected = [digest_of_steps(*problem(seed)) for seed in seeds]
    problems = [problem(seed) for seed in seeds]
    results = [""] * len(seeds)
    start = threading.Barrier(2)

    def work(first: int) -> None:
        start.wait()
        for i in range(first, len(seeds), 2):
            results[i] = digest_of_steps(*problems[i])

    both = [threading.Thread(target=work, args=(first,)) for first in (0, 1)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert results == expected


def many_short_threads() -> None:
    """Threads come and go with their scratch memory."""
    expected = digest()
    a = fastbp.randn(64, 64)
    total = (a @ a).sum().item()
    results: list[float] = []
    for _ in range(ROUNDS):
        group = [threading.Thread(target=lambda: results.append((a @ a).sum().item())) for _ in range(4)]
        for thread in group:
            thread.start()
        for thread in group:
            thread.join()
    assert results == [total] * (4 * ROUNDS)
    assert digest() == expected


def exit_while_threads_work() -> None:
    """The main thread returns while a daemon is inside kernels."""
    digest()
    a, working = fastbp.randn(300, 300), threading.Event()

    def multiply() -> None:
        while True:
            a @ a
            working.set()

    threading.Thread(target=multiply, daemon=True).start()
    working.wait()


def exit_in_a_forked_child() -> None:
    """A child that ends as Python programs do, with everything that runs at exit."""
    digest()
    pid = os.fork()
    if pid == 0:
        digest()
        sys.exit(0)
    assert succeeded(pid)
    digest()


# ---------------------------------------------------------------- signals


def interrupt() -> None:
    """Ctrl-C ends an endless loop of kernels, and what comes after it is as ever."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored in the background
    expected = digest()
    for _ in range(3):
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            while True:
                digest()
        except KeyboardInterrupt:
            pass
        timer.join()
        assert digest() == expected


if __name__ == "__main__":
    globals()[sys.argv[1]]()
