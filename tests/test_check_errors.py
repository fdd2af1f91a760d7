"""What check mode says of a kernel that is wrong, and the file that it saves."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import _native, kernels, nn, optim
from fastbp.kernels import calls, checker, native, reference


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the inputs of failing calls are saved."""
    monkeypatch.setenv("FASTBP_CHECK_DIR", str(tmp_path / "check"))
    return tmp_path / "check"


def break_kernel(monkeypatch: pytest.MonkeyPatch, name: str, after: Callable[..., None]) -> None:
    """The native kernel does its work, then `after` changes the operands, which it gets as arrays."""
    real = getattr(native, name)

    def broken(*arguments: Any) -> None:
        real(*arguments)
        after(*(as_arrays(a) for a in arguments))

    monkeypatch.setattr(native, name, broken)


def as_arrays(value: Any) -> Any:
    if isinstance(value, list):
        return [as_arrays(v) for v in value]
    return np.asarray(value) if isinstance(value, native.Buffer) else value


def disagreement(call: Callable[[], Any]) -> fastbp.CheckError:
    with fastbp.check(), pytest.raises(fastbp.CheckError) as caught:
        call()
    return caught.value


# ---------------------------------------------------------------- what is caught


def add_to_one_element(x: Any, slope: float, y: np.ndarray) -> None:
    y[2, 1] += 0.25


