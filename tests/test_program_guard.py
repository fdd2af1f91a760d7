"""The guard of a program: where it stands, what waits for it, and first results that it cannot look at."""

from __future__ import annotations

import pytest
from recorded_programs import PROGRAMS, Recorded, built_of, normal, order_of
from settings import numbers_of_threads

import fastbp
from fastbp import _native
from fastbp.program.schedule import ALONE, EVERY, GUARD

threads = numbers_of_threads(1, 2, 3, 8)


def test_the_guard_comes_right_after_the_first_result_and_others_read_its_copy():
    recorded = PROGRAMS["step"]()
    built = built_of(recorded, guarded=True)
    (at,) = [i for i, item in enumerate(built.items) if item.rows == GUARD]
    guard = built.items[at].step
    assert guard.kernel == "copy" and guard["x"].size == 1
    copied = guard["x"].storage[0]
    made = [i for i, item in enumerate(built.items) if any(t.writes and t.storage == copied for t in item.touches)]
    assert made and max(made) < at
    result = recorded.outputs[0].storage[0]
    (last,) = [item.step for item in built.items if any(t.writes and t.storage == result for t in item.touches)]
    assert last.kernel == "copy" and last["x"].data_ptr == guard["x"].data_ptr
    assert not any(t.storage == result and not t.writes for item in built.items for t in item.touches)


def test_weights_are_written_after_the_guard_has_looked(threads):
    for name in ("step", "dropout", "large"):
        built = built_of(PROGRAMS[name](), guarded=True)
        at = next(i for i, item in enumerate(built.items) if item.rows == GUARD)
        order = {}
        for stage in range(len(built.groups)):
            order |= {i: (stage, *place) for (i, _), place in order_of(built, stage).items()}
        for i, item in enumerate(built.items):
            outlives = any(t.writes and 0 <= t.storage < _native.PLACEHOLDERS for t in item.touches)
            if outlives and item.rows not in (ALONE, EVERY):
                assert order[i] > order[at], f"{name}: {item.step}"


@pytest.mark.parametrize("kind", ["many", "none", "an input", "a part", "an integer"])
def test_a_first_result_that_cannot_be_guarded_is_refused(kind):
    def function(x):
        given = {"many": x[:3] * 2, "none": fastbp.empty(0), "an input": x, "a part": x.exp()[0]}
        return given.get(kind, x.argmax() - 1)

    recorded = Recorded(function, normal(1 if kind == "an input" else 3))
    with pytest.raises(_native.RecordingError, match="a first result of one number"):
        built_of(recorded, guarded=True)
