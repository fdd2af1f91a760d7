"""fastbp.summary: numbers by hand and PyTorch's, the order of calls, and that nothing of the model changes."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from compiled_runs import all_state, assert_same, count_variants
from summary_models import Block, Shared

import fastbp
from fastbp import nn
from fastbp.kernels import native
from fastbp.kernels.counter import Counter
from fastbp.ops.random import Generator


def classifier():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3, bias=False))


def by_name(summary, name):
    return [layer for layer in summary.layers if layer.name == name]


class TestNumbers:
    def test_every_number_of_a_classifier(self):
        """A product (m, k)·(k, n) is 2·m·k·n operations, relu one for each element; a view of memory takes none."""
        result = fastbp.summary(classifier(), (7, 3, 4))
        model, flat, first, relu, dropout, second = result.layers
        assert [layer.name for layer in result.layers] == ["", "0", "1", "2", "3", "4"]
        assert [layer.kind for layer in result.layers] == "Sequential Flatten Linear ReLU Dropout Linear".split()
        assert [layer.depth for layer in result.layers] == [0, 1, 1, 1, 1, 1]
        assert (model.inputs, model.outputs) == ([(7, 3, 4)], [(7, 3)])
        assert (flat.inputs, flat.outputs) == ([(7, 3, 4)], [(7, 12)])
        assert (first.inputs, first.outputs) == ([(7, 12)], [(7, 5)])
        assert [layer.parameters for layer in result.layers] == [80, 0, 65, 0, 0, 15]
        assert [layer.parameter_bytes for layer in result.layers] == [320, 0, 260, 0, 0, 60]
        relu_operations = 7 * 5 * 1
        assert (first.operations, relu.operations, second.operations) == (
            2 * 7 * 12 * 5,
            relu_operations,
            2 * 7 * 5 * 3,
        )
        assert model.operations == result.operations == 2 * 7 * 12 * 5 + relu_operations + 2 * 7 * 5 * 3
        assert [layer.activation_bytes for layer in result.layers] == [364, 0, 140, 140, 0, 84]
        assert first.bytes == 4 * (7 * 12 + 5 * 12 + 5 + 7 * 5)  # x, w, b, y
        assert (flat.operations, dropout.operations, flat.bytes) == (0, 0, 0)
        assert (result.parameters, result.parameter_bytes, result.activation_bytes) == (80, 320, 364)

    def test_float64_takes_twice_the_memory_and_its_own_zeros(self):
        model = classifier()
        narrow, wide = fastbp.summary(model, (7, 12)), fastbp.summary(model.double(), (7, 12))
        assert wide.activation_bytes == 2 * narrow.activation_bytes and wide.operations == narrow.operations
        assert wide.parameter_bytes == 2 * narrow.parameter_bytes

    def test_frozen_parameters_are_not_trainable(self):
        model = classifier()
        model[1].requires_grad_(False)
        result = fastbp.summary(model, (7, 12))
        assert (result.parameters, result.trainable) == (80, 15)
        assert [layer.trainable for layer in result.layers] == [15, 0, 0, 0, 0, 15]

    @pytest.mark.parametrize("backend", ["native", "reference"])
    def test_the_backend_in_use_is_counted(self, backend):
        expected = fastbp.summary(classifier(), (7, 12)).layers
        with fastbp.backend(backend), fastbp.check():
            assert fastbp.summary(classifier(), (7, 12)).layers == expected

    def test_results_are_what_a_kernel_writes_without_having_read_it(self):
        counter, x, y = Counter(native), fastbp.ones(3, 4).buffer, fastbp.zeros(3, 4).buffer
        counter.copy(x, y)
        assert (counter.operations, counter.bytes, counter.results) == (12, 96, 48)
        counter.accumulate(x, y)  # y += x
        assert (counter.operations, counter.bytes, counter.results) == (24, 240, 48)
        counter.concatenate([x, y], 0, together := fastbp.zeros(6, 4).buffer)
        assert (counter.bytes, counter.results) == (240 + 192, 48 + together.nbytes)

    def test_parameters_are_as_many_as_pytorchs(self):
        torch = pytest.importorskip("torch")
        theirs = torch.nn.Sequential(
            torch.nn.Linear(9, 8), torch.nn.GELU(), torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 2)
        )
        mine = nn.Sequential(nn.Linear(9, 8), nn.GELU(), nn.Linear(8, 8, bias=False), nn.Linear(8, 2))
        theirs[3].weight.requires_grad_(False)
        mine[3].weight.requires_grad_(False)
        result = fastbp.summary(mine, (1, 9))
        assert result.parameters == sum(p.numel() for p in theirs.parameters())
        assert result.trainable == sum(p.numel() for p in theirs.parameters() if p.requires_grad)
        assert result.parameter_bytes == sum(p.numel() * p.element_size() for p in theirs.parameters())
        for name, module in theirs.named_children():
            (layer,) = by_name(result, name)
            assert layer.parameters == sum(p.numel() for p in module.parameters())


class TestTree:
    def test_layers_come_in_the_order_of_their_calls(self):
        result = fastbp.summary(Shared(), (6, 4))
        names = [layer.name for layer in result.layers if layer.depth == 1]
        assert names == ["blocks.0", "blocks.1", "blocks.0", "head", "copy"]
        inside = [layer.name for layer in result.layers if layer.depth > 1][:5]
        assert inside == [
            "blocks.0.inner",
            "blocks.0.inner.0",
            "blocks.0.inner.1",
            "blocks.0.spare",
            "blocks.1.inner",
        ]
        assert result.layers[0].outputs == [(6, 3), (6, 3)]

    def test_shared_layers_and_weights_are_counted_once(self):
        model = Shared()
        result = fastbp.summary(model, (6, 4))
        first, again = by_name(result, "blocks.0")
        assert (first.parameters, first.shared, again.parameters, again.shared) == (30, 0, 0, 30)
        assert (
            first.operations
            == again.operations
            == 2 * 6 * 4 * 4 + by_name(result, "blocks.0.inner.1")[0].operations + 24
        )
        (copy,) = by_name(result, "copy")
        assert (copy.parameters, copy.shared) == (3, 12)
        assert result.parameters == sum(p.numel() for p in model.parameters()) == 30 + 30 + 15 + 3
        assert sum(layer.parameters for layer in result.layers if layer.depth == 1) == result.parameters

    def test_layers_with_parameters_that_nobody_calls_are_shown(self):
        result = fastbp.summary(Shared(), (6, 4))
        (spare,) = by_name(result, "blocks.1.spare")
        assert not spare.called and spare.parameters == 10 and spare.depth == 2 and spare.operations == 0
        assert len(by_name(result, "blocks.0.spare")) == 1  # though its block is called twice
        assert by_name(result, "blocks") == []

    def test_numbers_of_a_layer_include_those_inside(self):
        result = fastbp.summary(Shared(), (6, 4))
        block = by_name(result, "blocks.1")[0]
        inner = by_name(result, "blocks.1.inner")[0]
        addition = 6 * 4
        assert block.operations == inner.operations + addition
        assert block.activation_bytes == inner.activation_bytes + 4 * addition

    def test_keyword_arguments_and_structures_have_shapes(self):
        class Outer(nn.Module):
            def __init__(self):
                super().__init__()
                self.block = Block()

            def forward(self, pair):
                return self.block(pair["x"], scale=pair["more"][0])

        result = fastbp.summary(Outer(), {"x": fastbp.ones(2, 4), "more": [fastbp.ones(4), "text"]})
        assert by_name(result, "block")[0].inputs == [(2, 4), (4,)] and result.layers[0].inputs == [(2, 4), (4,)]

    def test_a_layer_that_raised_and_was_caught(self):
        class Failing(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.Linear(4, 3)

            def forward(self, x):
                self.inner(x)
                raise ArithmeticError

        class Trying(nn.Module):
            def __init__(self):
                super().__init__()
                self.wrong, self.right = Failing(), nn.Linear(4, 2)

            def forward(self, x):
                try:
                    return self.wrong(self.right(x) @ fastbp.ones(2, 4))
                except ArithmeticError:
                    return self.right(x)

        result = fastbp.summary(Trying(), (2, 4))
        assert [layer.name for layer in result.layers] == ["", "right", "wrong", "wrong.inner", "right"]
        assert [layer.outputs for layer in result.layers] == [[(2, 2)], [(2, 2)], [], [(2, 3)], [(2, 2)]]
        assert [layer.depth for layer in result.layers] == [0, 1, 1, 2, 1]
        right, inner, product = 2 * 2 * 4 * 2, 2 * 2 * 4 * 3, 2 * 2 * 2 * 4
        ones = 8  # elements, each filled by one operation
        total = 2 * right + inner + product + ones
        assert [layer.operations for layer in result.layers] == [total, right, inner, inner, right]

    def test_a_layer_that_is_replaced_while_it_runs(self):
        class Replacing(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(3, 3)

            def forward(self, x):
                y = self.layer(x)
                self.layer = nn.Linear(3, 3)
                return y

        model = Replacing()
        before = model.layer
        result = fastbp.summary(model, (2, 3))
        assert [layer.name for layer in result.layers] == ["", "layer"] and model.layer is before


class TestInputs:
    def test_shapes_tensors_arrays_and_names_are_the_same(self):
        expected = fastbp.summary(classifier(), (7, 12)).layers
        x = np.ones((7, 12), np.float32)
        for call in (
            lambda m: fastbp.summary(m, [7, 12]),
            lambda m: fastbp.summary(m, (np.int64(7), 12)),
            lambda m: fastbp.summary(m, input_shape=(7, 12)),
            lambda m: fastbp.summary(m, input_shape=[(7, 12)]),
            lambda m: fastbp.summary(m, fastbp.tensor(x)),
            lambda m: fastbp.summary(m, x),
        ):
            assert call(classifier()).layers == expected

    def test_several_inputs_with_types_of_their_own(self):
        seen = []

        class Rows(nn.Module):
            def __init__(self):
                super().__init__()
                self.table = nn.Parameter(fastbp.ones(5, 3))

            def forward(self, index, x, factor):
                seen.append((index.dtype, x.dtype, factor))
                return self.table[index] * x

        result = fastbp.summary(Rows(), (4,), (4, 3), 2.0, dtype=[fastbp.int64, None])
        assert seen == [(fastbp.int64, fastbp.float32, 2.0)] and result.layers[0].outputs == [(4, 3)]
        fastbp.summary(Rows(), fastbp.tensor([0, 4]), (2, 3), None, dtype="float32")
        assert seen[1] == (fastbp.int64, fastbp.float32, None)

    @pytest.mark.parametrize(
        ("inputs", "options", "error", "message"),
        [
            ((), {}, ValueError, "expected inputs or input_shape, got neither"),
            (((2, 12),), {"input_shape": (2, 12)}, ValueError, "expected inputs or input_shape, got both"),
            ((), {"input_shape": [(2, 12), 3]}, ValueError, "expected input_shape as a shape or a list of shapes"),
            (((2, 12),), {"dtype": ["float32"] * 2}, ValueError, "one dtype, or one for each of 1 shapes, got 2"),
            ((np.ones((2, 12)),), {"dtype": "int64"}, ValueError, "expected shapes that the dtype is for, got none"),
            (((2, 13),), {}, ValueError, "linear"),
            (((2, 12),), {"depth": -1}, ValueError, "expected depth as an integer of at least 0, or None, got -1"),
            (((2, -12),), {}, ValueError, "-12"),
        ],
    )
    def test_refused_with_one_sentence(self, inputs, options, error, message):
        with pytest.raises(error, match=message):
            fastbp.summary(classifier(), *inputs, **options)

    def test_what_is_no_module_is_refused(self):
        with pytest.raises(TypeError, match=r"\[summary\] expected a Module, got function"):
            fastbp.summary(lambda x: x, (2, 3))

    def test_a_compiled_function_cannot_ask_for_it(self):
        model = classifier()
        with pytest.raises(RuntimeError, match=r"\[summary\] expected to be called outside of a compiled function"):
            fastbp.compile(lambda x: fastbp.summary(model, x))(np.ones((2, 12), np.float32))


class Restless(nn.Module):
    """Changes all that a forward pass can: buffers in place and anew, attributes, random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.dropout = nn.Linear(3, 3), nn.Dropout(0.5)
        self.register_buffer("mean", fastbp.zeros(3))
        self.register_buffer("other", fastbp.ones(3))
        self.random = Generator(5)
        self.calls = 0
        self.modes: list[bool] = []

    def forward(self, x):
        self.calls += 1
        self.modes.append(self.dropout.training)
        self.mean.add_(1)
        self.other = self.other * 0.5
        return self.dropout(self.layer(x)) + fastbp.randn(3) + fastbp.rand(3, generator=self.random)


