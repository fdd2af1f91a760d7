"""The machine as fastbp sees it: threads, instruction set, devices."""

from __future__ import annotations

from fastbp import _native, kernels
from fastbp.version import __version__


def get_num_threads() -> int:
    """How many threads a large kernel is split over."""
    return _native.threads()


def set_num_threads(count: int) -> None:
    """Sets how many threads a large kernel is split over; results do not depend on it.

    The default is the smallest of CPU affinity, cgroup quota and physical cores, or FASTBP_NUM_THREADS.
    Raises ValueError outside of what the build allows, TypeError for other types.
    """
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"[set_num_threads] expected an integer, got {type(count).__name__}")
    _native.set_threads(count)


def info() -> dict[str, str]:
    """What fastbp runs on: version, instruction sets (available, in use), threads and why, whether
    kernels are checked, CUDA or why not."""
    import platform  # costs more than it is worth to those who only import fastbp

    return {
        "fastbp": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "instruction sets": ", ".join(_native.available_isas()),
        "instruction set in use": _native.isa(),
        "threads": f"{_native.threads()} ({_native.thread_reason()})",
        "work gate": f"{_native.work_gate()} operations",
        "check mode": "on: every kernel is compared with its reference" if kernels.checking() else "off",
        "cuda": "not available: this version has no CUDA backend",
    }
