"""Constants: memory that one `fill` alone writes is filled when the program is made; a product with such a 1 is its
other factor.

The gradient of a loss with respect to itself is such a 1, and so is the denominator of a mean.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastbp.kernels.storage import Buffer
from fastbp.program.calls import Call
from fastbp.program.passes.uses import Ranges, Uses


def split_constants(calls: Sequence[Call], live: Ranges) -> tuple[list[Call], list[Call]]:
    """(the calls that fill constants, all others)."""
    uses = Uses(calls, live)
    constants: list[Call] = []
    others: list[Call] = []
    for i, call in enumerate(calls):
        y = call["y"] if call.kernel == "fill" else None
        constant = y is not None and not uses.outlives(y) and uses.writing(y) == [i] and uses.of(y)[0] == i
        (constants if constant else others).append(call)
    return constants, others


def drop_products_with_one(calls: Sequence[Call], constants: Sequence[Call], live: Ranges) -> list[Call]:
    """Calls without y = x · 1, whose readers read x instead."""
    ones = {call["y"].extent for call in constants if call["value"] == 1}
    uses = Uses(calls, live)
    moved: dict[int, tuple[Buffer, Buffer]] = {}  # by the storage of what is gone: (old, new)
    result: list[Call] = []
    for i, call in enumerate(calls):
        if any(touch.storage in moved for touch in call.touches(0)):
            call = call.map(lambda b: _moved(b, moved))
        x = _other_factor(call, ones) if call.kernel == "mul" else None
        if x is not None and _may_be_read_for(call["y"], x, i, uses):
            moved[call["y"].storage[0]] = call["y"], x
        else:
            result.append(call)
    return result


def _may_be_read_for(y: Buffer, x: Buffer, i: int, uses: Uses) -> bool:
    """Whether x is what y is from call i on, and nobody looks at y itself."""
    alike = x.same_kind(y) and x.contiguous and not uses.outlives(y)
    return alike and uses.writing(y) == [i] and not uses.writing(x, i + 1)


def _other_factor(call: Call, ones: set[tuple[int, int]]) -> Buffer | None:
    factors = call["a"], call["b"]
    for x, one in zip(factors, factors[::-1]):
        if isinstance(x, Buffer) and isinstance(one, Buffer) and one.extent in ones:
            return x
    return None


def _moved(b: Buffer, moved: dict[int, tuple[Buffer, Buffer]]) -> Buffer:
    """A view of a new buffer in the place of one of an old buffer."""
    if b.storage[0] not in moved:
        return b
    old, new = moved[b.storage[0]]
    return new.view(b.shape, b.strides, (b.data_ptr - old.data_ptr) * old.size // old.nbytes)