class TestWrongElement:
    def test_error_names_everything(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        break_kernel(monkeypatch, "leaky_relu_forward", add_to_one_element)
        x = fastbp.tensor(np.arange(6.0).reshape(3, 2) - 2, dtype=fastbp.float32)
        error = disagreement(lambda: nn.functional.leaky_relu(x, 0.125))
        text = str(error)
        assert (error.kernel, error.operand) == ("leaky_relu_forward", "y")
        assert text.startswith(
            "[leaky_relu_forward] expected y[2, 1] = np.float32(3.0) (equal bits), got np.float32(3.25)"
        )
        assert "1 of 6 elements" in text
        assert "x: float32 (3, 2)" in text and "y: float32 (3, 2)" in text
        assert "slope = 0.125" in text
        assert f"instruction set {_native.isa()}, threads {_native.threads()}" in text
        assert Path(error.path).parent == folder
        assert f"from fastbp.kernels.checker import replay; replay({error.path!r})" in text

    def test_saved_call_can_be_repeated(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        break_kernel(monkeypatch, "leaky_relu_forward", add_to_one_element)
        error = disagreement(lambda: nn.functional.leaky_relu(fastbp.ones(3, 2), 0.125))
        with pytest.raises(fastbp.CheckError) as again:
            checker.replay(error.path)
        assert str(again.value) == str(error)
        monkeypatch.undo()
        checker.replay(error.path)  # the kernel was repaired
        assert len(list(folder.iterdir())) == 1

    def test_names_the_worst_element_and_its_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def spoil(x: np.ndarray, y: np.ndarray) -> None:
            y[0, 0], y[0, 1], y[0, 2] = y[0, 0] * 1.001, 7.0, y[0, 2] * 1.01

        break_kernel(monkeypatch, "softmax_forward", spoil)
        error = disagreement(lambda: fastbp.zeros(2, 4).softmax(1))
        assert "expected y[0, 1] = np.float32(0.25) (within " in str(error)
        assert "got np.float32(7.0); 3 of 8 elements differ" in str(error)

    def test_a_missing_nan_is_worse_than_any_distance(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def spoil(x: np.ndarray, y: np.ndarray) -> None:
            y[:2] = 1e30, 1.0

        break_kernel(monkeypatch, "exp_forward", spoil)
        error = disagreement(lambda: fastbp.exp(fastbp.tensor([0.0, float("nan"), 1.0])))
        assert "expected y[1] = np.float32(nan)" in str(error)

    def test_element_of_a_list(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def spoil(hyper: Any, grads: Any, velocities: Any, nesterov: Any, params: list[np.ndarray]) -> None:
            params[1][2] = 9.0

        break_kernel(monkeypatch, "sgd_step", spoil)
        params = [nn.Parameter(fastbp.ones(2, 2)), nn.Parameter(fastbp.ones(3))]
        for p in params:
            p.grad = fastbp.ones(p.shape)
        error = disagreement(optim.SGD(params, lr=0.5).step)
        assert error.operand == "params[1]"
        assert "params[1][2] = np.float32(0.5)" in str(error)
        assert "grads[0]: float32 (2, 2)" in str(error)
        with pytest.raises(fastbp.CheckError, match=r"params\[1\]\[2\] = np.float32\(0.5\)"):
            checker.replay(error.path)

    def test_truth_values_and_integers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        break_kernel(monkeypatch, "lt", lambda a, b, y: y.__setitem__(1, True))
        break_kernel(monkeypatch, "argmax", lambda x, y: y.__iadd__(1))
        assert "y[1] = np.False_ (equal bits), got np.True_" in str(disagreement(lambda: fastbp.ones(3) < 1.0))
        assert "y[0, 0] = np.int64(2)" in str(disagreement(lambda: fastbp.arange(3.0).argmax(0)))

    def test_number_in_place_of_an_operand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        break_kernel(monkeypatch, "add", lambda a, b, y: y.__setitem__(0, 0))
        error = disagreement(lambda: fastbp.ones(2) + 2.5)
        assert "b = 2.5" in str(error)
        with pytest.raises(fastbp.CheckError):
            checker.replay(error.path)

    def test_in_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An output that is its own input: the file has what it held before, and the aliasing is repeated."""
        seen = []

        def spoil(x: np.ndarray, y: np.ndarray) -> None:
            seen.append(np.shares_memory(x, y))
            y[1] += 1

        break_kernel(monkeypatch, "relu_forward", spoil)
        x = fastbp.tensor([-1.0, 2.0, 3.0])
        error = disagreement(lambda: kernels.host().relu_forward(x.buffer, x.buffer))
        assert "y[1] = np.float32(2.0) (equal bits), got np.float32(3.0)" in str(error)
        with np.load(error.path) as saved:
            np.testing.assert_array_equal(saved["x"], np.float32([-1, 2, 3]))
        with pytest.raises(fastbp.CheckError, match=r"y\[1\]"):
            checker.replay(error.path)
        assert seen == [True, True]

    def test_in_a_strided_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        break_kernel(monkeypatch, "fill", lambda value, y: y.__setitem__((0, 1), 4.0))
        x = fastbp.zeros(4, 6)
        error = disagreement(lambda: x[::2, ::3].fill_(1.0))
        assert "y: float32 (2, 2), strides (12, 3)" in str(error)
        with pytest.raises(fastbp.CheckError, match=r"strides \(12, 3\)"):
            checker.replay(error.path)


def test_changed_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(x: np.ndarray, y: np.ndarray) -> None:
        x[1] = -0.0  # equal to what it was, but in other bits

    break_kernel(monkeypatch, "exp_forward", spoil)
    error = disagreement(lambda: fastbp.exp(fastbp.zeros(3)))
    assert error.operand == "x"
    assert "expected the input x to stay as it was, x[1] = np.float32(0.0), got np.float32(-0.0)" in str(error)
    with pytest.raises(fastbp.CheckError, match="the input x to stay"):
        checker.replay(error.path)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_unwritten_output(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """Caught even where the memory happens to hold the right values already."""
    monkeypatch.setattr(native, "copy", lambda x, y: None)
    x = fastbp.tensor(np.ones((2, 3)), dtype=dtype)
    y = fastbp.tensor(np.ones((2, 3)), dtype=dtype)
    error = disagreement(lambda: kernels.host().copy(x.buffer, y.buffer))
    assert "[copy] expected y[0, 0] = np." in str(error)
    assert "got an element that was not written; 6 of 6 elements" in str(error)


def test_unwritten_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "exp_forward", lambda x, y: None)
    error = disagreement(lambda: fastbp.exp(fastbp.tensor([float("nan")])))
    assert "expected y[0] = np.float32(nan), got an element that was not written" in str(error)


def test_call_that_only_the_reference_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "wrap_index", lambda index, size, y: None)
    index, y = fastbp.tensor([5]), fastbp.tensor([0])
    error = disagreement(lambda: kernels.host().wrap_index(index.buffer, 3, y.buffer))
    assert error.operand is None
    assert "[wrap_index] expected a refusal, as the reference's ([wrap_index] expected indices from -3 to 2)" in str(
        error
    )


# ---------------------------------------------------------------- the file


class TestFile:
    @pytest.fixture
    def fail(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], fastbp.CheckError]:
        monkeypatch.setattr(native, "exp_forward", lambda x, y: None)
        return lambda: disagreement(lambda: fastbp.exp(fastbp.ones(2)))

    def test_is_never_overwritten(self, fail, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        paths = {fail().path for _ in range(3)}
        assert len(paths) == 3 and all(f"-{os.getpid()}-" in p for p in paths)
        monkeypatch.setattr(checker, "_numbers", iter(range(10**6)))  # as a later process of the same number counts
        before = {p: Path(p).read_bytes() for p in paths}
        paths |= {fail().path for _ in range(3)}
        assert len(paths) == len(list(folder.iterdir())) == 6
        assert all(Path(p).read_bytes() == held for p, held in before.items())

    def test_goes_to_the_temporary_folder_by_default(
        self, fail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("FASTBP_CHECK_DIR")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        assert Path(fail().path).parent == tmp_path

    def test_that_cannot_be_written_does_not_hide_the_error(self, fail, tmp_path: Path, monkeypatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("FASTBP_CHECK_DIR", str(tmp_path / "file"))
        error = fail()
        assert error.path is None
        assert "not written" in str(error) and "inputs not saved: " in str(error)

    def test_half_written_is_removed(self, fail, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(call: calls.Call, file: Any) -> None:
            file.write(b"PK")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(calls.Call, "save", full)
        assert "inputs not saved: [Errno 28] No space left on device" in str(fail())
        assert list(folder.iterdir()) == []

    def test_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        other = tmp_path / "other.npz"
        np.savez(other, x=np.ones(3))
        text = tmp_path / "text.npz"
        text.write_text("no archive")
        for path in (other, text):
            with pytest.raises(ValueError, match=r"\[replay\] expected a file that a CheckError names, got .*\.npz"):
                checker.replay(path)
        with pytest.raises(FileNotFoundError):
            checker.replay(tmp_path / "nothing.npz")

    def test_of_another_version_is_refused(self, fail, monkeypatch: pytest.MonkeyPatch) -> None:
        path = fail().path
        monkeypatch.setattr(reference, "__all__", [])
        with pytest.raises(ValueError, match=r"\[replay\] expected a kernel of this version, got exp_forward\(x, y\)"):
            checker.replay(path)

    def test_error_survives_pickling(self, fail) -> None:
        """Workers of a pool send it to their parent."""
        error = fail()
        again = pickle.loads(pickle.dumps(error))
        assert isinstance(again, fastbp.CheckError) and isinstance(again, RuntimeError)
        assert (str(again), again.kernel, again.operand, again.path) == (str(error), "exp_forward", "y", error.path)
