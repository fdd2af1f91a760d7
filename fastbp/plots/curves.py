"""Curves over time: loss and metrics by epoch, norms of gradients by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .panels import COLORS, alone, colors, not_finite, panels, spans_decades, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_VALIDATION = "validation_"
_MOST_ROWS, _ROW = 20, 0.19  # of a legend, in small print; inches


def plot_history(history: Any, curves: Sequence[str] | None = None, figure: Any = None, ax: Any = None) -> Figure:
    """Draw the curves that `train.fit` returned: one panel for the loss and for each metric, training and validation.

    history: a `train.History`. curves: which panels, such as ["loss", "accuracy"]; all by default. figure: a matplotlib
    figure to draw on; ax: axes for a single panel. Returns the Figure. A panel is logarithmic where its values are all
    above 0 and differ by a factor of 100 or more. Epochs whose value is NaN or infinite are gaps, which the legend
    counts. Raises ValueError for a history without an epoch, KeyError for an unknown curve.
    """
    if history.epochs == 0:
        raise ValueError("[plot_history] expected a history of at least one epoch, got none")
    known = list(dict.fromkeys(name.removeprefix(_VALIDATION) for name in history.curves))
    chosen = known if curves is None else [curves] if isinstance(curves, str) else list(curves)
    for name in chosen:
        if name not in known:
            raise KeyError(f"[plot_history] expected curves of {', '.join(known)}, got {name!r}")
    if not chosen:
        raise ValueError("[plot_history] expected at least one curve, got none")
    if ax is not None and len(chosen) > 1:
        raise ValueError(f"[plot_history] expected one curve for one ax, got {', '.join(chosen)}")
    if ax is None:
        figure, axes = panels(len(chosen), min(len(chosen), 3), (4.2, 3.2), figure)
    else:
        figure, axes = ax.figure, [ax]
    for name, panel in zip(chosen, axes):
        _draw_metric(panel, name, history.curves)
    return figure


def _draw_metric(ax: Axes, name: str, curves: dict[str, list[float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    kinds = {"training": (name, COLORS[0], "-"), "validation": (_VALIDATION + name, COLORS[1], "--")}
    drawn = []
    for label, (curve, color, style) in kinds.items():
        if curve in curves:
            values = np.array(curves[curve], dtype=np.float64)
            epochs = np.arange(1, len(values) + 1)
            label = told(label, not_finite(values), len(values), "epoch")
            _line(ax, epochs, values, label=label, color=color, linestyle=style)
            drawn.append(values)
    everything = np.concatenate(drawn)
    if spans_decades(drawn) and not (everything <= 0).any():
        ax.set_yscale("log")
    ax.legend(loc="best", fontsize="small")
    ax.set_title(name.replace("_", " "))
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(everything) == len(drawn):  # one epoch, around which there would be fractions of epochs
        ax.set_xlim(0.5, 1.5)
    ax.grid(alpha=0.3)


def plot_gradient_flow(flow: Any, by: str = "layer", ax: Any = None) -> Figure:
    """Draw the norms of gradients that a `train.GradientFlow` recorded: a line over the steps for each layer.

    by: "layer" for √(Σ norm²) over the parameters of each module, "parameter" for every parameter. ax: matplotlib axes
    to draw on. Returns the Figure. The axis is logarithmic where norms span a factor of 100. Steps whose norm is NaN or
    infinite have a cross at the upper edge; the legend counts them, and steps without a gradient, or with a norm of 0
    where the axis is logarithmic. Raises ValueError where no step was recorded.
    """
    if by not in ("layer", "parameter"):
        raise ValueError(f"[plot_gradient_flow] expected by 'layer' or 'parameter', got {by!r}")
    if not flow.steps:
        raise ValueError("[plot_gradient_flow] expected at least one recorded step, got none")
    groups: dict[str, list[list[float | None]]] = {}
    for name, norms in flow.norms.items():
        groups.setdefault(_layer_of(name) if by == "layer" else name, []).append(norms)
    lines = {name: _total(members) for name, members in groups.items()}
    logarithmic = spans_decades([norms for norms, _ in lines.values()])
    labels = [_told_of(name, norms, absent, logarithmic) for name, (norms, absent) in lines.items()]
    if ax is None:
        columns = -(-len(lines) // _MOST_ROWS)
        beside = columns * (0.065 * max(map(len, labels)) + 0.6)  # inches that a legend of this font takes
        figure, (ax,) = panels(1, 1, (6.0, max(3.6, 0.7 + _ROW * min(len(lines), _MOST_ROWS))), margin=beside)
    else:
        figure, columns = ax.figure, 1
    if logarithmic:
        ax.set_yscale("log")
    steps = np.array(flow.steps)
    for (norms, absent), label, color in zip(lines.values(), labels, colors(len(lines))):
        shown = np.where(norms == 0, np.nan, norms) if logarithmic else norms
        _line(ax, steps, shown, label=label, color=color, linewidth=1.2)
        bad = ~np.isfinite(norms) & ~absent
        if bad.any():
            at_edge = {"transform": ax.get_xaxis_transform(), "clip_on": False, "linestyle": "none"}
            ax.plot(steps[bad], np.ones(bad.sum()), marker="x", markersize=5, color=color, **at_edge)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, fontsize="small", ncols=columns)
    ax.set_title(f"Gradients by {by}")
    ax.set_xlabel("step")
    ax.set_ylabel("norm")
    ax.grid(alpha=0.3)
    return figure


def _layer_of(parameter: str) -> str:
    return parameter.rpartition(".")[0] or "(model)"


def _total(members: Sequence[Sequence[float | None]]) -> tuple[np.ndarray, np.ndarray]:
    """The norm over all members at each step, NaN where none has a gradient; and where that is so."""
    absent = np.array([[norm is None for norm in norms] for norms in members])
    norms = np.where(absent, 0.0, np.array(members, dtype=np.float64))
    nowhere = np.logical_and.reduce(absent, axis=0)
    with np.errstate(all="ignore"):
        return np.where(nowhere, np.nan, np.hypot.reduce(norms, axis=0)), nowhere


def _told_of(name: str, norms: np.ndarray, absent: np.ndarray, logarithmic: bool) -> str:
    """The label of a line, with what it does not show."""
    notes = {"no gradient": int(absent.sum()), **not_finite(norms[~absent])}
    if logarithmic:
        notes["zero"] = int((norms == 0).sum())
    return told(name, notes, len(norms), "step")


def _line(ax: Axes, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """A line with gaps where values are not finite, and markers where it would not be seen."""
    if marked := alone(y):
        style |= {"marker": "o", "markersize": 3, "markevery": marked}
    ax.plot(x, np.where(np.isfinite(y), y, np.nan), **style)
