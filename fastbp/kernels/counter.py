"""A backend that runs another one and counts what its kernels do, by their facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastbp.kernels import reference
from fastbp.kernels.facts import Facts


class Counter:
    """The backend `counted`, with sums over the kernel calls so far.

    operations: arithmetic, a multiply-add being two. bytes: read and written. results: bytes of what was written to
    memory that the same call did not read.
    """

    def __init__(self, counted: Any) -> None:
        self.counted = counted
        self.operations = self.bytes = self.results = 0

    def __getattr__(self, name: str) -> Any:
        kernel = getattr(self.counted, name)
        facts = getattr(getattr(reference, name, None), "facts", None)
        if facts is None:
            return kernel

        def run(*arguments: Any) -> None:
            kernel(*arguments)
            self._count(facts, arguments)

        self.__dict__[name] = run
        return run

    def _count(self, facts: Facts, arguments: tuple[Any, ...]) -> None:
        named = dict(zip(facts.parameters, arguments))
        self.operations += facts.operations(**named)
        self.bytes += facts.bytes(**named)
        read = {b.data_ptr for name in facts.reads(**named) for b in _buffers(named[name])}
        written = [b for name in facts.writes(**named) for b in _buffers(named[name])]
        self.results += sum(b.nbytes for b in written if b.data_ptr not in read)


def _buffers(operand: Any) -> Iterator[Any]:
    """The tensors of an operand: one, several, or none where a number or None stands for it."""
    return (b for b in (operand if isinstance(operand, (list, tuple)) else [operand]) if hasattr(b, "data_ptr"))
