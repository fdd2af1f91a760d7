"""Where the command's rows come from: the digits, image collections, CSV and NPZ tables. Values stay raw here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastbp.data import Scaling, digits, load_csv, load_npz, mnist, read_idx, split_rows, tables

TASKS = ("auto", "classification", "regression")

_NAMED: dict[str, tuple[Callable[[str], tuple[np.ndarray, np.ndarray]], Scaling]] = {
    "digits": (digits.read_digits, digits.SCALING),
    "mnist": (lambda split: mnist.read_images(mnist.MNIST, split), mnist.SCALING),
    "fashion-mnist": (lambda split: mnist.read_images(mnist.FASHION_MNIST, split), mnist.SCALING),
}
SOURCES = ", ".join(_NAMED) + ", FILE.csv or FILE.npz"


@dataclass(frozen=True)
class Problem:
    """Raw rows to learn from and raw rows held out; y int64 means classes, float64 means a continuous target."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    scaling: Scaling

    @property
    def classes(self) -> np.ndarray | None:
        """The class labels in ascending order, or None for a continuous target."""
        labels = (self.y_train, self.y_test)
        return np.unique(np.concatenate(labels)) if self.y_train.dtype == np.int64 else None


def read_problem(source: str, task: str = "auto") -> Problem:
    """Read a named collection with its own split, or a file, of which `split_rows` holds out one row in five.

    A file's inputs are standardised by its training rows.
    """
    if source in _NAMED:
        if task == "regression":
            raise ValueError(f"{source} has classes: expected --task classification, got regression")
        read, scaling = _NAMED[source]
        return Problem(*read("train"), *read("test"), scaling)
    x, y = _read_file(source, task)
    if len(x) < 2:
        raise ValueError(f"{source}: expected at least 2 rows, one to train and one to test, got {len(x)}")
    train, test = split_rows(y if y.dtype == np.int64 else np.zeros(len(y), dtype=np.int64))
    if not len(test):
        raise ValueError(f"{source}: every class has a single row, so none can be held out; pass --task regression")
    return Problem(x[train], y[train], x[test], y[test], Scaling.standardised(x[train]))


def read_evaluation(source: str, task: str, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to evaluate on: the held-out rows of a source, or with `whole` all rows of a file."""
    if source in _NAMED:
        return _NAMED[source][0]("test")
    if whole:
        return _read_file(source, task)
    problem = read_problem(source, task)
    return problem.x_test, problem.y_test


def read_inputs(path: str, columns: int) -> np.ndarray:
    """Return the input rows (rows, columns) of a CSV, NPZ or IDX file; a CSV may have a target as one more column."""
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        x = tables.read_csv(path)
        x = x[:, :-1] if x.shape[1] == columns + 1 else x
    elif suffix == ".npz":
        x = tables.read_npz_rows(path)
    else:
        x = read_idx(path)
        if x.ndim < 2 or not x.size:
            raise ValueError(f"{path}: expected rows of values, got shape {x.shape}")
        x = x.reshape(len(x), -1)
    return x


def _read_file(source: str, task: str) -> tuple[np.ndarray, np.ndarray]:
    readers = {".csv": load_csv, ".npz": load_npz}
    reader = readers.get(Path(source).suffix.lower())
    if reader is None:
        raise ValueError(f"expected data from {SOURCES}, got {source!r}")
    x, y = reader(source)
    if task == "regression":
        return x, y.astype(np.float64)
    if task == "classification":
        labels = np.rint(y).astype(np.int64)
        if y.ndim != 1 or not np.array_equal(labels, y):
            raise ValueError(f"{source}: expected whole numbers as the classes of --task classification, got others")
        return x, labels
    if y.ndim == 1 and y.dtype == np.int64 and 2 * len(np.unique(y)) > len(y) > 2:
        raise ValueError(
            f"{source}: {len(np.unique(y))} different whole numbers as targets of {len(y)} rows: "
            "pass --task regression, or --task classification if they are classes"
        )
    return x, y if y.ndim == 1 else y.astype(np.float64)
