"""The affine map between the values in a file and the values a network sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scaling:
    """Scales inputs, or continuous targets, column by column.

    scaled = (raw - shift) / scale

    shift and scale are float64, of shape () or (columns,). Calling it returns float32; `inverse` returns float64.
    Two rules make one: `unit` (pixels to [0, 1]) and `standardised` (columns to mean 0 and standard deviation 1).
    """

    shift: np.ndarray
    scale: np.ndarray

    @classmethod
    def unit(cls, maximum: float) -> Scaling:
        """Map [0, maximum] to [0, 1]."""
        return cls(np.array(0.0), np.array(float(maximum)))

    @classmethod
    def standardised(cls, x: np.ndarray) -> Scaling:
        """Map each column of x (rows, columns) to mean 0 and standard deviation 1; a constant column only to 0.

        The standard deviation is sqrt(sum((x - mean)^2) / rows). Raises ValueError if it overflows.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            shift = x.mean(axis=0, dtype=np.float64)
            scale = x.std(axis=0, dtype=np.float64)
        # Compared exactly: rounding of the mean leaves a constant column with a tiny deviation that must not divide.
        scale = np.where(x.max(axis=0) == x.min(axis=0), 1.0, scale)
        bad = np.flatnonzero(~(np.isfinite(shift) & np.isfinite(scale) & (scale > 0)))
        if bad.size:
            raise ValueError(f"[Scaling] column {bad[0] + 1} has values too large or too small to standardise")
        return cls(shift, scale)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        # Bytes are exact in float32; wider types are centred in float64, so that a large offset costs no digits.
        dtype = np.result_type(x.dtype, np.float32)
        scaled = x.astype(dtype)
        scaled -= self.shift.astype(dtype)
        scaled /= self.scale.astype(dtype)
        with np.errstate(over="ignore"):  # beyond float32 is infinity, without a warning
            return scaled.astype(np.float32, copy=False)

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """Return raw = x * scale + shift as float64."""
        return x * self.scale + self.shift

    def to_dict(self) -> dict[str, Any]:
        """Return numbers and lists that JSON keeps exactly."""
        return {"shift": self.shift.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Scaling:
        """Rebuild a Scaling from `to_dict`; raises ValueError if the record is not one."""
        try:
            shift, scale = (np.array(record[name], dtype=np.float64) for name in ("shift", "scale"))
        except (KeyError, TypeError, ValueError):
            raise ValueError("[Scaling] expected numbers under 'shift' and 'scale'") from None
        if (
            shift.shape != scale.shape
            or shift.ndim > 1
            or not np.isfinite([shift, scale]).all()
            or not (scale > 0).all()
        ):
            raise ValueError("[Scaling] expected finite 'shift' and positive 'scale' of equal length")
        return cls(shift, scale)
