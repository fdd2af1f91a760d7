"""Attributes of classes and modules that are watched while somebody wants to know; at other times nothing is paid."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# An attribute by its owner and name, and a function that makes of what is there what is to be there meanwhile. What
# that does it does for the threads that asked: others may come by as well.
Watch = tuple[Any, str, Callable[[Any], Any]]

_lock = threading.Lock()
_plain: dict[tuple[int, str], Any] = {}  # by id of the owner and name: what was there before, None for an inherited one
_active: dict[tuple[int, str], Counter[Callable[[Any], Any]]] = {}  # how often each function was asked for


@contextmanager
def watched(watches: Sequence[Watch]) -> Iterator[None]:
    """Has the attributes watched until the block is left. Several may watch one attribute, each once."""
    with _lock:
        for owner, name, wrap in watches:
            key = id(owner), name
            if key not in _active:
                _plain[key], _active[key] = vars(owner).get(name), Counter()
            _active[key][wrap] += 1
            _place(owner, name)
    try:
        yield
    finally:
        with _lock:
            for owner, name, wrap in watches:
                active = _active[id(owner), name]
                active[wrap] -= 1
                if not active[wrap]:
                    del active[wrap]
                _place(owner, name)


def _place(owner: Any, name: str) -> None:
    """Puts what belongs there in an attribute's place."""
    key = id(owner), name
    value = _plain[key]
    if not _active[key]:
        del _plain[key], _active[key]
        if value is None:
            delattr(owner, name)
            return
    else:
        for wrap in _active[key]:
            value = wrap(value)
    setattr(owner, name, value)
