"""Say what a scheduler is to ESIS: something that takes a submission and tells what it knows about jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from esis.model.workdir import RunDir
from esis.records.submissions import Job, Outcome, Submission


class JobState(Enum):
    """Class the states in which a scheduler may see a task."""

    WAITING = "waiting"
    ACTIVE = "active"
    COMPLETED = "completed"  # the script exited with 0; nothing more
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Sighting:
    """Hold what a scheduler says about one task of an array, or a whole array where `task` is None."""

    job: str  # the array's job id
    task: int | None
    state: JobState
    word: str  # the scheduler's own word for the state
    reason: str = ""
    place: str = ""  # "command|working directory", as the scheduler shows them


@dataclass(frozen=True)
class Snapshot:
    """Hold one answer about all of the user's jobs. With a `problem`, absence from it proves nothing."""

    sightings: tuple[Sighting, ...] = ()
    problem: str | None = None

    def of_run(self, run: RunDir) -> list[Sighting]:
        """Return what was seen of a run: job ids are used again, so its place has to match."""
        commands = (f"{run.script}|", f"{run.cwd}/../sbatch.sh|")
        workdir = f"|{run.cwd}"
        return [seen for seen in self.sightings if seen.place.startswith(commands) or seen.place.endswith(workdir)]


@dataclass(frozen=True)
class Answer:
    """Hold a scheduler's answer to a submission."""

    outcome: Outcome
    message: str = ""
    returned: tuple[int, ...] = ()  # tasks given back without being finished


class Scheduler(Protocol):
    """Take submissions and tell states."""

    name: str

    def submit(self, run: RunDir, submission: Submission, acknowledged: Callable[[Job], None]) -> Answer:
        """Hand the run's sbatch.sh to the scheduler, telling the job's id through `acknowledged` at once."""
        ...

    def observe(self, clusters: Sequence[str]) -> Snapshot:
        """Ask once for all of the user's jobs (none named: on the default cluster).

        A failure is a Snapshot with a problem, never an empty answer.
        """
        ...

