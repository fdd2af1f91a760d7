"""What hooks change in a backward pass is noted beside the gradients, so that the numbers add up."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from browser_page import needs_browser
from explained import needs_dot

import fastbp
from fastbp.examples import variable


def explained(hook, on="u"):
    x = variable(1.0)
    if on == "x":
        x.register_hook(hook)
    with fastbp.explain() as picture:
        u = x * 2.0
        if on == "u":
            u.register_hook(hook)
        y = u * 3.0 + x * 5.0
        y.backward()
    return picture


@pytest.fixture
def times_ten():
    return explained(lambda gradient: gradient * 10.0)


class TestHooks:
    def test_are_noted_with_what_had_arrived(self, times_ten):
        u, (visit,) = times_ten["u"], times_ten["u"].visits
        assert u.upstream.tolist() == 30 and visit.unhooked[0].tolist() == 3
        assert u.hook(visit) == "hook: 3 → 30"
        assert [value.tolist() for value in u.parts(visit)] == [3]
        assert u.downstream[0].tolist() == 60 and times_ten["x"].upstream.tolist() == 65
        assert times_ten["y"].hook(times_ten["y"].visits[0]) == ""

    def test_are_in_the_text(self, times_ten):
        line = next(line for line in str(times_ten).splitlines() if "du = 30" in line)
        assert line.split("   ")[-1].strip() == "hook: 3 → 30"
        assert str(times_ten).count("hook") == 1

    def test_of_leaves_are_in_the_text(self):
        text = str(explained(lambda gradient: gradient.clamp(-1, 1), on="x"))
        (line,) = [line for line in text.splitlines() if line.startswith("  dx")]
        assert line.split() == ["dx", "1", "used", "2", "times,", "hook:", "11", "→", "1"]

    @needs_dot
    def test_are_in_the_svg(self, times_ten):
        shown = [text.text.strip() for text in ElementTree.fromstring(times_ten.svg()).iter() if text.text]
        assert shown.count("hook: 3 → 30") == 1 and "du = 30" in shown

    @needs_browser
    def test_are_in_the_page(self, times_ten, open_page, keys):
        page = open_page(times_ten)
        page.press(keys.END)
        assert page.state()["node"] == "u"
        assert [line.text for line in page.all("#panel [data-field=hook]")] == ["hook: 3 → 30"]
        assert page.panel("upstream") == ["30"]
        assert page.card("u").text.split("\n") == ["u = x × 2", "2", "du = 30", "hook: 3 → 30"]
        assert "dx = 5 + 60 = 65" in page.card("x").text or "dx = 60 + 5 = 65" in page.card("x").text

    def test_that_change_a_gradient_in_place_are_noted(self):
        def triple(gradient):
            gradient *= 3.0

        u = (picture := explained(triple))["u"]
        assert u.hook(u.visits[0]) == "hook: 3 → 9" and picture["x"].upstream.tolist() == 23

    def test_that_change_nothing_are_not_noted(self):
        assert "hook" not in str(explained(lambda gradient: None))
        assert "hook" not in str(explained(lambda gradient: gradient.clamp(-100, 100)))

    def test_of_large_gradients_are_noted_in_short(self):
        x = variable([1.0] * 20)
        x.register_hook(lambda gradient: gradient * 2.0)
        with fastbp.explain() as picture:
            (x * 3.0).sum().backward()
        assert "hook: (20,) all 3 → (20,) all 6" in str(picture)

    def test_of_results_from_before_the_block_are_noted(self):
        x = variable(2.0)
        h = x * 3.0
        h.register_hook(lambda gradient: gradient * 10.0)
        with fastbp.explain() as picture:
            y = h * 4.0
            y.backward()
        assert picture["h"].hook(picture["h"].visits[0]) == "hook: 4 → 40"

    def test_of_one_of_several_outputs_are_noted_with_its_name(self):
        class Pair(fastbp.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2, x * 3

            @staticmethod
            def backward(ctx, first, second):
                return first * 2 + second * 3

        x = variable(1.0)
        with fastbp.explain() as picture:
            u, v = Pair.apply(x)
            v.register_hook(lambda gradient: -gradient)
            (u * v).backward()
        assert picture["u"].hook(picture["u"].visits[0]) == ""
        assert picture["v"].hook(picture["v"].visits[0]) == "hook: 2 → -2"
        assert "dv by hook: 2 → -2" in str(picture)

    def test_on_a_view_keep_it_a_node(self):
        x, w = variable([[1.0, 2.0]]), variable([[3.0, 4.0]])

        def turned():
            view = w.T
            view.register_hook(lambda gradient: gradient * 10.0)
            return view

        with fastbp.explain() as picture:
            y = x @ turned()
            y.backward()
        (view,) = [node for node in picture if node.operation == "Permute"]
        assert view.hook(view.visits[0]) == "hook: [[1], [2]] → [[10], [20]]"


def test_a_gradient_that_comes_from_elsewhere_is_not_written_as_a_sum():
    x = variable(3.0)
    with fastbp.explain() as picture:
        y = x * 2.0
        z = y * y
        fastbp.autograd.backward([(z._node, 0), (y._node, 0)], [fastbp.ones_like(z), fastbp.ones_like(y)])
    node = picture["y"]
    assert node.upstream.tolist() == 13 and node.parts(node.visits[0]) == [] and node.hook(node.visits[0]) == ""
    assert "dy = 13" in picture.dot() and "6 + 6" not in picture.dot()
