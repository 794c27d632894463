"""Record of tasks that left no record themselves what else is known of them, for Slurm forgets it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from esis.model.workdir import RunDir
from esis.records.folded import folded_lines, folded_order, write_folded
from esis.records.tasks import TaskRecord


def note(directory: Path, task: int, submission: int, job: str, word: str, restart: int = 0) -> None:
    """Record what Slurm said of a task that left no record itself, for Slurm forgets it. Raises OSError.

    Of single tasks of an array that were cancelled before they began it keeps no trace at all.
    """
    (directory / _note_name(task, submission, job, word, restart)).touch()


def note_all(run: RunDir, told: Iterable[tuple[int, int, str]], word: str, check: Callable[[], None]) -> None:
    """Record the same of many tasks (each with its submission and job, sorted), all or none. Raises OSError.

    Among the records that are folded: these count as others do, and there is one file for all. Not written if `check`
    raises.
    """
    from heapq import merge  # every look loads this module, and hardly ever is there anything to merge

    added = (f"{_note_name(*item, word)} " for item in told)
    write_folded(run, merge(folded_lines(run), added, key=folded_order), check)


def _note_name(task: int, submission: int, job: str, word: str, restart: int = 0) -> str:
    now = int(time.time())
    return TaskRecord(task, submission, job, restart, now, end=now, verdict=word).name
