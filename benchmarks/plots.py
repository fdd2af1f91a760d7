"""The plots of the report, drawn from what the benchmarks recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

CAPTIONS = {
    "steps": "Time of a training step beside fastbp's",
    "products": "Products as a fraction of the FMA peak",
    "bandwidth": "Memory-bound kernels as a fraction of the copy bandwidth",
}
KINDS = {"forward": "y = relu(xWᵀ + b)", "backward_input": "dX = dY·W ⊙ relu'", "backward_weight": "dW = dYᵀX, db"}
COLORS = ("#3b6fb6", "#e08a2e", "#4d9a5b", "#a05195", "#8a8a8a")
plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True})

Entry = dict[str, Any]


def steps(entries: list[Entry], path: Path) -> None:
    """Grouped bars a workload: how many times as long the other engines take, on a logarithmic axis."""
    engines = list(dict.fromkeys(engine for entry in entries for engine in entry["ratios"]))
    ours = " / ".join(dict.fromkeys(entry["ours"] for entry in entries))
    figure, axes = plt.subplots(figsize=(9, 3.6))
    width = 0.8 / max(len(engines), 1)
    for i, engine in enumerate(engines):
        at = np.arange(len(entries)) + (i - (len(engines) - 1) / 2) * width
        heights = [entry["ratios"].get(engine, np.nan) for entry in entries]
        bars = axes.bar(at, heights, width * 0.92, label=engine, color=COLORS[i % len(COLORS)])
        axes.bar_label(bars, [f"{h:.2g}" if np.isfinite(h) else "" for h in heights], fontsize=7, padding=1)
    axes.axhline(1, color="black", linewidth=1, zorder=0.5)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xticks(range(len(entries)), [entry["name"] for entry in entries])
    axes.set_ylabel(f"time / time of {ours}")
    axes.set_title(f"Training steps: above the line {ours} is faster")
    axes.grid(axis="y", alpha=0.3)
    finish(figure, axes, path, len(engines))


def products(entries: list[Entry], path: Path) -> None:
    """A panel for each type and number of threads; grouped bars a shape."""
    panels = list(dict.fromkeys((entry["dtype"], entry["threads"]) for entry in entries))
    shapes = list(dict.fromkeys(tuple(entry["shape"]) for entry in entries))
    found = {(e["dtype"], e["threads"], tuple(e["shape"]), e["kind"]): e["fraction"] for e in entries}
    rows = -(-len(panels) // 2)
    figure, grid = plt.subplots(rows, min(len(panels), 2), figsize=(10, 0.6 + 2.7 * rows), squeeze=False, sharey=True)
    for panel, axes in zip(panels, grid.flat):
        for i, (kind, label) in enumerate(KINDS.items()):
            at = np.arange(len(shapes)) + (i - 1) * 0.27
            heights = [found.get((*panel, shape, kind), np.nan) for shape in shapes]
            bars = axes.bar(at, heights, 0.25, label=label, color=COLORS[i])
            axes.bar_label(
                bars, [f"{h:.2f}".lstrip("0") if np.isfinite(h) else "" for h in heights], fontsize=6, padding=1
            )
        labels = ["×".join(map(str, shape)) for shape in shapes]
        axes.set_xticks(range(len(shapes)), labels, rotation=20, ha="right", fontsize=7.5)
        axes.set_title(f"{panel[0]}, {panel[1]} thread{'s'[: panel[1] > 1]}", fontsize=9)
    for axes in grid.flat:
        limit_to_one(axes, "y")
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("fraction of the FMA peak")
    finish(figure, grid.flat[0], path, len(KINDS), above=True)


def bandwidth(entries: list[Entry], path: Path) -> None:
    """Horizontal bars a kernel, one for each number of threads."""
    names = list(dict.fromkeys(entry["name"] for entry in entries))[::-1]
    counts = list(dict.fromkeys(entry["threads"] for entry in entries))
    found = {(entry["name"], entry["threads"]): entry["fraction"] for entry in entries}
    figure, axes = plt.subplots(figsize=(8, 1 + 0.32 * len(names)))
    height = 0.8 / len(counts)
    for i, count in enumerate(counts):
        at = np.arange(len(names)) - (i - (len(counts) - 1) / 2) * height
        widths = [found.get((name, count), np.nan) for name in names]
        label = f"{count} thread{'s'[: count > 1]}"
        bars = axes.barh(at, widths, height * 0.92, label=label, color=COLORS[i % len(COLORS)])
        axes.bar_label(bars, [f"{w:.2f}" if np.isfinite(w) else "" for w in widths], fontsize=7, padding=2)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("fraction of the copy bandwidth")
    limit_to_one(axes, "x")
    finish(figure, axes, path, len(counts))


def limit_to_one(axes: Any, which: str) -> None:
    """A line at 1, an axis from 0, a grid."""
    line, limits, limit = (
        (axes.axvline, axes.get_xlim, axes.set_xlim) if which == "x" else (axes.axhline, axes.get_ylim, axes.set_ylim)
    )
    line(1, color="black", linewidth=0.8, zorder=0.5)
    limit(0, max(1.08, limits()[1]))
    axes.grid(axis=which, alpha=0.3)


def finish(figure: Any, axes: Any, path: Path, columns: int, above: bool = False) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if above:
        figure.legend(handles, labels, ncols=columns, loc="outside upper center", frameon=False)
    else:
        axes.legend(ncols=columns, fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    figure.set_layout_engine("constrained")
    # Without the date and the version of the library, equal numbers make equal files.
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)
