"""Explanations of compiled functions: the numbers are the program's, and nothing changes by explaining."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from settings import native_settings_kept

import fastbp
from fastbp import _native, nn, optim
from fastbp.nn import functional as F
from fastbp.optim import lr_scheduler
from fastbp.program.chunks import CHUNK
from fastbp.program.memory import ARENA, BLOCK, CHUNKED, EACH_SHARE
from fastbp.program.passes.panels import Pack
from fastbp.program.schedule import ALONE, EVERY, TEAM
from fastbp.program.variant import Variant

ROWS = 32


@pytest.fixture(autouse=True, params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    with native_settings_kept():
        _native.set_threads(request.param)
        yield request.param


def batch(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 8)).astype(np.float32), rng.integers(0, 4, rows)


def network(hidden: int = 16) -> nn.Module:
    fastbp.manual_seed(0)
    return nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, 4))


def training(model: nn.Module, optimizer: optim.Optimizer, schedule: Any = None) -> Callable[..., Any]:
    def step(x: fastbp.Tensor, y: fastbp.Tensor) -> fastbp.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        return loss

    return step


def compiled(hidden: int = 16) -> Any:
    model = network(hidden)
    return fastbp.compile(training(model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9)))


def recordings(function: Any) -> list[Variant]:
    return [variant for variants in function._variants.values() for variant in variants]


def parts(text: str) -> dict[str, list[str]]:
    """The blocks of an explanation by how they begin, one line an entry: lines that go on are joined."""
    found = {}
    for block in text.split("\n\n"):
        title, *lines = block.split("\n")
        entries: list[str] = []
        for line in lines:
            if line.startswith(" " * 20) and entries and "before fusing" not in line:
                entries[-1] += " " + line.strip()
            else:
                entries.append(line)
        found[title.split()[0]] = [title, *entries]
    return found


def calls_in(entries: list[str]) -> dict[int, list[str]]:
    """The entries of a table by the number of their call."""
    found: dict[int, list[str]] = {}
    for entry in entries[2:]:
        if not entry.startswith("─"):
            found.setdefault(int(entry.split()[0]), []).append(entry)
    return found


class TestNumbers:
    @pytest.mark.parametrize("hidden", [16, 9000])
    def test_are_those_of_the_program(self, hidden, threads):
        step = compiled(hidden)
        text = step.explain(*batch())
        (variant,) = recordings(step)
        built, program, found = variant.built, variant.built.program, parts(text)
        before, after = calls_in(found["Before"]), calls_in(found["After"])
        assert list(before) == list(range(len(built.recorded)))
        assert sorted(after) == list(range(len(built.items)))
        assert sum(entry.startswith("─") for entry in found["After"]) == program.barriers
        assert re.search(rf"^barriers +{program.barriers}$", text, re.M)
        assert re.search(rf"^stages +{program.barriers + 1}$", text, re.M)
        assert re.search(r"^chunks +none$", text, re.M)
        assert re.search(rf"^threads +at most {threads}$", text, re.M)
        sizes = f"{built.memory.arena_bytes:,} bytes, and {built.memory.each_share_bytes:,} for each thread"
        assert re.search(rf"^arena +{sizes}$", text, re.M)
        assert re.search(rf"^constants +{len(built.constants)},", text, re.M)
        totals = {
            "calls": len,
            "operations": lambda calls: sum(c.facts.operations(**c.named()) for c in calls),
            "bytes moved": lambda calls: sum(c.facts.bytes(**c.named()) for c in calls),
        }
        for what, total in totals.items():
            first, then = total(built.recorded), total(built.calls)
            assert re.search(rf"^{what} +{first:,} +{then:,}$", text, re.M)

    @pytest.mark.parametrize("hidden", [16, 9000])
    def test_of_a_call_are_in_its_line(self, hidden):
        step = compiled(hidden)
        found = parts(step.explain(*batch()))
        (variant,) = recordings(step)
        built = variant.built
        for table, steps in (("Before", built.recorded), ("After", [item.step for item in built.items])):
            for i, entries in calls_in(found[table]).items():
                is_pack = isinstance(steps[i], Pack)
                assert (
                    ("pack transposed" if steps[i].transposed else "pack") if is_pack else steps[i].kernel
                ) in entries[0]
                for name, operand in steps[i].buffers() if is_pack else steps[i].named().items():
                    if isinstance(operand, fastbp.kernels.storage.Buffer):
                        shape = ", ".join(map(str, operand.shape))
                        assert re.search(rf"\b{name}\({shape}\)@\w", entries[0])
        for i, entries in calls_in(found["After"]).items():
            item, stage = built.items[i], built.stages[i]
            cut = {ALONE: "alone", EVERY: "every share", TEAM: "team"}.get(item.rows, f"rows {item.rows}")
            assert len(entries) == item.stages
            for phase, entry in enumerate(entries):
                assert re.match(rf" *{i} +{stage + phase} +{cut} ", entry)

    def test_of_packs_are_in_their_lines(self):
        step = compiled(64)
        text = step.explain(*batch())
        (variant,) = recordings(step)
        packs = [(i, item.step) for i, item in enumerate(variant.built.items) if isinstance(item.step, Pack)]
        after = calls_in(parts(text)["After"])
        assert packs
        for i, pack in packs:
            kernel = "pack transposed " if pack.transposed else "pack "
            assert kernel in after[i][0] and f" {2 * pack.matrix.nbytes:,} " in after[i][0]
            assert re.search(r"matrix\(\d+, \d+\)@\S+ → panels\(\d+, \d+\)@t\d+$", after[i][0])

    @pytest.mark.parametrize("rows", [513, 1300])
    def test_of_chunks(self, rows, threads):
        step = compiled()
        text = step.explain(*batch(rows))
        (variant,) = recordings(step)
        built, found = variant.built, parts(text)
        chunks = -(-rows // CHUNK)
        assert built.chunks.rows == rows
        assert re.search(rf"^chunks +{chunks} of at most 512 rows, through stages 0 and 1$", text, re.M)
        drawn = sum(entry.startswith("─") for entry in found["After"])
        assert re.search(rf"^stages +{drawn + 1}$", text, re.M)
        # Of the chunks but the last, two stages each come before all others.
        assert built.program.barriers == drawn + 2 * (chunks - 1)
        assert re.search(rf"^barriers +{built.program.barriers}$", text, re.M)
        listed = re.findall(r"^t\d+ .*a chunk of rows of (\d+) ", "\n".join(found["The"]), re.M)
        assert sorted(map(int, listed)) == sorted(built.chunks.local.values()) and listed

    def test_of_stages_grow(self):
        found = parts(compiled(9000).explain(*batch(128)))
        stage = 0
        for entry in found["After"][2:]:
            stage += entry.startswith("─")
            assert entry.startswith("─") or int(entry.split()[1]) == stage

    def test_of_the_arena_cover_it_from_first_to_last_call(self):
        step = compiled()
        found = parts(step.explain(*batch()))
        (variant,) = recordings(step)
        after, buffers = calls_in(found["After"]), found["The"][2:]
        memory = variant.built.memory
        assert len(buffers) == sum(kind in (ARENA, EACH_SHARE, BLOCK, CHUNKED) for _, _, kind, _, _ in memory.homes)
        for line in buffers:
            name, offset, *kind, size, first, last = line.replace(",", "").split()
            end = int(offset) + (0 if "block" in kind else int(size))  # of blocks not all rows are there at once
            assert end <= (memory.each_share_bytes if "each" in kind else memory.arena_bytes)
            touching = [str(i) for i, entries in after.items() if re.search(rf"@{name}\b", entries[0])]
            assert last in (*touching, "made")
            assert first in (*touching, "made")
            assert all(int(first) <= int(i) <= int(last) for i in touching if first != "made")

    def test_fit_lines_of_120_characters(self):
        text = compiled(9000).explain(*batch(128))
        assert max(map(len, text.splitlines())) <= 120
        assert not any(line != line.rstrip() for line in text.splitlines())


class TestWords:
    def test_name_what_is_fused(self):
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        step = fastbp.compile(training(model, optim.Adam(model.parameters())))
        found = parts(step.explain(*batch()))
        before, after = calls_in(found["Before"]), calls_in(found["After"])
        assert "relu_forward" in before[1][0]
        assert "linear_forward + relu " in after[0][0]
        assert any("linear_backward_input + relu' " in entries[0] for entries in after.values())
        assert not any("relu_forward" in entries[0] or "relu_backward" in entries[0] for entries in after.values())

    def test_name_parameters_state_inputs_and_outputs(self):
        found = parts(compiled().explain(*batch()))
        first = calls_in(found["After"])[0][0]
        assert "x(32, 8)@input0 w(16, 8)@0.weight b(16)@0.bias → y(32, 16)@t" in first
        text = "\n".join(found["After"])
        assert "state(2)@random_state" in text
        assert "velocities(16)@0.bias.momentum_buffer params(16)@0.bias" in text
        assert "↔ hyper(5)@SGD.hyper" in text
        facts = "\n".join(found["stages"])
        assert re.search(r"^inputs +float32\(32, 8\)@input0 int64\(32\)@input1$", facts, re.M)
        assert re.search(r"^outputs +float32\(\)@output0$", facts, re.M)

    def test_tell_networks_apart(self):
        first, second = nn.Linear(8, 3), nn.Linear(3, 4)
        text = fastbp.compile(lambda x: second(first(x))).explain(batch()[0])
        assert "w(3, 8)@Linear0.weight" in text
        assert "w(4, 3)@Linear1.weight" in text

    def test_name_memory_that_no_module_holds(self):
        w, mask = (fastbp.tensor(np.ones((4, 8), np.float32), requires_grad=grad) for grad in (True, False))

        def add_to_grad(x: fastbp.Tensor) -> fastbp.Tensor:
            loss = ((x @ w.T).sum() * 2.0) + (w * mask).sum()
            loss.backward()
            return loss

        w.grad = fastbp.tensor(np.ones((4, 8), np.float32))
        function = fastbp.compile(add_to_grad)
        text = function.explain(batch()[0])
        assert text.startswith("Program of add_to_grad\n")
        assert "a(4, 8)@persistent0 b(4, 8)@persistent1" in text
        assert "float32(4, 8)@input1=persistent0.grad" in text
        assert "a()@t1 b=2.0 →" in text

    def test_give_each_output_its_meaning(self):
        layer = nn.Linear(8, 4)

        def gradients(x: fastbp.Tensor) -> tuple[fastbp.Tensor, fastbp.Tensor]:
            loss = layer(x).sum()
            loss.backward()
            return loss, layer.bias

        facts = "\n".join(parts(fastbp.compile(gradients).explain(batch()[0]))["stages"])
        expected = "float32()@output0 float32(4, 8)@output1=weight.grad float32(4)@output2=bias.grad"
        assert re.search(rf"^outputs +{re.escape(expected)}$", facts, re.M)

    def test_explain_a_function_that_computes_nothing(self):
        text = fastbp.compile(lambda x: x).explain(batch()[0])
        assert re.search(r"^calls +0 +0$", text, re.M)
        assert re.search(r"^barriers +0$", text, re.M)
        assert re.search(r"^outputs +float32\(32, 8\)@input0$", text, re.M)


class TestNothingChanges:
    def state(self, model, optimizer, schedule):
        state = optimizer.state_dict()
        return (
            [(id(p.buffer), np.array(p.detach().numpy()).tolist(), p.grad) for p in model.parameters()],
            {
                i: {k: np.asarray(getattr(v, "buffer", v)).tolist() for k, v in s.items()}
                for i, s in state["state"].items()
            },
            state["param_groups"],
            schedule.state_dict(),
            fastbp.ops.random.default_generator.get_state(),
        )

    def parts_of_a_run(self):
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        schedule = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        return model, optimizer, schedule

    def test_before_the_first_call_and_between_calls(self):
        run, plain = self.parts_of_a_run(), self.parts_of_a_run()
        step, expected = fastbp.compile(training(*run)), training(*plain)
        for rows in (ROWS, 5, ROWS):
            x, y = (fastbp.tensor(v) for v in batch(rows))
            before = self.state(*run)
            text = step.explain(x, y)
            assert self.state(*run) == before
            assert step.explain() == text == step.explain(x, y)
        assert len(recordings(step)) == 2
        for rows in (ROWS, 5):
            x, y = (fastbp.tensor(v) for v in batch(rows))
            fastbp.manual_seed(1)
            loss = step(x, y)
            after = self.state(*run)
            fastbp.manual_seed(1)
            assert expected(x, y).item() == loss.item()
            for mine, others in zip(after[0], self.state(*plain)[0]):
                assert mine[1] == others[1]
            assert after[1:] == self.state(*plain)[1:]
            step.explain(x, y)
            assert self.state(*run)[1:] == after[1:]
        assert len(recordings(step)) == 2

    def test_gradients_stay_the_same_tensors(self):
        model = network()

        def backward(x: fastbp.Tensor) -> None:
            model(x).sum().backward()

        function = fastbp.compile(backward)
        x = batch()[0]
        backward(fastbp.tensor(x))
        gradients = [(p.grad, p.grad.numpy().copy()) for p in model.parameters()]
        function.explain(x)
        for p, (gradient, values) in zip(model.parameters(), gradients):
            assert p.grad is gradient
            np.testing.assert_array_equal(values, gradient.numpy())


class TestWhichRecording:
    def test_the_last_that_was_used(self):
        step = compiled()
        for rows in (ROWS, 5, ROWS):
            step(*(fastbp.tensor(v) for v in batch(rows)))
            assert f"x({rows}, 8)@input0" in step.explain()
        assert len(recordings(step)) == 2

    def test_raises_without_any(self):
        with pytest.raises(
            ValueError, match=r"^\[explain\] expected arguments to record, or a call before, got neither$"
        ):
            compiled().explain()

    def test_raises_where_the_function_cannot_be_a_program(self):
        function = fastbp.compile(lambda x: x.sum().item())
        with pytest.raises(fastbp.CompileError, match="return the tensor and read it outside"):
            function.explain(batch()[0])
        with pytest.raises(ValueError, match=r"^\[explain\]"):
            function.explain()
