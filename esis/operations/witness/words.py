"""Say in words for people why a task is in its state, and know what Slurm's words mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esis.operations.witness.status import LAUNCH_FAILURE
from esis.schedulers.base import Sighting

if TYPE_CHECKING:
    from esis.locks import Owner
    from esis.records.tasks import TaskRecord

# Why nobody knows whether a task is done that has ended: something kept it from writing a record.
NO_RECORD = "and no record of the task"
COMPLETED_UNRECORDED = f"COMPLETED, {NO_RECORD}"
LATER_UNRECORDED = "COMPLETED, and no record of that start"
BEGUN_UNRECORDED = f"its job came to it, {NO_RECORD}"
UNRECORDED_ENDS = (COMPLETED_UNRECORDED, LATER_UNRECORDED, BEGUN_UNRECORDED)

_ENDS_WHILE_WAITING = ("CANCELLED", "DEADLINE")
_LAUNCH_SIGNAL = 53  # Slurm's "0:53": a log file that can't be opened, or another failure before the script began


def unrecorded_end(note: TaskRecord, packed: bool) -> str:
    """Say what was noted of a task that left no record."""
    return LATER_UNRECORDED if note.restart else BEGUN_UNRECORDED if packed else COMPLETED_UNRECORDED


def failure_reason(verdict: Sighting, recorded: int | None, started: bool) -> str:
    """Say why Slurm holds a task for failed: its own word, or what stands behind a bare FAILED."""
    if verdict.word.split()[0] != "FAILED":
        return verdict.word.split()[0]
    if recorded not in (None, 0):
        return exit_reason(recorded)
    if verdict.code:
        return exit_reason(verdict.code)
    # A script that ran and ended before its record has an exit status, which squeue doesn't show.
    if verdict.signal == _LAUNCH_SIGNAL or not (started or verdict.reason == "NonZeroExitCode"):
        return LAUNCH_FAILURE
    if verdict.signal:
        return f"signal {verdict.signal}"
    return f"FAILED ({verdict.reason})" if verdict.reason not in ("", "None") else "FAILED"


def never_began(seen: Sighting) -> bool:
    """Return whether Slurm speaks of an attempt that it took away while it waited: that took no time at all."""
    return seen.word.split()[0] in _ENDS_WHILE_WAITING and seen.used != "" and seen.elapsed == 0


def elsewhere(owner: Owner | None) -> str:
    """Say why nobody knows what a local run does."""
    where = f"a local run on {owner.host}" if owner is not None else "a local run somewhere"
    return f"{where}: another machine, boot or container, whose processes can't be seen from here"


def exit_reason(code: int | None) -> str:
    """Name an exit status other than 0."""
    return f"exit code {code}" if code else ""
