"""Tables from CSV and NPZ files: rows of numbers, the target last."""

from __future__ import annotations

import csv
import zipfile
from array import array
from os import PathLike
from pathlib import Path

import numpy as np


def load_csv(path: str | PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read a CSV table of numbers and return x (rows, columns - 1) float64 and its last column y (rows,).

    The first line is a header if none of its cells is a number. y is int64 (classes) if every target is a whole number,
    else float64. Raises ValueError naming file, line and column of a cell that is missing, NaN, infinite or not a
    number.
    """
    table = read_csv(path)
    if table.shape[1] < 2:
        raise ValueError(f"{path}: expected at least 2 columns (the last one is the target), got {table.shape[1]}")
    y = table[:, -1]
    # Beyond 2^53 float64 holds even numbers only: such targets are no class labels.
    whole = (y == np.rint(y)).all() and (np.abs(y) <= 2**53).all()
    return table[:, :-1], y.astype(np.int64) if whole else y


def read_csv(path: str | PathLike[str]) -> np.ndarray:
    """Read a CSV table of numbers, header optional, and return all its columns as float64 (rows, columns)."""
    values, lines = array("d"), array("q")
    header: list[str] = []
    columns = 0
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            for row in reader:
                if not row:
                    continue
                if columns == 0:
                    columns = len(row)
                    if not any(map(_is_number, row)):
                        header = row
                        continue
                if len(row) != columns:
                    raise ValueError(f"{path}: line {reader.line_num}: expected {columns} cells, got {len(row)}")
                try:
                    values.extend(map(float, row))
                except ValueError:
                    column = next(at for at, cell in enumerate(row) if not _is_number(cell))
                    got = repr(row[column]) if row[column].strip() else "an empty cell"
                    where = f"line {reader.line_num}, {_column(column, header)}"
                    raise ValueError(f"{path}: {where}: expected a number, got {got}") from None
                lines.append(reader.line_num)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a CSV text file ({error})") from None
    if not lines:
        raise ValueError(f"{path}: expected at least one row of numbers, got none")
    table = np.frombuffer(values, dtype=np.float64).reshape(len(lines), columns)
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        at, column = bad[0]
        where = f"line {lines[at]}, {_column(column, header)}"
        raise ValueError(f"{path}: {where}: expected a finite number, got {table[at, column]}")
    return table


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _column(at: int, header: list[str]) -> str:
    return f"column {at + 1}" + (f" ({header[at]!r})" if header else "")


def load_npz(path: str | PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read arrays x (or X) and y of an NPZ file and return x (rows, columns) and y (rows,) or (rows, targets).

    x keeps its dtype; further dimensions are flattened. An integer or boolean y becomes int64 (classes), a floating one
    float64; a single column becomes (rows,). Nothing is unpickled. Raises ValueError naming file, array, row and
    column.
    """
    x = read_npz_rows(path)
    y = _read_array(path, "y")
    if y.ndim == 0 or len(y) != len(x):
        raise ValueError(f"{path}: expected y with {len(x)} rows as x has, got shape {y.shape}")
    y = y.reshape(len(y), -1)
    if y.shape[1] == 0:
        raise ValueError(f"{path}: expected y with at least one column, got none")
    _check_finite(path, "y", y)
    y = y.astype(np.int64 if y.dtype.kind in "iub" else np.float64)
    return x, y[:, 0] if y.shape[1] == 1 else y


def read_npz_rows(path: str | PathLike[str]) -> np.ndarray:
    """Read array x (or X) of an NPZ file, flattened to (rows, columns)."""
    x = _read_array(path, "x", "X")
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"{path}: expected x of shape (rows, columns) with at least one value, got {x.shape}")
    x = x.reshape(len(x), -1)
    _check_finite(path, "x", x)
    return x


def _read_array(path: str | PathLike[str], *names: str) -> np.ndarray:
    """Read the first of the named arrays, which must hold real numbers."""
    if not zipfile.is_zipfile(path):
        Path(path).open("rb").close()  # a file that cannot be opened says why
        raise ValueError(f"{path}: not an NPZ file")
    try:
        with np.load(path, allow_pickle=False) as file:
            present = [name for name in names if name in file.files]
            values = file[present[0]] if present else None
            keys = ", ".join(file.files) or "none"
    except (ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path}: damaged or not numeric NPZ file ({error})") from None
    if values is None:
        raise ValueError(f"{path}: expected an array named {' or '.join(names)}, got {keys}")
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise ValueError(f"{path}: expected numbers in {present[0]}, got {getattr(values, 'dtype', 'no array')}")
    return values


def _check_finite(path: str | PathLike[str], name: str, values: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        got = values[row, column]
        raise ValueError(f"{path}: {name}, row {row + 1}, column {column + 1}: expected a finite number, got {got}")
