"""Files of named arrays in the safetensors format: nothing is pickled, a file is whole or absent at every instant."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fastbp.from_data import from_numpy
from fastbp.tensor import Tensor

_DTYPES = ("float32", "float64", "int64", "bool")
_CODES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "BOOL": "u1"}  # safetensors' names; a boolean is any byte but 0


def save(state: Any, path: str | PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write a module's state_dict, or a mapping of names to tensors or NumPy arrays, as a safetensors file.

    Keys, shapes and dtypes are those of the state_dict, so `safetensors.torch` reads the file as PyTorch's. metadata:
    strings kept beside them. The bytes go to a temporary file in the same folder, are synced to the disk and then
    renamed: a process killed at any instant leaves the old file whole. Raises TypeError for values that are not arrays
    of float32, float64, int64 or bool, and OSError if the folder cannot be written.
    """
    from safetensors import numpy as safetensors

    named = state.state_dict() if hasattr(state, "state_dict") else state
    if not isinstance(named, Mapping):
        raise TypeError(f"[save] expected a module or a mapping of names to tensors, got {type(named).__name__}")
    arrays = {_text("a name", name): _to_array(name, value) for name, value in named.items()}
    texts = {_text("a metadata key", key): _text(f"metadata {key!r}", value) for key, value in (metadata or {}).items()}
    _replace(Path(path), safetensors.save(arrays, texts or None))


def load(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Read a safetensors file and return its tensors by name, ready for `load_state_dict`.

    Raises ValueError naming the file if it is not a whole safetensors file or holds a dtype that tensors lack, OSError
    if it cannot be read.
    """
    return load_with_metadata(path)[0]


def load_with_metadata(path: str | PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file and return its tensors by name and its metadata."""
    import safetensors

    # Read as a whole rather than mapped: a file cut short by another process is then an error, not a crash.
    content = Path(path).read_bytes()
    try:
        entries = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f"[load] {path}: not a whole safetensors file ({error})") from None
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tensors = {name: from_numpy(_from_entry(path, name, entry)) for name, entry in entries}
    return tensors, header.get("__metadata__", {})


def _from_entry(path: str | PathLike[str], name: str, entry: Mapping[str, Any]) -> np.ndarray:
    code = entry["dtype"]
    if code not in _CODES:
        raise ValueError(f"[load] {path}: {name}: expected a dtype of {', '.join(_CODES)}, got {code}")
    values = np.frombuffer(entry["data"], dtype=_CODES[code]).reshape(entry["shape"])
    return values != 0 if code == "BOOL" else values.astype(values.dtype.newbyteorder("="))


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"[save] expected {what} to be a string, got {type(value).__name__}")
    return value


def _to_array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().numpy()
    if not isinstance(value, np.ndarray) or value.dtype.name not in _DTYPES:
        got = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"[save] expected {name!r} to be a tensor or array of {', '.join(_DTYPES)}, got {got}")
    return np.asarray(value, order="C")


def _replace(path: Path, content: bytes) -> None:
    """Make `path` hold `content`, or leave it as it is."""
    path = Path(os.path.realpath(path))  # a link stays a link
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise OSError(f"[save] expected the name of a file in an existing folder, got {path}")
    temporary = path.with_name(f".{path.name[:32]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    # The old file's permissions are kept; a new file gets the usual ones.
    mode = path.stat().st_mode & 0o777 if path.exists() else None
    try:
        with open(temporary, "xb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring the renaming itself to the disk, where the system can open a folder for that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
