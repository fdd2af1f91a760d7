"""Indexing: slices, integers, None and Ellipsis give views; integer arrays and masks gather rows.

As PyTorch has it: integers select first; index arrays are broadcast together, and their dimensions stand where the
first of them stood when they are neighbours, else in front.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from fastbp import dtypes
from fastbp.autograd import mode
from fastbp.dtypes import int64
from fastbp.from_data import tensor
from fastbp.function import Function, composed_gradients, record
from fastbp.ops.binary import ne, where
from fastbp.ops.common import as_operand, as_tensor_operand, backend_of, broadcast_shape, like, new
from fastbp.ops.shape import clone, expand, make_contiguous, permute, reshape
from fastbp.tensor import Tensor, contiguous, filled

__all__ = [
    "embedding",
    "gather",
    "index_select",
]

# For every dimension of the source: first position, step, and length (None: the dimension goes).
Spec = tuple[tuple[int, int, Any], ...]


def _window(strides: tuple[int, ...], spec: Spec) -> tuple[list[int], list[int], int]:
    """Shape, strides and offset of the window that spec cuts out of memory with these strides."""
    kept = [(length, step * stride) for (_, step, length), stride in zip(spec, strides) if length is not None]
    offset = sum(start * stride for (start, _, _), stride in zip(spec, strides))
    return [n for n, _ in kept], [s for _, s in kept], offset


class Slice(Function):
    """A window onto a tensor; its adjoint is Place."""

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return _place(dy, ctx.input_shape(0), ctx.spec)


class Place(Function):
    """Zeros of a shape with a window of them filled in; its adjoint is Slice."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return _slice(dy, ctx.spec)


class Gather(Function):
    """Rows of a (rows, inner) tensor by integer index; its adjoint is ScatterAdd."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (index,) = ctx.saved_tensors
        return _scatter_add(dy, index, ctx.input_shape(0)[0])


class ScatterAdd(Function):
    """Rows added into zeros (rows, inner) at integer indices, in ascending order; its adjoint is Gather."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (index,) = ctx.saved_tensors
        return _gather(dy, index)


class PaddedGather(Function):
    """Rows of a (rows, inner) tensor by integer index, one of which gets no gradient."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, index = ctx.saved_tensors
        if mode.enabled:
            return composed_gradients(lambda x: _gather(_padded(x, ctx.row), index), (x,), ctx.edges, dy)
        dx = _scatter_add(dy, index, x.shape[0])
        backend_of(dx).fill(0.0, dx[ctx.row].buffer)
        return dx


def _slice(x: Tensor, spec: Spec) -> Tensor:
    y = Tensor(x.buffer.view(*_window(x.buffer.strides, spec)))
    if node := record(Slice, (x,), y):
        node.spec = spec
    return y


def _place(x: Tensor, shape: tuple[int, ...], spec: Spec) -> Tensor:
    y = filled(shape, 0.0, x.dtype)
    backend_of(x).copy(x.buffer, y.buffer.view(*_window(y.buffer.strides, spec)))
    if node := record(Place, (x,), y):
        node.spec = spec
    return y


def _gather(x: Tensor, index: Tensor) -> Tensor:
    y = new((index.numel(), x.shape[1]), x.dtype)
    backend_of(x).gather(contiguous(x), contiguous(index), y.buffer)
    if node := record(Gather, (x,), y):
        node.save_for_backward(index)
    return y


def _scatter_add(x: Tensor, index: Tensor, rows: int) -> Tensor:
    y = filled((rows, x.shape[1]), 0.0, x.dtype)
    backend_of(x).scatter_add(contiguous(x), contiguous(index), y.buffer)
    if node := record(ScatterAdd, (x,), y):
        node.save_for_backward(index)
    return y


def _padded(x: Tensor, row: int) -> Tensor:
    """x, of which one row is a constant."""
    rows = new(x.shape[:1], int64)
    backend_of(x).arange(0, 1, rows.buffer)
    return where(reshape(ne(rows, row), (-1, 1)), x, x.detach())


def _padded_gather(x: Tensor, index: Tensor, row: int) -> Tensor:
    if mode.composed:
        return _gather(_padded(x, row), index)
    y = new((index.numel(), x.shape[1]), x.dtype)
    backend_of(x).gather(contiguous(x), contiguous(index), y.buffer)
    if node := record(PaddedGather, (x,), y):
        node.row = row
        node.save_for_backward(x, index)
    return y


# ---------------------------------------------------------------- reading an index


def _is_array(i: Any) -> bool:
    return isinstance(i, (Tensor, np.ndarray, list, tuple, range)) and not (isinstance(i, Tensor) and _is_scalar(i))


def _is_scalar(i: Tensor) -> bool:
    return i.ndim == 0 and i.dtype is int64


def _index_tensor(i: Any, op: str) -> Tensor:
    x = i if isinstance(i, Tensor) else tensor(np.asarray(i) if len(i) else np.zeros(0, np.int64))
    if x.dtype is not int64 and x.dtype is not dtypes.bool:
        raise IndexError(f"[{op}] expected index arrays of dtype int64 or bool, got {x.dtype}")
    return x


def _parse(x: Tensor, index: Any, op: str) -> tuple[Spec, list[Any], dict[int, Tensor]]:
    """Splits an index into the window that views give, the result's dimensions, and index arrays by dimension.

    Result dimensions are numbered after the window was cut, None marking a new one.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    items = [_index_tensor(i, op) if _is_array(i) else i for i in items]
    consumed = sum(
        i.ndim if isinstance(i, Tensor) and i.dtype is dtypes.bool else i is not None and i is not Ellipsis
        for i in items
    )
    if sum(i is Ellipsis for i in items) > 1:
        raise IndexError(f"[{op}] expected at most one Ellipsis")
    if consumed > x.ndim:
        raise IndexError(f"[{op}] expected at most {x.ndim} indices for shape {x.shape}, got {consumed}")
    at = next((k for k, i in enumerate(items) if i is Ellipsis), len(items))
    items[at : at + 1] = [slice(None)] * (x.ndim - consumed)

    spec: list[tuple[int, int, Any]] = []
    dims: list[Any] = []
    arrays: dict[int, Tensor] = {}
    for item in items:
        d = len(spec)
        if item is None:
            dims.append(None)
        elif isinstance(item, slice):
            start, stop, step = item.indices(x.shape[d])
            if step < 0:
                raise ValueError(f"[{op}] expected slices with a step ≥ 1, got {step}")
            spec.append((start if stop != start else 0, step, len(range(start, stop, step))))
            dims.append(len(spec) - 1)
        elif isinstance(item, Tensor) and item.dtype is dtypes.bool:
            if x.shape[d : d + item.ndim] != item.shape:
                raise IndexError(f"[{op}] expected a mask of shape {x.shape[d : d + item.ndim]}, got {item.shape}")
            for positions in np.nonzero(item.detach().numpy()):
                arrays[len(dims)] = tensor(positions)
                spec.append((0, 1, x.shape[len(spec)]))
                dims.append(len(spec) - 1)
        elif isinstance(item, Tensor) and not _is_scalar(item):
            arrays[len(dims)] = item
            spec.append((0, 1, x.shape[d]))
            dims.append(d)
        else:
            spec.append((_position(item, x.shape[d], d, op), 1, None))
    return tuple(spec), dims, arrays


