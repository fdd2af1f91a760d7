"""`fastbp bench`: the short benchmark, printed as it goes and written as JSON."""

from __future__ import annotations

import argparse
import json

import fastbp
from fastbp.cli.outputs import check_out


def run(arguments: argparse.Namespace) -> int:
    """Measure this machine: products, memory-bound kernels and training steps, as fractions of its limits."""
    # Only here: the reference kernels come with it, which no other command needs.
    from fastbp.bench import machine, short

    if arguments.json:
        check_out("--json", arguments.json)
    if arguments.threads:
        fastbp.set_num_threads(arguments.threads)
    description = machine.description()
    for name in ("cpu", "fastbp", "instruction set in use", "threads"):
        print(f"{name}: {description[name]}")
    measured = []
    table = None
    for result in short.results():
        if result["table"] != table:
            table = result["table"]
            print(f"\n{short.heading(table)}")
        print(short.line(result), flush=True)
        measured.append(result)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"machine": description, "results": measured}, file, indent=1)
            file.write("\n")
        print(f"\nsaved: {arguments.json}")
    return 0
