"""Tensor: a buffer with a gradient.

Operations and operators are installed on Tensor by fastbp.ops, a layer above.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import autograd, kernels
from fastbp.autograd import mode
from fastbp.dtypes import BY_CODE, DType, for_array
from fastbp.hooks import RemovableHandle, replaced, require_callable
from fastbp.kernels.storage import Buffer, empty, from_array

_CPU = "cpu"


class Tensor:
    """A multi-dimensional array of one element type that can take part in differentiation.

    Made by `fastbp.tensor` (copies), `from_numpy`, `as_tensor`, `from_dlpack` (share memory) or operations. A leaf (a
    tensor that no recorded operation made) with `requires_grad=True` collects its gradient in `grad`.
    """

    __slots__ = ("__weakref__", "_index", "_node", "_requires_grad", "buffer", "grad", "hooks")

    # A leaf is itself a node of the tape: the end of it. See fastbp/autograd.py.
    edges: tuple[Any, ...] = ()
    sequence = -1
    outputs = 1
    __array_priority__ = 1000  # NumPy leaves `array + tensor` to the tensor

    def __init__(self, buffer: Buffer) -> None:
        if type(buffer) is not Buffer:
            raise TypeError(f"[Tensor] expected a Buffer, got {type(buffer).__name__}; use fastbp.tensor(data)")
        self.buffer = buffer
        self.grad: Any = None  # a Tensor once a gradient has arrived
        self._requires_grad = False
        self._node: Any = None
        self._index = 0
        self.hooks: Any = None  # of a leaf, by key: what is called with its gradient

    if TYPE_CHECKING:  # what fastbp.ops installs

        def __getattr__(self, name: str) -> Any: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __iter__(self) -> Iterator[Tensor]: ...
        def __neg__(self) -> Tensor: ...
        def __pos__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __add__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __iadd__(self, other: Any) -> Tensor: ...
        def __isub__(self, other: Any) -> Tensor: ...
        def __imul__(self, other: Any) -> Tensor: ...
        def __itruediv__(self, other: Any) -> Tensor: ...
        def __ipow__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __getitem__(self, other: Any) -> Tensor: ...

    # ------------------------------------------------------------------ facts

    @property
    def shape(self) -> tuple[int, ...]:
        return self.buffer.shape

    @property
    def dtype(self) -> DType:
        return BY_CODE[self.buffer.dtype]

    @property
    def device(self) -> str:
        return _CPU

    @property
    def ndim(self) -> int:
        return self.buffer.ndim

    @property
    def nbytes(self) -> int:
        return self.buffer.nbytes

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    def dim(self) -> int:
        """The number of dimensions."""
        return self.buffer.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self.buffer.size

    def size(self, dim: int | None = None) -> Any:
        """The shape, or its length along `dim`."""
        return self.shape if dim is None else self.shape[dim]

    def stride(self) -> tuple[int, ...]:
        """Elements from one entry to the next along each dimension."""
        return self.buffer.strides

    def is_contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        return self.buffer.contiguous

    def is_floating_point(self) -> bool:
        """Whether the dtype is float32 or float64."""
        return self.dtype.is_floating_point

    def data_ptr(self) -> int:
        """The address of the first element."""
        return self.buffer.data_ptr

    def __len__(self) -> int:
        if self.buffer.ndim == 0:
            raise TypeError("[len] expected a tensor with at least one dimension, got a scalar")
        return self.buffer.shape[0]

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        text = np.array2string(self._array(), separator=", ", threshold=1000, prefix="tensor(")
        extra = (
            f", dtype={self.dtype}" if self.dtype.name in ("float64", "int64", "bool") and self._says_dtype() else ""
        )
        if self._node is not None:
            extra += f", grad_fn=<{self._node.name}>"
        elif self._requires_grad:
            extra += ", requires_grad=True"
        return f"tensor({text}{extra})"

    def _says_dtype(self) -> bool:
        return self.dtype.name == "float64" or self.numel() == 0

    # ------------------------------------------------------------------ differentiation

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this tensor."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Sets whether gradients flow to this leaf; returns it. RuntimeError for integers, and for results."""
        if requires_grad and not self.dtype.is_floating_point:
            raise RuntimeError(f"[requires_grad_] expected a tensor of floating dtype, got {self.dtype}")
        if self._node is not None and not requires_grad:
            raise RuntimeError("[requires_grad_] expected a leaf, got the result of an operation; use detach()")
        self._requires_grad = bool(requires_grad)
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this tensor."""
        return self._node is None

    @property
    def grad_fn(self) -> Any:
        """The node that made this tensor, or None for a leaf."""
        return self._node

    @property
    def data(self) -> Tensor:
        """The same memory without history."""
        return self.detach()

    @data.setter
    def data(self, other: Tensor) -> None:
        if not isinstance(other, Tensor) or other.dtype is not self.dtype:
            raise TypeError(
                f"[data] expected a tensor of dtype {self.dtype}, got {getattr(other, 'dtype', type(other).__name__)}"
            )
        self.buffer = other.buffer

    def detach(self) -> Tensor:
        """The same memory as a leaf without history."""
        return Tensor(self.buffer)

    def retain_grad(self) -> None:
        """Keeps the gradient of this result in `grad` when it passes. RuntimeError when no gradient will."""
        if not self._requires_grad:
            raise RuntimeError("[retain_grad] expected a tensor that requires grad")
        if self._node is not None:
            self._node.retain(self._index, weakref.ref(self))

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Calls hook(gradient) with the gradient of this tensor in every backward pass; what it returns replaces it.

        Called once the gradient is complete, before `retain_grad` and `grad` see it; hooks go in the order in which
        they were registered. Returns a handle, whose remove() takes the hook away.
        Raises RuntimeError for a tensor that requires no grad.
        """
        if not self._requires_grad:
            raise RuntimeError("[register_hook] expected a tensor that requires grad, got one without")
        require_callable("register_hook", hook)
        if self._node is not None:
            return RemovableHandle(self._node, "hooks", (self._index, hook))
        return RemovableHandle(self, "hooks", hook)

    def arrive(self, gradients: list[Any]) -> None:
        """Calls the hooks of this leaf."""
        for hook in list((self.hooks or {}).values()):
            gradients[0] = replaced(gradients[0], hook)

    def backward(self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
        """Adds the gradient of this tensor (times `gradient`) to `grad` of every leaf that it depends on.

        gradient: a tensor of this shape and dtype; may be left out for a single element, where it is 1.
        retain_graph: keep what the graph saved, for another backward (default: create_graph).
        create_graph: record the backward pass too, so that it can be differentiated.
        Raises RuntimeError when no gradient is recorded, or when the graph was already released.
        """
        if not self._requires_grad:
            raise RuntimeError("[backward] expected a tensor that requires grad, got one without history")
        if gradient is None:
            if self.buffer.size != 1:
                raise RuntimeError(f"[backward] expected a scalar, or a gradient of shape {self.shape}, got neither")
            gradient = Tensor(self.buffer.empty_like())
            kernels.of(self).fill(1.0, gradient.buffer)
        elif not isinstance(gradient, Tensor) or not gradient.buffer.same_kind(self.buffer):
            got = f"{gradient.dtype} {gradient.shape}" if isinstance(gradient, Tensor) else type(gradient).__name__
            raise RuntimeError(f"[backward] expected gradient as a tensor {self.dtype} {self.shape}, got {got}")
        elif self._node is None:
            gradient = gradient.clone()
        target: Any = self if self._node is None else self._node
        keep = create_graph if retain_graph is None else retain_graph
        autograd.backward([(target, self._index)], [gradient], keep, create_graph)

    def run(self, gradients: list[Any]) -> tuple[Any, ...]:
        """The end of the tape: adds what arrived to `grad`."""
        (gradient,) = gradients
        if self.grad is None:
            # A hook may have kept what it saw, or returned what is somebody's: the next pass would add to that.
            self.grad = gradient.clone() if self.hooks else gradient
        elif mode.enabled:
            self.grad = self.grad + gradient
        else:
            kernels.of(self).accumulate(contiguous(gradient), self.grad.buffer)
        return ()

    def release(self) -> None:
        """A leaf has saved nothing."""

    # ------------------------------------------------------------------ values to the host

    def _array(self) -> np.ndarray:
        return np.asarray(self.buffer)

    def numpy(self) -> np.ndarray:
        """The same memory as a NumPy array. RuntimeError for a tensor that requires grad: detach() it first."""
        if self._requires_grad:
            raise RuntimeError("[numpy] expected a tensor that does not require grad; use detach().numpy()")
        return self._array()

    def item(self) -> float | int | bool:
        """The one element as a Python number. RuntimeError when there is not exactly one."""
        if self.buffer.size != 1:
            raise RuntimeError(f"[item] expected a tensor of one element, got shape {self.shape}")
        return self._array().item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self._array().tolist()

    def cpu(self) -> Tensor:
        """This tensor: its memory is the host's."""
        return self

    def __bool__(self) -> bool:
        if self.buffer.size != 1:
            raise RuntimeError(f"[bool] expected a tensor of one element, got shape {self.shape}; use .any() or .all()")
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.is_floating_point:
            raise TypeError(f"[index] expected an integer tensor, got {self.dtype}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.buffer.size == 1 else object.__format__(self, spec)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != np.dtype(dtype):
            if copy is False:
                raise ValueError(f"[__array__] expected a dtype that needs no copy, {array.dtype}, got {dtype}")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **options: Any) -> Any:
        if self._requires_grad:
            raise BufferError("[__dlpack__] expected a tensor that does not require grad; use detach()")
        return self.buffer.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.buffer.__dlpack_device__()

    # ------------------------------------------------------------------ copies

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self._node is not None:
            raise RuntimeError("[deepcopy] expected a leaf, got the result of an operation; use detach()")
        copy = _rebuild(type(self), self._array(), self._requires_grad)
        memo[id(self)] = copy
        if self.grad is not None:
            copy.grad = self.grad.__deepcopy__(memo)
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        if self._node is not None:
            raise RuntimeError("[pickle] expected a leaf, got the result of an operation; use detach()")
        return _rebuild, (type(self), self._array(), self._requires_grad)


def _rebuild(cls: type[Tensor], array: np.ndarray, requires_grad: bool) -> Tensor:
    copy = cls.__new__(cls)
    Tensor.__init__(copy, copied(array))
    copy._requires_grad = requires_grad
    return copy


def contiguous(x: Tensor) -> Buffer:
    """The tensor's elements in row-major order: its own buffer, or a copy where that is strided."""
    b = x.buffer
    if b.contiguous:
        return b
    copy = empty(b.shape, b.dtype)
    kernels.of(x).copy(b, copy)
    return copy


def copied(array: np.ndarray) -> Buffer:
    """A new buffer with the elements of an array, which has the dtype of a tensor."""
    b = empty(array.shape, for_array(array).code)
    kernels.host().copy(from_array(np.ascontiguousarray(array).reshape(array.shape)), b)
    return b


def filled(shape: Any, value: float | int | bool, dtype: DType) -> Tensor:
    """A tensor with every element equal to `value`."""
    b = empty(shape, dtype.code)
    kernels.host().fill(value, b)
    return Tensor(b)
