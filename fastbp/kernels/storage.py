"""Host storage, which the reference and the native backend share."""

from fastbp._native import Buffer, empty, empty_broadcast, from_array, from_dlpack

__all__ = ["Buffer", "empty", "empty_broadcast", "from_array", "from_dlpack"]
