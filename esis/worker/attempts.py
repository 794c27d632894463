"""Keep an attempt at a task from writing over what a later attempt at it has written.

A node that is lost may go on with a task which Slurm has queued again, or which somebody has resubmitted. The later
attempt then leaves its name in __esis__/attempts/<task> (task.sh), and whoever writes for an attempt looks there first:
one small file to read, and most often none. A write that is under way at that moment isn't stopped.
"""

from __future__ import annotations

import os

from esis.errors import EsisError
from esis.files import is_there
from esis.model.workdir import RunDir
from esis.worker.task import own_record

_SMALL = 256  # bytes; the longest name has fewer
_DEPTH = 2  # of a run's directory above that of its records
_PARTS = 5  # task, submission, job, restart count, start


class Overtaken(EsisError):
    """Report that a later attempt at the same task has begun, so that this one may write nothing any more."""


def check(run: RunDir, task: int) -> None:
    """Raise Overtaken where this process belongs to an attempt at `task`, and a later one has begun."""
    record = own_record()
    if record is None:
        return
    later = later_attempt(record)
    if later is None or later.partition(".")[0] != str(task):
        return
    if not is_there(run.tasks) or not run.tasks.samefile(os.path.dirname(record)):
        return  # a worker of one run that writes for another one
    raise Overtaken(
        f"attempt {later} at task {task} began after this one ({os.path.basename(record)}), so nothing is written",
        "end here: the later one does the work (esis doc requeue)",
    )


def check_own(run: RunDir) -> None:
    """Raise Overtaken where this process belongs to an attempt at a task of `run`, and a later one has begun."""
    task = os.path.basename(own_record() or "").partition(".")[0]
    if task.isdigit():
        check(run, int(task))


def later_attempt(record: str) -> str | None:
    """Return the name of a later attempt than that of the record at this path; None where nothing tells of one."""
    from pathlib import Path

    place = Path(record)
    mine = _parts(place.name)
    if not mine or len(place.parents) <= _DEPTH:
        return None
    path = RunDir(place.parents[_DEPTH]).latest_attempt(mine[0])
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            name = os.read(descriptor, _SMALL).decode("ascii", "replace").strip()
        finally:
            os.close(descriptor)
    except OSError:
        return None
    latest = _parts(name)
    return name if latest[:1] == mine[:1] and _supersedes(latest, mine) else None


def _parts(name: str) -> list[int]:
    """Return the numbers in the name of an attempt; none where it isn't one."""
    parts = name.split(".")
    if len(parts) != _PARTS or not all(part.isascii() and part.isdigit() for part in parts):
        return []
    return [int(part) for part in parts]


def _supersedes(new: list[int], old: list[int]) -> bool:
    """Say what TaskRecord.supersedes says of two attempts (a test compares them)."""
    _, submission, job, restart, start = new
    if submission != old[1]:
        return submission > old[1]
    if job != old[2]:
        return (start, job) > (old[4], old[2])
    return (restart, start) > (old[3], old[4])
