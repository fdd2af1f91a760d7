"""Settings for all tests, made before NumPy and the extension load the libraries that read them."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_page import driver, keys, open_page  # noqa: F401

# Threads that wait give their core away: with more threads than free cores a spinning one holds up those it waits for.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# NumPy's products in the reference are small; threads for them cost several times what they save.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The package that is tested is the installed one, unless the extension was built into the source tree: without it the
# tree must not hide the installed package, here or in the processes that tests start.
ROOT = Path(__file__).resolve().parent.parent
INSTALLED = not list((ROOT / "fastbp").glob("_native*.so"))
if INSTALLED:
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


@pytest.fixture(autouse=True, scope="session")
def away_from_the_source_tree() -> Iterator[None]:
    before = Path.cwd()
    if INSTALLED:
        os.chdir(ROOT / "tests")
    yield
    os.chdir(before)
