"""Measure everything and print one table of ratios: python -m tests.bench [--json FILE] [PART...].

The numbers are written as JSON, too, with the machine that they are from.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.bench import export, includes, million, peers, run, startup, status
from tests.bench.figure import Figure
from tests.bench.startup import ROOT, Installed, install

PARTS: Mapping[str, Callable[[Installed], list[Figure]]] = MappingProxyType(
    {
        "startup": startup.measure,
        "run": run.measure,
        "includes": includes.measure,
        "status": status.measure,
        "export": export.measure,
        "million": million.measure,
        "peers": peers.measure,
    }
)
HEADER = ("", "figure", "goal", "times, or unit", "notes")
SCHEMA = 1


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "load": round(os.getloadavg()[0], 1),
    }


def rows_of(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Return the cells of the table, without the header."""
    return [
        (
            item.name,
            f"{item.ratio:.3g}" if item.ratio < 1000 else f"{item.ratio:.0f}",
            _goal(item),
            item.unit,
            item.notes,
        )
        for item in figures
    ]


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    return f"≤ {figure.goal:g}{'' if figure.reached else ', not met'}"


def table(figures: Sequence[Figure]) -> str:
    """Return the table as Markdown, which is also easy to read as it is."""
    rows = [HEADER, *rows_of(figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER) - 1)]
    lines = [
        "| " + " | ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|---" * len(HEADER) + "|", *lines[1:]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure what esis costs.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}  [default: all]")
    parser.add_argument(
        "--json",
        type=Path,
        default=ROOT / ".bench/bench.json",
        metavar="FILE",
        help="where the numbers go  [default: .bench/bench.json]",
    )
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    found: dict[str, list[Figure]] = {}
    where = machine()
    with tempfile.TemporaryDirectory(prefix="esis-bench-") as scratch:
        made = install(Path(scratch))
        for name in given.parts or PARTS:
            began = time.monotonic()
            found[name] = PARTS[name](made)
            sys.stderr.write(f"{name}: {time.monotonic() - began:.0f} s\n")
    print(
        f"{where['cpu']}, {where['cores']} cores, Python {where['python']}, {where['date']}, "
        f"load {where['load']} at the beginning\n"
    )
    print(table([item for figures in found.values() for item in figures]))
    given.json.parent.mkdir(parents=True, exist_ok=True)
    figures = [
        {"part": name, **asdict(item), "reached": item.reached} for name, items in found.items() for item in items
    ]
    given.json.write_text(json.dumps({"schema": SCHEMA, "machine": where, "figures": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
