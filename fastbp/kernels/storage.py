"""Host storage, which the reference and the native backend share."""

from fastbp._native import Buffer, empty, from_array, from_dlpack

__all__ = ["Buffer", "empty", "from_array", "from_dlpack"]
