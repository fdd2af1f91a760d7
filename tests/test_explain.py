"""What a picture of a computation holds: its nodes, their names and their values."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import fastbp
from fastbp import nn, optim
from fastbp.examples import constant, variable


@pytest.fixture(autouse=True, params=["native", "reference"])
def backend(request):
    with fastbp.backend(request.param):
        yield request.param


SLOPE, OFFSET, UNNAMED = variable(2.0), variable(1.0), variable(5.0)


def names_of(picture, kind="operation"):
    return [node.name for node in picture.nodes if node.kind == kind]


class TestNodes:
    def test_come_in_forward_order_each_after_what_it_takes(self):
        a, b = variable(2.0), variable(3.0)
        with fastbp.explain() as picture:
            y = a * b
            z = y + a
            z.backward()
        assert [node.name for node in picture] == ["a", "b", "y", "z"]
        for edge in picture.edges:
            assert edge.source.index < edge.target.index
            assert edge in edge.source.uses and edge in edge.target.inputs

    def test_a_tensor_used_twice_is_one_node_whose_gradients_add(self):
        b = variable(3.0)
        with fastbp.explain() as picture:
            y = b * 2.0 + b * 5.0
            y.backward()
        node = picture["b"]
        assert len(node.uses) == 2
        assert sorted(value.tolist() for _, value in node.arrivals(node.visits[0])) == [2, 5]
        assert node.upstream.tolist() == 7

    def test_a_result_used_twice_is_one_node_whose_gradients_add(self):
        x = variable(3.0)
        with fastbp.explain() as picture:
            q = x * 2.0
            f = q * q
            f.backward()
        assert [value.tolist() for _, value in picture["q"].arrivals(picture["q"].visits[0])] == [6, 6]
        assert picture["q"].upstream.tolist() == 12

    def test_numbers_are_constants_named_by_their_value(self):
        x = variable(3.0)
        with fastbp.explain() as picture:
            (x * 3 + 1).backward()
        assert names_of(picture, "constant") == ["3", "1"]
        assert all(node.upstream is None for node in picture if node.kind == "constant")

    def test_tensors_that_need_no_gradient_show_their_values_alone(self):
        x, w = constant([1.0, 2.0]), variable([3.0, 4.0])
        with fastbp.explain() as picture:
            (x * w).sum().backward()
        assert picture["x"].kind == "input" and picture["x"].value.tolist() == [1, 2]
        assert picture["x"].upstream is None
        assert picture["v1"].downstream[0] is None and picture["v1"].downstream[1].tolist() == [1, 2]

    def test_a_result_from_before_the_block_is_an_input_with_its_gradient(self):
        a = variable(2.0)
        h = a * 10.0
        with fastbp.explain() as picture:
            y = h * h
            y.backward()
        assert picture["h"].kind == "input"
        assert picture["h"].value.tolist() == 20 and picture["h"].upstream.tolist() == 40
        assert a.grad.item() == 400

    def test_values_are_of_the_moment_when_they_were_computed(self):
        w = variable([1.0, 2.0])
        with fastbp.explain() as picture:
            loss = (w * w).sum()
            loss.backward()
            with fastbp.no_grad():
                w -= 0.5 * w.grad
        with fastbp.no_grad():
            w.fill_(100.0)
        assert picture["w"].value.tolist() == [1, 2]
        assert picture["w"].upstream.tolist() == [2, 4]

    def test_a_parameter_after_an_optimizer_step_is_another_node(self):
        w = variable([1.0, 2.0])
        optimizer = optim.SGD([w], lr=0.5)
        with fastbp.explain() as picture:
            for _ in range(2):
                optimizer.zero_grad()
                (w * w).sum().backward()
                optimizer.step()
        assert picture["w"].value.tolist() == [1, 2] and picture["w"].upstream.tolist() == [2, 4]
        assert picture["w (2)"].value.tolist() == [0, 0] and picture["w (2)"].upstream.tolist() == [0, 0]

    def test_hold_what_the_forward_pass_gave_when_there_was_no_backward_pass(self):
        x = variable(2.0)
        with fastbp.explain() as picture:
            y = x.exp()
        assert picture.passes == 0
        assert picture["y"].value.tolist() == y.item() and picture["y"].upstream is None
        assert "No backward pass ran, so there are no gradients." in str(picture)
        assert "Backward" not in str(picture)

    def test_keep_no_tensor_alive(self):
        x = variable([1.0, 2.0])
        with fastbp.explain() as picture:
            hidden = x * 2.0
            hidden.sum().backward()
        reference, node = weakref.ref(hidden), weakref.ref(hidden.grad_fn)
        del hidden
        gc.collect()
        assert reference() is None and node() is None
        assert picture["hidden"].value.tolist() == [2, 4]

    def test_leave_alone_what_others_know_of_the_variables(self):
        x = variable(2.0)
        before = locals()
        with fastbp.explain() as picture:
            (x * 2.0).backward()
        assert before["x"] is x and picture["x"].upstream.tolist() == 2

    def test_do_not_mark_memory_as_written_to_from_outside(self):
        layer, x = nn.Linear(3, 2), fastbp.randn(4, 3)
        before = [t.buffer.shared for t in (layer.weight, layer.bias, x)]
        with fastbp.explain():
            layer(x).sum().backward()
        assert [t.buffer.shared for t in (layer.weight, layer.bias, x)] == before


class TestNames:
    def test_are_those_of_variables_in_the_block(self):
        first, second = variable(1.0), variable(2.0)
        with fastbp.explain() as picture:
            total = first + second
            total.backward()
        assert [node.name for node in picture] == ["first", "second", "total"]

    def test_are_those_of_global_variables_that_the_code_uses(self):
        with fastbp.explain() as picture:
            (SLOPE * 2.0 + (lambda: OFFSET * 1.0)()).backward()
        assert names_of(picture, "input") == ["SLOPE", "OFFSET"]
        assert names_of(fastbp.explain(lambda x: x * SLOPE, variable(3.0)), "input") == ["x", "SLOPE"]
        slope = SLOPE
        with fastbp.explain() as picture:
            (slope * 2.0).backward()
            SLOPE.sum()
        assert names_of(picture, "input") == ["slope"]

    def test_are_not_those_of_global_variables_that_the_code_does_not_use(self):
        with fastbp.explain() as picture:
            (globals()["UNNAMED"] * 2.0).backward()
        assert names_of(picture, "input") == ["x1"]

    def test_are_numbered_where_there_is_no_variable(self):
        with fastbp.explain() as picture:
            (variable(1.0) * constant([2.0, 3.0])).exp().sum().backward()
        assert [node.name for node in picture] == ["x1", "c1", "v1", "v2", "v3"]

    def test_are_those_of_arguments_and_of_variables_of_a_function(self):
        def f(x, *rest, scale):
            y = x * rest[0]
            return (y * scale["a"]).sum()

        inputs = [variable([1.0, 2.0]), variable([3.0, 4.0])]
        picture = fastbp.explain(f, *inputs, scale={"a": variable(2.0)})
        assert [node.name for node in picture] == ["x", "rest[0]", "y", "scale['a']", "v1", "output"]
        assert picture.title == "f"

    def test_prefer_the_argument_to_the_variable(self):
        def f(x):
            x = x * 2.0
            x = x + 1.0
            return x

        picture = fastbp.explain(f, variable(1.0))
        assert [node.name for node in picture if node.kind == "input"] == ["x"]
        assert names_of(picture) == ["v1", "x (2)"]

    def test_can_be_given_in_the_block_and_after_it(self):
        with fastbp.explain() as picture:
            hidden = variable(1.0) * 2.0
            picture.name(h=hidden)
            (hidden * 3.0).backward()
        assert names_of(picture) == ["h", "v1"]
        assert picture.name(hidden_unit=hidden) is picture
        assert names_of(picture) == ["hidden_unit", "v1"]

    def test_are_refused_for_other_things(self):
        x = variable(1.0)
        with fastbp.explain() as picture:
            (x * 2.0).backward()
        with pytest.raises(TypeError, match=r"^\[name\] expected x as a tensor, got float$"):
            picture.name(x=1.0)
        with pytest.raises(ValueError, match=r"^\[name\] expected tensors of the picture, got y, which took no part"):
            picture.name(y=variable(1.0))
        with pytest.raises(KeyError, match="expected the name of a node, got 'q'"):
            picture["q"]

    def test_of_frames_do_not_keep_their_variables_alive(self):
        references = []

        def f(x):
            other = nn.Linear(2, 2)
            references.append(weakref.ref(other))
            return (x * 2.0).sum()

        gc.disable()
        try:
            picture = fastbp.explain(f, variable([1.0, 2.0]))
            assert references[0]() is None
        finally:
            gc.enable()
        assert len(picture) == 4


class TestLargeTensors:
    def test_are_summed_up(self):
        values = np.linspace(-1, 3, 100).reshape(4, 25)
        x = variable(values)
        with fastbp.explain() as picture:
            y = x * 2.0
            y.sum().backward()
        value = picture["y"].value
        assert value.shape == (4, 25) and value.array is None and value.tolist() is None
        summary = value.summary
        np.testing.assert_allclose(summary.norm, np.linalg.norm(2 * values))
        assert (summary.min, summary.max) == (-2, 6)
        np.testing.assert_allclose(summary.mean, 2 * values.mean())
        assert summary.counts == tuple(np.histogram(2 * values, 16)[0])
        assert str(value).startswith("(4, 25) norm 30.7263, from -2 to 6, mean 2 ")
        assert str(picture["x"].upstream) == "(4, 25) all 2"

    @pytest.mark.parametrize("elements", [1, 4, 16, 100])
    def test_are_those_with_more_elements_than_asked_for(self, elements):
        xs = [variable(np.ones(n)) for n in (1, 4, 5, 16, 17, 100)]
        with fastbp.explain(elements=elements) as picture:
            for x in xs:
                (x * 2.0).sum().backward()
        kept = {node.value.size for node in picture if node.kind == "input" and node.value.array is not None}
        assert kept == {n for n in (1, 4, 5, 16, 17, 100) if n <= elements}

    def test_name_what_is_not_finite(self):
        values = np.ones(20)
        values[3], values[5:7], values[8] = np.nan, np.inf, -np.inf
        x = variable(values)
        with fastbp.explain() as picture:
            y = x * 1.0
            z = y[:4].sum()
        assert picture["y"].value.summary.nan == 1 and picture["y"].value.summary.inf == 3
        assert not picture["y"].value.finite and not picture["z"].value.finite
        assert "1 nan, 3 inf" in str(picture) and "norm 4, from 1 to 1" in str(picture)
        assert "z = sum(v1)" in str(picture) and str(picture["z"].value) == "nan" and z.item() != z.item()

    def test_of_nothing_but_nan(self):
        x = variable(np.full(20, np.nan))
        with fastbp.explain() as picture:
            (x + 0.0).sum()
        assert str(picture["x"].value) == "(20,) 20 nan"

    def test_whose_sizes_differ_much_neither_overflow_nor_warn(self):
        x = variable(np.array([1e308, -1e308] * 10))
        with fastbp.explain() as picture:
            (x * 1.0).sum()
        summary = picture["x"].value.summary
        assert (summary.min, summary.max, summary.counts[0], summary.counts[-1]) == (-1e308, 1e308, 10, 10)
        tiny = variable(np.array([5e-324] * 20))
        with fastbp.explain() as picture:
            (tiny * 1.0).sum()
        assert str(picture["tiny"].value) == "(20,) all 4.94066e-324"

    def test_that_repeat_their_elements_count_each_as_often(self):
        x = variable([[1.0], [3.0]])
        with fastbp.explain() as picture:
            y = x.expand(2, 50)
            y.sum()
        assert picture["y"].value.summary.counts[0] == picture["y"].value.summary.counts[-1] == 50
        np.testing.assert_allclose(picture["y"].value.summary.norm, np.sqrt(50 + 450))

    def test_of_no_element(self):
        x = variable(np.zeros((0, 3)))
        with fastbp.explain() as picture:
            (x * 2.0).sum().backward()
        assert str(picture["x"].value) == "empty (0, 3)" and picture["x"].upstream.shape == (0, 3)
