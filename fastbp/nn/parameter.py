"""Parameter: a tensor that a module trains."""

from __future__ import annotations

from fastbp.tensor import Tensor


class Parameter(Tensor):
    """A leaf tensor with `requires_grad=True` that a Module lists among its parameters once it is an attribute.

    `Parameter(data, requires_grad=True)` shares the memory of `data`.
    """

    __slots__ = ()

    def __init__(self, data: Tensor, requires_grad: bool = True) -> None:
        if not isinstance(data, Tensor):
            raise TypeError(
                f"[Parameter] expected data to be a Tensor, got {type(data).__name__}; use fastbp.tensor(data)"
            )
        super().__init__(data.buffer)
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"
