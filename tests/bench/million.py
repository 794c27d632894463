"""Whether a million tasks work, and how much memory each command takes for them."""

from __future__ import annotations

from tests.bench.figure import Figure
from tests.bench.scan import MIB, Scan, Spent, scan, write_records, write_result_lines
from tests.bench.startup import Installed

TASKS = 1_000_000
EVERY = 20  # the tasks that fail, so that 50,000 scattered ones are to be submitted again
GOAL = 500.0  # MiB


def measure(made: Installed, tasks: int = TASKS) -> list[Figure]:
    """Return the figures; takes about two minutes, most of it for writing a million records."""
    with scan(tasks, "lines", made.directory) as of:
        spent = {"run": of.esis("run", watched=True)}
        spent["status, all waiting"] = of.esis("status", watched=True)
        _end(of)
        spent["status, 5 % failed"] = of.esis("status", watched=True)
        spent["export"] = of.esis("export", "-o", "table.csv", watched=True)
        spent[f"resubmit of {tasks // EVERY:,} scattered"] = again = of.esis("resubmit", watched=True)
        _check(of, again)
        return [
            Figure(
                f"{tasks:,} tasks, {name}, memory",
                item.memory / MIB,
                GOAL,
                "MiB RSS",
                f"{item.own:.1f} s of its own, {item.slurm_calls()} calls of Slurm",
            )
            for name, item in spent.items()
        ]


def _end(of: Scan) -> None:
    """End all tasks, every twentieth badly; the queue has forgotten them."""
    write_records(of.run, "1", ((task, 3 if task % EVERY == 7 else 0) for task in range(of.tasks)))
    write_result_lines(of.run, (task for task in range(of.tasks) if task % EVERY != 7))
    of.forget_jobs()


def _check(of: Scan, again: Spent) -> None:
    """Insist on that it works: a figure of what went wrong would be worth nothing."""
    failed = range(7, of.tasks, EVERY)
    rows = (of.place / "table.csv").read_bytes().count(b"\n")
    assert rows == of.tasks + 1, rows
    assert again.calls["sbatch"] == 1, again.calls
    assert of.run.map(2).read_text().split() == [str(task) for task in failed]
