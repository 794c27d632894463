"""Read the task records that jobs write (task.sh): the state stands in the file names, so one listing tells all."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from esis.errors import CorruptState
from esis.files import read_json_object

_NAME = re.compile(
    r"(\d{1,12})\.(\d{4,9})\.(\d{1,20})\.(\d{1,9})\.(\d{1,15})\."
    r"(?:running|exit(\d{1,3})\.(\d{1,15})|slurm-([A-Z_]{1,40})\.(\d{1,15})|resumable\.(\d{1,15}))\Z")
RESUMABLE_CODE = 75  # what a worker ends with that has saved its state and wants to go on later


@dataclass(frozen=True)
class TaskRecord:
    """Hold one attempt at a task, as the job itself saw it. Times are seconds since 1970 by the node's clock."""

    task: int
    submission: int
    job: str  # the array's job id
    restart: int
    start: int
    code: int | None = None  # None: it runs, or ended without a word
    end: int | None = None
    verdict: str | None = None  # Slurm's word, where ESIS saw that it contradicts what the job recorded
    resumable: bool = False  # it saved its state and has more to do; its code is RESUMABLE_CODE

    @property
    def ended(self) -> bool:
        """Return whether the end is known."""
        return self.code is not None or self.verdict is not None

    @property
    def name(self) -> str:
        """Return the record's file name."""
        stem = f"{self.task}.{self.submission:04d}.{self.job}.{self.restart}.{self.start}"
        if self.verdict is not None:
            return f"{stem}.slurm-{self.verdict}.{self.end}"
        if self.resumable:
            return f"{stem}.resumable.{self.end}"
        return f"{stem}.exit{self.code}.{self.end}" if self.code is not None else f"{stem}.running"

    @classmethod
    def parse(cls, name: str) -> TaskRecord | None:
        """Read a file name; None for anything that isn't a record."""
        match = _NAME.match(name)
        if match is None:
            return None
        task, submission, job, restart, start, code, end, verdict, seen, saved = match.groups()
        last = end or seen or saved
        if saved is not None:
            code = str(RESUMABLE_CODE)
        return cls(int(task), int(submission), job, int(restart), int(start),
                   int(code) if code is not None else None, int(last) if last is not None else None, verdict,
                   resumable=saved is not None)

    def supersedes(self, other: TaskRecord) -> bool:
        """Return whether this is a later attempt than `other`; the end of an attempt is later than its start."""
        if self.submission != other.submission:
            return self.submission > other.submission
        if self.job != other.job:
            return self.start > other.start
        if self.restart != other.restart:
            return self.restart > other.restart
        return self.ended and not other.ended


def read_records(directory: Path) -> list[TaskRecord]:
    """Return all records below `directory`; none where the directory is missing (somebody deleted it)."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [record for record in map(TaskRecord.parse, names) if record is not None]


def latest(records: Iterable[TaskRecord]) -> dict[int, TaskRecord]:
    """Return the last attempt at each task."""
    found: dict[int, TaskRecord] = {}
    for record in records:
        known = found.get(record.task)
        if known is None or record.supersedes(known):
            found[record.task] = record
    return found


def keep_verdict(directory: Path, record: TaskRecord, word: str) -> None:
    """Rename a record so that Slurm's verdict outlasts Slurm's memory, for ESIS and for the jobs of dependants.

    Where that can't be done (another user's run), Slurm has to be asked again.
    """
    kept = replace(record, code=None, resumable=False, end=record.end or int(time.time()), verdict=word)
    if _NAME.match(kept.name) is None:
        return
    try:
        (directory / record.name).rename(directory / kept.name)
    except OSError:
        return


def note_cancelled(directory: Path, task: int, submission: int, job: str) -> None:
    """Record that a task was cancelled before it began: Slurm keeps no trace of that for single tasks of an array.

    Raises OSError.
    """
    now = int(time.time())
    record = TaskRecord(task, submission, job, 0, now, end=now, verdict="CANCELLED")
    (directory / record.name).touch()


@dataclass(frozen=True)
class Details:
    """Hold what a record's content adds to its name."""

    host: str
    pid: int  # of the shell that runs the attempt
    job: str  # the task's own job id


def read_details(directory: Path, record: TaskRecord) -> Details | None:
    """Return a record's content; None where it doesn't tell."""
    try:
        content = read_json_object(directory / record.name)
    except (OSError, CorruptState):
        return None
    host, pid, job = content.get("host"), content.get("pid"), content.get("job", "")
    if not (isinstance(host, str) and isinstance(pid, int) and isinstance(job, str)):
        return None
    return Details(host, pid, job)
