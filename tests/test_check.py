"""Check mode: silent where kernels are right, without a trace, and on where it was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import TABLE, Case, Out
from memory import Operand
from settings import native_settings_kept

import fastbp
from fastbp import _native, data, kernels, nn, optim
from fastbp.kernels import calls, checker, native, reference


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the inputs of failing calls are saved."""
    monkeypatch.setenv("FASTBP_CHECK_DIR", str(tmp_path / "check"))
    return tmp_path / "check"


# ---------------------------------------------------------------- what is right passes


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "rmsprop": lambda p: optim.RMSprop(p, lr=1e-3, centered=True, momentum=0.5),
    "adagrad": lambda p: optim.Adagrad(p, lr=1e-2, lr_decay=0.01),
    "adam": lambda p: optim.Adam(p, lr=1e-3, weight_decay=1e-3, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, lr=1e-3),
}


def trained_weights(make: Callable[[Any], optim.Optimizer], dtype: fastbp.DType = fastbp.float32) -> bytes:
    """Four steps on the digits with dropout, clipping, accumulated gradients and a schedule."""
    fastbp.manual_seed(3)
    x, y = data.load_digits("train")
    model = nn.Sequential(
        nn.Linear(64, 24), nn.GELU(), nn.Dropout(0.2), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 10)
    )
    model.to(dtype)
    optimizer = make(model.parameters())
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    batches = iter(data.Batches(x, y, batch_size=48, shuffle=True, seed=1))
    for _ in range(4):
        optimizer.zero_grad()
        for _ in range(2):
            xs, ys = next(batches)
            nn.functional.cross_entropy(model(xs.to(dtype)), ys, label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
    model.eval()
    assert model(fastbp.tensor(x[:50]).to(dtype)).argmax(1).shape == (50,)
    return b"".join(p.detach().numpy().tobytes() for p in model.parameters())


@pytest.mark.parametrize("dtype", [fastbp.float32, fastbp.float64], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_passes_and_gives_the_same_bits(optimizer: str, dtype: fastbp.DType, folder: Path) -> None:
    unchecked = trained_weights(OPTIMIZERS[optimizer], dtype)
    with fastbp.check():
        assert trained_weights(OPTIMIZERS[optimizer], dtype) == unchecked
    assert not folder.exists()


def arguments_of(values: list[Any], dtype: str) -> list[Any]:
    """Buffers for the values of a case, those of outputs as they come."""
    arguments = []
    for value in values:
        if isinstance(value, list):
            arguments.append(arguments_of(value, dtype))
        elif isinstance(value, Out):
            arguments.append(_native.from_array(Operand(value.layout(dtype)).array))
        else:
            arguments.append(_native.from_array(value) if isinstance(value, np.ndarray) else value)
    return arguments


@pytest.mark.parametrize("case", TABLE, ids=lambda c: c.name)
def test_every_kernel_passes_and_can_be_repeated_from_a_file(case: Case, tmp_path: Path) -> None:
    """All kinds of operands: lists, absent ones, numbers, strided ones, every type; NaN and infinities among them."""
    facts = getattr(reference, case.kernel).facts
    for dtype in case.dtypes:
        for values in case.variants(dtype)[-3:]:
            arguments = arguments_of(values, dtype)
            path = tmp_path / "call.npz"
            with path.open("wb") as file:
                calls.Call(facts, tuple(arguments)).save(file)
            getattr(checker.checked_native, case.kernel)(*arguments)
            checker.replay(path)
            name, loaded = calls.load(str(path))
            assert name == case.kernel
            assert [described(loaded[p]) for p in facts.parameters] == [described(a) for a in arguments]


def described(value: Any) -> Any:
    if isinstance(value, list):
        return [described(v) for v in value]
    if isinstance(value, native.Buffer):
        return value.shape, value.strides, value.dtype, value.data_ptr % 64
    return repr(value)


def test_looking_at_operands_leaves_no_trace() -> None:
    """A kernel sees the buffers that it would see without check mode, and writes are counted once."""
    x = fastbp.ones(5)
    with fastbp.check():
        y = fastbp.exp(x)
    assert not x.buffer.shared
    assert not y.buffer.shared
    assert y.buffer.version == fastbp.exp(x).buffer.version


class TestOperands:
    def test_in_place(self) -> None:
        """An output that is also an input, as kernels allow it, and operands that are read and written."""
        x = fastbp.tensor([-1.0, 2.0, float("nan")])
        with fastbp.check():
            k = kernels.of(x)
            k.relu_forward(x.buffer, x.buffer)
            np.testing.assert_array_equal(x.numpy(), np.float32([0, 2, np.nan]))
            k.accumulate(x.buffer, x.buffer)
            np.testing.assert_array_equal(x.numpy(), np.float32([0, 4, np.nan]))
            x.mul_(0.5)
            np.testing.assert_array_equal(x.numpy(), np.float32([0, 2, np.nan]))

    def test_accumulated_products(self) -> None:
        a, y = fastbp.randn(4, 4), fastbp.ones(4, 4)
        expected = a.numpy().astype(np.float64) @ a.numpy() + 1
        with fastbp.check():
            kernels.of(a).matmul(a.buffer, a.buffer, False, False, True, y.buffer)
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5)

    def test_strided(self) -> None:
        x = fastbp.zeros(6, 8)
        with fastbp.check():
            x[1::2, ::3] = fastbp.arange(3.0)
            np.testing.assert_array_equal(x[3].numpy(), np.float32([0, 0, 0, 1, 0, 0, 2, 0]))
            assert x.T.contiguous().shape == (8, 6)

    def test_infinities_and_nan(self) -> None:
        x = fastbp.tensor([[np.inf, 1.0], [np.nan, 2.0], [-np.inf, 3.0]], requires_grad=True)
        with fastbp.check():
            (x.softmax(1) + fastbp.exp(x) * 0.0).sum().backward()
            assert np.isnan(x.grad.numpy()).any()


class TestRefusals:
    """A kernel that refuses its operands says so as it does without check mode, and has changed nothing."""

    def test_bad_shape(self) -> None:
        x, y = fastbp.ones(3), fastbp.full((2,), 5.0)
        with fastbp.check(), pytest.raises(ValueError, match=r"\[exp_forward\] expected y of the shape of x"):
            kernels.of(x).exp_forward(x.buffer, y.buffer)
        np.testing.assert_array_equal(y.numpy(), 5.0)

    def test_read_only_output(self) -> None:
        array = np.ones(3, np.float32)
        array.flags.writeable = False
        x, y = fastbp.ones(3), fastbp.from_numpy(array)
        with fastbp.check(), pytest.raises(ValueError, match=r"\[exp_forward\] expected a writable y"):
            kernels.of(x).exp_forward(x.buffer, y.buffer)

    def test_what_is_no_buffer(self) -> None:
        with fastbp.check(), pytest.raises(TypeError) as caught:
            kernels.host().exp_forward(np.ones(3), np.ones(3))
        assert caught.value.__context__ is None  # not the checker's own complaint as well
        with fastbp.check(), pytest.raises(TypeError):
            kernels.host().exp_forward(fastbp.ones(3).buffer)

    def test_what_is_no_kernel(self) -> None:
        with fastbp.check():
            assert kernels.host().empty is native.empty
            with pytest.raises(AttributeError, match="no kernel frobnicate"):
                kernels.host().frobnicate  # noqa: B018


# ---------------------------------------------------------------- turning it on and off


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(native, "exp_forward", lambda x, y: None)
    return


def passes() -> bool:
    try:
        fastbp.exp(fastbp.ones(2))
    except fastbp.CheckError:
        return False
    return True


@pytest.mark.usefixtures("broken")
class TestSwitch:
    def test_nests_and_ends(self) -> None:
        assert passes()
        with fastbp.check():
            assert not passes()
            with fastbp.check():
                assert not passes()
            assert not passes()
        assert passes()

    def test_ends_with_an_exception(self) -> None:
        with pytest.raises(KeyError), fastbp.check():
            raise KeyError
        assert passes()

    def test_holds_for_its_thread(self) -> None:
        results: list[bool] = []
        with fastbp.check():
            thread = threading.Thread(target=lambda: results.append(passes()))
            thread.start()
            thread.join()
        assert results == [True]

    def test_with_backends(self) -> None:
        """The reference has nothing to be checked against; the native backend is checked wherever it is selected."""
        with fastbp.check(), fastbp.backend("reference"):
            assert kernels.host() is reference and passes()
            with fastbp.backend("native"):
                assert not passes()
        with fastbp.backend("reference"), fastbp.check():
            assert kernels.host() is reference and passes()
        with fastbp.backend("native"), fastbp.check():
            assert not passes()

    def test_info_tells(self) -> None:
        assert fastbp.info()["check mode"] == "off"
        with fastbp.check():
            assert fastbp.info()["check mode"].startswith("on")
            with fastbp.backend("reference"):
                assert fastbp.info()["check mode"] == "off"

    def test_off_there_is_nothing_in_the_way(self) -> None:
        assert kernels.host() is native
        assert kernels.of(fastbp.ones(1)) is native


def run_with(value: str, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environment, "FASTBP_CHECK": value}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


IN_ANOTHER_THREAD = """
import threading, fastbp
from fastbp.kernels import native
print(fastbp.info()["check mode"].split(":")[0])
fastbp.exp(fastbp.ones(2))
native.exp_forward = lambda x, y: None
def work():
    try:
        fastbp.exp(fastbp.ones(2))
        print("passed")
    except fastbp.CheckError as error:
        print(error.path)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


class TestEnvironment:
    def test_on_in_all_threads(self, folder: Path) -> None:
        done = run_with("1", IN_ANOTHER_THREAD)
        assert done.returncode == 0, done.stderr
        mode, path = done.stdout.split()
        assert mode == "on"
        assert Path(path).parent == folder

    @pytest.mark.parametrize("value", ["0", ""])
    def test_off(self, value: str) -> None:
        assert run_with(value, IN_ANOTHER_THREAD).stdout.split() == ["off", "passed"]

    @pytest.mark.parametrize("value", ["true", "2", " 1"])
    def test_anything_else_is_refused_at_import(self, value: str) -> None:
        done = run_with(value, "import fastbp")
        assert done.returncode == 1
        assert done.stderr.rstrip().endswith(
            f"ValueError: FASTBP_CHECK: expected 1 for check mode, 0 or nothing for none, got {value!r}"
        )

    def test_off_the_reference_is_not_even_loaded(self) -> None:
        program = "import sys, fastbp; print([m for m in sys.modules if 'reference' in m or 'checker' in m])"
        assert run_with("", program).stdout.strip() == "[]"


def test_every_instruction_set_passes() -> None:
    with native_settings_kept(), fastbp.check():
        for isa in _native.available_isas():
            _native.set_isa(isa)
            trained_weights(OPTIMIZERS["adam"])
