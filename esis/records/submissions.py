"""Keep one record per submission: written before the scheduler is asked (the intent), completed with its answer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from esis.errors import BadInput, CorruptState
from esis.files import read_json_object, write_json
from esis.model.parameters import format_ranges, parse_ranges
from esis.model.workdir import RunDir
from esis.records.provenance import Origin

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
class Submission:
    """Hold one act of handing tasks of a run to a scheduler."""

    number: int
    scheduler: str  # "slurm" or "local"
    tasks: tuple[int, ...]
    array: str  # the array specification, e.g. 0-9%10
    script_digest: str  # SHA-256 of sbatch.sh
    created: float  # seconds since 1970
    owner: str  # host, PID, … of the esis that made it (locks.Owner.text)
    records: bool  # whether its tasks write records
    argv: tuple[str, ...] = ()
    dependency: str | None = None
    outcome: Outcome = Outcome.OPEN
    jobs: tuple[Job, ...] = ()
    message: str | None = None
    answered: float | None = None  # when the answer came, seconds since 1970
    returned: tuple[int, ...] = ()  # tasks that a local run gave back without finishing them
    mapped: bool = False  # the array's indices are positions in `tasks` (see RunDir.map)
    options: tuple[str, ...] = ()  # sbatch options given on the command line
    output: str = ""  # pattern of the log files' names
    seen: tuple[str, ...] = ()  # job ids of this run that the scheduler knew before: not this submission's
    provenance: Origin | None = None  # who submitted, where and with what; None in records of earlier versions

    def to_json(self) -> dict[str, Any]:
        """Return what stands in the file."""
        return {
            "schema": SCHEMA,
            "number": self.number,
            "scheduler": self.scheduler,
            "tasks": format_ranges(self.tasks),
            "array": self.array,
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
            "mapped": self.mapped,
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
                tasks=tuple(parse_ranges(raw["tasks"])),
                array=str(raw["array"]),
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
                mapped=bool(raw["mapped"]),
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


def read_claim(run: RunDir, number: int) -> str | None:
    """Return the id of the job that does the work of a submission; None where none has started."""
    try:
        return str(run.claim(number).readlink())
    except OSError:
        return None


def _paths(run: RunDir) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(run.submissions))
    except FileNotFoundError:
        return
    for name in names:
        if _NAME.match(name):
            yield run.submissions / name
