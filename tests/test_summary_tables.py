"""Tables of fastbp.summary: as text, and as HTML in notebooks."""

from __future__ import annotations

import html.parser

from summary_models import Shared

import fastbp
from fastbp import nn


class Cells(html.parser.HTMLParser):
    """The text of every cell of a table, row by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th")
        if self.inside:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


class TestTables:
    def test_text(self):
        text = str(fastbp.summary(Shared(), (6, 4)))
        lines = text.splitlines()
        assert lines[0].split() == "layer class input output parameters trainable operations activations".split()
        assert lines[2].startswith("(model)") and "(6, 3), (6, 3)" in lines[2]
        assert lines[3].startswith("  blocks.0  ") and lines[4].startswith("    blocks.0.inner  ")
        assert "blocks.0.spare" in text and "not called" in text
        (again,) = [line for line in lines[4:] if line.startswith("  blocks.0 ")]
        assert again.split()[6] == "as"
        assert "3 + above" in text
        assert "78 parameters, of which 78 trainable: 312 B" in text
        assert repr(fastbp.summary(Shared(), (6, 4))) == text
        assert max(map(len, lines)) <= 120

    def test_depth_hides_what_is_below(self):
        result = fastbp.summary(Shared(), (6, 4), depth=1)
        text = str(result)
        assert "blocks.1" in text and "inner" not in text and "spare" not in text
        assert any(layer.name == "blocks.1.inner" for layer in result.layers)
        assert str(fastbp.summary(Shared(), (6, 4), depth=0)).count("Linear") == 0

    def test_large_numbers_are_short(self):
        text = str(fastbp.summary(nn.Linear(1000, 1000), (512, 1000)))
        assert "1,001,000" in text and "1.0 G" in text and "2.0 MB" in text and "4.0 MB" in text

    def test_notebooks_get_the_same_cells(self):
        result = fastbp.summary(Shared(), (6, 4), depth=1)
        rows = Cells(result._repr_html_()).rows
        lines = str(result).splitlines()
        assert len(rows) == 1 + 6
        for row, line in zip(rows[1:], lines[2:8], strict=True):
            assert " ".join(line.split()) == " ".join(" ".join(row).split())
        assert "78 parameters" in result._repr_html_()

    def test_names_are_escaped(self):
        class Odd(nn.Module):
            def forward(self, x):
                return x

        Odd.__name__ = "<script>alert('&')</script>"
        model = nn.Sequential({"<b>": Odd()})
        page = fastbp.summary(model, (2,))._repr_html_()
        assert "<script>" not in page and "<b>" not in page
        assert Cells(page).rows[2][:2] == ["<b>", Odd.__name__]
