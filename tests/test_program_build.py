"""Programs as they are built: all passes together leave the bits."""

from __future__ import annotations

import pytest
from recorded_programs import PROGRAMS, built_of

from fastbp import _native
from fastbp.tensor import Tensor


@pytest.mark.parametrize("name", PROGRAMS)
def test_all_passes_together_leave_the_bits(name):
    recorded = PROGRAMS[name]()
    built = built_of(recorded)
    touched = [b for call in recorded.calls for _, b in call.buffers() if b.data_ptr < _native.PLACEHOLDERS]
    recorded.changes = [Tensor(b) for b in {b.data_ptr: b for b in touched}.values()]
    recorded.assert_same_bits([*built.constants, *built.calls])
    assert built.recorded == recorded.calls
