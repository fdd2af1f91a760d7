"""The pictures of the worked examples: every value, upstream, local and downstream gradient, in every rendering."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from explained import NAMES, gradients_sent, needs_dot, numbers, picture_of, shown

import fastbp
from fastbp.examples import PICTURES, system
from fastbp.graph.local import d


@pytest.fixture(autouse=True, params=["native", "reference"])
def backend(request):
    with fastbp.backend(request.param):
        yield request.param


def close(value, expected):
    assert value.shape == np.shape(expected)
    np.testing.assert_allclose(value.tolist(), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_the_data_has_every_number(name):
    picture, expected = picture_of(name), numbers(name)
    named = {node.name: node for node in picture.nodes if node.name in expected}
    # All nodes are known, but for the numbers in the code, whose name is their value.
    assert {node.name for node in picture.nodes} - set(expected) <= {"1", "0.5"}
    assert set(named) == set(expected)
    for key, node in named.items():
        close(node.value, expected[key].value)
        if expected[key].upstream is None:
            assert node.upstream is None and not node.visits
            continue
        close(node.upstream, expected[key].upstream)
        sent = gradients_sent(node) if node.operation else []
        assert [to for to, _, _ in sent] == [each.to for each in expected[key].sent]
        for (_, local, downstream), each in zip(sent, expected[key].sent):
            close(downstream, each.downstream)
            assert (local is None) == (each.local is None)
            if local is not None:
                close(local, each.local)


@pytest.mark.parametrize("name", NAMES)
def test_downstream_is_upstream_times_local(name):
    for node in picture_of(name):
        if node.operation:
            for _, local, downstream in gradients_sent(node):
                if local is not None:
                    product = node.upstream.array * local.array
                    np.testing.assert_allclose(product, downstream.array, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_text_has_every_number(name):
    picture, expected = picture_of(name), numbers(name)
    forward, backward, gradients = str(picture).split("\n\n")
    for key, each in expected.items():
        node = picture[key]
        label = f"{key} = {node.expression}" if node.operation else key
        assert re.search(rf"^  {re.escape(label)} +{re.escape(shown(each.value))}( |$)", forward, re.M), label
        if each.upstream is None:
            continue
        arrived = f"{re.escape(d(key))} = {re.escape(shown(each.upstream))}"
        if not node.operation:
            assert re.search(rf"^  {re.escape(d(key))} .*{re.escape(shown(each.upstream))}( |$)", gradients, re.M)
            continue
        (block,) = re.findall(rf"^  {re.escape(label)} +{arrived}\n((?:    .*\n?)*)", backward, re.M)
        lines = iter(block.split("\n"))
        for sent in each.sent:
            line = next(lines)
            assert line.startswith(f"    to {sent.to} ")
            if sent.local is None:
                assert f" {d(sent.to)} = {shown(sent.downstream)}" in line
            else:
                product = f"{shown(each.upstream)} × {shown(sent.local)} = {shown(sent.downstream)}"
                if product not in line:
                    assert f"{d(sent.to)} = {shown(sent.downstream)}" in line
                    assert f"local {shown(sent.local)}" in next(lines)


def test_the_text_shows_what_adds_up_at_a_shared_node():
    assert "  db                      7 + 2 = 9   used 2 times" in str(picture_of("shared_node"))


def test_readme_shows_the_text_as_it_is():
    readme = Path(__file__).resolve().parent.parent / "README.md"
    assert f"```\n{picture_of('gym_bill')}\n```" in readme.read_text("utf-8")


def parsed(svg):
    """The text of nodes by title, and of edges by (source, target), in their order."""
    nodes, edges = {}, {}
    space = "{http://www.w3.org/2000/svg}"
    for group in ElementTree.fromstring(svg).iter(f"{space}g"):
        title = group.findtext(f"{space}title")
        words = "\n".join(text.text or "" for text in group.findall(f".//{space}text")).replace("\xa0", " ")
        if group.get("class") == "node":
            nodes[title] = words
        elif group.get("class") == "edge":
            edges.setdefault(tuple(title.split("->")), []).append(words)
    return nodes, edges


def as_drawn(values):
    """A value on one line, or as a matrix drawn in rows: both without what arranges them."""
    return re.sub(r"[\[\],\s]+", " ", shown(values)).strip()


@needs_dot
@pytest.mark.parametrize("name", NAMES)
def test_the_svg_has_every_number(name):
    picture, expected = picture_of(name), numbers(name)
    nodes, edges = parsed(picture.svg())
    assert len(nodes) == len(picture)
    assert sum(map(len, edges.values())) == len(picture.edges)
    drawn = {key: re.sub(r"[\[\],\s]+", " ", words) for key, words in nodes.items()}
    for key, each in expected.items():
        node = picture[key]
        words = drawn[f"node{node.index}"]
        assert words.startswith(f"{key} ")
        assert f" {as_drawn(each.value)}" in words
        if each.upstream is not None:
            assert re.search(rf"{re.escape(d(key))} = (.* = )?{re.escape(as_drawn(each.upstream))}", words)
        for sent in each.sent:
            words = edges[f"node{picture[sent.to].index}", f"node{node.index}"].pop(0)
            words = re.sub(r"[\[\],\s]+", " ", words).strip()
            if sent.local is None or f"{as_drawn(each.upstream)} × {as_drawn(sent.local)} = " not in words:
                assert sent.local is None or f"local {as_drawn(sent.local)}" in words
                assert words.endswith(as_drawn(sent.downstream))
            else:
                assert f" = {as_drawn(sent.downstream)}" in words


def data_of(page):
    """What the page starts from."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


