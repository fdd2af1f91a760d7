# Types of the plain descriptors, which the stub generator cannot see.

_native\.Buffer\.(shape|strides)$:
    @property
    def \1(self) -> tuple[int, ...]: ...

_native\.Buffer\.(dtype|ndim|size|version)$:
    @property
    def \1(self) -> int: ...

_native\.Buffer\.(extent|storage)$:
    @property
    def \1(self) -> tuple[int, int]: ...

_native\.Buffer\.contiguous$:
    @property
    def contiguous(self) -> bool: ...

_native\.Mode\.(enabled|composed)$:
    \1: bool

_native\.Selected\.host$:
    \from typing import Any
    host: Any
