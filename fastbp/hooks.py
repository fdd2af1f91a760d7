"""Hooks: functions that are called with gradients or results, and the handles that take them away again."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

_next_key = itertools.count().__next__


class RemovableHandle:
    """A registered hook: remove() takes it away, and so does the end of a `with` block."""

    def __init__(self, owner: Any, attribute: str, entry: Any) -> None:
        self._owner, self._attribute, self._key = weakref.ref(owner), attribute, _next_key()
        # A new dictionary each time: who keeps the old one (a recorded program) sees that it is another.
        setattr(owner, attribute, {**(getattr(owner, attribute) or {}), self._key: entry})

    def remove(self) -> None:
        """Takes the hook away; a second time nothing happens."""
        owner = self._owner()
        hooks = None if owner is None else getattr(owner, self._attribute)
        if hooks and self._key in hooks:
            rest = {key: entry for key, entry in hooks.items() if key != self._key}
            # The tape passes by a node without hooks, also where an output is to keep its gradient.
            setattr(owner, self._attribute, rest if rest or getattr(owner, "retained", None) else None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def require_callable(op: str, hook: Any) -> None:
    """Refuses what cannot be called."""
    if not callable(hook):
        raise TypeError(f"[{op}] expected a function, got {type(hook).__name__}")


def replaced(gradient: Any, hook: Callable[[Any], Any]) -> Any:
    """The gradient, or what the hook returns in its place. TypeError or ValueError where that cannot take it."""
    result = hook(gradient)
    return gradient if result is None else fitting(result, gradient)


def fitting(result: Any, gradient: Any) -> Any:
    """What a hook returned, where it can take the place of the gradient."""
    if not hasattr(result, "buffer"):
        raise TypeError(f"[hook] expected a tensor or None from the hook, got {type(result).__name__}")
    if not result.buffer.same_kind(gradient.buffer):
        raise ValueError(
            f"[hook] expected {gradient.dtype} {gradient.shape} from the hook, got {result.dtype} {result.shape}"
        )
    return result
