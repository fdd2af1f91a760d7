"""Gradients in pictures: local derivatives, what passes through views, several backward passes."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp import nn
from fastbp.examples import constant, variable
from fastbp.graph.local import RULES
from fastbp.kernels import reference
from fastbp.ops.unary import UNARY


@pytest.fixture(autouse=True, params=["native", "reference"])
def backend(request):
    with fastbp.backend(request.param):
        yield request.param


def names_of(picture, kind="operation"):
    return [node.name for node in picture.nodes if node.kind == kind]


class TestLocalDerivatives:
    @pytest.mark.parametrize("name", UNARY)
    def test_of_operations_element_by_element_are_their_slopes(self, name):
        parameters = getattr(reference, f"{name}_forward").parameters
        constants = [{"min": 0.5, "max": 1.0}.get(each, 1.5) for each in parameters if each not in ("x", "y")]
        values, h = np.array([0.3, 0.7, 1.4]), 1e-6
        operation = UNARY[name]
        x = variable(values)
        with fastbp.explain() as picture:
            y = operation(x, *constants)
            y.backward(constant([2.0, -3.0, 0.5]))
        node = picture["y"]
        above, below = (operation(constant(values + step), *constants).numpy() for step in (h, -h))
        np.testing.assert_allclose(node.local[0].tolist(), (above - below) / (2 * h), rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(node.downstream[0].array, node.upstream.array * node.local[0].array, rtol=1e-14)
        assert node.inputs[0].local and "{" not in node.expression

    @pytest.mark.parametrize(
        ("operation", "slopes", "symbols"),
        [
            (fastbp.add, (1, 1), ("1", "1")),
            (fastbp.sub, (1, -1), ("1", "-1")),
            (fastbp.mul, (2, 3), ("b", "a")),
            (fastbp.div, (0.5, -0.75), ("1/b", "-y/b")),
            (fastbp.pow, (6, 9 * np.log(3)), ("b·a^(b - 1)", "y·ln a")),
            (fastbp.maximum, (1, 0), ("1 where a > b, ½ where equal", "1 where b > a, ½ where equal")),
            (fastbp.minimum, (0, 1), ("1 where a < b, ½ where equal", "1 where b < a, ½ where equal")),
        ],
        ids=lambda value: getattr(value, "__name__", ""),
    )
    def test_of_two_inputs_have_numbers_and_symbols(self, operation, slopes, symbols):
        a, b = variable(3.0), variable(2.0)
        with fastbp.explain() as picture:
            y = operation(a, b)
            y.backward(constant(4.0))
        node = picture["y"]
        np.testing.assert_allclose([value.tolist() for value in node.local], slopes, rtol=1e-12)
        np.testing.assert_allclose([value.tolist() for value in node.downstream], np.multiply(slopes, 4), rtol=1e-12)
        assert tuple(edge.local for edge in node.inputs) == symbols

    def test_of_products_are_rules_with_their_names(self):
        x, w = variable(np.ones((4, 3))), variable(np.ones((3, 2)))
        with fastbp.explain() as picture:
            y = x @ w
            y.sum().backward()
        assert [edge.gradient for edge in picture["y"].inputs] == ["dy·wᵀ", "xᵀ·dy"]
        assert picture["y"].local == (None, None)

    def test_of_a_layer_are_those_of_its_parts(self):
        layer, x = nn.Linear(3, 2), variable(np.ones((4, 3))).detach().float().requires_grad_()
        with fastbp.explain() as picture:
            y = layer(x)
            y.sum().backward()
        product, bias = picture["v1"], picture["y"]
        assert product.expression == "x @ weightᵀ" and bias.expression == "v1 + bias"
        assert [edge.gradient for edge in product.inputs] == ["dv1·weight", "dv1ᵀ·x"]
        assert product.inputs[1].views == ("ᵀ",)
        assert product.downstream[1].shape == layer.weight.shape
        assert [edge.gradient for edge in bias.inputs] == ["dy", "Σ dy"]
        assert bias.local[0].shape == (4, 2) and bias.local[1] is None

    def test_of_vectors_are_in_their_shapes(self):
        w, x = variable([1.0, 2.0, 3.0]), variable([4.0, 5.0, 6.0])
        with fastbp.explain() as picture:
            y = w @ x
            y.backward(constant(2.0))
        node = picture["y"]
        assert node.expression == "w @ x" and node.value.shape == ()
        assert [value.tolist() for value in node.local] == [[4, 5, 6], [1, 2, 3]]
        assert [value.tolist() for value in node.downstream] == [[8, 10, 12], [2, 4, 6]]

    def test_of_the_code_of_users_are_what_was_sent_by_what_arrived(self):
        calls = []

        class Cube(fastbp.Function):
            @staticmethod
            def forward(ctx, x, power):
                ctx.save_for_backward(x)
                return (x**power).sum()

            @staticmethod
            def backward(ctx, dy):
                calls.append(dy.item())
                return dy * 3 * ctx.saved_tensors[0] ** 2, None

        x = variable([1.0, 2.0])
        with fastbp.explain() as picture:
            y = Cube.apply(x, 3.0)
            (y * 5.0).backward()
        node = picture["y"]
        assert (node.operation, node.expression) == ("Cube", "Cube(x, 3)")
        assert node.upstream.tolist() == 5 and node.local[0].tolist() == [3, 12]
        assert node.downstream[0].tolist() == [15, 60]
        assert calls == [5]

    def test_of_the_code_of_users_with_several_outputs_are_unknown(self):
        class Both(fastbp.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2, x * 3

            @staticmethod
            def backward(ctx, first, second):
                return first * 2 + second * 3

        x = variable([1.0, 2.0])
        with fastbp.explain() as picture:
            double, triple = Both.apply(x)
            (double * triple).sum().backward()
        node = picture["double"]
        assert node.output_names == ("double", "triple") and node.label == "double, triple"
        assert [value.tolist() for value in node.values] == [[2, 4], [3, 6]]
        assert [value.tolist() for value in node.visits[0].upstream] == [[3, 6], [2, 4]]
        assert node.local == (None,) and node.downstream[0].tolist() == [12, 24]
        assert picture["v1"].expression == "double × triple"

    def test_a_vector_through_the_code_of_users_has_no_numbers(self):
        class Twice(fastbp.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, dy):
                return dy * 2

        x = variable([1.0, 2.0])
        with fastbp.explain() as picture:
            Twice.apply(x).sum().backward()
        assert picture["v1"].local == (None,) and picture["v1"].downstream[0].tolist() == [2, 2]

    def test_rules_are_of_functions_that_exist(self):
        found, rest = set(), [fastbp.Function]
        while rest:
            rest += (subclasses := rest.pop().__subclasses__())
            found |= {cls.__name__ for cls in subclasses if cls.__module__.startswith("fastbp.")}
        assert set(RULES) <= found

    def test_reductions_views_and_softmax_have_rules(self):
        x = variable(np.arange(24.0).reshape(4, 6))
        with fastbp.explain() as picture:
            parts = [
                x.sum(1), x.mean(0), x.var(0), x.amax(1), x.amin(), x.logsumexp(1), x.softmax(1), x.log_softmax(1),
                x.expand(2, 4, 6), x[1:3, 2], x[fastbp.tensor([0, 2])], fastbp.cat([x, x]), x.reshape(24), x.T,
            ]  # fmt: skip
            sum(part.sum() for part in parts).backward()
        shown = {node.expression: node for node in picture.with_views() if node.operation}
        for expression in (
            "sum(x, dim=1)", "mean(x, dim=0)", "var(x, dim=0)", "amax(x, dim=1)", "amin(x)", "logsumexp(x, dim=1)",
            "softmax(x)", "log_softmax(x)", "expand(x)", "x[1:3, 2]", "cat(x, x)", "reshape(x)", "permute(x)",
        ):  # fmt: skip
            node = shown[expression]
            assert all(edge.gradient and "{" not in edge.gradient for edge in node.inputs), expression
            assert node.words


class TestNotation:
    def test_of_where_has_the_condition(self):
        x, y = variable([1.0, -2.0]), variable([3.0, 4.0])
        with fastbp.explain() as picture:
            positive = x > 0
            z = fastbp.where(positive, x, y)
            z.sum().backward()
        node = picture["z"]
        assert node.expression == "where(positive, x, y)"
        assert picture["positive"].value.tolist() == [True, False] and picture["positive"].upstream is None
        assert [edge.local for edge in node.inputs] == ["", "1 where positive, else 0", "0 where positive, else 1"]
        assert node.local[0] is None and node.downstream[0] is None
        assert [value.tolist() for value in node.local[1:]] == [[1, 0], [0, 1]]
        assert ["positive", "[True,", "False]", "input"] in [line.split() for line in str(picture).splitlines()]

    @pytest.mark.parametrize("word", ["max", "min"])
    @pytest.mark.parametrize("keepdim", [False, True])
    def test_of_extremes_along_a_dimension_has_both(self, word, keepdim):
        x = variable([[1.0, 5.0], [4.0, 2.0]])
        with fastbp.explain() as picture:
            y = getattr(x, word)(1, keepdim=keepdim).values
            y.sum().backward()
        assert picture["y"].expression == f"{word}(x, dim=1)"
        assert picture["y"].value.tolist() == y.tolist()
        assert picture["x"].upstream.tolist() == ([[0, 1], [1, 0]] if word == "max" else [[1, 0], [0, 1]])

    def test_of_values_has_brackets_for_each_dimension(self):
        xs = variable(0.508), variable([0.508]), variable([[0.508]])
        with fastbp.explain() as picture:
            sum((x * 1.0).sum() for x in xs).backward()
        shown = [str(node.value) for node in picture if node.kind == "input"]
        assert shown == ["0.508", "[0.508]", "[[0.508]]"]


class TestViews:
    def test_are_part_of_edges(self):
        x, w = variable(np.ones((2, 3))), variable(np.ones((2, 3)))
        with fastbp.explain() as picture:
            y = x.reshape(3, 2) @ w.T.reshape(2, 3)
            y.sum().backward()
        assert [node.name for node in picture] == ["x", "w", "y", "v1"]
        first, second = picture["y"].inputs
        assert first.views == ("as (3, 2)",) and second.views == ("ᵀ", "as (2, 3)")
        np.testing.assert_array_equal(picture["x"].upstream.array, x.grad.numpy())
        np.testing.assert_array_equal(first.sent(picture["y"].visits[0]).array, x.grad.numpy())
        assert second.sent(picture["y"].visits[0]).shape == w.shape

    def test_can_be_shown_without_a_change_of_numbers(self):
        w, x = variable([[0.1, 0.5], [-0.3, 0.8]]), variable([0.2, 0.4])
        with fastbp.explain() as picture:
            q = w @ x
            (q * q).sum().backward()
        full = picture.with_views()
        assert len(full) == len(picture) + 2
        for name in ("w", "x", "q"):
            assert str(full[name].value) == str(picture[name].value)
            assert str(full[name].upstream) == str(picture[name].upstream)
        assert [node.operation for node in full if node.operation] == ["Reshape", "MatMul", "Reshape", "Mul", "Sum"]

    def test_with_names_or_several_uses_are_nodes(self):
        x = variable(np.ones((2, 3)))
        with fastbp.explain() as picture:
            turned = x.T
            (turned.reshape(6) * x.reshape(6)).sum().backward()
        assert "turned" in names_of(picture)
        with fastbp.explain() as picture:
            (lambda t: (x @ t) @ (x @ t))(x.reshape(3, 2)).sum().backward()
        assert [node.operation for node in picture if node.operation] == [
            "Reshape",
            "MatMul",
            "MatMul",
            "MatMul",
            "Sum",
        ]

    def test_stay_where_shapes_matter_element_by_element(self):
        x = variable(np.arange(6.0).reshape(2, 3))
        with fastbp.explain() as picture:
            y = x.T * constant(np.ones((3, 2)))
            y.sum().backward()
        node = picture["y"]
        assert node.inputs[0].views == () and node.upstream.shape == node.local[0].shape == (3, 2)

    def test_casts_are_part_of_edges(self):
        x = fastbp.tensor([1.0, 2.0], requires_grad=True)
        with fastbp.explain() as picture:
            y = x.double() * constant([3.0, 4.0])
            y.sum().backward()
        assert picture["y"].inputs[0].views == ("as float64",)
        assert picture["x"].upstream.tolist() == [3, 4] and picture["x"].upstream.dtype == "float32"


class TestPasses:
    def test_are_all_kept_with_their_number(self):
        x = variable(3.0)
        with fastbp.explain() as picture:
            y = x * x
            y.backward(retain_graph=True)
            y.backward(constant(10.0))
        assert picture.passes == 2
        assert [visit.number for visit in picture["y"].visits] == [1, 2]
        assert [visit.upstream[0].tolist() for visit in picture["x"].visits] == [6, 60]
        assert picture["x"].upstream.tolist() == 60 and x.grad.item() == 66
        text = str(picture)
        assert "Backward pass 1: downstream" in text and "Gradients of pass 2\n  dx  " in text
        assert "30 + 30 = 60" in text

    def test_that_take_different_ways_leave_the_rest_alone(self):
        x = variable(3.0)
        with fastbp.explain() as picture:
            a, b = x * 2.0, x * 5.0
            a.backward()
            b.backward()
        assert [[visit.number for visit in picture[name].visits] for name in "abx"] == [[1], [2], [1, 2]]

    def test_to_chosen_tensors_are_noted_too(self):
        x = variable(3.0)
        with fastbp.explain() as picture:
            y = x * x
            (dx,) = fastbp.autograd.grad(y, x)
        assert dx.item() == 6 and x.grad is None
        assert picture["x"].upstream.tolist() == 6

    def test_that_are_recorded_show_their_own_operations(self):
        x = variable(3.0)
        with fastbp.explain() as picture:
            y = x**3
            (slope,) = fastbp.autograd.grad(y, x, create_graph=True)
            slope.backward()
        assert x.grad.item() == 18
        assert picture["slope"].value.tolist() == 27 and picture["slope"].module == "backward"
        assert picture["x"].visits[-1].upstream[0].tolist() == 18


def test_gradients_are_those_without_a_picture():
    fastbp.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3)).double()
    x, t = fastbp.randn(6, 5, dtype=fastbp.float64), fastbp.tensor([0, 1, 2, 0, 1, 2])

    def gradients():
        model.zero_grad()
        nn.functional.cross_entropy(model(x), t).backward()
        return [p.grad.numpy().copy() for p in model.parameters()]

    plain = gradients()
    with fastbp.explain() as picture:
        explained = gradients()
    for one, other in zip(plain, explained):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(picture["0.bias"].upstream.tolist(), plain[1], rtol=1e-12)


def test_operations_of_one_kernel_have_the_same_bits_in_a_picture():
    fastbp.manual_seed(0)
    a, b = fastbp.randn(6, 5, requires_grad=True), fastbp.randn(5, 4, requires_grad=True)

    def gradients():
        a.grad = b.grad = None
        (a.tanh() @ b.sigmoid()).softmax(1).log().mean().backward()
        return a.grad.numpy().tobytes(), b.grad.numpy().tobytes()

    plain = gradients()
    with fastbp.explain():
        assert gradients() == plain
