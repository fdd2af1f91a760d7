"""Settings for all benchmarks: the header names machine and versions; results are pytest-benchmark's JSON."""

from __future__ import annotations

from typing import Any

from measure import header


def pytest_report_header() -> list[str]:
    return [f"{name}: {value}" for name, value in header().items()]


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["fastbp"] = header()
