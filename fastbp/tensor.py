"""Tensor: a buffer with a gradient; and Function, the differentiable operation whose calls are the nodes of the tape.

Operations and operators are installed on Tensor by fastbp.ops, which is the layer above.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from fastbp import autograd, kernels
from fastbp.autograd import mode
from fastbp.dtypes import BY_CODE, DType, as_dtype, for_array
from fastbp.kernels.storage import Buffer, empty, from_array

_CPU = "cpu"


class Tensor:
    """A multi-dimensional array of one element type that can take part in differentiation.

    Made by `fastbp.tensor` (copies), `from_numpy`, `as_tensor`, `from_dlpack` (share memory) or operations. A leaf (a
    tensor that no recorded operation made) with `requires_grad=True` collects its gradient in `grad`.
    """

    __slots__ = ("__weakref__", "_index", "_node", "_requires_grad", "buffer", "grad")

    # A leaf is itself a node of the tape: the end of it. See fastbp/autograd.py.
    edges: tuple[Any, ...] = ()
    sequence = -1
    outputs = 1
    __array_priority__ = 1000  # NumPy leaves `array + tensor` to the tensor

    def __init__(self, buffer: Buffer) -> None:
        if type(buffer) is not Buffer:
            raise TypeError(f"[Tensor] expected a Buffer, got {type(buffer).__name__}; use fastbp.tensor(data)")
        self.buffer = buffer
        self.grad: Tensor | None = None
        self._requires_grad = False
        self._node: Any = None
        self._index = 0

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
        extra = f", dtype={self.dtype}" if self.dtype.name in ("float64", "int64", "bool") and self._says_dtype() else ""
        if self._node is not None:
            extra += f", grad_fn=<{type(self._node).__name__}>"
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
            raise TypeError(f"[data] expected a tensor of dtype {self.dtype}, got {getattr(other, 'dtype', type(other).__name__)}")
        self.buffer = other.buffer

    def detach(self) -> Tensor:
        """The same memory as a leaf without history."""
        return Tensor(self.buffer)

    def retain_grad(self) -> None:
        """Keeps the gradient of this result in `grad` when it passes. RuntimeError when no gradient will."""
        if not self._requires_grad:
            raise RuntimeError("[retain_grad] expected a tensor that requires grad")
        if self._node is not None:
            self._node.retained[self._index] = weakref.ref(self)

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
            gradient = filled(self.shape, 1.0, self.dtype)
        elif not isinstance(gradient, Tensor) or gradient.shape != self.shape or gradient.dtype is not self.dtype:
            got = f"{gradient.dtype} {gradient.shape}" if isinstance(gradient, Tensor) else type(gradient).__name__
            raise RuntimeError(f"[backward] expected gradient as a tensor {self.dtype} {self.shape}, got {got}")
        elif self._node is None:
            gradient = gradient.clone()
        target = self if self._node is None else self._node
        autograd.backward([(target, self._index, gradient)], create_graph if retain_graph is None else retain_graph, create_graph)

    def run(self, gradients: list[Any]) -> tuple[Any, ...]:
        """The end of the tape: adds what arrived to `grad`."""
        (gradient,) = gradients
        if self.grad is None:
            self.grad = gradient
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
    Tensor.__init__(copy, tensor(array).buffer)
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


def filled(shape: Any, value: float | int | bool, dtype: DType) -> Tensor:
    """A tensor with every element equal to `value`."""
    b = empty(shape, dtype.code)
    kernels.host().fill(value, b)
    return Tensor(b)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of the data: numbers, nested sequences, arrays or tensors.

    dtype: float32 for Python floats, int64 for integers, bool for truth values, an array's own type otherwise.
    Raises TypeError for other types, ValueError for ragged sequences.
    """
    if isinstance(data, Tensor):
        array = data._array()
    elif isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
    else:
        array = _array_of(data)
    kind = as_dtype(dtype) if dtype is not None else for_array(array)
    array = np.ascontiguousarray(array, dtype=kind.dtype).reshape(array.shape)
    b = empty(array.shape, kind.code)
    kernels.host().copy(from_array(array), b)
    return Tensor(b).requires_grad_(requires_grad) if requires_grad else Tensor(b)


def _array_of(data: Any) -> np.ndarray:
    try:
        array = np.array(data)
    except (ValueError, TypeError) as e:
        raise ValueError(f"[tensor] expected numbers in sequences of equal lengths, got {type(data).__name__}: {e}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"[tensor] expected numbers, got {type(data).__name__} of {array.dtype}")
    if array.dtype == np.float64 and not isinstance(data, np.ndarray) and not _holds_numpy(data):
        return array.astype(np.float32)  # Python floats take the default type
    return array


def _holds_numpy(data: Any) -> bool:
    while isinstance(data, (list, tuple)) and len(data):
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic))


