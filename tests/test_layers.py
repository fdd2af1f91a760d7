"""The shape of the house: imports run downward only, no two modules import each other, kernels know no Python."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastbp

PACKAGE = Path(fastbp.__file__).parent
CSRC = Path(__file__).resolve().parent.parent / "csrc"

# From the ground up; modules of one line may use each other, as long as no two do so mutually.
ORDER = [
    {"_native", "version", "amounts", "hooks", "watching"},
    {"dtypes"},
    {"kernels", "runtime"},
    {"autograd"},
    {"tensor"},
    {"from_data"},
    {"function"},
    {"ops"},
    {"derivatives"},
    {"nn", "optim", "data", "serialization", "program", "graph", "plots", "gradcheck"},
    {"train"},
    {"__init__"},
    {"bench"},
    {"examples"},
    {"cli", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}

# Loaded only when they are asked for: `import fastbp` needs NumPy.
HEAVY = ["numba", "torch", "sklearn", "matplotlib", "tqdm", "safetensors", "pooch", "scipy", "pandas", "graphviz"]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {*SOURCES, "fastbp._native"}


def known(name: str) -> str:
    """The module that a dotted name lies in: the longest prefix that is one."""
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def imports_of(module: str) -> set[str]:
    """Every fastbp module that this one imports anywhere: at its top, inside functions, by `import_module`."""
    path = SOURCES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            found |= {f"{source}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            found |= {str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)}
    inside = {known(name) for name in found if name == "fastbp" or name.startswith("fastbp.")}
    return inside - {module}


GRAPH = {module: imports_of(module) for module in SOURCES}


def room(module: str) -> str:
    """The part of the house that a module belongs to: the name below `fastbp`."""
    return module.split(".")[1] if "." in module else "__init__"


def test_every_module_has_its_place_in_the_order():
    assert {room(module) for module in SOURCES} - LEVEL.keys() == set()


@pytest.mark.parametrize("module", SOURCES)
def test_no_import_runs_upward(module):
    upward = [other for other in GRAPH[module] if LEVEL[room(other)] > LEVEL[room(module)]]
    assert upward == []


def test_no_two_modules_import_each_other():
    """Take away modules that import nothing left, or that nothing left imports: what remains is on a cycle."""
    left = {module: {other for other in imports if other in SOURCES} for module, imports in GRAPH.items()}
    size = -1
    while size != len(left):
        size = len(left)
        imported = set().union(*left.values())
        left = {module: imports & left.keys() for module, imports in left.items() if module in imported}
        left = {module: imports for module, imports in left.items() if imports}
    assert left == {}


def test_autograd_knows_neither_tensors_nor_ops():
    assert GRAPH["fastbp.autograd"] <= {"fastbp._native", "fastbp.dtypes", "fastbp.kernels"}


@pytest.mark.skipif(not CSRC.is_dir(), reason="csrc is not beside the tests")
def test_only_the_binding_knows_python():
    sources = [path for path in CSRC.rglob("*") if path.suffix in {".h", ".cpp"}]
    assert sources
    mentions = re.compile(r"Python\.h|\bPy[A-Z_]\w+|nanobind|\bnb::")
    guilty = [path.name for path in sources if mentions.search(path.read_text(encoding="utf-8"))]
    assert [name for name in guilty if not re.match(r"module|bind", name)] == []


@pytest.mark.skipif(not CSRC.is_dir(), reason="csrc is not beside the tests")
def test_kernels_include_no_cpp_library_header():
    """An inline function of a library header compiled for one instruction set could be linked into another."""
    pending, seen, foreign = ["kernels.cpp"], set(), []
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        for quote, target in re.findall(r'^\s*#include\s*([<"])([^>"]+)[>"]', (CSRC / name).read_text(), re.MULTILINE):
            if quote == '"':
                pending.append(target)
            elif not target.endswith(".h"):
                foreign.append((name, target))
    assert foreign == []


def test_import_loads_nothing_heavy():
    script = f"import sys, fastbp; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
