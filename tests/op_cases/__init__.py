"""The one table of differentiable operations: what is called and on which inputs.

`f` is the library, fastbp or torch: the names are the same in both.
"""

from __future__ import annotations

from fastbp.ops import unary
from op_cases import losses, operations
from op_cases.case import Case, case, positive

__all__ = ["BY_NAME", "CASES", "DERIVED", "Case"]

CASES = [*operations.CASES, *losses.CASES]
# Element-wise operations that are not named above, on inputs that suit nearly all: a new one has its case here at once.
DERIVED = [
    case(name, lambda f, x, name=name: getattr(f, name)(x), positive(3, 5))
    for name in unary.__all__
    if not any(each.name.startswith(name) for each in CASES)
]
BY_NAME = {each.name: each for each in [*CASES, *DERIVED]}
