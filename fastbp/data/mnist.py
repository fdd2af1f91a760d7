"""MNIST and Fashion-MNIST: where their IDX files are looked for, how they are checked, where downloads come from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from .digits import check_split
from .idx import read_idx
from .scaling import Scaling

SCALING = Scaling.unit(255.0)


@dataclass(frozen=True)
class _Collection:
    """A set of images: its name, mirrors (tried in order), SHA-256 of each compressed file, folders of system
    packages."""

    name: str
    mirrors: tuple[str, ...]
    checksums: dict[str, str]
    system_folders: tuple[Path, ...] = ()


MNIST = _Collection(
    "mnist",
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
)
FASHION_MNIST = _Collection(
    "fashion-mnist",
    # This server speaks plain HTTP only; the checksum is what vouches for the files.
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    {
        "train-images-idx3-ubyte.gz": "08dc20ab1689590a0bcd66e874647b6ee8464e2d501b5a3f1f78831db19a3fdc",
        "train-labels-idx1-ubyte.gz": "b0197879cbda89f3dc7b894f9fd52b858e68ea4182b6947c9d8c2b67e5f18dcc",
        "t10k-images-idx3-ubyte.gz": "78dcbbfb5a27efaf1b6c1d616caca68560be8766c5bffcb2791df9273a534229",
        "t10k-labels-idx1-ubyte.gz": "42bd18137a62d5998cdeae52bf3a0676ac6b706f5cf8439b47bb5b151ae3dccf",
    },
    (Path("/usr/share/datasets/fashion-mnist"),),  # Debian's package dataset-fashion-mnist
)


def load_mnist(split: str = "train", folder: str | PathLike[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return MNIST's images (rows, 784) float32 in [0, 1] and labels (rows,) int64.

    x = pixel / 255; 60,000 rows for training, 10,000 for testing. The IDX files, plain or .gz, are looked for in
    `folder`; without one in $FASTBP_DATA/mnist, then in the cache folder ($XDG_CACHE_HOME or ~/.cache)/fastbp/mnist,
    and then downloaded there with a checksum, which needs pooch (`pip install "fastbp[data]"`). Raises
    FileNotFoundError if they are nowhere, ValueError if a file is not whole.
    Source: Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits.
    """
    x, y = read_images(MNIST, split, folder)
    return SCALING(x), y


def load_fashion_mnist(
    split: str = "train", folder: str | PathLike[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return Fashion-MNIST's images and labels; as `load_mnist`, with the folder name fashion-mnist.

    The folder of Debian's package dataset-fashion-mnist is looked in before downloading.
    Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747 (MIT licence).
    """
    x, y = read_images(FASHION_MNIST, split, folder)
    return SCALING(x), y


def read_images(
    collection: _Collection, split: str = "train", folder: str | PathLike[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the raw pixels (rows, 784) uint8 and the labels (rows,) int64 of one split."""
    check_split(f"load_{collection.name.replace('-', '_')}", split)
    prefix = "train" if split == "train" else "t10k"
    names = (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz")
    images_path, labels_path = _find(collection, names, folder)
    x, y = read_idx(images_path), read_idx(labels_path)
    if x.dtype != np.uint8 or x.shape[1:] != (28, 28) or not len(x):
        raise ValueError(f"{images_path}: wrong size: expected uint8 images (rows, 28, 28), got {x.dtype} {x.shape}")
    if y.dtype != np.uint8 or y.shape != x.shape[:1]:
        raise ValueError(f"{labels_path}: wrong size: expected uint8 labels ({len(x)},), got {y.dtype} {y.shape}")
    if y.max() > 9:
        raise ValueError(f"{labels_path}: expected labels 0 to 9, got {y.max()} in row {y.argmax() + 1}")
    return x.reshape(len(x), -1), y.astype(np.int64)


def cache_folder() -> Path:
    """Return the folder that downloads go to."""
    # The XDG rule: an empty or relative value counts as none.
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "fastbp"


def _find(collection: _Collection, names: tuple[str, ...], folder: str | PathLike[str] | None) -> list[Path]:
    """Return the paths of the named files in the first folder that has them all, downloading them if none has."""
    if folder is not None:
        folders = [Path(folder)]
    else:
        folders = [cache_folder() / collection.name, *collection.system_folders]
        if os.environ.get("FASTBP_DATA"):
            folders.insert(0, Path(os.environ["FASTBP_DATA"]) / collection.name)
    for candidate in folders:
        paths = [_existing(candidate, name) for name in names]
        if None not in paths:
            return [path for path in paths if path is not None]
    if folder is not None:
        missing = next(name for name in names if _existing(Path(folder), name) is None)
        raise FileNotFoundError(f"[{collection.name}] {folder} has neither {missing} nor {missing[:-3]}")
    try:
        import pooch
    except ImportError:
        raise FileNotFoundError(
            f"[{collection.name}] {names[0]} is not in {', '.join(map(str, folders))}: put the IDX files there, "
            'or let them be downloaded by `pip install "fastbp[data]"`'
        ) from None
    return [_download(pooch, collection, name) for name in names]


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / name[:-3]) if path.is_file()), None)


def _download(pooch, collection: _Collection, name: str) -> Path:
    """Bring one file into the cache folder; pooch writes it under a temporary name until its checksum is right."""
    reasons = []
    for mirror in collection.mirrors:
        try:
            return Path(
                pooch.retrieve(
                    mirror + name,
                    known_hash="sha256:" + collection.checksums[name],
                    fname=name,
                    path=cache_folder() / collection.name,
                )
            )
        except (OSError, ValueError) as error:  # no connection, refused, or a wrong checksum
            reasons.append(f"{mirror}: {type(error).__name__}: {error}".splitlines()[0])
    raise OSError(f"[{collection.name}] could not download {name} ({'; '.join(reasons)})")
