"""The compiled backend: every kernel of csrc, under the name of its reference."""

from fastbp import _native
from fastbp.kernels.storage import Buffer, empty, from_array, from_dlpack  # noqa: F401  what every backend has


def __getattr__(name: str):
    # Resolved once per name, then an ordinary attribute: a kernel needs no line here.
    if name.startswith("_") or not hasattr(_native, name):
        raise AttributeError(f"the native backend has no kernel {name}")
    value = globals()[name] = getattr(_native, name)
    return value
