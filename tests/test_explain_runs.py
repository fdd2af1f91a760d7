"""What runs in and beside a picture: functions, compiled ones, threads, recordings, errors."""

from __future__ import annotations

import threading
from contextlib import suppress

import numpy as np
import pytest

import fastbp
from fastbp import autograd, function, nn, optim
from fastbp.autograd import mode
from fastbp.examples import variable
from fastbp.function import Node
from fastbp.nn.module import Module

PLAIN = Node.run, Node.arrive, fastbp.Tensor.arrive, Module.__call__, autograd.backward


@pytest.fixture(autouse=True)
def nothing_stays():
    yield
    assert function.watchers == []
    assert (Node.run, Node.arrive, fastbp.Tensor.arrive, Module.__call__, autograd.backward) == PLAIN
    assert mode.composed is False and mode.enabled is True


class TestFunctions:
    def test_get_their_backward_pass_unless_they_ran_it(self):
        x = variable(3.0)
        picture = fastbp.explain(lambda x: x * x, x)
        assert picture.passes == 1 and x.grad.item() == 6

        def with_backward(x):
            y = x * x
            y.backward()
            return y

        picture = fastbp.explain(with_backward, x)
        assert picture.passes == 1 and x.grad.item() == 12

    def test_that_return_no_number_have_values_alone(self):
        picture = fastbp.explain(lambda x: x * 2.0, variable([1.0, 2.0]))
        assert picture.passes == 0 and picture["output"].value.tolist() == [2, 4]
        picture = fastbp.explain(lambda x: (x * 2.0, {"loss": x.sum()}), variable([1.0, 2.0]))
        assert picture["output[0]"].operation == "Mul" and picture["output[1]['loss']"].operation == "Sum"

    def test_that_are_compiled_run_operation_by_operation(self):
        runs = []

        @fastbp.compile
        def f(x):
            runs.append(1)
            y = x.tanh()
            return (y * y).sum()

        x = fastbp.tensor([1.0, 2.0])
        expected = f(x).item()
        f(x)
        assert len(runs) == 1
        with fastbp.explain() as picture:
            w = fastbp.tensor([1.0, 2.0], requires_grad=True)
            loss = f(w)
            loss.backward()
        assert len(runs) == 2 and [node.operation for node in picture if node.operation] == ["Tanh", "Mul", "Sum"]
        assert loss.item() == expected and f(x).item() == expected and len(runs) == 2
        assert fastbp.explain(f, w)["y"].operation == "Tanh"

    def test_that_are_compiled_training_steps_give_the_same_weights(self):
        def train(explained):
            fastbp.manual_seed(1)
            model = nn.Linear(2, 1)
            optimizer = optim.SGD(model.parameters(), lr=0.1)

            @fastbp.compile
            def step(x):
                optimizer.zero_grad()
                loss = (model(x) ** 2).mean()
                loss.backward()
                optimizer.step()
                return loss

            x = np.arange(12, dtype=np.float32).reshape(6, 2)
            if explained:
                with fastbp.explain() as picture:
                    step.run_epoch([x], batch_size=3)
                assert picture.passes == 2
                assert {"weight", "weight (2)"} <= {node.name for node in picture}
            else:
                step.run_epoch([x], batch_size=3)
            return model.weight.detach().numpy().copy()

        np.testing.assert_allclose(train(True), train(False), rtol=1e-6)


def test_pictures_can_be_taken_in_check_mode():
    model, x = nn.Linear(3, 2), fastbp.randn(4, 3)
    with fastbp.check(), fastbp.explain() as picture:
        model(x).tanh().sum().backward()
    np.testing.assert_allclose(picture["weight"].upstream.tolist(), model.weight.grad.tolist())