def text_of(value):
    return value if isinstance(value, str) else value["text"]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_every_number(name):
    picture, expected = picture_of(name), numbers(name)
    data = data_of(picture.html())
    index = {node["name"]: i for i, node in enumerate(data["nodes"])}
    for key, each in expected.items():
        node = data["nodes"][index[key]]
        assert [text_of(value) for value in node["values"]] == [shown(each.value)]
        if "operation" not in node:
            arrived = [] if each.upstream is None else [[1, shown(each.upstream)]]
            assert [[each["pass"], *map(text_of, each["upstream"])] for each in node["arrived"]] == arrived
            continue
        forward, backward = [event for event in data["events"] if event["node"] == index[key]]
        assert forward["pass"] == 0 and backward["pass"] == 1
        assert [text_of(value) for value in backward["upstream"]] == [shown(each.upstream)]
        sent = [
            (data["nodes"][data["edges"][edge]["source"]]["name"], local and text_of(local), text_of(value))
            for edge, local, value in backward["sent"]
        ]
        assert sent == [
            (to, None if local is None else shown(local), shown(downstream)) for to, local, downstream in each.sent
        ]


def test_the_classifier_has_the_gradients_of_its_parameters():
    picture, numbers_returned = picture_of("mlp"), system("mlp")()
    for name in ("0.weight", "0.bias", "2.weight", "2.bias"):
        node = picture[name]
        assert node.kind == "parameter"
        np.testing.assert_allclose(node.upstream.tolist(), numbers_returned[f"d{name}"], rtol=1e-12)
    np.testing.assert_allclose(picture["scores"].value.tolist(), numbers_returned["scores"], rtol=1e-12)
    np.testing.assert_allclose(picture["loss"].value.tolist(), numbers_returned["loss"], rtol=1e-12)
    assert picture["v1"].module == "0" and picture["scores"].module == "2"


@pytest.mark.parametrize("name", PICTURES)
def test_every_example_has_all_renderings(name):
    picture = picture_of(name)
    assert str(picture).startswith("Forward\n")
    assert picture.dot().startswith("digraph")
    assert html.escape(picture.title) in picture.html()
