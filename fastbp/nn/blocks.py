"""Networks made of other modules: MLP, Residual, Concatenate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from fastbp import ops
from fastbp.nn.activation import ReLU
from fastbp.nn.container import ModuleList, Sequential
from fastbp.nn.dropout import Dropout
from fastbp.nn.linear import Linear
from fastbp.nn.module import Module
from fastbp.nn.parameter import require_size, widths_of
from fastbp.tensor import Tensor


class MLP(Sequential):
    """A multilayer perceptron: Linear layers of widths in_features, *hidden, out_features, between two of them

        norm(width), where it is given; activation(); Dropout(dropout), where it is above 0.

    activation: makes a module, a class such as nn.Tanh for example. norm: makes a module for a width, such as
    nn.LayerNorm. bias: of all Linear layers. A Sequential: modules are named "0", "1", …. Raises TypeError for hidden
    that is no sequence and for an activation or norm that makes no module, ValueError for sizes.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        activation: Callable[[], Module] = ReLU,
        dropout: float = 0.0,
        norm: Callable[[int], Module] | None = None,
        bias: bool = True,
    ) -> None:
        widths = (in_features, *widths_of("MLP", hidden))
        require_size("MLP", in_features=in_features, out_features=out_features)
        _require_maker("activation", activation)
        if norm is not None:
            _require_maker("norm", norm)

        def modules() -> Iterator[Module]:
            for inputs, outputs in pairwise(widths):
                yield Linear(inputs, outputs, bias)
                if norm is not None:
                    yield norm(outputs)
                yield activation()
                if dropout:
                    yield Dropout(dropout)
            yield Linear(widths[-1], out_features, bias)

        super().__init__(*modules())


def _require_maker(name: str, value: Any) -> None:
    if isinstance(value, Module) or not callable(value):
        raise TypeError(f"[MLP] expected {name} as what makes a module, such as a class, got {value!r}")


class Residual(Module):
    """y = x + module(x), for a module that keeps the shape (He et al., 2016).

    Raises ValueError where it does not, TypeError for what is no module.
    """

    def __init__(self, module: Module) -> None:
        super().__init__()
        if not isinstance(module, Module):
            raise TypeError(f"[Residual] expected a module, got {module!r}")
        self.module = module

    def forward(self, input: Tensor) -> Tensor:
        change = self.module(input)
        if change.shape != input.shape:
            raise ValueError(f"[Residual] expected the module to keep the shape {input.shape}, got {change.shape}")
        return input + change


class Concatenate(Module):
    """The outputs of modules on the same input side by side: y = cat(f1(x), f2(x), …) along `dim`.

    The modules are in the ModuleList `branches`.
    """

    def __init__(self, *modules: Module, dim: int = -1) -> None:
        super().__init__()
        if not modules:
            raise ValueError("[Concatenate] expected at least one module, got none")
        self.branches = ModuleList(modules)
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        return ops.cat([branch(input) for branch in self.branches], self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
