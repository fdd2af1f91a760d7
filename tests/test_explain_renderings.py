"""How pictures are folded, written and drawn: text, graphviz, files, large graphs, names of any kind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from explained import HAS_GRAPHVIZ, needs_dot
from large_graphs import blocks, deep, wide

import fastbp
from fastbp.examples import variable
from fastbp.graph.fold import MOST, crossing, drawn, tree_of, unfolded
from fastbp.graph.nodes import Node

LARGE = {"deep": (deep, 10_001), "wide": (wide, 10_002), "blocks": (blocks, 2_003)}


@pytest.fixture(scope="module", params=LARGE)
def large(request):
    make, count = LARGE[request.param]
    picture = make()
    assert len(picture) == count
    return picture


def small():
    x = variable(2.0)
    with fastbp.explain() as picture:
        y = x * 3.0
        y.backward()
    return picture


class TestLargeGraphs:
    def test_are_trees_of_few_members_each(self, large):
        root = tree_of(large.nodes)
        assert all(len(group.members) <= MOST for group in root.groups())
        assert {node.index for node in root.nodes()} == {node.index for node in large.nodes}
        depth, level = 0, [root]
        while level := [member for group in level for member in group.members if not isinstance(member, Node)]:
            depth += 1
        assert depth <= 5

    def test_have_groups_that_no_edge_leaves_and_enters_again(self, large):
        """Groups are pieces of one order in which every edge goes forward, so that folding makes no circle."""
        place = {node.index: rank for rank, node in enumerate(tree_of(large.nodes).nodes())}
        assert all(place[edge.source.index] < place[edge.target.index] for edge in large.edges)

    @pytest.mark.parametrize("most", [30, 80, 300])
    def test_are_folded_until_they_can_be_read(self, large, most):
        root = tree_of(large.nodes)
        items = drawn(root, unfolded(root, most))
        assert MOST / 4 < len(items) <= max(most, MOST)
        inside = [node for item in items for node in ([item] if isinstance(item, Node) else item.nodes())]
        assert len(inside) == len(large)

    def test_are_texts_of_some_hundred_lines(self, large):
        lines = str(large).splitlines()
        assert 20 < len(lines) < 2500
        assert lines[0] == "Forward" and "Backward: downstream = upstream × local" in lines

    def test_are_drawn_with_some_hundred_nodes(self, large):
        text = large.dot()
        assert 5 < len(re.findall(r"^(?:node|group)\d+ \[", text, re.M)) <= 150

    @needs_dot
    def test_are_drawn_by_dot(self, large):
        assert ElementTree.fromstring(large.svg()).tag.endswith("svg")


def test_a_folded_module_is_one_block_of_text():
    text = str(blocks())
    (line,) = re.findall(r"^  \[17 Block\] .*6 operations, 4 parameters$", text, re.M)
    assert "(3, 4)" not in line and " = [[" in line
    assert re.search(r"^  \[17 Block\] +dv108 = \[\[.*\n(    to .*\n){4}", text, re.M)


def test_a_folded_group_tells_what_goes_in_and_out():
    root = tree_of(blocks(60).nodes)
    block = next(group for group in root.groups() if group.title == "17")
    inside = crossing(block)
    assert len(inside.operations) == 6
    assert [leaf.name for leaf in inside.leaves] == [f"17.{p}.{w}" for p in ("up", "down") for w in ("weight", "bias")]
    assert {edge.source.name for edge in inside.incoming} == {"v102"}
    assert [node.name for node in inside.outputs] == ["v108"]


def test_graphs_of_few_nodes_are_drawn_in_full():
    root = tree_of(small().nodes)
    assert [item.name for item in drawn(root, unfolded(root, 10))] == ["x", "3", "y"]


class TestFiles:
    def test_are_written_by_their_ending(self, tmp_path):
        picture = small()
        for ending, text in ((".txt", str(picture)), (".dot", picture.dot()), (".HTML", picture.html())):
            picture.save(tmp_path / f"picture{ending}")
            assert (tmp_path / f"picture{ending}").read_text("utf-8").rstrip("\n") == text.rstrip("\n")

    @needs_dot
    def test_of_svg_are_what_notebooks_show(self, tmp_path):
        picture = small()
        picture.save(str(tmp_path / "picture.svg"))
        assert picture._repr_svg_().startswith("<?xml")
        assert ElementTree.parse(tmp_path / "picture.svg").getroot().tag.endswith("svg")

    def test_of_svg_need_the_package(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "graphviz", None)
        picture = small()
        with pytest.raises(
            RuntimeError, match=r'^\[svg\] expected the package graphviz, got none; `pip install "fastbp'
        ):
            picture.svg()
        assert picture._repr_svg_() is None and "dy = 1" in repr(picture)
        with pytest.raises(RuntimeError, match="graphviz"):
            picture.save(tmp_path / "picture.svg")
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(not HAS_GRAPHVIZ, reason="needs the package graphviz")
    def test_of_svg_need_the_program(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        picture = small()
        with pytest.raises(
            RuntimeError, match=r"^\[svg\] expected graphviz's program dot, got none; install graphviz \("
        ):
            picture.svg()
        assert picture._repr_svg_() is None


class TestNamesOfAnyKind:
    NAME = '</script><b onclick="x">&"\'{}\\ \u2028'

    def picture(self):
        x = variable(2.0)
        with fastbp.explain() as picture:
            y = x * 3.0
            y.backward()
        picture.title = self.NAME
        picture.description = self.NAME
        return picture.name(**{self.NAME: x})

    def test_are_in_the_text_as_they_are(self):
        assert self.NAME in str(self.picture())

    @needs_dot
    def test_are_in_the_svg_as_they_are(self):
        words = " ".join(ElementTree.fromstring(self.picture().svg()).itertext())
        assert "</script><b onclick=" in words and "&\"'{}" in words

    def test_are_in_the_page_as_data(self):
        page = self.picture().html()
        assert "<b onclick" not in page and page.count("</script>") == 2
        (text,) = re.findall(r'id="data">(.*?)</script>', page, re.S)
        data = json.loads(text)
        assert data["title"] == self.NAME and data["nodes"][0]["name"] == self.NAME


def test_the_page_has_nothing_from_outside():
    page = small().html()
    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page
    assert not re.search(r"<link|<img|<iframe|\bsrc=|@import|url\(|fetch\(|XMLHttpRequest|import\(", page)


def test_importing_fastbp_leaves_pictures_out():
    code = "import sys, fastbp; print('fastbp.graph' in sys.modules); fastbp.explain; print('graphviz' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
