"""The progress bar of a run: tqdm where it is shown, nothing where it is not."""

from __future__ import annotations

import sys
from typing import Any


class _Silent:
    """Stands where the bar would, so that the loop need not ask."""

    def update(self, steps: int) -> None: ...

    def set_description_str(self, text: str) -> None: ...

    def set_postfix_str(self, text: str) -> None: ...

    def close(self) -> None: ...


def progress_bar(show: bool | None, total: int | None) -> Any:
    """Return a bar of `total` steps on standard error; None shows it only where a person sees it."""
    if show is None:
        show = sys.stderr is not None and sys.stderr.isatty()
    if not show:
        return _Silent()
    from tqdm import tqdm

    return tqdm(total=total, unit="step", file=sys.stderr, dynamic_ncols=True)
