"""Hold what may be said of a task: the states, and a verdict with its reasons."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

CLAIMED = "completed.state holds 1"
LAUNCH_FAILURE = "launch failure"  # Slurm failed it before its script began, as where its log can't be opened
RESUMABLE = "resumable"  # the reason of a task that saved its state and has more to do


class TaskState(Enum):
    """Name the states of a task, in the order in which they are shown."""

    DONE = "done"
    RUNNING = "running"
    WAITING = "waiting"
    UNSUBMITTED = "unsubmitted"
    FAILED = "failed"
    LOST = "lost"
    UNKNOWN = "unknown"


# A job that works through a pack may end before it came to all of its tasks: these are submitted again.


ACTIVE_STATES = frozenset({TaskState.WAITING, TaskState.RUNNING})


class Verdict(NamedTuple):
    """Hold what is known of tasks that fare alike."""

    state: TaskState
    reason: str = ""
    code: int | None = None  # exit code of the script
    job: str | None = None  # the array's job id
    passing: bool = False  # a later look will tell more
    fleeting: bool = False  # only the queue's memory tells it, and that is short
    unread: bool = False  # its job or process has ended, and a record may have come since they were read


class TaskStatus(NamedTuple):
    """Hold what is known of one task."""

    verdict: Verdict
    elapsed: float | None = None  # seconds

    @property
    def state(self) -> TaskState:
        """Return the state."""
        return self.verdict.state

    @property
    def reason(self) -> str:
        """Return why, in words for people."""
        return self.verdict.reason

    @property
    def code(self) -> int | None:
        """Return the exit code of the script."""
        return self.verdict.code

    @property
    def job(self) -> str | None:
        """Return the array's job id."""
        return self.verdict.job
