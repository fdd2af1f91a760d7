"""What .ci/proof stands on: calls are observed as kernels get them, and stores are seen in loops only."""

from __future__ import annotations

from collections.abc import Iterator

import disassembly
import numpy as np
import pytest

from fastbp import _native
from fastbp.kernels import native


@pytest.fixture(autouse=True)
def no_observer_left() -> Iterator[None]:
    yield
    _native.observe_calls(None)


def test_an_observer_sees_what_a_kernel_gets() -> None:
    x, y = native.from_array(np.ones((3, 5))), native.empty((3, 5), 1)
    seen = []
    _native.observe_calls(lambda *call: seen.append(call))
    native.copy(x, y)
    _native.observe_calls(None)
    native.copy(x, y)
    [(_, _, dtype, name, args)] = seen
    assert (dtype, name) == (1, "copy")
    assert np.frombuffer(args, np.uint64)[:2].tolist() == [x.data_ptr, y.data_ptr]


def test_an_observer_that_raises_keeps_the_kernel_from_running() -> None:
    def refuse(*call: object) -> None:
        raise LookupError("not today")

    y = np.zeros(3)
    _native.observe_calls(refuse)
    with pytest.raises(LookupError, match="not today"):
        native.fill(1.0, native.from_array(y))
    assert not y.any()


# A loop that is entered in its middle, a store before it, one in an outer loop around it.
X86 = """
0000000000000010 <void (anonymous namespace)::tile<float, 6, 2>((anonymous namespace)::Tile<float> const&)>:
  10:\tvmovaps %ymm1,0x20(%rsp)
  12:\tjmp    16 <void (anonymous namespace)::tile<float, 6, 2>(...)+0x6>
  14:\tvfmadd231ps (%rax),%ymm2,%ymm3
  16:\tSTORE
  18:\tjne    14 <void (anonymous namespace)::tile<float, 6, 2>(...)+0x4>
  1a:\tvmovaps %ymm3,(%rdx)
  1c:\tjne    12 <void (anonymous namespace)::tile<float, 6, 2>(...)+0x2>
  1e:\tret
"""
ARM = """
0000000000000010 <void (anonymous namespace)::tile<double, 11, 2>((anonymous namespace)::Tile<double> const&)>:
  10:\tstr\tq31, [sp, #192]
  14:\tfmla\tv7.4s, v1.4s, v10.s[0]
  18:\tSTORE
  1c:\tb.ne\t14 <void (anonymous namespace)::tile<double, 11, 2>(...)+0x4>  // b.any
  20:\tret
"""


@pytest.mark.parametrize(
    ("text", "instruction", "stores"),
    [
        (X86, "vmovaps %ymm3,0x20(%rsp)", 1),
        (X86, "vmovss %xmm3,-0x8(%rbp,%rax,4)", 1),
        (X86, "vmovaps 0x20(%rsp),%ymm3", 0),
        (X86, "mov    %rax,0x20(%rsp)", 0),
        (ARM, "str\tq31, [sp, #192]", 1),
        (ARM, "stp\tq9, q10, [sp, #160]", 1),
        (ARM, "ldr\tq31, [sp, #192]", 0),
        (ARM, "str\tx0, [sp, #216]", 0),
    ],
)
def test_stores_of_vectors_are_found_in_the_inner_loop(text: str, instruction: str, stores: int) -> None:
    [body] = disassembly.parse(text.replace("STORE", instruction)).values()
    [loop] = disassembly.inner_loops(body)
    assert sum(i.stores_vector for i in loop) == stores
    assert any(disassembly.FMA.match(i.name) for i in loop)
