"""Calls of modules that have hooks: before and after forward, before and after backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastbp.function import Function
from fastbp.hooks import fitting
from fastbp.tensor import Tensor

# The kinds of hooks, in the order in which a pass comes by.
FORWARD_PRE, FORWARD, BACKWARD_PRE, BACKWARD = "forward pre", "forward", "backward pre", "backward"


class Hook(NamedTuple):
    kind: str
    function: Callable[..., Any]
    with_kwargs: bool = False


def call(module: Any, hooks: dict[int, Hook], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """module(*args, **kwargs) with its hooks."""
    kinds: dict[str, list[Hook]] = {}
    for hook in hooks.values():
        kinds.setdefault(hook.kind, []).append(hook)
    for hook in kinds.get(FORWARD_PRE, ()):
        args, kwargs = _before(module, hook, args, kwargs)
    backward = _Backward(module, kinds.get(BACKWARD_PRE, []), kinds.get(BACKWARD, []))
    if backward.needed:
        args = backward.watch_inputs(args)
    result = module.forward(*args, **kwargs)
    for hook in kinds.get(FORWARD, ()):
        given = (module, args, kwargs, result) if hook.with_kwargs else (module, args, result)
        changed = hook.function(*given)
        result = result if changed is None else changed
    return backward.watch_outputs(result) if backward.needed else result


def _before(module: Any, hook: Hook, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    if not hook.with_kwargs:
        changed = hook.function(module, args)
        if changed is None:
            return args, kwargs
        return changed if isinstance(changed, tuple) else (changed,), kwargs
    changed = hook.function(module, args, kwargs)
    if changed is None:
        return args, kwargs
    if not (isinstance(changed, tuple) and len(changed) == 2 and isinstance(changed[1], dict)):
        raise RuntimeError(f"[forward_pre_hook] expected None or (args, kwargs), got {type(changed).__name__}")
    return changed


class _Backward:
    """The backward hooks of one call: what arrives at the outputs, then at the inputs, each in one place."""

    def __init__(self, module: Any, before: Sequence[Hook], after: Sequence[Hook]) -> None:
        self.module, self.before, self.after = module, before, after
        self.needed = bool(before or after)
        self.inputs: list[bool] | None = None  # which of the positional arguments are differentiated tensors
        self.arrived: tuple[Any, ...] = ()  # gradients of the outputs

    def watch_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        places = [isinstance(x, Tensor) and x.requires_grad for x in args]
        if not any(places):
            return args
        self.inputs = places
        watched = iter(_several(_Inputs.apply(self, *[x for x, mine in zip(args, places) if mine])))
        return tuple([next(watched) if mine else x for x, mine in zip(args, places)])

    def watch_outputs(self, result: Any) -> Any:
        outputs = [result] if isinstance(result, Tensor) else result
        if not isinstance(outputs, (tuple, list)) or not all(isinstance(y, Tensor) for y in outputs):
            raise TypeError(
                f"[{type(self.module).__name__}] expected a tensor or a tuple of tensors from forward, since there are "
                f"backward hooks, got {type(result).__name__}"
            )
        watched = _several(_Outputs.apply(self, *outputs))
        if isinstance(result, Tensor):
            return watched[0]
        return type(result)._make(watched) if hasattr(result, "_make") else type(result)(watched)

    def at_outputs(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in self.before:
            gradients = _changed(hook, "grad_output", gradients, self.module, gradients)
        if self.inputs is not None:
            self.arrived = gradients
        else:
            for hook in self.after:
                hook.function(self.module, (None,), gradients)
        return gradients

    def at_inputs(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        given = iter(gradients)
        full = tuple([next(given) if mine else None for mine in self.inputs or ()])
        arrived, self.arrived = self.arrived, ()  # whose graph would lead back here
        for hook in self.after:
            full = _changed(hook, "grad_input", full, self.module, full, arrived)
        return tuple([g for g, mine in zip(full, self.inputs or ()) if mine])


def _changed(hook: Hook, name: str, gradients: tuple[Any, ...], *given: Any) -> tuple[Any, ...]:
    """The gradients, or those that the hook returns in their place."""
    result = hook.function(*given)
    if result is None:
        return gradients
    changed = result if isinstance(result, (tuple, list)) else (result,)
    if len(changed) != len(gradients):
        raise RuntimeError(f"[hook] expected {len(gradients)} gradients in place of {name}, got {len(changed)}")
    return tuple([old if old is None else fitting(new, old) for new, old in zip(changed, gradients)])


def _several(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else result


class _Inputs(Function):
    """The inputs of a module as they are; their gradients pass by its hooks."""

    @staticmethod
    def forward(ctx: Any, watcher: _Backward, *inputs: Tensor) -> Any:
        ctx.watcher = watcher
        return inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, *ctx.watcher.at_inputs(gradients)


class _Outputs(Function):
    """The outputs of a module as they are; their gradients pass by its hooks."""

    @staticmethod
    def forward(ctx: Any, watcher: _Backward, *outputs: Tensor) -> Any:
        ctx.watcher = watcher
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, *ctx.watcher.at_outputs(gradients)
