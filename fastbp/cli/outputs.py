"""Files that a command is going to write."""

from __future__ import annotations

import os
from pathlib import Path


def check_out(option: str, out: str) -> None:
    """Refuse, before the work, a file that could not be written after it."""
    folder = Path(out).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or (os.path.exists(out) and not os.path.isfile(out)):
        raise ValueError(f"{option}: expected a file in an existing writable folder, got {out!r}")
