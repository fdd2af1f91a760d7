"""Embedding."""

from __future__ import annotations

from types import NoneType
from typing import Any

from fastbp import ops
from fastbp.nn import init
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter, empty, require_size
from fastbp.tensor import Tensor


class Embedding(Module):
    """A table of vectors, y = weight[x].

    x int64 of any shape, with values from 0 to num_embeddings − 1 (IndexError), weight (num_embeddings, embedding_dim),
    y (*x.shape, embedding_dim). Weights start normal with standard deviation 1; the row padding_idx, if there is one,
    starts at 0 and gets no gradient.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        require_size("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if isinstance(padding_idx, bool) or not isinstance(padding_idx, (int, NoneType)):
            raise TypeError(f"[Embedding] expected padding_idx as an int or None, got {padding_idx!r}")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(
                f"[Embedding] expected padding_idx from {-num_embeddings} to {num_embeddings - 1}, got {padding_idx}"
            )
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = Parameter(empty((num_embeddings, embedding_dim), device, dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.weight)
        if self.padding_idx is not None:
            init.zeros_(self.weight.detach()[self.padding_idx])

    def forward(self, input: Tensor) -> Tensor:
        return ops.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
