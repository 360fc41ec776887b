"""What was measured, as a table and as JSON; and on which machine, with which versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.programs import output_of
from kiptail import __version__

__all__ = ["Row", "machine", "table", "versions"]

_LIBRARIES = ("systemd-python", "kubernetes", "cachetools", "click", "prometheus-client", "dnspython")


@dataclass(slots=True)
class Row:
    """One thing that is measured once a run."""

    name: str
    unit: str
    samples: list[float] = field(default_factory=list)
    #: Of each run, this row's rate over that of journalctl on the same files; empty where that says nothing.
    ratios: list[float] = field(default_factory=list)

    def to_json_dict(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "name": self.name,
            "unit": self.unit,
            "median": statistics.median(self.samples),
            "samples": self.samples,
        }
        if self.ratios:
            row["to_journalctl"] = {"median": statistics.median(self.ratios), "samples": self.ratios}
        return row


def table(rows: Iterable[Row]) -> str:
    """The rows in Markdown: medians, and what varied between the runs."""
    lines = [("what", "median", "lowest – highest", "", "÷ journalctl")]
    for row in rows:
        spread = f"{_number(min(row.samples))} – {_number(max(row.samples))}"
        ratio = ""
        if row.ratios:
            ratio = f"{statistics.median(row.ratios):.2f} ({min(row.ratios):.2f} – {max(row.ratios):.2f})"
        lines.append((row.name, _number(statistics.median(row.samples)), spread, row.unit, ratio))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    rule = [f"{'-' * (width - 1)}{'-' if left else ':'}" for width, left in zip(widths, _LEFT, strict=True)]
    return "\n".join(_line(line, widths) for line in (lines[0], rule, *lines[1:]))


def machine() -> dict[str, Any]:
    """What it ran on, and how busy that was before."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(memory[1]) // 1024 if memory else None,
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Versions of kiptail and of what it runs on; those that cannot be told are left out."""
    commit = output_of("git", "describe", "--always", "--dirty")
    told = {
        "kiptail": f"{__version__} ({commit})" if commit else __version__,
        "python": platform.python_version(),
        "systemd": output_of("journalctl", "--version").partition("\n")[0].removeprefix("systemd "),
        **{name: _version(name) for name in _LIBRARIES},
    }
    return {name: version for name, version in told.items() if version}


#: Which of the table's columns are text.
_LEFT = (True, False, False, True, False)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.ljust(width) if left else cell.rjust(width) for cell, width, left in zip(cells, widths, _LEFT, strict=True)
    )
    return f"| {' | '.join(padded)} |"


def _number(value: float) -> str:
    """Three digits that count: more would be noise."""
    if value >= 1_000:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""