class TestNothingChanges:
    def assert_untouched(self, model, call):
        mean, other = model.mean, model.other
        state, attributes = all_state(model), [dict(vars(module)) for module in model.modules()]
        call()
        assert_same(state, all_state(model))
        assert [dict(vars(module)) for module in model.modules()] == attributes
        assert model.mean is mean and model.other is other and model.calls == 0
        assert model.random.get_state() == (5, 0)

    def test_modes_buffers_attributes_and_random_numbers(self):
        model = Restless()
        model.dropout.eval()
        model(fastbp.ones(2, 3)).sum().backward()
        model.calls, model.random = 0, Generator(5)
        self.assert_untouched(model, lambda: fastbp.summary(model, (2, 3)))
        assert (model.training, model.layer.training, model.dropout.training) == (True, True, False)
        assert model.modes[-1] is False

    def test_an_error_in_forward_passes_and_leaves_nothing(self):
        model = Restless()

        def call():
            with pytest.raises(ValueError, match="linear"):
                fastbp.summary(model, (2, 4))

        self.assert_untouched(model, call)
        assert fastbp.kernels.host_is_native()

    def test_a_graph_that_has_saved_a_buffer_can_go_backward(self):
        class Scaled(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("scale", fastbp.ones(3) * 2)

            def forward(self, x):
                return x * self.scale

        model, x = Scaled(), fastbp.ones(3).requires_grad_()
        y = model(x).sum()
        fastbp.summary(model, (3,))
        y.backward()
        assert x.grad.tolist() == [2.0, 2.0, 2.0]

    def test_hooks_of_others_stay(self):
        seen = []
        model = classifier()
        handle = model[1].register_forward_hook(lambda module, args, output: seen.append(output.shape))
        fastbp.summary(model, (2, 12))
        model(fastbp.ones(3, 12))
        handle.remove()
        model(fastbp.ones(4, 12))
        assert seen == [(2, 5), (3, 5)]

    def test_compiled_steps_need_no_new_recording(self):
        model = classifier()
        step = fastbp.compile(lambda x: model(x).sum())
        x = np.ones((2, 12), np.float32)
        step(x)
        fastbp.summary(model, (2, 12))
        step(x)
        assert count_variants(step) == 1

    def test_calls_of_other_threads_are_not_counted(self):
        class Slow(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(3, 3)

            def forward(self, x):
                other = threading.Thread(target=lambda: self.layer(fastbp.ones(50, 3)))
                other.start()
                other.join()
                return self.layer(x)

        result = fastbp.summary(Slow(), (2, 3))
        assert [layer.inputs for layer in result.layers] == [[(2, 3)], [(2, 3)]]
        assert result.operations == 2 * 2 * 3 * 3
