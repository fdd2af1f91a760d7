"""Pictures of functions with several outputs: each has its name, its gradient and its uses, in every rendering."""

from __future__ import annotations

import re

import pytest
from browser_page import needs_browser
from explained import needs_dot

import fastbp
from fastbp.examples import variable


class Multiples(fastbp.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2, x * 3

    @staticmethod
    def backward(ctx, first, second):
        return first * 2 + second * 3


@pytest.fixture
def picture():
    x = variable(1.5)
    with fastbp.explain() as picture:
        u, v = Multiples.apply(x)
        y = u * v
        y.backward()
    return picture


def test_each_is_found_by_its_name(picture):
    u, v = picture["u"], picture["v"]
    assert u.index == v.index and u.label == v.label == "u, v"
    assert (u.value.tolist(), v.value.tolist()) == (3, 4.5)
    assert (u.upstream.tolist(), v.upstream.tolist()) == (4.5, 3)
    assert [value.tolist() for value in u.parts(u.visits[0])] == [4.5]
    assert [value.tolist() for value in v.parts(v.visits[0])] == [3]
    assert [edge.name for edge in picture["y"].inputs] == ["u", "v"]


def test_each_is_named_in_the_text(picture):
    lines = [re.sub(" {2,}", "  ", line) for line in str(picture).splitlines()]
    assert "  u, v = Multiples(x)  3, 4.5" in lines
    assert "  u, v = Multiples(x)  du, dv = 4.5, 3" in lines
    assert "  to u  1 × 4.5 = 4.5  ∂y/∂u = v" in lines
    assert "  to v  1 × 3 = 3  ∂y/∂v = u" in lines


@needs_dot
def test_each_is_named_in_the_svg(picture):
    from xml.etree import ElementTree

    shown = [text.text for text in ElementTree.fromstring(picture.svg()).iter("{http://www.w3.org/2000/svg}text")]
    assert {"u, v", "u", "v", "du = 4.5", "dv = 3"} <= {text.strip() for text in shown}


@needs_browser
def test_each_is_named_in_the_page(picture, open_page, keys):
    page = open_page(picture)
    page.press(keys.ARROW_RIGHT)
    assert page.find("#panel [data-field=name]").text == "u, v = Multiples(x)"
    assert "u = 3" in page.find("#panel").text and "v = 4.5" in page.find("#panel").text
    page.press(keys.END, keys.ARROW_LEFT)
    assert [part.get_attribute("data-to") for part in page.all("#panel .sent")] == ["u", "v"]
    assert [rule.text for rule in page.all("#panel [data-field=rule]")] == ["∂y/∂u = v", "∂y/∂v = u"]
    assert page.card("u").text.split("\n") == ["u, v = Multiples(x)", "3", "4.5", "du = 4.5", "dv = 3"]


def test_outputs_without_a_variable_have_names_of_their_own():
    x = variable(1.5)
    with fastbp.explain() as picture:
        _, v = Multiples.apply(x)
        v.backward()
    assert picture["v"].label == "v1, v" and picture["v1"].upstream is None
    assert picture["v"].upstream.tolist() == 1


def test_outputs_that_are_no_tensors_have_none():
    class Counted(fastbp.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, 7

        @staticmethod
        def backward(ctx, dy, _):
            return dy * 2

    x = variable(1.5)
    with fastbp.explain() as picture:
        y, _count = Counted.apply(x)
        y.backward()
    assert picture["y"].label == "y, _" and picture["y"].values[1] is None
    assert "  y, _ = Counted(x)" in str(picture)


def test_a_reshaped_output_does_not_hide_the_others():
    x = variable([1.0, 2.0])
    with fastbp.explain() as picture:
        (lambda pair: pair[0].reshape(1, 2) @ pair[1])(Multiples.apply(x)).sum().backward()
    assert [len(node.values) for node in picture if node.operation == "Multiples"] == [2]
