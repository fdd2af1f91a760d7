"""The IDX format of MNIST's files: a magic number, big-endian sizes, then the values, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import math
import zlib
from os import PathLike
from pathlib import Path

import numpy as np

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | PathLike[str]) -> np.ndarray:
    """Read one IDX file and return its array in native byte order.

    The magic number is two zero bytes, the type's code and the number of dimensions; each size is 4 bytes. Compression
    is told by the content, not by the name. Raises ValueError naming the file and the reason if it is not a whole IDX
    file.
    """
    path = Path(path)
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: truncated or damaged gzip file ({error})") from None
    if len(content) < 4:
        raise ValueError(f"{path}: truncated IDX file: expected a magic number of 4 bytes, got {len(content)} bytes")
    dtype, ndim = _DTYPES.get(content[2]), content[3]
    if content[:2] != b"\0\0" or dtype is None or not 1 <= ndim <= 32:
        raise ValueError(f"{path}: wrong magic number 0x{content[:4].hex()}: not an IDX file")
    start = 4 + 4 * ndim
    if len(content) < start:
        raise ValueError(f"{path}: truncated IDX file: expected {ndim} sizes, got {len(content) - 4} bytes of them")
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    expected, got = math.prod(shape) * np.dtype(dtype).itemsize, len(content) - start
    if got != expected:
        reason = "truncated" if got < expected else "wrong size"
        raise ValueError(f"{path}: {reason}: shape {shape} needs {expected} bytes of values, got {got}")
    values = np.frombuffer(content, dtype=dtype, offset=start).reshape(shape)
    return values.astype(values.dtype.newbyteorder("="))
