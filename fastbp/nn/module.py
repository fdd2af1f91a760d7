"""Module: the tree of parameters, buffers and child modules that a network is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from weakref import WeakSet

from fastbp import dtypes
from fastbp.autograd import no_grad
from fastbp.dtypes import as_dtype
from fastbp.hooks import RemovableHandle, require_callable
from fastbp.nn import hooks
from fastbp.nn.parameter import Parameter
from fastbp.nn.state import copy_into
from fastbp.tensor import Tensor

_structure = 0
instances: WeakSet[Module] = WeakSet()  # all modules: who holds a tensor, a recorded program wants to know


def structure_version() -> int:
    """A number that grows with every change to any module's attributes, mode or frozen parameters.

    Whoever keeps something derived from modules (a recorded program) needs to look again only after it has moved.
    """
    return _structure


def structure_changed() -> None:
    global _structure
    _structure += 1


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of layers, losses and whole networks.

    Subclasses call `super().__init__()`, assign parameters and child modules as attributes and define `forward`;
    calling the module calls `forward`. Parameters and children are what `isinstance` says of the attributes, buffers
    are tensors registered by `register_buffer`; names and order are PyTorch's.
    """

    training: bool
    _hooks: dict[int, hooks.Hook] | None = None  # by key; another dictionary after every change
    _buffers: dict[str, bool]  # name → whether state_dict has it; the tensors themselves are attributes

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)  # of copies too, which are not initialised
        instances.add(self)
        return self

    def __init__(self) -> None:
        self.training = True
        self._buffers = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"[{type(self).__name__}] expected a forward method, got none")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._hooks is not None:
            return hooks.call(self, self._hooks, args, kwargs)
        return self.forward(*args, **kwargs)

    # Hooks

    def register_forward_pre_hook(self, hook: Callable[..., Any], with_kwargs: bool = False) -> RemovableHandle:
        """Calls hook(module, args) before every forward; what it returns, if not None, takes the place of args.

        with_kwargs: hook(module, args, kwargs) instead, which may return (args, kwargs). The handle that is returned
        takes the hook away by remove(), as for all kinds of hooks.
        """
        require_callable("register_forward_pre_hook", hook)
        return RemovableHandle(self, "_hooks", hooks.Hook(hooks.FORWARD_PRE, hook, with_kwargs))

    def register_forward_hook(self, hook: Callable[..., Any], with_kwargs: bool = False) -> RemovableHandle:
        """Calls hook(module, args, output) after every forward; what it returns, if not None, is the output.

        with_kwargs: hook(module, args, kwargs, output) instead.
        """
        require_callable("register_forward_hook", hook)
        return RemovableHandle(self, "_hooks", hooks.Hook(hooks.FORWARD, hook, with_kwargs))

    def register_full_backward_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Calls hook(module, grad_output) when the gradients of all outputs are known, a tuple; it may return others.

        Outputs that nothing depends on have gradients of zeros. forward must return a tensor or a tuple of tensors.
        """
        require_callable("register_full_backward_pre_hook", hook)
        return RemovableHandle(self, "_hooks", hooks.Hook(hooks.BACKWARD_PRE, hook))

    def register_full_backward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Calls hook(module, grad_input, grad_output) when the gradients of all positional arguments are known.

        grad_input has None for arguments that are not differentiated; what the hook returns, if not None, takes its
        place. Where no argument is differentiated the hook is called with (None,) before the module's own gradients
        are computed. forward must return a tensor or a tuple of tensors.
        """
        require_callable("register_full_backward_hook", hook)
        return RemovableHandle(self, "_hooks", hooks.Hook(hooks.BACKWARD, hook))

    # Attributes

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Parameter, Module)):
            if "_buffers" not in self.__dict__:
                raise AttributeError(
                    f"[{type(self).__name__}] cannot assign {name!r} (a {type(value).__name__}) "
                    "before super().__init__()"
                )
            self._buffers.pop(name, None)
        elif value is not None:
            self._check_kind(name, value)
        object.__setattr__(self, name, value)
        structure_changed()

    def _check_kind(self, name: str, value: Any) -> None:
        """A parameter, child or buffer may be replaced by its own kind or None only, so that none is lost unnoticed."""
        old = self.__dict__.get(name)
        if isinstance(old, (Parameter, Module)):
            expected = "a Parameter" if isinstance(old, Parameter) else "a Module"
        elif name in self.__dict__.get("_buffers", ()) and not isinstance(value, Tensor):
            expected = "a Tensor"
        else:
            return
        raise TypeError(
            f"[{type(self).__name__}] expected {name!r} to be {expected} or None, got {type(value).__name__}"
        )

    def __getattr__(self, name: str) -> Any:  # only reached where the attribute is missing
        if name in ("training", "_buffers"):
            message = f"[{type(self).__name__}] was used before super().__init__()"
        else:
            known = [key for key in self.__dict__ if not key.startswith("_") and key != "training"]
            message = (
                f"{type(self).__name__!r} object has no attribute {name!r}; its attributes are: {', '.join(known)}"
            )
        raise AttributeError(message, name=name, obj=self)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._buffers.pop(name, None)
        structure_changed()

    def _check_name(self, kind: str, name: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(
                f"[{type(self).__name__}] expected a {kind} name that is not empty and has no dot, got {name!r}"
            )
        if hasattr(type(self), name) or not isinstance(self.__dict__.get(name), (Parameter, Module, type(None))):
            raise KeyError(f"[{type(self).__name__}] expected a new {kind} name, got {name!r}, which is an attribute")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Same as assigning the attribute; None keeps the place of an optional parameter."""
        self._check_name("parameter", name)
        if not (param is None or isinstance(param, Parameter)):
            raise TypeError(
                f"[register_parameter] expected {name!r} to be a Parameter or None, got {type(param).__name__}"
            )
        setattr(self, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that is saved (if persistent) and converted with the module, but not trained."""
        if name not in self._buffers:
            self._check_name("buffer", name)
        if not (tensor is None or isinstance(tensor, Tensor)):
            raise TypeError(f"[register_buffer] expected {name!r} to be a Tensor or None, got {type(tensor).__name__}")
        setattr(self, name, tensor)
        self._buffers[name] = persistent

    def add_module(self, name: str, module: Module | None) -> None:
        """Same as assigning the attribute, for names that are not identifiers ("0")."""
        self._check_name("module", name)
        if not (module is None or isinstance(module, Module)):
            raise TypeError(f"[add_module] expected {name!r} to be a Module or None, got {type(module).__name__}")
        setattr(self, name, module)

    # Walking the tree

    def named_children(self) -> Iterator[tuple[str, Module]]:
        seen = set()
        for name, value in self.__dict__.items():
            if isinstance(value, Module) and value not in seen:
                seen.add(value)
                yield name, value

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module, then its descendants depth first, with dotted names; each module once."""
        return self._named_modules(prefix, set() if remove_duplicate else None)

    def _named_modules(self, prefix: str, seen: set[Module] | None) -> Iterator[tuple[str, Module]]:
        if seen is not None:
            if self in seen:
                return
            seen.add(self)
        yield prefix, self
        for name, value in self.__dict__.items():
            if isinstance(value, Module):
                yield from value._named_modules(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def _named_tensors(
        self, own: Callable[[Module], Iterator[tuple[str, Tensor]]], prefix: str, recurse: bool, unique: bool
    ) -> Iterator[tuple[str, Tensor]]:
        seen = set()
        for path, module in self.named_modules(prefix, remove_duplicate=unique) if recurse else [(prefix, self)]:
            for name, tensor in own(module):
                if unique and id(tensor) in seen:
                    continue
                seen.add(id(tensor))
                yield (f"{path}.{name}" if path else name), tensor

    def _own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return (
            (name, value)
            for name, value in self.__dict__.items()
            if isinstance(value, Parameter) and name not in self._buffers
        )

    def _own_buffers(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, self.__dict__[name]) for name in self._buffers if self.__dict__[name] is not None)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with dotted names; one that is shared comes once, under its first name."""
        return self._named_tensors(Module._own_parameters, prefix, recurse, remove_duplicate)  # type: ignore

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        return self._named_tensors(Module._own_buffers, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Calls `fn` on every module of the tree, children first, and returns this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # Mode

    def train(self, mode: bool = True) -> Module:
        """Sets training mode here and below (Dropout looks at it)."""
        if not isinstance(mode, bool):
            raise TypeError(f"[train] expected mode True or False, got {mode!r}")
        for module in self.modules():
            if module.training != mode:
                module.training = mode
        return self

    def eval(self) -> Module:
        """Same as `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freezes (False) or unfreezes all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        structure_changed()
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = parameter.grad.detach().zero_()

    # Conversion

    def _convert(self, convert: Callable[[Tensor], Tensor]) -> None:
        """Replaces the memory of parameters, gradients and buffers; the tensors stay the same objects."""
        with no_grad():
            for tensor in [*self.parameters(), *self.buffers()]:
                tensor.buffer = convert(tensor.detach()).buffer
                if tensor.grad is not None:
                    tensor.grad = convert(tensor.grad.detach())
        structure_changed()

    def to(self, *args: Any, device: Any = None, dtype: Any = None) -> Module:
        """Converts parameters and buffers: `to(dtype)`, `to(device)`, `to(device, dtype)` or `to(tensor)`.

        A dtype applies to floating-point tensors only; integer and bool buffers keep theirs. The tensors stay the same
        objects; construct optimizers afterwards, their state has the dtype that it was made with.
        """
        for argument in args:
            if isinstance(argument, Tensor):
                device, dtype = argument.device, argument.dtype
            elif isinstance(argument, str):
                device = argument
            else:
                dtype = argument
        dtype = None if dtype is None else as_dtype(dtype)
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"[to] expected a floating-point dtype, got {dtype}")

        def convert(tensor: Tensor) -> Tensor:
            if dtype is not None and tensor.dtype.is_floating_point:
                tensor = tensor.to(dtype)
            return tensor if device is None else tensor.to(device)

        self._convert(convert)
        return self

    def float(self) -> Module:
        """Converts floating-point parameters and buffers to float32."""
        return self.to(dtype=dtypes.float32)

    def double(self) -> Module:
        """Converts floating-point parameters and buffers to float64."""
        return self.to(dtype=dtypes.float64)

    # Saving and loading

    def state_dict(self, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Parameters and persistent buffers by dotted name, in order; they share memory with the module.

        With `keep_vars` they are the parameters themselves, otherwise detached from them.
        """
        state = {}
        for path, module in self.named_modules(prefix.removesuffix("."), remove_duplicate=False):
            persistent = ((name, buffer) for name, buffer in module._own_buffers() if module._buffers[name])
            for name, tensor in [*module._own_parameters(), *persistent]:
                state[f"{path}.{name}" if path else name] = tensor if keep_vars else tensor.detach()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copies Tensors or NumPy arrays into the parameters and buffers of the same names.

        Missing and unexpected names (if `strict`) and wrong shapes are found before anything is written, and one
        RuntimeError names them all.
        """
        return IncompatibleKeys(*copy_into(type(self).__name__, self.state_dict(), state_dict, strict))

    # Representation

    def extra_repr(self) -> str:
        """What stands between the brackets of the module's own line."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}" for name, child in self.__dict__.items() if isinstance(child, Module)]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        body = [*extra.split("\n"), *lines] if extra else lines
        indented = "\n".join("  " + line.replace("\n", "\n  ") for line in body)
        return f"{type(self).__name__}(\n{indented}\n)"
