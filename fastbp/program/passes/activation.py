"""Activations into the product before them: that of a layer, and the derivative in the gradient of its input.

z = x·wᵀ + b, y = f(z)                →  linear_forward with f
dy = dz·w,    dx = dy ⊙ f'(s)         →  linear_backward_input with f and s
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastbp.program.calls import Call
from fastbp.program.passes.uses import Ranges, Uses, same


def fuse_activations(calls: Sequence[Call], live: Ranges) -> list[Call]:
    """Calls with every activation that directly follows a product in its epilogue."""
    uses = Uses(calls, live)
    fused: list[Call | None] = list(calls)
    for i, call in enumerate(calls):
        if call.kernel == "linear_forward" and call["activation"] is None:
            _fuse_forward(calls, fused, uses, i)
        elif call.kernel == "linear_backward_input" and call["activation"] is None:
            _fuse_backward(calls, fused, uses, i)
    return [call for call in fused if call is not None]


def _fuse_forward(calls: Sequence[Call], fused: list[Any], uses: Uses, i: int) -> None:
    z = calls[i]["y"]
    users = uses.of(z, i + 1)
    j = users[0] if users else -1
    name = _activation(calls[j], "_forward") if users else None
    if name is None or not same(calls[j]["x"], z):
        return
    y = calls[j]["y"]
    if uses.of(y, 0, j) and not same(y, z):
        return  # y was somebody else's between the two
    kept = (len(users) > 1 or uses.outlives(z)) and not same(y, z)
    fused[i] = calls[i].replace(activation=name, constant=_constant(calls[j]), z=z if kept else None, y=y)
    fused[j] = None


def _fuse_backward(calls: Sequence[Call], fused: list[Any], uses: Uses, i: int) -> None:
    dy = calls[i]["dx"]
    users = uses.of(dy, i + 1)
    if len(users) != 1 or uses.outlives(dy):
        return
    (j,) = users
    name = _activation(calls[j], "_backward")
    if name is None or not same(calls[j]["dy"], dy):
        return
    s, dx = calls[j].arguments[1], calls[j]["dx"]
    if uses.writing(s, i, j) or (uses.of(dx, 0, j) and not same(dx, dy)):
        return
    fused[i] = calls[i].replace(activation=name, constant=_constant(calls[j]), s=s, dx=dx)
    fused[j] = None


def _activation(call: Call, suffix: str) -> str | None:
    """The name of a unary operation with at most one constant, or None for another call."""
    name = call.kernel.removesuffix(suffix)
    facts = call.facts
    unary = facts.saved is not None and name != call.kernel and len(facts.constants) <= 1
    return name if unary else None


def _constant(call: Call) -> float:
    return next((float(call[name]) for name in call.facts.constants), 0.0)
