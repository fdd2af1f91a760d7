"""What all plots share: where they are drawn, in which colours, and what is said of values that cannot be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart with every kind of colour vision: Okabe and Ito, "Color Universal Design", 2008, without the yellow.
COLORS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
_LIGHTEST = 0.92  # of viridis; lighter is too pale for lines on white


def panels(
    count: int, columns: int, size: tuple[float, float], figure: Any = None, margin: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """So many axes in rows, on the given figure or on a new one with `size` inches for each and a margin on the right.

    Raises ImportError where matplotlib is missing.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError('[plots] expected matplotlib, which is not installed: pip install "fastbp[plots]"') from error
    rows = -(-count // columns)
    if figure is None:
        from .picture import Picture

        figure = Picture(figsize=(columns * size[0] + margin, rows * size[1]), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def colors(count: int) -> list[Any]:
    """Distinct colours for a few lines; for many, from dark for the first to light for the last."""
    if count <= len(COLORS):
        return list(COLORS[:count])
    import matplotlib

    return list(matplotlib.colormaps["viridis"](np.linspace(0, _LIGHTEST, count)))


def told(label: str, notes: dict[str, int], total: int, unit: str) -> str:
    """A label with what it leaves out: "loss (NaN in 2 of 10 epochs)"."""
    said = ", ".join(f"{what} in {number:,}" for what, number in notes.items() if number)
    return f"{label} ({said} of {total:,} {unit}{'' if total == 1 else 's'})" if said else label


def not_finite(values: np.ndarray) -> dict[str, int]:
    """How many values are no numbers that can be drawn."""
    return {"NaN": int(np.isnan(values).sum()), "infinite": int(np.isinf(values).sum())}


def alone(values: np.ndarray) -> list[int]:
    """Where a line through finite values needs markers to be seen: at all of a few, at those without neighbours."""
    finite = np.isfinite(values)
    if finite.sum() <= 30:
        return np.flatnonzero(finite).tolist()
    padded = np.pad(finite, 1)
    return np.flatnonzero(finite & ~padded[:-2] & ~padded[2:]).tolist()


def spans_decades(curves: Sequence[np.ndarray]) -> bool:
    """Whether the finite values above 0 differ by a factor of 100 or more, so that an axis should be logarithmic."""
    values = np.concatenate([*curves, np.empty(0)])
    values = values[np.isfinite(values) & (values > 0)]
    return values.size > 0 and values.min() <= values.max() / 100
