"""What `esis status` costs with very many tasks in whatever state: against a bare interpreter, Slurm's time aside."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType

from esis.locks import Owner, make_lock
from esis.operations.compact import WORTH_IT
from esis.operations.witness.keep import unmark_complete
from tests.bench import traced
from tests.bench.figure import Figure, interleaved
from tests.bench.scan import Scan, scan, write_records, write_result_lines
from tests.bench.startup import ROOT, Installed

TASKS, FEW = 100_000, 10
GOAL = 25.0  # times a bare interpreter


def all_waiting(made: Scan) -> None:
    """Leave the array as it was submitted."""


def mixed(made: Scan, lost: int = 0) -> None:
    """60 % have ended and are forgotten by the queue, one in a thousand of them badly; 10 % run, the others wait."""
    ended, running = made.tasks * 6 // 10, made.tasks // 10
    write_records(
        made.run, "1", ((task, None if task < lost else 3 if task % 1000 == 1 else 0) for task in range(ended))
    )
    write_records(made.run, "1", ((task, None) for task in range(ended, ended + running)))
    made.slurm.set_state(1, "NODE_FAIL", range(lost))
    made.slurm.set_state(1, "COMPLETED", range(lost, ended))
    made.slurm.purge(1)
    made.slurm.set_state(1, "RUNNING", range(ended, ended + running))


def mixed_with_losses(made: Scan) -> None:
    """The same, but a node took two tasks with it, so that sacct has to be asked, and tells of all."""
    mixed(made, lost=2)


def all_done(made: Scan) -> None:
    """All have ended well, the queue has forgotten them, and nobody has looked yet; sacct tells of all.

    This process holds the run's lock, so that nobody folds the records: that is done once, after the answer.
    """
    _end_all(made)
    make_lock(made.run.lock, Owner.current())


def compacted(made: Scan) -> None:
    """All have ended well, somebody has looked, and the records are folded; the results are, too."""
    _end_all(made)
    write_result_lines(made.run, range(made.tasks))
    made.esis("compact")


def _end_all(made: Scan) -> None:
    write_records(made.run, "1", ((task, 0) for task in range(made.tasks)))
    made.slurm.set_state(1, "COMPLETED", range(made.tasks))
    made.slurm.purge(1)


STATES: Mapping[str, Callable[[Scan], None]] = MappingProxyType(
    {
        "all waiting": all_waiting,
        "mixed": mixed,
        "mixed, tasks lost": mixed_with_losses,
        "all done": all_done,
        "compacted": compacted,
    }
)


def fewest(state: str) -> int:
    """Return with how few tasks to compare: from WORTH_IT on, a status tries to fold what is complete."""
    return WORTH_IT if state == "all done" else FEW


def measure(made: Installed, tasks: int = TASKS, rounds: int = 5) -> list[Figure]:
    """Return the figures; takes about a minute and a half."""
    figures = []
    for name, play in STATES.items():
        with (
            scan(tasks, home=made.directory, accounting=True) as many,
            scan(fewest(name), home=made.directory, accounting=True) as few,
        ):
            for each in (many, few):
                each.esis("run")
                play(each)
            figures += _of_state(name, many, few, rounds)
    return figures


def _of_state(name: str, many: Scan, few: Scan, rounds: int) -> list[Figure]:
    spent = []

    def unlooked() -> None:
        if name == "all done":
            for each in (many, few):
                unmark_complete(each.run)

    def own() -> float:
        unlooked()
        spent.append(many.esis("status"))
        return spent[-1].own

    found = interleaved({"status": own, "python": many.python_seconds}, rounds)
    calls = {program: max(item.slurm_calls(program) for item in spent) for program in ("squeue", "sacct")}
    told = ", which tells of each task that ended in a line of its own" if calls["sacct"] else ""
    notes = f"{found['status'] * 1000:.0f} ms; {calls['squeue']} squeue, {calls['sacct']} sacct{told}"
    figures = [
        Figure(
            f"status, {many.tasks:,} tasks, {name}", found["status"] / found["python"], GOAL, "python -c pass", notes
        )
    ]
    if traced.works():
        unlooked()
        more = len(opened_by_status(many)) - len(opened_by_status(few))
        figures.append(
            Figure(
                f"status, {name}, files opened", more, 0, f"files more with {many.tasks:,} tasks than with {few.tasks}"
            )
        )
    if name == "compacted":
        figures.append(
            Figure(
                f"inodes of a complete run, {name}",
                many.inodes(),
                99,
                "files and directories",
                f"{many.tasks:,} tasks, parameters.jsonl, records and results folded",
            )
        )
    return figures


def opened_by_status(of: Scan) -> list[str]:
    """Return what a status opens; what Python loads is not about the tasks."""
    loaded = tuple(f"{place}/" for place in (of.home, sys.base_prefix, ROOT))
    found = traced.opened(of.argv("status"), of.place, of.environment, alone=True)
    # malloc looks there when it gives memory of a thread back, which hangs on where things lie in it.
    return [name for name in found if not name.startswith(loaded) and name != "/proc/sys/vm/overcommit_memory"]