class TestOtherThreads:
    def test_are_not_noted(self):
        x, other = variable(1.0), variable(2.0)
        with fastbp.explain() as picture:
            thread = threading.Thread(target=lambda: (nn.Tanh()(other) * 5.0).backward())
            thread.start()
            thread.join()
            (x * 2.0).backward()
        assert other.grad is not None
        assert [node.name for node in picture] == ["x", "2", "v1"]

    def test_have_pictures_of_their_own_at_the_same_time(self):
        barrier, pictures = threading.Barrier(2), {}

        def explain(name, operations):
            x = variable(0.5)
            with fastbp.explain() as picture:
                for _ in range(operations):
                    x = nn.Tanh()(x)
                barrier.wait()
                x.backward()
                barrier.wait()
            pictures[name] = picture

        threads = [threading.Thread(target=explain, args=arguments) for arguments in (("a", 50), ("b", 70))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [len(pictures[name]) for name in "ab"] == [51, 71]
        assert all(node.upstream is not None for name in "ab" for node in pictures[name])

    def test_may_record_a_compiled_function_meanwhile(self):
        model, x = nn.Linear(2, 1), fastbp.randn(3, 2)
        first = fastbp.compile(lambda x: model(x).sum())
        second = fastbp.compile(lambda x: (model(x) * 2.0).sum())
        with fastbp.explain() as picture:
            thread = threading.Thread(target=lambda: first(x))
            thread.start()
            thread.join()
            model(x).sum().backward()
        assert {node.name for node in picture if node.kind == "parameter"} == {"weight", "bias"}
        assert picture["weight"].uses[0].target.module == "model"
        model.eval()
        assert second(x).item() == pytest.approx(2 * first(x).item(), rel=1e-6)


class TestBadInput:
    def test_a_block_without_gradients_says_so(self):
        x = fastbp.tensor([1.0, 2.0])
        sentence = (
            r"^\[explain\] expected operations on tensors that require grad, got none; run the forward pass inside"
        )
        with pytest.raises(ValueError, match=sentence), fastbp.explain():
            x * 2.0
        with pytest.raises(ValueError, match=sentence), fastbp.explain():
            pass
        with pytest.raises(ValueError, match=sentence):
            fastbp.explain(lambda x: x * 2.0, x)
        loss = variable(2.0) * 3.0
        with pytest.raises(ValueError, match=sentence), fastbp.explain():
            loss.backward()

    def test_one_picture_inside_of_another_is_refused(self):
        x = variable(2.0)
        with fastbp.explain() as picture:
            y = x * 2.0
            with pytest.raises(RuntimeError, match=r"^\[explain\] expected one picture at a time, got a second one"):
                fastbp.explain(lambda: x * 3.0)
            y.backward()
        assert [node.name for node in picture] == ["x", "2", "y"]

    def test_a_block_that_could_not_be_entered_can_be_later(self):
        block = fastbp.explain()
        with fastbp.explain():
            variable(2.0) * 2.0
            with pytest.raises(RuntimeError, match="one picture at a time"):
                block.__enter__()
        with block as picture:
            variable(2.0) * 3.0
        assert [node.name for node in picture] == ["x1", "3", "v1"]

    def test_a_block_is_entered_once(self):
        block = fastbp.explain()
        with block:
            variable(1.0) * 2.0
        with pytest.raises(RuntimeError, match=r"^\[explain\] expected a block to be entered once"), block:
            pass

    def test_inside_of_a_compiled_function_it_is_refused(self):
        @fastbp.compile
        def f(x):
            with fastbp.explain():
                return (x * 2.0).sum()

        with pytest.raises(
            fastbp.CompileError, match="one that needs a picture of its graph; call the compiled function"
        ):
            f(fastbp.tensor([1.0, 2.0]))

    def test_what_is_no_function_is_refused(self):
        with pytest.raises(TypeError, match=r"^\[explain\] expected a function to run, or nothing for .*, got Tensor$"):
            fastbp.explain(variable(1.0))
        with pytest.raises(TypeError, match=r"^\[explain\] expected a function before its arguments, got None$"):
            fastbp.explain(None, variable(1.0))
        with pytest.raises(TypeError, match=r"^\[explain\] expected elements as an integer, got 2.5$"):
            fastbp.explain(elements=2.5)
        with pytest.raises(ValueError, match=r"^\[explain\] expected elements of at least 1, got 0$"):
            fastbp.explain(elements=0)

    def test_an_error_in_the_code_passes_and_leaves_nothing(self):
        x = variable(2.0)

        def f(x):
            nn.Tanh()(x)
            raise LookupError("not today")

        with pytest.raises(LookupError, match="not today"):
            fastbp.explain(f, x)
        with pytest.raises(LookupError, match="not today"), fastbp.explain() as picture:
            f(x)
        assert mode.composed is False and function.watchers == []
        assert [node.operation for node in picture if node.operation] == ["Tanh"]

    def test_a_picture_is_looked_at_when_the_block_is_left(self):
        x = variable(2.0)
        with fastbp.explain() as picture:
            x.exp()
            with pytest.raises(RuntimeError, match=r"^\[explain\] the picture is complete when the block is left"):
                str(picture)
            assert repr(picture) == "<picture of a block that is still running>"

    def test_an_error_in_a_block_leaves_the_picture_of_what_ran_before(self):
        a = fastbp.tensor(2.0, requires_grad=True)
        with suppress(KeyError), fastbp.explain() as picture:
            y = a * 3.0
            y.backward()
            {}["missing"]
        assert picture["y"].value.tolist() == 6 and picture["a"].upstream.tolist() == 3
        remark = "The block ended with KeyError: this is what ran before."
        assert str(picture).endswith(f"\n\n{remark}") and str(picture.with_views()).endswith(remark)
        assert f"label=<{remark}>" in picture.dot() and remark in picture.html()
        assert repr(picture) == str(picture)

    def test_an_error_before_any_operation_leaves_a_picture_that_says_so(self):
        with pytest.raises(KeyError), fastbp.explain() as picture:
            {}["missing"]
        with pytest.raises(RuntimeError, match=r"got none before the block ended with KeyError$"):
            str(picture)
        assert repr(picture) == "<picture of a block without operations>"
        with pytest.raises(ValueError, match="got none"), fastbp.explain() as picture:
            pass
        with pytest.raises(RuntimeError, match=r"expected operations on tensors that require grad, got none$"):
            str(picture)

    def test_an_error_in_the_backward_pass_passes_and_leaves_nothing(self):
        class Wrong(fastbp.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, dy):
                raise ArithmeticError("wrong")

        with pytest.raises(ArithmeticError, match="wrong"):
            fastbp.explain(lambda x: Wrong.apply(x).sum(), variable([1.0, 2.0]))
        picture = fastbp.explain(lambda x: x * 2.0, variable(1.0))
        assert picture.passes == 1
        x = variable([1.0, 2.0])
        with suppress(ArithmeticError), fastbp.explain() as picture:
            y = Wrong.apply(x)
            y.sum().backward()
        assert picture["y"].upstream.tolist() == [1, 1] and picture["x"].upstream is None
        assert "  y = Wrong(x)            dy = [1, 1]\n\nGradients\n\nThe block ended" in str(picture)
        assert "dy = [1, 1]" in picture.dot() and len(picture.html()) > len(str(picture))

    @pytest.mark.parametrize("path", [None, 3, b"picture.html"])
    def test_what_is_no_path_is_refused(self, path):
        picture = fastbp.explain(lambda x: x * 2.0, variable(1.0))
        kind = type(path).__name__
        with pytest.raises(TypeError, match=rf"^\[save\] expected a file name as str or PathLike, got {kind}$"):
            picture.save(path)

    def test_a_folder_that_is_not_there_is_an_error_of_the_system(self, tmp_path):
        picture = fastbp.explain(lambda x: x * 2.0, variable(1.0))
        with pytest.raises(FileNotFoundError):
            picture.save(tmp_path / "nowhere" / "picture.txt")

    def test_a_file_of_another_kind_is_refused(self, tmp_path):
        picture = fastbp.explain(lambda x: x * 2.0, variable(1.0))
        with pytest.raises(ValueError, match=r"^\[save\] expected a file name ending in .html, .svg, .txt, .dot, got"):
            picture.save(tmp_path / "picture.pdf")
        assert not list(tmp_path.iterdir())
