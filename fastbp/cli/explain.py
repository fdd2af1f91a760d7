"""`fastbp explain`: the graph of a worked example, shown in the browser, printed or written."""

from __future__ import annotations

import argparse
import tempfile
import webbrowser
from pathlib import Path

import fastbp
from fastbp.cli.outputs import check_out
from fastbp.examples import PICTURES, describe, system

FORMATS = {"html": ".html", "svg": ".svg", "text": ".txt"}


def run(arguments: argparse.Namespace) -> int:
    """Show the graph of a worked example, its values and gradients step by step."""
    if arguments.list:
        width = max(map(len, PICTURES))
        print("\n".join(f"{name.ljust(width)}  {describe(system(name))}" for name in PICTURES))
        return 0
    if arguments.example is None:
        raise ValueError("expected the name of an example, got none (see fastbp explain --list)")
    form = _format(arguments.format, arguments.out)
    if arguments.out:
        check_out("--out", arguments.out)
    shown = system(arguments.example)
    picture = fastbp.explain(shown)
    picture.title, picture.description = arguments.example, describe(shown)
    if form == "text" and not arguments.out:
        print(picture)
        return 0
    path = Path(arguments.out or Path(tempfile.mkdtemp(prefix="fastbp-")) / f"{arguments.example}{FORMATS[form]}")
    try:
        picture.save(path)
    except RuntimeError as error:  # graphviz is missing
        raise ValueError(str(error)) from None
    print(f"saved: {path}")
    if not arguments.out and not arguments.no_open:
        webbrowser.open(path.resolve().as_uri())
    return 0


def _format(form: str | None, out: str | None) -> str:
    """The format asked for, or that of the file's ending, or a page."""
    if out is None:
        return form or "html"
    suffix = Path(out).suffix.lower()
    expected = [FORMATS[form]] if form else [*FORMATS.values(), ".dot"]
    if suffix not in expected:
        raise ValueError(f"--out: expected a file name ending in {', '.join(expected)}, got {out!r}")
    return form or suffix.removeprefix(".")
