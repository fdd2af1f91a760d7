"""`fastbp explain`: worked examples printed, written and opened."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
import webbrowser
from pathlib import Path

import pytest

from fastbp import cli
from fastbp.examples import PICTURES


@pytest.fixture(autouse=True)
def opened(tmp_path, monkeypatch):
    """What the browser was asked to open; temporary files are in the test's own folder."""
    addresses = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(webbrowser, "open", lambda address: addresses.append(address) or True)
    return addresses


@pytest.fixture
def command(capsys):
    def call(*arguments: str) -> tuple[int, str, str]:
        try:
            status = cli.main(["explain", *arguments])
        except SystemExit as stop:
            status = stop.code
        return (status, *capsys.readouterr())

    return call


def test_opens_a_page_of_an_example(command, opened, tmp_path):
    status, out, err = command("gym_bill")
    assert (status, err) == (0, "")
    (page,) = tmp_path.rglob("*.html")
    assert out == f"saved: {page}\n" and opened == [page.as_uri()]
    text = page.read_text("utf-8")
    assert "<title>gym_bill</title>" in text and "Which input moves the bill most?" in text


def test_leaves_the_page_closed_where_that_is_wished(command, opened, tmp_path):
    assert command("gym_bill", "--no-open")[0] == 0
    assert opened == [] and len(list(tmp_path.rglob("gym_bill.html"))) == 1


@pytest.mark.parametrize("name", PICTURES)
def test_prints_every_example(command, opened, name, tmp_path):
    status, out, err = command(name, "--format", "text")
    assert (status, err, opened) == (0, "", []) and out.startswith("Forward\n") and "Backward: " in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["html", "txt", "dot", "svg"])
def test_writes_a_file_by_its_ending(command, opened, ending):
    if ending == "svg" and not (shutil.which("dot") and importlib.util.find_spec("graphviz")):
        pytest.skip("needs the package graphviz and its program dot")
    status, out, _ = command("shared_node", "--out", f"mine.{ending}")
    assert (status, out, opened) == (0, f"saved: mine.{ending}\n", [])
    assert "7 + 2 = 9" in Path(f"mine.{ending}").read_text("utf-8") or ending == "html"


def test_lists_the_examples(command):
    status, out, _ = command("--list")
    assert status == 0 and [line.split()[0] for line in out.splitlines()] == list(PICTURES)
    assert "sigmoid_node       Sigmoid neuron as one node" in out


def test_help_names_examples_and_options(command):
    status, out, _ = command("--help")
    assert status == 0
    for word in [*PICTURES, "--out", "--format", "--no-open", "--list"]:
        assert word in out


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ("", 1, "expected the name of an example, got none (see fastbp explain --list)"),
        ("dance", 2, "argument EXAMPLE: invalid choice: 'dance'"),
        ("gym_bill --format pdf", 2, "argument --format: invalid choice: 'pdf'"),
        ("gym_bill --out x.pdf", 1, "--out: expected a file name ending in .html, .svg, .txt, .dot, got 'x.pdf'"),
        ("gym_bill --out x.html --format svg", 1, "--out: expected a file name ending in .svg, got 'x.html'"),
        ("gym_bill --out none/x.html", 1, "--out: expected a file in an existing writable folder, got 'none/x.html'"),
    ],
)
def test_says_what_is_wrong_in_one_sentence(command, opened, tmp_path, arguments, status, sentence):
    got, out, err = command(*arguments.split())
    assert (got, out, opened) == (status, "", [])
    assert sentence in err and "Traceback" not in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_says_what_to_install_for_svg(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    status, _, err = command("gym_bill", "--out", "x.svg")
    assert status == 1 and 'pip install "fastbp[graph]"' in err
