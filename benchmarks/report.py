"""README's tables and plots from the JSON of the benchmarks: `python benchmarks/report.py results.json`."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import plots

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
WORST = 10  # rows of the table of threads

Entry = dict[str, Any]  # what one benchmark recorded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", help="written by pytest benchmarks --benchmark-json; a later one wins")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="where the tables go, between markers")
    parser.add_argument("--plots", type=Path, default=ROOT / "benchmarks" / "plots", help="folder for the plots")
    arguments = parser.parse_args()
    try:
        before, after = around_markers(arguments.readme)
        machine, entries = read(arguments.results)
        text = report(machine, entries, arguments.plots, arguments.readme.parent)
        arguments.readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    except (OSError, ValueError) as error:
        parser.error(str(error))


def read(paths: Sequence[str]) -> tuple[dict[str, Any], list[Entry]]:
    """The machine and what the benchmarks recorded, those of the last file that has them."""
    machine: dict[str, Any] = {}
    found: dict[str, Entry] = {}
    for path in paths:
        with open(path, "rb") as file:
            try:
                content = json.load(file)
                machine = content["machine_info"]["fastbp"]
                entries = {benchmark["fullname"]: benchmark["extra_info"] for benchmark in content["benchmarks"]}
                heading(machine)  # needs all that a machine is described by
            except (ValueError, KeyError, TypeError) as error:
                kind = type(error).__name__
                raise ValueError(f"{path}: expected the JSON of pytest benchmarks ({kind}: {error})") from error
        if not entries:
            raise ValueError(f"{path}: expected results, no benchmark ran")
        found |= entries
    return machine, list(found.values())


def around_markers(readme: Path) -> tuple[str, str]:
    """What stands in the README before and after the report."""
    old = readme.read_text(encoding="utf-8")
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        raise ValueError(f"{readme}: expected one line {BEGIN} and one line {END} after it")
    return old.split(BEGIN)[0], old.split(END)[1]


def report(machine: dict[str, Any], entries: list[Entry], folder: Path, base: Path) -> str:
    """The text between the markers; draws the plots into the folder. Links are relative to `base`."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [heading(machine)]
    for name, make, draw in (
        ("steps", steps, plots.steps),
        ("products", products, plots.products),
        ("bandwidth", bandwidth, plots.bandwidth),
        ("small", small, None),
        ("threads", threads, None),
        ("processes", processes, None),
    ):
        chosen = [entry for entry in entries if entry["table"] == name]
        if not chosen:
            continue
        parts.append(make(chosen))
        if draw is not None:
            path = folder / f"{name}.png"
            draw(chosen, path)
            link = os.path.relpath(path, base).replace(os.sep, "/")
            parts.append(f"![{plots.CAPTIONS[name]}]({link})")
        if reasons := absences(chosen):
            parts.append(reasons)
    return "\n\n".join(parts)


