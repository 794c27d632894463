"""What `esis export` costs: against reading and parsing the same files with the standard library, file by file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.bench.figure import Figure, interleaved
from tests.bench.scan import MIB, Scan, scan, write_records, write_result_lines, write_results
from tests.bench.startup import Installed

TASKS, FEW = 100_000, 10_000
GOAL = 2.0  # times reading and parsing
SAME_MEMORY = 1.1  # times that of a tenth of the tasks: the listing of the tasks' names apart nothing may grow
DATA = "temperature,energy,magnetisation"
# Reads what the export has to read, keeps nothing. Arguments: the run, how many tasks, which files.
FLOOR = """\
import json, os, sys
run, tasks, kinds = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
loads = json.loads
if "lines" in kinds:
    for name in ("parameters/parameters.jsonl", "results/results.jsonl"):
        with open(f"{run}/{name}", "rb") as stream:
            for line in stream:
                loads(line)
if "files" in kinds:
    for task in range(tasks):
        for name in (f"parameters/parameters.{task}.json", f"results/results.{task}.json"):
            with open(f"{run}/{name}", "rb") as stream:
                loads(stream.read())
if "folded" in kinds:
    with open(f"{run}/__esis__/tasks.txt", "rb") as stream:
        for line in stream:
            loads(line.partition(b" ")[2])
if "records" in kinds:
    for name in os.listdir(f"{run}/__esis__/tasks"):
        with open(f"{run}/__esis__/tasks/{name}", "rb") as stream:
            loads(stream.read())
"""


def complete(made: Scan, form: str) -> None:
    """Leave what a complete run leaves: all in few files (lines), or a file for each task and thing (files)."""
    made.esis("run")
    write_records(made.run, "1", ((task, 0) for task in range(made.tasks)))
    made.forget_jobs()
    if form == "lines":
        write_result_lines(made.run, range(made.tasks))
        made.esis("compact")
    else:
        write_results(made.run, range(made.tasks))
        made.run.completed.write_text("1")  # as it is after a status, but the records aren't folded


def measure(made: Installed, tasks: int = TASKS, few: int = FEW, rounds: int = 3) -> list[Figure]:
    """Return the figures; takes about a minute and a half."""
    figures = []
    for form, records, what in (("lines", "folded", "one results file"), ("files", "records", "a file for each task")):
        with scan(tasks, form, made.directory) as large, scan(few, form, made.directory) as small:
            complete(large, form)
            complete(small, form)
            figures += _of_form(large, small, (form, records), what, rounds)
    return figures


def _of_form(large: Scan, small: Scan, kinds: tuple[str, str], what: str, rounds: int) -> list[Figure]:
    data, everything = [kinds[0]], list(kinds)
    takes: dict[str, Callable[[], float]] = {
        "data floor": lambda: _floor(large, data),
        "data": lambda: large.esis(*export(DATA)).own,
        "all floor": lambda: _floor(large, everything),
        "all": lambda: large.esis(*export()).own,
    }
    found = interleaved(takes, rounds)
    memory = {of.tasks: of.esis(*export(DATA), watched=True).memory for of in (large, small)}
    return [
        Figure(
            f"export, {what}, columns of data",
            found["data"] / found["data floor"],
            GOAL,
            "reading and parsing parameters and results",
            f"{found['data']:.2f} s, {large.tasks:,} tasks, CSV",
        ),
        Figure(
            f"export, {what}, all columns",
            found["all"] / found["all floor"],
            GOAL,
            "reading and parsing parameters, results and records",
            f"{found['all']:.2f} s; states, times, hosts and attempts, too",
        ),
        Figure(
            f"export, {what}, memory",
            memory[large.tasks] / memory[small.tasks],
            SAME_MEMORY,
            f"that of {small.tasks:,} tasks",
            f"{memory[large.tasks] / MIB:.0f} MiB for {large.tasks:,} tasks",
        ),
    ]


def export(columns: str | None = None) -> list[str]:
    """Return the words of an export to a file beside the run."""
    return ["export", "-o", "table.csv", *(["--columns", columns] if columns is not None else [])]


def _floor(of: Scan, kinds: list[str]) -> float:
    return of.python_seconds("-c", FLOOR, str(of.run.path), str(of.tasks), *kinds)


def table(of: Scan) -> Path:
    """Return where an export writes to."""
    return of.place / "table.csv"
