"""Tell a run's own logs from files of a worker's that are only called like one.

A log is the run's if the index in its name is that of one of its tasks, and the job in it one that the run knows, as
far as the name tells them: Slurm gave that job to ESIS, or it left a record or a claim, as jobs by hand do. Where
tasks write no records (runs of 0.0.4, --no-task-records) those leave no trace: any job may be the run's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cached_property
from typing import NamedTuple

from esis.errors import CorruptState
from esis.model.log_pattern import Pattern, Reading
from esis.model.workdir import RunDir
from esis.operations.logs.of_tasks import folded, names_of, own_of
from esis.operations.witness.evidence import Evidence
from esis.records.submissions import Outcome
from esis.records.task_details import read_details
from esis.records.tasks import Names, TaskRecord

_DIGITS = re.compile("[0-9]+")
_LONGEST = 20  # digits of a job's id


class _OwnIds(NamedTuple):
    """Hold the ids that single tasks had in Slurm, which only the contents of their records tell."""

    known: frozenset[str]
    all_told: bool  # a task whose launch failed tells none, and neither do records of earlier versions


class Whose:
    """Read names of logs, and only those of the run's own."""

    def __init__(self, run: RunDir, evidence: Evidence) -> None:
        """Take what is known of the run; the records are looked at when a name needs it. Raises OSError."""
        self.called = names_of(run, evidence)
        self._run = run
        self._evidence = evidence
        self._tasks: Collection[int] = (
            evidence.indices if isinstance(evidence.indices, range) else frozenset(evidence.indices)
        )

    def read(self, pattern: Pattern, name: str, place: Pattern | None = None) -> tuple[Reading, ...]:
        """Return what a name may mean by one of the run's patterns; nothing where it is no log of the run.

        `place` is the pattern as seen from where the name is, if that isn't cwd/. Raises CorruptState, OSError.
        """
        place = pattern if place is None else place
        found = tuple(reading for reading in self.called.read(place, name) if self._may_be(pattern, reading))
        own = "A" not in place.letters and not place.letters.isdisjoint("jJ")
        return found if found and not (own and self._jobs is not None and not self._is_own(place, name)) else ()

    def _may_be(self, pattern: Pattern, reading: Reading) -> bool:
        if reading.job is not None and self._jobs is not None and reading.job not in self._jobs:
            return False
        if reading.index is None:
            return True
        return any(task in self._tasks for owner in self.called.owners(pattern, reading) for task in owner.tasks)

    def _is_own(self, place: Pattern, name: str) -> bool:
        """Return whether a name holds the own id of one of the tasks."""
        least = min(map(int, self._jobs or ()), default=0)  # an array's id is lower than those of its tasks
        for value in set(_numbers(name)):
            if value in self._own_ids.known or (not self._own_ids.all_told and int(value) >= least):
                filled = place.filled({"j": value, "J": value})
                if filled.fixed == name or (filled.fixed is None and filled.matches(name)):
                    return True
        return False

    @cached_property
    def _jobs(self) -> frozenset[str] | None:
        """Hold the ids of all jobs that the run knows, of earlier attempts, too; None where there may be others."""
        taken = [sub for sub in self._evidence.submissions if sub.outcome is not Outcome.REFUSED]
        recorded = {record.job for name in Names(self._run) if (record := TaskRecord.parse(name)) is not None}
        if not recorded or not all(sub.records for sub in taken):
            return None
        known = recorded.union(*({*sub.seen, *(job.id for job in sub.jobs)} for sub in taken))
        with suppress(CorruptState, OSError):  # a damaged claim; who began wrote a record as well
            known |= self._evidence.jobs
        return frozenset(known)

    @cached_property
    def _own_ids(self) -> _OwnIds:
        told = list(_told(self._run))
        return _OwnIds(frozenset(filter(None, told)), all(told))


def _told(run: RunDir) -> Iterator[str]:
    """Yield the own id of each attempt at a task; an empty text where its record doesn't tell."""
    try:
        records = [record for path in run.tasks.iterdir() if (record := TaskRecord.parse(path.name)) is not None]
    except FileNotFoundError:
        records = []
    for record in records:
        details = read_details(run.tasks, record)
        if not record.never_began:
            yield details.job if details is not None else ""
    for name, content in folded(run):
        earlier = TaskRecord.parse(name)
        if earlier is not None and not earlier.never_began:
            yield own_of(content)[0]


def _numbers(name: str) -> Iterator[str]:
    """Yield all numbers that may stand in a name, without zeros before them: fields may stand side by side."""
    for digits in _DIGITS.findall(name):
        for start in range(len(digits)):
            for end in range(start + 1, min(len(digits), start + _LONGEST) + 1):
                yield digits[start:end].lstrip("0") or "0"
