"""The pictures that examples draw: the option --out, saving where matplotlib is installed, images side by side."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def picture_file(program: str, arguments: Sequence[str] | None = None) -> Path:
    """The file that --out names, PROGRAM.png without it; `arguments` are those of the command line for None."""
    parser = argparse.ArgumentParser(prog=f"python -m fastbp.examples.{program}")
    parser.add_argument("--out", type=Path, default=Path(f"{program}.png"), metavar="FILE", help="file of the picture")
    return parser.parse_args(arguments).out


def save_picture(file: Path, size: tuple[float, float], draw: Callable[[Any], None]) -> None:
    """Lets `draw` fill a matplotlib Figure of so many inches and saves it; without matplotlib it says so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print('no picture: matplotlib is not installed (pip install "fastbp[plots]")')
        return
    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    figure.savefig(file, dpi=120)
    print(f"picture: {file}")


def show_images(axes: Any, images: np.ndarray, columns: int, title: str) -> None:
    """Draws square images (rows, pixels), values in [0, 1], as a table of so many columns: ink is dark."""
    side = math.isqrt(images.shape[1])
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (side + 1) + 1, columns * (side + 1) + 1), 0.5)
    for at, image in enumerate(images):
        top, left = (at // columns) * (side + 1) + 1, (at % columns) * (side + 1) + 1
        sheet[top : top + side, left : left + side] = image.reshape(side, side)
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
    axes.set_title(title)
    axes.set_axis_off()
