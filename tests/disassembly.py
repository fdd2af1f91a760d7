"""Checks that matrix products keep their sums in registers: no vector is stored in the innermost loop of a tile.

    python tests/disassembly.py OBJECT... [--objdump aarch64-linux-gnu-objdump]

OBJECTs are csrc/kernels.cpp compiled for x86-64 or AArch64. Looked at are the instances of the function template `tile`
in their loops over k: the innermost ones with fused multiply-adds. Those of `tile_transposed` are shown only, for they
hold a square of B beside their sums, which need not fit.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from typing import NamedTuple

TEMPLATE = re.compile(r"\b(?:tile|tile_transposed)<[^>]*>")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
INSTRUCTION = re.compile(r"^ *([0-9a-f]+):\t(\S+)(?:\s+(.*))?$")
JUMP = re.compile(r"^(j|b$|b\.|cb|tb)")  # jmp, jcc; b, b.cc, cbz, tbnz
TARGET = re.compile(r"\b(?:0x)?([0-9a-f]+) <")
FMA = re.compile(r"^(vfn?m(add|sub)|fml[as])")
X86_STORE = re.compile(r"%[xyz]mm\d+.*,[^,%]*\((%[^)]*)\)")  # AT&T: the destination is last
ARM_STORE = re.compile(r"^\{?[qvd]\d+.*\[(\w+)")


class Instruction(NamedTuple):
    address: int
    name: str
    operands: str

    @property
    def target(self) -> int | None:
        """Where a jump goes; None for others."""
        found = TARGET.search(self.operands) if JUMP.match(self.name) else None
        return int(found[1], 16) if found else None

    @property
    def stores_vector(self) -> bool:
        if self.name.startswith("st"):
            return bool(ARM_STORE.match(self.operands))
        return self.name.startswith("v") and bool(X86_STORE.search(self.operands))


def disassemble(objdump: str, path: str) -> str:
    command = [objdump, "--disassemble", "--demangle", "--no-show-raw-insn", path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def parse(text: str) -> dict[str, list[Instruction]]:
    """The instances of the templates in what objdump printed, by name, as in tile<float, 6, 2>."""
    found: dict[str, list[Instruction]] = {}
    body: list[Instruction] | None = None
    for line in text.splitlines():
        if start := FUNCTION.match(line):
            name = TEMPLATE.search(start[1])
            body = found.setdefault(name[0], []) if name else None
        elif body is not None and (parts := INSTRUCTION.match(line)):
            body.append(Instruction(int(parts[1], 16), parts[2], parts[3] or ""))
    return found


def successors(body: list[Instruction]) -> list[list[int]]:
    """For each instruction the positions of those that may run next."""
    at = {instruction.address: i for i, instruction in enumerate(body)}
    result = []
    for i, instruction in enumerate(body):
        jumps = [at[instruction.target]] if instruction.target in at else []
        falls = [] if re.match(r"(jmp|b|br|ret)q?$", instruction.name) or i + 1 == len(body) else [i + 1]
        result.append(jumps + falls)
    return result


def cycles(nodes: set[int], after: list[list[int]]) -> list[set[int]]:
    """The largest sets of nodes of which each can be reached from each, by Kosaraju's two searches."""

    def reach(start: int, edges: dict[int, list[int]] | list[list[int]], seen: set[int]) -> list[int]:
        """Nodes not seen before, each after all that are reached from it."""
        order, stack = [], [(start, iter(edges[start]))]
        seen.add(start)
        while stack:
            node, rest = stack[-1]
            following = next((n for n in rest if n in nodes and n not in seen), None)
            if following is None:
                order.append(node)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(edges[following])))
        return order

    before: dict[int, list[int]] = {n: [] for n in nodes}
    for n in nodes:
        for m in after[n]:
            if m in nodes:
                before[m].append(n)
    seen: set[int] = set()
    finished = [n for start in sorted(nodes) if start not in seen for n in reach(start, after, seen)]
    seen = set()
    found = [set(reach(start, before, seen)) for start in reversed(finished) if start not in seen]
    return [c for c in found if len(c) > 1 or any(n in after[n] for n in c)]


def inner_loops(body: list[Instruction]) -> list[list[Instruction]]:
    """The loops that have no loop inside."""
    after = successors(body)
    found, outer = [], cycles(set(range(len(body))), after)
    while outer:
        loop = outer.pop()
        heads = {m for n in set(range(len(body))) - loop for m in after[n] if m in loop}
        nested = cycles(loop - heads, after)  # without its heads only loops inside of it are left
        outer += nested
        if not nested:
            found.append([body[i] for i in sorted(loop)])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", nargs="+", metavar="OBJECT")
    parser.add_argument("--objdump", default="objdump")
    options = parser.parse_args()
    status = 0
    for path in options.objects:
        tiles = parse(disassemble(options.objdump, path))
        looked_at = 0
        for name, body in sorted(tiles.items()):
            loops = [loop for loop in inner_loops(body) if any(FMA.match(i.name) for i in loop)]
            stores = [i for loop in loops for i in loop if i.stores_vector]
            required = name.startswith("tile<")
            looked_at += required and bool(loops)
            if stores:
                first = f"{stores[0].address:x}: {stores[0].name} {stores[0].operands}"
                verdict = "FAILED" if required else "shown only"
                print(f"{name}: {len(stores)} vector stores in the loop over k, as {first} ({verdict})")
                status |= required
        print(f"{path}: {looked_at} loops over k of tiles")
        if not looked_at:  # then nothing was checked: other names, another compiler's way to write them
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
