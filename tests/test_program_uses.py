"""Uses of a program's memory: the calls that read and write it, and whether it outlives a run."""

from __future__ import annotations

from recorded_programs import Recorded, normal

from fastbp.program.passes.uses import Uses


def test_uses_find_calls_by_memory():
    recorded = Recorded(lambda x: ((y := x.exp())[0:2].sin(), y.add_(1))[:1], normal(4))
    uses = Uses(recorded.calls, recorded.live)
    y = recorded.calls[0]["y"]
    assert [recorded.calls[i].kernel for i in uses.of(y)] == ["exp_forward", "sin_forward", "add", "copy"]
    assert [recorded.calls[i].kernel for i in uses.writing(y)] == ["exp_forward", "copy"]
    assert uses.of(y, 1, 2) == [1]
    assert not uses.outlives(y) and uses.outlives(recorded.inputs[0]) and uses.outlives(recorded.outputs[0])