def _position(item: Any, size: int, dim: int, op: str) -> int:
    if isinstance(item, builtins.bool) or not hasattr(item, "__index__"):
        raise IndexError(
            f"[{op}] expected integers, slices, None, Ellipsis, integer arrays or masks, got {type(item).__name__}"
        )
    i = item.__index__()
    if not -size <= i < size:
        raise IndexError(f"[{op}] expected an index from {-size} to {size - 1} for dimension {dim}, got {i}")
    return i % size


def _cut(x: Tensor, spec: Spec, dims: list[Any]) -> Tensor:
    """The view that the basic part of an index gives."""
    if any(start or step != 1 or length != n for (start, step, length), n in zip(spec, x.shape)):
        y = _slice(x, spec)
    else:
        y = x
    return _new_axes(y, dims) if None in dims else y


def _new_axes(y: Tensor, dims: list[Any]) -> Tensor:
    for at, d in enumerate(dims):
        if d is None:
            y = y.unsqueeze(at)
    return y


def _linear(arrays: dict[int, Tensor], sizes: tuple[int, ...], op: str) -> Tensor:
    """Index arrays, one for each size, as one array of row numbers in row-major order."""
    shape = broadcast_shape(op, *(a.shape for a in arrays.values()))
    rows: Any = None
    for a, size in zip(arrays.values(), sizes):
        wrapped = like(a)
        backend_of(a).wrap_index(contiguous(a), size, wrapped.buffer)
        rows = wrapped if rows is None else rows * size + wrapped
    return rows if rows.shape == shape else expand(rows, shape)


def _rows_first(y: Tensor, where_: list[int]) -> tuple[Tensor, list[int]]:
    """The indexed dimensions in front; and the order of dimensions used."""
    order = [*where_, *(d for d in range(y.ndim) if d not in where_)]
    return (y if order == list(range(y.ndim)) else permute(y, order)), order


