"""Read the task records that jobs write (task.sh): the state stands in the file names, so one listing tells all."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from esis.files import names_in
from esis.hook import AGAIN
from esis.model.workdir import RunDir
from esis.records.folded import folded_names

COMPLETED = "COMPLETED"  # the verdict on a task that is done, and recorded no end
UNRECORDED = "UNRECORDED"  # on one whose script ended with 0, as Slurm said, and that recorded nothing where it had to
_NAME = re.compile(
    r"([0-9]{1,12})\.([0-9]{4,9})\.([0-9]{1,20})\.([0-9]{1,9})\.([0-9]{1,15})\."
    r"(?:running|exit([0-9]{1,3})\.([0-9]{1,15})|slurm-([A-Z_]{1,40})\.([0-9]{1,15})|resumable\.([0-9]{1,15}))\Z"
)
# The same for many names at once, a line each: task, attempt (submission, job, restart count), outcome.
_ROW = re.compile(
    r"^([0-9]{1,12})\.([0-9]{4,9}\.[0-9]{1,20}\.[0-9]{1,9})\.[0-9]{1,15}\."
    r"(running(?=$)|(?:exit[0-9]{1,3}|slurm-[A-Z_]{1,40}|resumable)(?=\.))(?:\.[0-9]{1,15})?$",
    re.MULTILINE,
)
_SUBMISSION = re.compile(r"^[0-9]{1,12}\.([0-9]{4,9})\.[0-9]{1,20}\.[0-9]{1,9}\.", re.MULTILINE)
_CHUNK = 20_000  # names looked at together: enough for speed, little memory


class TaskRecord(NamedTuple):
    """Hold one attempt at a task, as the job itself saw it. Times are seconds since 1970 by the node's clock."""

    task: int
    submission: int
    job: str  # the array's job id
    restart: int
    start: int
    code: int | None = None  # None: it runs, or ended without a word
    end: int | None = None
    verdict: str | None = None  # Slurm's word, where ESIS saw that it contradicts what the job recorded
    resumable: bool = False  # it saved its state and has more to do; its code is AGAIN

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
            code = str(AGAIN)
        return cls(
            int(task),
            int(submission),
            job,
            int(restart),
            int(start),
            int(code) if code is not None else None,
            int(last) if last is not None else None,
            verdict,
            resumable=saved is not None,
        )

    @property
    def never_began(self) -> bool:
        """Return whether it only notes that somebody cancelled the attempt while it waited."""
        return self.verdict == "CANCELLED" and self.start == self.end

    @property
    def is_outdone(self) -> bool:
        """Return whether anything else that is known of the attempt tells more."""
        return self.never_began or self.verdict == UNRECORDED

    @property
    def done(self) -> bool:
        """Return whether it says that the attempt's script ended with 0; Slurm's word may stand for a missing end."""
        return self.code == 0 or self.verdict == COMPLETED

    @property
    def outcome(self) -> str:
        """Return how it ended, in a word for people."""
        return self.verdict or (f"exit code {self.code}" if self.code is not None else "running")

    def is_attempt_of(self, other: TaskRecord) -> bool:
        """Return whether both are about the same attempt at the same task."""
        return (self.task, self.submission, self.job, self.restart) == (
            other.task,
            other.submission,
            other.job,
            other.restart,
        )

    def rivals(self, other: TaskRecord) -> bool:
        """Return whether `other` is another end of the same attempt; twice the same tells nothing new (two looks)."""
        both = self.ended and other.ended and not other.is_outdone
        return both and self.is_attempt_of(other) and self.outcome != other.outcome

    def supersedes(self, other: TaskRecord) -> bool:
        """Return whether this is a later attempt than `other`, or tells more of the same one.

        Of one attempt the end is later than its start. Slurm's verdict outranks what the job itself wrote, and a later
        end an earlier one; that it was cancelled before it began is outdone by any sign that it did begin: Slurm may
        lose a cancellation that it acknowledged. Nor does a note that there was no record outdo one: directories of
        network file systems show late what is in them.
        """
        if self.submission != other.submission:
            return self.submission > other.submission
        if self.job != other.job:
            # Two that started in the same second: ids grow, by far most of the time.
            return (self.start, len(self.job), self.job) > (other.start, len(other.job), other.job)
        if self.restart != other.restart:
            return self.restart > other.restart
        return self._weight() > other._weight()

    def _weight(self) -> tuple[int, int, bool, str]:
        rank = 0 if self.is_outdone else 3 if self.verdict is not None else 2 if self.ended else 1
        return rank, self.end or self.start, not self.done, self.name