def heading(machine: dict[str, Any]) -> str:
    quick = "One call of everything, to see that it runs: the figures mean nothing. " if machine.get("quick") else ""
    versions = ", ".join(
        f"{label} {machine[key]}"
        for key, label in (("numpy", "NumPy"), ("torch", "PyTorch"), ("jax", "JAX"), ("optax", "optax"))
        if machine.get(key, "not installed") != "not installed"
    )
    return (
        f"{quick}Measured on {machine['cpu']}, {machine['instruction set in use']}, threads {machine['threads']}; "
        f"fastbp {machine['fastbp']}, Python {machine['python']}, {versions}; {machine['date']}. Engines take turns in "
        "one process; ratios and fractions are medians over rounds, taken within a round, where the peak (fused "
        "multiply-adds on registers; copied bytes) is measured too. Every result is verified before it is timed."
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def absences(entries: list[Entry]) -> str:
    """Which engines did not take part, how often, and why."""
    reasons = Counter((name, reason) for entry in entries for name, reason in entry.get("absent", {}).items())
    return " ".join(
        f"{engine} is left out of {count} of {len(entries)}: {reason}." for (engine, reason), count in reasons.items()
    )


def duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 1000 * scale else f"{seconds / scale:.0f} {unit}"
    return f"{seconds * 1e9:.3g} ns"


# ---------------------------------------------------------------- the tables


def describe(workload: dict[str, Any]) -> str:
    widths = workload["widths"]
    inner = {widths[i] for i in range(1, len(widths) - 1)}
    hidden = (
        f"{len(widths) - 2}×{inner.pop()}" if len(inner) == 1 and len(widths) > 4 else "-".join(map(str, widths[1:-1]))
    )
    loss = {"cross_entropy": "CE", "mse_loss": "MSE"}[workload["loss"]]
    optimizer = {"SGD": "SGD momentum"}.get(workload["optimizer"], workload["optimizer"])
    return (
        f"`{workload['name']}`: {widths[0]}-{hidden}-{widths[-1]}, {workload['activation'].lower()}, {loss}, "
        f"{optimizer}, batch {workload['batch']}"
    )


def steps(entries: list[Entry]) -> str:
    others = list(dict.fromkeys(engine for entry in entries for engine in entry["ratios"]))
    ours = list(dict.fromkeys(entry["ours"] for entry in entries))
    rows = [
        [
            describe(entry["workload"]),
            duration(entry["seconds"][entry["ours"]]),
            f"{entry['fractions'][entry['ours']]:.2f}",
            *(f"{entry['ratios'][engine]:.2f}" if engine in entry["ratios"] else "–" for engine in others),
        ]
        for entry in entries
    ]
    head = ["training step", " / ".join(ours), "of the FMA peak", *(f"{engine}: times as long" for engine in others)]
    return table(head, rows)


def products(entries: list[Entry]) -> str:
    most = max(entry["threads"] for entry in entries)
    columns = list(dict.fromkeys((entry["dtype"], entry["threads"]) for entry in entries))
    others = list(dict.fromkeys(engine for entry in entries for engine in entry["ratios"]))
    found = {(tuple(e["shape"]), e["kind"], e["dtype"], e["threads"]): e for e in entries}
    rows = []
    for shape, kind in dict.fromkeys((tuple(entry["shape"]), entry["kind"]) for entry in sorted(entries, key=by_shape)):
        cells = [found.get((shape, kind, *column)) for column in columns]
        row = [
            "×".join(map(str, shape)),
            plots.KINDS[kind],
            *("–" if e is None else f"{e['fraction']:.2f}" for e in cells),
        ]
        for engine in others:
            ratios = [
                found.get((shape, kind, dtype, most), {"ratios": {}})["ratios"] for dtype in ("float32", "float64")
            ]
            row.append(" / ".join(f"{r[engine]:.2f}" if engine in r else "–" for r in ratios))
        rows.append(row)
    head = ["m×k×n", "product", *(f"{dtype}, {count} thread{'s'[: count > 1]}" for dtype, count in columns)]
    head += [f"{engine}: times as long, float32 / float64" for engine in others]
    return "Products as a fraction of the FMA peak:\n\n" + table(head, rows)


def by_shape(entry: Entry) -> tuple[int, list[str]]:
    m, k, n = entry["shape"]
    return m * k * n, list(plots.KINDS).index(entry["kind"])


def bandwidth(entries: list[Entry]) -> str:
    counts = list(dict.fromkeys(entry["threads"] for entry in entries))
    found = {(entry["name"], entry["threads"]): entry for entry in entries}
    rows = []
    for name in dict.fromkeys(entry["name"] for entry in entries):
        present = [found.get((name, count)) for count in counts]
        cells = [
            "–" if e is None else f"{e['fraction']:.2f} ({e['bytes'] / e['seconds'] / 1e9:.1f} GB/s)" for e in present
        ]
        rows.append([name, *cells])
    megabytes = 4 * entries[0]["elements"] / 2**20
    head = [f"kernel, arrays of {megabytes:.3g} MiB", *(f"{count} thread{'s'[: count > 1]}" for count in counts)]
    return "Memory-bound kernels as a fraction of the copy bandwidth, bytes read plus bytes written:\n\n" + table(
        head, rows
    )


def small(entries: list[Entry]) -> str:
    rows = [
        [
            e["name"],
            duration(e["seconds"]["fastbp"]),
            duration(e["seconds"]["PyTorch"]),
            f"{e['ratios']['PyTorch']:.1f}",
        ]
        for e in entries
    ]
    return table(["small work", "fastbp", "PyTorch eager", "PyTorch / fastbp"], rows)


def threads(entries: list[Entry]) -> str:
    rows = sorted(
        ((ratio, entry["name"], size) for entry in entries for size, ratio in entry["ratios"].items()), reverse=True
    )
    slower = sum(ratio > 1.05 for ratio, _, _ in rows)
    text = (
        f"Default threads ({entries[0]['threads']}) against one, every kernel and every eager step at growing sizes: "
        f"of {len(rows)} cases {slower} take more than 1.05 times as long. The worst:"
    )
    cells = [[name, size, f"{ratio:.2f}"] for ratio, name, size in rows[:WORST]]
    return f"{text}\n\n{table(['kernel', 'size', 'time / time on one thread'], cells)}"


def processes(entries: list[Entry]) -> str:
    return " ".join(
        f"{e['jobs']} processes of {e['threads']} threads each, `{e['name']}` steps: at once they take "
        f"{e['ratio']:.2f} of the time that they take one after another."
        for e in entries
    )


if __name__ == "__main__":
    main()
