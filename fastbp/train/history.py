"""What a run has produced so far, and what its callbacks may see and ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastbp.plots import plot_history


@dataclass
class History:
    """One list per curve, one value per finished epoch: loss, each metric, and the same for validation.

    history["loss"], history["accuracy"], history["validation_loss"], history["validation_accuracy"]. `interrupted`:
    Ctrl-C ended the run; `stop_reason`: why a callback did.
    """

    curves: dict[str, list[float]] = field(default_factory=dict)
    interrupted: bool = False
    stop_reason: str = ""

    @property
    def epochs(self) -> int:
        """The number of finished epochs."""
        return max(map(len, self.curves.values()), default=0)

    def __getitem__(self, curve: str) -> list[float]:
        if curve not in self.curves:
            raise KeyError(f"[History] expected one of {', '.join(self.curves) or 'no curves yet'}, got {curve!r}")
        return self.curves[curve]

    def append(self, values: Mapping[str, float]) -> None:
        """Add the values of one epoch."""
        for curve, value in values.items():
            self.curves.setdefault(curve, []).append(value)

    def summary(self) -> str:
        """Return the last epoch's values in one line."""
        return ", ".join(f"{curve} {values[-1]:.4g}" for curve, values in self.curves.items() if values)

    def plot(self, **options: Any) -> Any:
        """Draw the curves; `fastbp.plots.plot_history` says which options there are, and what is returned."""
        return plot_history(self, **options)


@dataclass
class Run:
    """A run of `fit` as its callbacks see it."""

    model: Any
    optimizer: Any
    epochs: int
    history: History = field(default_factory=History)

    def stop(self, reason: str) -> None:
        """End the run after this epoch."""
        self.history.stop_reason = reason
