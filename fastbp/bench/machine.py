"""The machine: what it is, and the limits that it has at the moment of asking."""

from __future__ import annotations

import datetime
import functools
import platform
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastbp
from fastbp import _native
from fastbp.dtypes import as_dtype


class Peak(NamedTuple):
    """A run at a limit of the machine, and the work that it does: operations, or bytes."""

    call: Callable[[], Any]
    work: int


def fma_peak(dtype: str = "float32", iterations: int = 1_000_000) -> Peak:
    """Fused multiply-adds on registers, on as many threads as are in use."""
    sink = _native.empty((_native.threads(),), as_dtype(dtype).code)
    _native.fill(0.0, sink)
    call = functools.partial(_native.fma_loop, iterations, sink)
    return Peak(call, call())


def copy_peaks(elements: int, dtype: str = "float32") -> dict[str, Peak]:
    """Copies of that size with plain and with streaming stores; bytes read and bytes written count."""
    source, target = (_native.empty((elements,), as_dtype(dtype).code) for _ in range(2))
    for buffer in (source, target):
        _native.fill(1.0, buffer)  # or all pages of it were the same page of zeros
    calls = {
        name: functools.partial(_native.copy_loop, source, target, streaming)
        for name, streaming in (("plain copy", False), ("streaming copy", True))
    }
    return {name: Peak(call, call()) for name, call in calls.items()}


def description(packages: tuple[str, ...] = ()) -> dict[str, str]:
    """Machine, instruction set, threads, versions and date: the head of every result."""
    versions = {name: _version(name) for name in packages}
    date = datetime.date.today().isoformat()
    return {"cpu": _cpu(), **fastbp.info(), "numpy": np.__version__, **versions, "date": date}


def _version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