class Function:
    """A differentiable operation. Subclass it with two static methods and call `apply`:

        class Square(Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x

            @staticmethod
            def backward(ctx, dy):
                (x,) = ctx.saved_tensors
                return 2 * x * dy

        y = Square.apply(x)

    `ctx` is the node that the call becomes: it may be given attributes, and has needs_input_grad, save_for_backward,
    saved_tensors, mark_non_differentiable. backward returns one gradient, or None, for every argument of forward.
    """

    # Whether backward makes every gradient that it returns, so that a leaf may keep it without a copy.
    fresh = False
    needs_input_grad: tuple[bool, ...] = ()
    edges: tuple[Any, ...] = ()
    sequence = 0
    outputs = 1
    _saved: tuple[Any, ...] | None = ()
    _versions: tuple[int, ...] = ()
    _without_gradient: tuple[Tensor, ...] = ()

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        raise TypeError("[Function] expected a subclass that defines forward")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise TypeError("[Function] expected a subclass that defines backward")

    @classmethod
    def apply(cls, *inputs: Any) -> Any:
        """Runs forward; records the call when a gradient may be asked of it."""
        ctx = cls()
        if not mode.enabled:
            return cls.forward(ctx, *inputs)
        needs = tuple([isinstance(x, Tensor) and x._requires_grad for x in inputs])
        ctx.needs_input_grad = needs
        if True not in needs:
            return cls.forward(ctx, *inputs)
        mode.enabled = False
        try:
            result = cls.forward(ctx, *inputs)
        finally:
            mode.enabled = True
        ctx.edges = tuple([((x, 0) if x._node is None else (x._node, x._index)) if n else None for x, n in zip(inputs, needs)])
        return ctx._record(inputs, result)

    def _record(self, inputs: tuple[Any, ...], result: Any) -> Any:
        """Makes this node the origin of its outputs and fixes what was saved."""
        single = isinstance(result, Tensor)
        results = [result] if single else list(result)
        self.sequence = autograd.next_sequence()
        self.outputs = len(results)
        self.retained: dict[int, Any] = {}
        self.made = tuple([(y.buffer.shape, y.dtype) if isinstance(y, Tensor) else None for y in results])
        for i, y in enumerate(results):
            if not isinstance(y, Tensor) or not y.dtype.is_floating_point or any(y is t for t in self._without_gradient):
                continue
            if y._node is not None or any(y is x for x in inputs):
                y = results[i] = Tensor(y.buffer)
            y._node, y._index, y._requires_grad = self, i, True
        if self._saved:
            # An own output is kept as (buffer, position): a reference to it would be a cycle.
            saved = self._saved
            self._versions = tuple([-1 if t is None else t.buffer.version for t in saved])
            self._saved = tuple([(t.buffer, t._index) if t is not None and t._node is self else t for t in saved])
        return results[0] if single else tuple(results)

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for backward, where `saved_tensors` returns them; changing one in place is noticed there."""
        self._saved = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Declares outputs that have no gradient."""
        self._without_gradient = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What save_for_backward kept. RuntimeError after release, and when a value was changed in place since."""
        if self._saved is None:
            raise RuntimeError(
                f"[backward] the graph through {type(self).__name__} was already released; "
                "pass retain_graph=True to the first backward to go through it again"
            )
        tensors = []
        for saved, version in zip(self._saved, self._versions):
            if type(saved) is tuple:
                buffer, index = saved
                saved = Tensor(buffer)
                saved._node, saved._index, saved._requires_grad = self, index, True
            if saved is not None and saved.buffer.version != version:
                raise RuntimeError(f"[backward] a tensor that {type(self).__name__} saved was changed in place since")
            tensors.append(saved)
        return tuple(tensors)

    def run(self, gradients: list[Any]) -> Any:
        """Gradients of the inputs, from those of the outputs; called by the tape."""
        for i, made in enumerate(self.made):
            if gradients[i] is None and made is not None:
                gradients[i] = filled(made[0], 0.0, made[1])
        if self.retained:
            self._retain(gradients)
        results = self.backward(self, *gradients)
        if type(results) is not tuple:
            results = (results,)
        if len(results) != len(self.edges):
            raise RuntimeError(f"[{type(self).__name__}] expected {len(self.edges)} gradients from backward, got {len(results)}")
        for edge, gradient in zip(self.edges, results):
            if edge is not None and gradient is not None:
                target, index = edge
                shape = target.shape if target.edges == () and isinstance(target, Tensor) else target.made[index][0]
                if gradient.buffer.shape != shape:
                    raise RuntimeError(f"[{type(self).__name__}] expected a gradient of shape {shape} from backward, got {gradient.shape}")
        if self.fresh:
            return results
        # What was passed on may be somebody else's too: a leaf, which keeps it, gets a copy.
        return [g.clone() if e is not None and g is not None and isinstance(e[0], Tensor) else g for e, g in zip(self.edges, results)]

    def _retain(self, gradients: list[Any]) -> None:
        for i, reference in self.retained.items():
            kept = reference()
            if kept is not None:
                kept.grad = gradients[i].clone() if kept.grad is None else kept.grad + gradients[i]

    def release(self) -> None:
        """Gives up what was saved; a later backward through this node is refused where it needs it."""
        if self._saved:
            self._saved = None
