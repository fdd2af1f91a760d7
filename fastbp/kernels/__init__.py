"""Backends: modules that export the same kernels under the same names and signatures.

`of(tensor)` is the backend that works on a tensor's memory; calling a kernel is attribute access on it. Host tensors
use `native`, or `reference` (NumPy, the specification) under `with backend("reference")`. In check mode `native` is
wrapped by another backend, `checker`, which compares the two.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastbp._native import Program, Selected, record_into, set_native_backend
from fastbp.kernels import native

_HOST = ("native", "reference")


def _check_from_environment() -> bool:
    value = os.environ.get("FASTBP_CHECK", "")
    if value not in ("", "0", "1"):
        raise ValueError(f"FASTBP_CHECK: expected 1 for check mode, 0 or nothing for none, got {value!r}")
    return value == "1"


class _Chosen(threading.local):
    name = "native"
    checking = _check_from_environment()


_chosen = _Chosen()
_selected = Selected()  # what this thread chose, which is asked at every call; nothing at first


def of(tensor: Any) -> Any:
    """The backend module for a tensor's memory. All memory is host memory until another device exists."""
    return _selected.host or _default


def host() -> Any:
    """The backend module in use for host memory."""
    return _selected.host or _default


def host_is_native() -> bool:
    """Whether kernels run natively, and unchecked, in this thread."""
    return host() is native


def checking() -> bool:
    """Whether kernels are compared with their references in this thread."""
    return _chosen.checking and _chosen.name == "native"


def _backend(name: str, check: bool) -> Any:
    # The reference is imported when it is first needed: NumPy code for every kernel takes longer to load than the rest.
    if name == "reference":
        return importlib.import_module("fastbp.kernels.reference")
    return importlib.import_module("fastbp.kernels.checker").checked_native if check else native


@contextmanager
def _selection(name: str, check: bool) -> Iterator[None]:
    if isinstance(_selected.host, Recording):
        raise RuntimeError("[backend] expected a backend to be chosen outside of a compiled function, got one inside")
    previous = _chosen.name, _chosen.checking
    _chosen.name, _chosen.checking = name, check
    try:
        with selected(_backend(name, check)):
            yield
    finally:
        _chosen.name, _chosen.checking = previous


@contextmanager
def selected(host: Any) -> Iterator[None]:
    """Runs host kernels on this backend, a module or an object with a module's kernels, in this thread."""
    previous, _selected.host = _selected.host, host
    try:
        yield
    finally:
        _selected.host = previous


class Recording:
    """A backend that notes kernel calls in `program` and runs none. Meanwhile new tensors hold no memory."""

    def __init__(self) -> None:
        self.program = Program()


def recorder() -> Any:
    """The recording in progress in this thread, or None."""
    host = _selected.host
    return host if isinstance(host, Recording) else None


@contextmanager
def recorded(recording: Recording) -> Iterator[None]:
    """Makes a recording the backend of this thread."""
    if recorder() is not None:
        raise RuntimeError("[compile] expected one recording at a time, got a second one inside")
    with selected(recording):
        record_into(recording.program)
        try:
            yield
        finally:
            record_into(None)


@contextmanager
def unrecorded() -> Iterator[None]:
    """Runs kernels even while this thread records: for state that outlives the recorded function."""
    recording = recorder()
    if recording is None:
        yield
        return
    record_into(None)
    try:
        with selected(None):
            yield
    finally:
        record_into(recording.program)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Runs host kernels on the named backend, "native" or "reference", in this thread.

    Raises ValueError for another name.
    """
    if name not in _HOST:
        raise ValueError(f"[backend] expected one of {', '.join(_HOST)}, got {name!r}")
    with _selection(name, _chosen.checking):
        yield


@contextmanager
def check() -> Iterator[None]:
    """Check mode: repeats every native kernel call in the NumPy reference, and stops at the first that disagrees.

    Results are those of the native kernels, held against the reference by the tolerances that the tests use; inputs
    must be left alone and outputs written in full. Equal NaNs and infinities agree. Holds for the calling thread, may
    be nested, and leaves nothing to check under `backend("reference")`. FASTBP_CHECK=1 in the environment (0 or empty:
    off) is the same for all threads of a process. A step takes ten times as long or more.

    Raises CheckError, a RuntimeError that names the kernel, its operands and constants, the worst element, and a file
    with the inputs in the folder FASTBP_CHECK_DIR (default: that of temporary files), which
    `fastbp.kernels.checker.replay` runs again.
    """
    with _selection(_chosen.name, True):
        yield


_default = _backend("native", _Chosen.checking)
set_native_backend(None if _Chosen.checking else native)
