"""The measuring code: medians of paired ratios, kernel calls that are verified, the limits, and `fastbp bench`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from settings import native_settings_kept

import fastbp
from fastbp import _native, cli
from fastbp.bench import cases, machine, short, timing, workloads
from fastbp.bench.call import KernelCall, Out
from fastbp.bench.timing import QUICK, Run, Timing
from fastbp.kernels import native


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with native_settings_kept():
        yield


class TestTiming:
    def test_a_ratio_is_the_median_of_the_rounds_own_ratios(self):
        # The machine slows down tenfold between rounds; the ratio of the medians would be 20.
        assert timing.ratio([2, 20, 200], [1, 10, 100]) == 2
        assert timing.ratio([2, 40, 200, 7], [1, 10, 100]) == 2  # only rounds with both

    def test_a_fraction_is_taken_of_the_best_peak_of_the_same_round(self):
        slow, fast = ([1.0, 2.0, 4.0], 10), ([2.0, 1.0, 2.0], 10)  # best rates 10, 10, 5
        assert timing.fraction([2.0, 1.0, 2.0], 5, [slow, fast]) == 0.5

    def test_runs_take_turns_and_every_second_round_goes_backwards(self):
        calls = []
        runs = {"a": Run(lambda: calls.append("a"), lambda: calls.append("before a")), "b": lambda: calls.append("b")}
        times = Timing(rounds=3, block=0, settle=0).alternate(runs)
        counting, measured = calls[:5], calls[5:]
        assert counting == ["before a", "a", "a", "b", "b"]
        assert measured == ["before a", "a", "b", "b", "before a", "a", "before a", "a", "b"]
        assert {name: len(t) for name, t in times.items()} == {"a": 3, "b": 3}

    def test_a_run_over_its_budget_takes_part_in_three_rounds(self):
        times = Timing(rounds=9, block=0, settle=0, budget=0).alternate({"a": lambda: None})
        assert len(times["a"]) == timing.LEAST_ROUNDS

    def test_short_calls_are_repeated_to_fill_a_block(self):
        calls = []
        Timing(rounds=1, block=1e-3, settle=0).alternate({"a": lambda: calls.append(1)})
        assert len(calls) > 100


class TestKernelCall:
    @pytest.mark.parametrize("kind", cases.PRODUCTS)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_products_do_two_operations_a_term_and_are_right(self, kind, dtype):
        call = cases.product(kind, (5, 7, 9), dtype)
        assert call.verify().operations == 2 * 5 * 7 * 9
        assert all(np.isfinite(output).all() and output.dtype == dtype for output in call.outputs())

    @pytest.mark.parametrize("name", cases.MEMORY_CASES)
    def test_memory_cases_are_right_and_move_at_least_a_tensor(self, name):
        call = cases.memory_case(name, 1024).verify()
        assert call.bytes >= 4 * 1024

    def test_adam_moves_28_bytes_a_parameter(self):
        call = cases.adam(1000)
        assert call.bytes == 28 * 1000 + call.operands[0].nbytes

    def test_operands_are_memory_of_fastbp_that_nobody_else_can_write_to(self):
        call = cases.product("forward", (5, 7, 9)).verify()
        call.outputs()
        buffers = [operand for operand in call.operands if isinstance(operand, _native.Buffer)]
        assert len(buffers) == 4 and not any(buffer.shared for buffer in buffers)

    def test_a_wrong_result_is_refused(self, monkeypatch, tmp_path):
        monkeypatch.setenv("FASTBP_CHECK_DIR", str(tmp_path))
        call = cases.memory_case("exp", 100)
        monkeypatch.setattr(native, "exp_forward", lambda x, y: native.fill(0.5, y))
        with pytest.raises(fastbp.CheckError, match=r"\[exp_forward\] expected y\["):
            call.verify()

    def test_an_output_that_is_not_written_is_refused(self, monkeypatch, tmp_path):
        monkeypatch.setenv("FASTBP_CHECK_DIR", str(tmp_path))
        call = cases.memory_case("exp", 100)
        monkeypatch.setattr(native, "exp_forward", lambda x, y: None)
        with pytest.raises(fastbp.CheckError, match="100 of 100 elements were not written"):
            call.verify()

    def test_operands_in_place_start_again_from_their_values(self):
        call = cases.memory_case("SGD", 100)
        before = np.array(call.values[-1][0])
        call.verify().verify()
        (params,) = call.operands[-1]
        np.testing.assert_array_equal(params, before)
        call.run()
        assert not np.array_equal(params, before)

    def test_a_wrong_number_of_operands(self):
        with pytest.raises(ValueError, match=r"zip\(\) argument 2 is shorter"):
            KernelCall("exp_forward", Out((3,)))


class TestLimits:
    @pytest.mark.parametrize("isa", _native.available_isas())
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("streaming", [False, True])
    def test_copies_are_exact_for_every_size_and_number_of_threads(self, isa, dtype, streaming):
        _native.set_isa(isa)
        _native.set_work_gate(0)
        for n in (0, 1, 7, 16, 17, 31, 513, 100_003):
            values = np.random.default_rng(n).standard_normal(n).astype(dtype)
            for threads in (1, 2, 3):
                _native.set_threads(threads)
                to = _native.empty((n,), 0 if dtype == "float32" else 1)
                _native.fill(np.nan, to)
                assert _native.copy_loop(_native.from_array(values), to, streaming) == 2 * values.nbytes
                np.testing.assert_array_equal(np.asarray(to), values)

    def test_copy_refuses_what_it_cannot_do(self):
        source, other, third = (_native.from_array(a) for a in (np.zeros(8), np.zeros(9), np.zeros(8, np.float32)))
        target = _native.empty((9,), 1)
        apart = target.view((8,), (1,), 1)
        _native.copy_loop(source, apart, False)
        with pytest.raises(ValueError, match=r"\[copy_loop\] expected to aligned to 64 bytes"):
            _native.copy_loop(source, apart, True)
        with pytest.raises(ValueError, match=r"\[copy_loop\] expected to of the shape of from, \(8,\), got \(9,\)"):
            _native.copy_loop(source, other, False)
        with pytest.raises(TypeError, match=r"\[copy_loop\] expected to .*float64"):
            _native.copy_loop(source, third, False)
        with pytest.raises(ValueError, match=r"\[copy_loop\]"):
            _native.copy_loop(source, source, False)

    def test_peaks_say_what_work_they_do(self):
        _native.set_threads(2)
        peak = machine.fma_peak("float64", iterations=10)
        assert peak.work == peak.call() and peak.work % (2 * 10 * 12 * 2) == 0
        assert {name: copy.work for name, copy in machine.copy_peaks(1000).items()} == {
            "plain copy": 8000, "streaming copy": 8000,
        }  # fmt: skip

    def test_the_description_names_machine_versions_and_date(self):
        description = machine.description(("no-such-package",))
        assert {"cpu", "fastbp", "threads", "instruction set in use", "numpy", "date"} <= set(description)
        assert description["no-such-package"] == "not installed"


class TestWorkloads:
    def test_operations_are_three_products_a_layer_less_one(self):
        workload = workloads.Workload("two", (3, 5, 2), "ReLU", "mse_loss", "SGD", 7)
        assert workload.operations == 2 * 7 * (3 * (15 + 10) - 15)

    @pytest.mark.parametrize("name", ["rl", "mnist_small"])
    def test_steps_agree_with_the_reference(self, name):
        for make in (workloads.eager_step, workloads.compiled_step):
            workloads.verify(make(workloads.WORKLOADS[name]), workloads.WORKLOADS[name])

    def test_another_loss_is_refused(self):
        with pytest.raises(ArithmeticError, match=r"\[rl\] expected losses .* got \[7.0, 7.0, 7.0\]"):
            workloads.verify(lambda: 7.0, workloads.WORKLOADS["rl"])


class TestCommand:
    @pytest.fixture(autouse=True)
    def small(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(short, "SHAPES", ((4, 6, 8),))
        monkeypatch.setattr(short, "ELEMENTS", 1024)
        monkeypatch.setattr(short, "STEPS", ("rl",))
        monkeypatch.setattr(short, "TIMING", QUICK)

    def test_prints_tables_and_writes_json(self, capsys):
        assert cli.main(["bench", "--threads", "2", "--json", "out.json"]) == 0
        out, err = capsys.readouterr()
        assert err == "" and "threads: 2" in out and "saved: out.json" in out
        content = json.loads(Path("out.json").read_text())
        assert content["machine"]["threads"].startswith("2 ")
        names = [result["name"] for result in content["results"]]
        assert names == [*(f"{kind} 4x6x8" for kind in cases.PRODUCTS), *short.KERNELS, "rl (compiled)", "rl (eager)"]
        for result in content["results"]:
            assert set(result) == {"table", "name", "seconds", "work", "peak", "fraction"}
            assert min(result["seconds"], result["work"], result["peak"], result["fraction"]) > 0
            assert f"  {result['name']} " in out

    @pytest.mark.parametrize(
        ("arguments", "status", "sentence"),
        [
            ("--threads 0", 2, "argument --threads: expected a whole number from 1"),
            ("--threads 100000", 1, "[set_num_threads] expected a number of threads from 1 to"),
            ("--json none/out.json", 1, "--json: expected a file in an existing writable folder, got 'none/out.json'"),
            ("--json .", 1, "--json: expected a file in an existing writable folder, got '.'"),
            ("--jsn x", 2, "unrecognized arguments: --jsn x"),
        ],
    )
    def test_wrong_options_are_refused_before_anything_is_measured(
        self, capsys, monkeypatch, arguments, status, sentence
    ):
        monkeypatch.setattr(short, "results", lambda: pytest.fail("it measured"))
        try:
            got = cli.main(["bench", *arguments.split()])
        except SystemExit as stop:
            got = stop.code
        out, err = capsys.readouterr()
        assert (got, out) == (status, "") and sentence in err and not os.listdir()
