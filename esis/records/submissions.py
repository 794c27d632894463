"""Keep one record per submission: written before the scheduler is asked (the intent), completed with its answer."""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from esis.errors import BadInput, CorruptState
from esis.files import read_json_object, write_json
from esis.model.parameters import as_sequence, format_ranges, parse_ranges
from esis.model.workdir import RunDir
from esis.records.origin import Origin

SCHEMA = 1
_NAME = re.compile(r"(\d{4,9})\.json\Z")


class Outcome(Enum):
    """Name what became of a submission."""

    OPEN = "open"  # asked, or about to be; the answer isn't known
    SUBMITTED = "submitted"
    REFUSED = "refused"


@dataclass(frozen=True)
class Job:
    """Name one array job of a submission."""

    id: str
    cluster: str | None = None


@dataclass(frozen=True)
class Array:
    """Describe one array job of a submission.

    Slurm's index plus `offset` is the *unit* that an element of the array works on: a task, or a position in the
    submission's list of tasks (`mapped`), or a pack of tasks (`per_job`).
    """

    spec: str  # as Slurm gets it, e.g. 0-9%10
    offset: int = 0
    tasks: int = 0  # how many tasks it holds

    @property
    def throttle(self) -> int:
        """Return how many elements may run at a time; 0: no limit."""
        return int(self.spec.partition("%")[2] or 0)