# ---------------------------------------------------------------- the operations


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index]. IndexError names the dimension, the range expected and what came."""
    spec, dims, arrays = _parse(x, index, "getitem")
    y = _cut(x, spec, dims)
    if not arrays:
        return _slice(x, spec) if y is x else y
    places = list(arrays)
    y, _ = _rows_first(y, places)
    sizes, rest = y.shape[: len(places)], y.shape[len(places) :]
    rows = _linear(arrays, sizes, "getitem")
    picked = _gather(reshape(y, (math.prod(sizes), math.prod(rest))), rows)
    result = reshape(picked, (*rows.shape, *rest))
    first = places[0]
    if first and places == list(range(first, first + len(places))):
        k = rows.ndim  # neighbours: their dimensions go back to the first one's place
        result = permute(result, [*range(k, k + first), *range(k), *range(k + first, result.ndim)])
    return result


def _refuse_recorded(x: Tensor, op: str, *others: Any) -> None:
    if mode.enabled and any(isinstance(t, Tensor) and t.requires_grad for t in (x, *others)):
        raise RuntimeError(f"[{op}] expected tensors that do not require grad; write in place under no_grad()")


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """x[index] = value, in place. RuntimeError where the write would have to be recorded."""
    value = as_operand(value, "setitem")
    _refuse_recorded(x, "setitem", value)
    k = backend_of(x)
    if (
        isinstance(index, Tensor)
        and index.dtype is dtypes.bool
        and index.shape == x.shape[: index.ndim]
        and not isinstance(value, Tensor)
    ):
        mask = reshape(index, (*index.shape, *[1] * (x.ndim - index.ndim)))
        k.copy(contiguous(where(mask, value, x.detach())), x.buffer)
        return
    spec, dims, arrays = _parse(x, index, "setitem")
    target = _cut(x.detach(), spec, dims)
    if not isinstance(value, Tensor):
        if not arrays:
            k.fill(value, target.buffer)
            return
        value = filled((), value, x.dtype)
    value = value.detach().to(x.dtype)
    if value.buffer.same_storage(x.buffer):
        value = clone(value)  # the write must not change what is still to be read
    if not arrays:
        k.copy(_fit(value, target.shape).buffer, target.buffer)
        return
    places = list(arrays)
    moved, _ = _rows_first(target, places)
    sizes, rest = moved.shape[: len(places)], moved.shape[len(places) :]
    rows = _linear(arrays, sizes, "setitem")
    first, r = places[0], rows.ndim
    shape = (*rows.shape, *rest)
    if first and places == list(range(first, first + len(places))):  # the value has the dimensions that getitem gives
        fitted = _fit(value, (*rest[:first], *rows.shape, *rest[first:]))
        fitted = permute(fitted, [*range(first, first + r), *range(first), *range(first + r, fitted.ndim)])
    else:
        fitted = _fit(value, shape)
    block = make_contiguous(moved)
    flat = Tensor(block.buffer.reshape((math.prod(sizes), math.prod(rest))))
    k.scatter(contiguous(reshape(fitted, (rows.numel(), math.prod(rest)))), contiguous(rows), flat.buffer)
    if block is not moved:
        k.copy(block.buffer, moved.buffer)


def _fit(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    while value.ndim > len(shape) and value.shape[0] == 1:
        value = reshape(value, value.shape[1:])
    if broadcast_shape("setitem", value.shape, shape) != shape:
        raise ValueError(f"[setitem] expected a value that broadcasts to {shape}, got {value.shape}")
    return expand(value, shape)


def index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """Entries along `dim` at the positions in a 1-D integer tensor."""
    return getitem(x, (slice(None),) * (dim % max(x.ndim, 1)) + (index,))


def gather(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """y[i, j, ...] = x[..., index[i, j, ...], ...] with the index at dimension `dim`; as PyTorch's gather."""
    if index.ndim != x.ndim:
        raise IndexError(f"[gather] expected index of {x.ndim} dimensions, got shape {index.shape}")
    at = dim % max(x.ndim, 1)
    grids = []
    for d, n in enumerate(index.shape):
        steps = new((n,), int64)
        backend_of(x).arange(0, 1, steps.buffer)
        grids.append(index if d == at else reshape(steps, [n if k == d else 1 for k in range(x.ndim)]))
    return getitem(x, tuple(grids))


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """y = weight[input]: rows of weight (n, d) for int64 indices of any shape; y (*input.shape, d).

    padding_idx: a row that gets no gradient, counted from the end where it is negative.
    Raises IndexError for an index outside of 0 .. n − 1, TypeError for operands that are no tensors of these kinds,
    ValueError for a weight that is no matrix or a padding_idx that it does not have.
    """
    op = "embedding"
    index, x = as_tensor_operand(input, op), as_tensor_operand(weight, op)
    if index.dtype is not int64:
        raise TypeError(f"[{op}] expected input as int64 indices, got {index.dtype}")
    if x.ndim != 2:
        raise ValueError(f"[{op}] expected weight of shape (n, d), got {x.shape}")
    n, d = x.shape
    if padding_idx is not None and not (isinstance(padding_idx, int) and -n <= padding_idx < n):
        raise ValueError(f"[{op}] expected padding_idx from {-n} to {n - 1}, got {padding_idx!r}")
    try:
        rows = _gather(x, index) if padding_idx is None else _padded_gather(x, index, padding_idx % n)
    except IndexError as error:  # in the name of a kernel, which means nothing to who called the operation
        raise IndexError(f"[{op}] {str(error).partition('] ')[2]}") from None
    return reshape(rows, (*index.shape, d))
