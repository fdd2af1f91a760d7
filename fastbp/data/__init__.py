"""Data in memory: batches, the embedded digits, MNIST-like image files, CSV and NPZ tables, scaling."""

from .batches import Batches
from .digits import load_digits
from .idx import read_idx
from .mnist import load_fashion_mnist, load_mnist
from .scaling import Scaling
from .split import split_rows
from .tables import load_csv, load_npz

__all__ = [
    "Batches",
    "Scaling",
    "load_csv",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "load_npz",
    "read_idx",
    "split_rows",
]
