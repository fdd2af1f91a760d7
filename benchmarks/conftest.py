"""Settings for all benchmarks, and how they record: what they found goes into `extra_info` of pytest-benchmark's JSON,
which report.py makes README's tables and plots of. Every benchmark verifies what it measures first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastbp
from fastbp import _native
from fastbp.bench.machine import description
from fastbp.bench.timing import QUICK, Timing

PACKAGES = ("torch", "jax", "optax")
machine = description(PACKAGES)  # before a benchmark changes the number of threads
lines: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="one call of everything that is small, to see that it runs")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "default")  # other engines' warnings are not ours to fail on


def pytest_report_header() -> list[str]:
    return [f"{name}: {value}" for name, value in machine.items()]


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["fastbp"] = {**machine, "quick": config.getoption("--quick")}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if lines:
        terminalreporter.section("results")
        terminalreporter.write("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--quick"))


@pytest.fixture(scope="session")
def limit(quick: bool) -> float:
    """Operations that a call may have to take part."""
    return 3e7 if quick else math.inf


@pytest.fixture(scope="session")
def timing(quick: bool) -> Timing:
    return QUICK if quick else Timing()


@pytest.fixture(params=["all", "one"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many threads are in use: the default number, or one."""
    before = fastbp.get_num_threads()
    if request.param == "one" and before == 1:
        pytest.skip("one thread is the default here")
    _native.set_threads(1 if request.param == "one" else before)
    yield fastbp.get_num_threads()
    _native.set_threads(before)


@pytest.fixture
def record(benchmark: Any, quick: bool) -> Callable[..., None]:
    """record(table, line, run, **values): keeps the values, and shows the line at the end."""

    def write(table: str, line: str, run: Callable[[], Any], **values: Any) -> None:
        benchmark.extra_info.update(table=table, **values)
        benchmark.pedantic(run, rounds=1 if quick else 5)
        lines.append(f"{table}: {line}")

    return write
