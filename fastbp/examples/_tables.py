"""Tables of real measurements that come with scikit-learn."""

from __future__ import annotations

import numpy as np


def load_table(name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """x (rows, columns) float64, y (rows,) and the names of the columns, of a table in `sklearn.datasets`."""
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError(f"[{name}] this table comes with scikit-learn: pip install scikit-learn") from None
    table = getattr(datasets, f"load_{name}")()
    return table.data, table.target, [str(column) for column in table.feature_names]