class TaskRecords(Mapping[int, TaskRecord]):
    """Hold the latest record of each task, parsed when somebody looks at it.

    A hundred thousand of them are one listing of a directory. `kind` groups those that differ by task and times alone,
    so that what holds for one of a kind is found out once.
    """

    def __init__(self, names: Iterable[str], later: bool = False) -> None:
        """Keep the latest of these file names for each task; what is no record is left out.

        `later`: go through the names when somebody asks.
        """
        self._given = names
        if not later:
            self.load()

    def load(self) -> None:
        """Go through the names, if that is still to be done. Raises OSError, CorruptState as they do."""
        _ = self._read

    @cached_property
    def _read(self) -> tuple[dict[int, str], dict[int, int], dict[int, str]]:
        """Hold names, kinds and rivals by task. Raises OSError, CorruptState as the given names do."""
        rivals: dict[int, str] = {}
        found: dict[int, str] = {}
        found_kinds: dict[int, int] = {}
        known: dict[tuple[str, str], int] = {}
        for chunk in _chunks(self._given):
            text = "\n".join(chunk)
            rows = _ROW.findall(text)
            if len(rows) != len(chunk) or text.count("\n") >= len(chunk):
                chunk = [name for name in chunk if _NAME.match(name)]
                rows = _ROW.findall("\n".join(chunk))
            if not rows:
                continue
            digits, *others = zip(*rows)
            tasks = list(map(int, digits))
            kinds = [known.setdefault(key, len(known)) for key in zip(*others)]
            if len(set(tasks)) == len(tasks) and found.keys().isdisjoint(tasks):
                found.update(zip(tasks, chunk))
                found_kinds.update(zip(tasks, kinds))
                continue
            for task, name, kind in zip(tasks, chunk, kinds):  # retries
                if task not in found:
                    found[task], found_kinds[task] = name, kind
                    continue
                if name == found[task]:
                    continue  # in a file and in a line: a fold was killed, or an older copy of the files came back
                new, old = TaskRecord.parse(name), TaskRecord.parse(found[task])
                if new is None or old is None:
                    continue
                later, earlier = (new, old) if new.supersedes(old) else (old, new)
                if later is new:
                    found[task], found_kinds[task] = name, kind
                if later.rivals(earlier):
                    rivals[task] = earlier.name
        # Each is of its own kind: what holds for others needn't hold for it.
        found_kinds.update((task, len(known) + position) for position, task in enumerate(rivals))
        return found, found_kinds, rivals

    @cached_property
    def _names(self) -> dict[int, str]:
        return self._read[0]

    @cached_property
    def _kinds(self) -> dict[int, int]:
        return self._read[1]

    def __getitem__(self, task: int) -> TaskRecord:
        """Parse the record of `task`."""
        record = TaskRecord.parse(self._names[task])
        if record is None:
            raise KeyError(task)
        return record

    def __iter__(self) -> Iterator[int]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, task: object) -> bool:
        return task in self._names

    def rival(self, task: int) -> TaskRecord | None:
        """Return another end that was recorded of the attempt whose end counts."""
        name = self._read[2].get(task)
        rival = TaskRecord.parse(name) if name is not None else None
        return rival if rival is not None and rival.is_attempt_of(self[task]) else None

    def kind(self, task: int) -> int | None:
        """Return the number of the kind of a task's record: its submission, job, restart count and outcome."""
        return self._kinds.get(task)

    def elapsed(self, task: int) -> float | None:
        """Return the seconds between start and end, faster than by parsing all of the record; None where one lacks.

        None also where it ends before it starts: a clock was set back meanwhile.
        """
        head, _, end = self._names.get(task, "").rpartition(".")
        seconds = int(end) - int(head.split(".")[4]) if end.isdecimal() else -1
        return float(seconds) if seconds >= 0 else None

    def name(self, task: int) -> str | None:
        """Return the file name of a task's record, unparsed."""
        return self._names.get(task)

    def kinds(self, tasks: Iterable[int]) -> Iterator[int | None]:
        """Yield `kind` of each of many tasks."""
        return map(self._kinds.get, tasks)

    @property
    def jobs(self) -> frozenset[str]:
        """Return the ids of all jobs that left records."""
        samples = {kind: task for task, kind in self._kinds.items()}
        return frozenset(self[task].job for task in samples.values())

    def last_time(self) -> float:
        """Return the latest start or end, in seconds since 1970; 0 where there is no record."""
        tails = (name.rpartition(".") for name in self._names.values())
        return float(
            max((int(tail if tail != "running" else head.rpartition(".")[2]) for head, _, tail in tails), default=0)
        )

    def sample(self, most: int) -> list[TaskRecord]:
        """Return at most `most` of the records, evenly spread."""
        tasks = list(self._names)
        return [self[task] for task in tasks[:: max(1, -(-len(tasks) // most))]]


class Names:
    """Give the names of all records of a run, folded ones too; none where somebody deleted them.

    To go through them raises OSError, CorruptState.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run

    def __iter__(self) -> Iterator[str]:
        """Read them anew."""
        names = names_in(self._run.tasks)
        yield from folded_names(self._run)
        yield from names


def submission_numbers(run: RunDir) -> set[int]:
    """Return the numbers of all submissions whose tasks have left records. Raises OSError, CorruptState."""
    found: set[str] = set()
    for chunk in _chunks(Names(run)):
        found.update(_SUBMISSION.findall("\n".join(chunk)))
    return set(map(int, found))


def read_records(run: RunDir, later: bool = False) -> TaskRecords:
    """Return the latest record of each task of a run; `later`: read them when somebody asks."""
    return TaskRecords(Names(run), later)


def _chunks(names: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(names)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def keep_verdict(directory: Path, record: TaskRecord, word: str) -> None:
    """Rename a record so that Slurm's verdict outlasts Slurm's memory, for ESIS and for the jobs of dependants.

    Where that can't be done (another user's run), Slurm has to be asked again.
    """
    kept = record._replace(code=None, resumable=False, end=record.end or int(time.time()), verdict=word)
    if _NAME.match(kept.name) is None:
        return
    try:
        (directory / record.name).rename(directory / kept.name)
    except OSError:
        return