@dataclass(frozen=True)
class Submission:
    """Hold one act of handing tasks of a run to a scheduler, in one or more array jobs."""

    number: int
    scheduler: str  # "slurm" or "local"
    tasks: Sequence[int]  # sorted
    arrays: tuple[Array, ...]
    script_digest: str  # SHA-256 of sbatch.sh
    created: float  # seconds since 1970
    owner: str  # host, PID, … of the esis that made it (locks.Owner.text)
    records: bool  # whether its tasks write records
    argv: tuple[str, ...] = ()
    dependency: str | None = None
    outcome: Outcome = Outcome.OPEN
    jobs: tuple[Job, ...] = ()  # of the arrays, in their order, as far as they are sent
    message: str | None = None
    answered: float | None = None  # when the answer came, seconds since 1970
    returned: tuple[int, ...] = ()  # tasks that a local run gave back without finishing them
    throttle: int = 0  # elements of all arrays at a time; 0: no limit
    unique_output: str = ""  # pattern of the logs of arrays whose indices aren't tasks, where the template's collides
    mapped: bool = False  # units are positions in `tasks` (see RunDir.map)
    per_job: int = 1  # tasks in a pack; an element of an array works through one pack
    parallel: int = 1  # tasks of a pack at a time
    options: tuple[str, ...] = ()  # sbatch options given on the command line
    output: str = ""  # pattern of the log files' names
    seen: tuple[str, ...] = ()  # job ids of this run that the scheduler knew before: not this submission's
    provenance: Origin | None = None  # who submitted, where and with what; None in records of earlier versions

    @property
    def packed(self) -> bool:
        """Return whether each element of the arrays works through several tasks."""
        return self.per_job > 1

    @property
    def lanes(self) -> int:
        """Return how many arrays run side by side, each one task at a time; 0: all of them may.

        That is where fewer tasks may run at a time than there are arrays.
        """
        return self.throttle if 0 < self.throttle < len(self.arrays) else 0

    def output_of(self, position: int) -> str:
        """Return the pattern of the names of an array's logs.

        Where its indices aren't the tasks, logs of other arrays and submissions could have the same names.
        """
        shifted = self.mapped or self.packed or self.arrays[position].offset != 0
        return self.unique_output if shifted and self.unique_output else self.output

    def holds(self, task: int) -> bool:
        """Return whether `task` is one of its tasks."""
        at = bisect_left(self.tasks, task)
        return at < len(self.tasks) and self.tasks[at] == task

    def position_of(self, job: str) -> int | None:
        """Return which of the arrays has the id `job`."""
        return next((position for position, item in enumerate(self.jobs) if item.id == job), None)

    def tasks_at(self, position: int, indices: Sequence[int]) -> Sequence[int]:
        """Return the tasks behind Slurm's `indices` of the array at `position`; indices it hasn't are left out."""
        offset = self.arrays[position].offset
        if self.packed:
            packs = ((index + offset) * self.per_job for index in indices)
            return [task for first in packs for task in self.tasks[first:first + self.per_job]]
        if self.mapped:
            return [self.tasks[index + offset] for index in indices if index + offset < len(self.tasks)]
        if isinstance(indices, range) and indices.step == 1:
            return range(indices.start + offset, indices.stop + offset)
        return [index + offset for index in indices]

    def place_of(self, task: int) -> tuple[int, int]:
        """Return where a task stands: the position of its array, and Slurm's index in there."""
        unit = bisect_left(self.tasks, task) if self.mapped or self.packed else task
        unit //= self.per_job
        position = max(0, bisect_right([array.offset for array in self.arrays], unit) - 1)
        return position, unit - self.arrays[position].offset

    def leads_pack(self, task: int) -> bool:
        """Return whether a task is among the first that its job works on, so that it had all of the job's time."""
        return bisect_left(self.tasks, task) % self.per_job < self.parallel

    def to_json(self) -> dict[str, Any]:
        """Return what stands in the file."""
        return {
            "schema": SCHEMA,
            "number": self.number,
            "scheduler": self.scheduler,
            "tasks": format_ranges(self.tasks),
            "arrays": [{"array": item.spec, "offset": item.offset, "tasks": item.tasks} for item in self.arrays],
            "dependency": self.dependency,
            "script_sha256": self.script_digest,
            "created": self.created,
            "owner": self.owner,
            "records": self.records,
            "argv": list(self.argv),
            "outcome": self.outcome.value,
            "jobs": [{"id": job.id, "cluster": job.cluster} for job in self.jobs],
            "message": self.message,
            "answered": self.answered,
            "returned": format_ranges(self.returned),
            "throttle": self.throttle,
            "unique_output": self.unique_output,
            "mapped": self.mapped,
            "per_job": self.per_job,
            "parallel": self.parallel,
            "options": list(self.options),
            "output": self.output,
            "seen": list(self.seen),
            "provenance": self.provenance.to_json() if self.provenance is not None else None,
        }

    @classmethod
    def from_json(cls, path: Path, raw: Mapping[str, Any]) -> Submission:
        """Read a record. Raises CorruptState."""
        try:
            if raw["schema"] != SCHEMA:
                raise CorruptState(f"{path} has schema {raw['schema']!r}, this esis knows {SCHEMA}",
                                   "use a newer esis")
            return cls(
                number=int(raw["number"]),
                scheduler=str(raw["scheduler"]),
                tasks=as_sequence(parse_ranges(raw["tasks"])),
                arrays=tuple(Array(str(item["array"]), int(item["offset"]), int(item["tasks"]))
                             for item in raw["arrays"]),
                dependency=raw["dependency"],
                script_digest=str(raw["script_sha256"]),
                created=float(raw["created"]),
                owner=str(raw["owner"]),
                records=bool(raw["records"]),
                argv=tuple(raw["argv"]),
                outcome=Outcome(raw["outcome"]),
                jobs=tuple(Job(str(job["id"]), job["cluster"]) for job in raw["jobs"]),
                message=raw["message"],
                answered=raw["answered"],
                returned=tuple(parse_ranges(raw["returned"])) if raw["returned"] else (),
                throttle=int(raw["throttle"]),
                unique_output=str(raw["unique_output"]),
                mapped=bool(raw["mapped"]),
                per_job=max(1, int(raw["per_job"])),
                parallel=max(1, int(raw["parallel"])),
                options=tuple(raw["options"]),
                output=str(raw["output"]),
                seen=tuple(str(job) for job in raw["seen"]),
                provenance=Origin.from_json(raw["provenance"]) if raw.get("provenance") else None,
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError, BadInput) as error:
            raise CorruptState(f"{path} is corrupt: {error!r}") from error


def save(run: RunDir, submission: Submission) -> None:
    """Write the record, durably. Raises OSError."""
    write_json(run.submission(submission.number), submission.to_json())


def read_all(run: RunDir) -> list[Submission]:
    """Return the submissions of a run in their order. Raises CorruptState."""
    return [Submission.from_json(path, read_json_object(path)) for path in _paths(run)]


def read_claim(run: RunDir, number: int, position: int = 0) -> str | None:
    """Return the id of the job that does the work of an array of a submission; None where none has started."""
    try:
        return str(run.claim(number, position).readlink())
    except OSError:
        return None


def claims(run: RunDir, submission: Submission) -> list[str | None]:
    """Return the claim of each of its arrays."""
    return [read_claim(run, submission.number, position) for position in range(len(submission.arrays))]


def _paths(run: RunDir) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(run.submissions))
    except FileNotFoundError:
        return
    for name in names:
        if _NAME.match(name):
            yield run.submissions / name
