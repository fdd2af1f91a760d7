"""Histograms of what a model's parameters, or their gradients, hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .panels import COLORS, not_finite, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_BINS, _LONGEST_NAME = 60, 32


def plot_weights(model: Any, figure: Any = None) -> Figure:
    """Draw a histogram of every parameter of a model, in the order of `named_parameters`.

    figure: a matplotlib figure to draw on. Returns the Figure. Titles say mean, standard deviation and how many
    elements are NaN or infinite, which are left out. Raises ValueError for a model without parameters.
    """
    return _draw("plot_weights", dict(model.named_parameters()), COLORS[0], figure)


def plot_gradients(model: Any, figure: Any = None) -> Figure:
    """Draw a histogram of the gradient of every parameter of a model, as `plot_weights` does of the parameters.

    Raises RuntimeError where no parameter has a gradient, ValueError for a model without parameters.
    """
    gradients = {name: p.grad for name, p in model.named_parameters()}
    if gradients and all(gradient is None for gradient in gradients.values()):
        raise RuntimeError(
            "[plot_gradients] expected gradients, got none: draw between backward() and zero_grad(). After a compiled "
            "optimizer step grad is None, unless the function was compiled with keep_grads=True"
        )
    return _draw("plot_gradients", gradients, COLORS[1], figure)


def _draw(function: str, tensors: dict[str, Any], color: str, figure: Any) -> Figure:
    if not tensors:
        raise ValueError(f"[{function}] expected a model with parameters, got one with none")
    # Weights and biases of a layer side by side.
    columns = next(n for n in (1, 2, 4, 6) if n * n >= len(tensors) or n == 6)
    figure, axes = panels(len(tensors), columns, (2.6, 1.9), figure)
    for (name, tensor), ax in zip(tensors.items(), axes):
        # A copy, so that nobody outside holds the tensor's own memory.
        _draw_values(ax, name, None if tensor is None else tensor.detach().clone().numpy().astype(np.float64), color)
    return figure


def _draw_values(ax: Axes, name: str, values: np.ndarray | None, color: str) -> None:
    from matplotlib.ticker import MaxNLocator

    short = name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]
    finite = np.empty(0) if values is None else values[np.isfinite(values)]
    if not finite.size:
        ax.set_title(short, fontsize=8)
        what = "no gradient" if values is None else _missing(values) or "no elements"
        ax.text(0.5, 0.5, what, ha="center", va="center", fontsize=8, transform=ax.transAxes)
        ax.set(xticks=[], yticks=[])
        return
    scale = float(np.abs(finite).max()) or 1.0  # so that no square and no distance overflows
    counts, edges = _histogram(finite / scale)
    ax.stairs(counts, edges * scale, fill=True, color=color)
    facts = f"mean {(finite / scale).mean() * scale:.2g}, std {(finite / scale).std() * scale:.2g}"
    ax.set_title("\n".join(filter(None, [short, facts, _missing(values)])), fontsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    ax.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
    ax.tick_params(labelsize=7)
    ax.xaxis.get_offset_text().set_fontsize(7)


def _missing(values: Any) -> str:
    """ "3 NaN, 1 infinite of 100"; nothing where all are finite."""
    said = ", ".join(f"{number:,} {what}" for what, number in not_finite(values).items() if number)
    return f"{said} of {values.size:,}" if said else ""


def _histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of the values, from −1 to 1, lie between edges at equal distances; equal values get one bin."""
    bins = int(min(max(10, np.sqrt(values.size)), _MOST_BINS))
    low, high = values.min(), values.max()
    if low == high:
        bins, low, high = 1, low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    return np.histogram(values, edges)[0], edges
