"""Modules that hold other modules: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastbp.nn.module import Module


class _Container(Module):
    def _children(self) -> dict[str, Module]:
        return {name: value for name, value in self.__dict__.items() if isinstance(value, Module)}

    def __len__(self) -> int:
        return len(self._children())


class _Indexed(_Container):
    """Children in a row; `_renumber` names them "0", "1", ..."""

    def __iter__(self) -> Iterator[Module]:
        return iter(self._children().values())

    def _name(self, index: int) -> str:
        names = list(self._children())
        try:
            return names[index]
        except IndexError:
            raise IndexError(
                f"[{type(self).__name__}] expected an index into {len(names)} modules, got {index}"
            ) from None

    def _renumber(self, modules: Iterable[Any]) -> None:
        modules = list(modules)
        for module in modules:
            if not isinstance(module, Module):
                raise TypeError(f"[{type(self).__name__}] expected modules, got {type(module).__name__}")
        for name in self._children():
            delattr(self, name)
        for index, module in enumerate(modules):
            self.add_module(str(index), module)

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._name(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._renumber(modules)

    def append(self, module: Module) -> _Indexed:
        index = len(self)
        while str(index) in self.__dict__:  # a slice of a Sequential keeps its names: "1", "2" has no "0"
            index += 1
        self.add_module(str(index), module)
        return self

    def extend(self, modules: Iterable[Module]) -> _Indexed:
        for module in modules:
            self.append(module)
        return self

    def __iadd__(self, modules: Iterable[Module]) -> Any:
        return self.extend(modules)

    def insert(self, index: int, module: Module) -> _Indexed:
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self


class Sequential(_Indexed):
    """Calls its modules one after the other: y = fn(… f2(f1(x))).

    `Sequential(f1, f2)` names them "0", "1"; `Sequential({"first": f1, "second": f2})` gives them names. An index gives
    a module, a slice a Sequential of the same modules under their names.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, module)
        else:
            self._renumber(modules)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(dict(list(self._children().items())[index]))
        return self.__dict__[self._name(index)]

    def forward(self, input: Any) -> Any:
        for value in self.__dict__.values():
            if isinstance(value, Module):
                input = value(input)
        return input


class ModuleList(_Indexed):
    """A list whose modules are registered as children "0", "1", ...; it has no forward."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self._renumber(modules)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self.__dict__[self._name(index)]


class ModuleDict(_Container):
    """A dictionary whose modules are registered as children under their keys; it has no forward."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def __getitem__(self, name: str) -> Module:
        return self._children()[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._children())

    def __contains__(self, name: object) -> bool:
        return name in self._children()

    def keys(self) -> Iterable[str]:
        return self._children().keys()

    def values(self) -> Iterable[Module]:
        return self._children().values()

    def items(self) -> Iterable[tuple[str, Module]]:
        return self._children().items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        for name, module in dict(modules).items():
            self.add_module(name, module)
