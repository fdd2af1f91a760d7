"""Backends: modules that export the same kernels under the same names and signatures.

`of(tensor)` is the backend that works on a tensor's memory; calling a kernel is attribute access on it. Host tensors
use `native`, or `reference` (NumPy, the specification) under `with backend("reference")`.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastbp.kernels import native

_HOST = ("native", "reference")


class _Selected(threading.local):
    host: Any = native


_selected = _Selected()


def of(tensor: Any) -> Any:
    """The backend module for a tensor's memory. All memory is host memory until another device exists."""
    return _selected.host


def host() -> Any:
    """The backend module in use for host memory."""
    return _selected.host


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Runs host kernels on the named backend, "native" or "reference", in this thread.

    Raises ValueError for another name.
    """
    if name not in _HOST:
        raise ValueError(f"[backend] expected one of {', '.join(_HOST)}, got {name!r}")
    # The reference is imported when it is first needed: NumPy code for every kernel takes longer to load than the rest.
    module = importlib.import_module(f"fastbp.kernels.{name}")
    previous, _selected.host = _selected.host, module
    try:
        yield
    finally:
        _selected.host = previous
