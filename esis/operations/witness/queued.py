"""Judge a task by a job in the queue that holds it; one that works through packs may be past it, or come again."""

from __future__ import annotations

from collections.abc import Mapping

from esis.operations.witness.packs import of_pack
from esis.operations.witness.sightings import Sightings
from esis.operations.witness.status import TaskState, Verdict
from esis.records.submissions import Submission
from esis.records.tasks import TaskRecord
from esis.schedulers.base import JobState, Sighting

_LIVE = {JobState.WAITING: TaskState.WAITING, JobState.ACTIVE: TaskState.RUNNING}


def judge_queued(sightings: Sightings, records: Mapping[int, TaskRecord], task: int, seen: Sighting) -> Verdict | None:
    """Judge a task that a job in the queue holds; None where that job works through a pack, and is past it."""
    script, record = packed_by(sightings, seen), records.get(task)
    if script is None:
        return _waits_or_runs(seen)
    if record is None or _is_earlier(record, seen, script):
        return _waits_in_pack(seen)
    if not record.ended:
        return _waits_or_runs(seen)
    return _waits_in_pack(seen) if _runs_again(records, record, seen, script) else None


def packed_by(sightings: Sightings, seen: Sighting) -> Submission | None:
    """Return the submission in whose packs a job works; None where its elements are single tasks."""
    script = sightings.script_of(seen.job)
    return script if script is not None and script.packed else None


def _is_earlier(record: TaskRecord, seen: Sighting, script: Submission) -> bool:
    """Return whether a record is from before the job that works through a task's pack has come to it."""
    if record.job == seen.job:
        return False
    earlier = record.submission < script.number or (len(record.job), record.job) < (len(seen.job), seen.job)
    return earlier or seen.state is JobState.WAITING


def _runs_again(records: Mapping[int, TaskRecord], record: TaskRecord, seen: Sighting, submission: Submission) -> bool:
    """Return whether a job of packs that was requeued comes to a task again, that ended in an earlier start.

    It does all but what is done. While it runs, its own records tell which start it is.
    """
    if record.done or record.job != seen.job:
        return False
    return seen.state is JobState.WAITING or any(
        other.restart > record.restart for other in of_pack(records, submission, record.task, record.job)
    )


def _waits_or_runs(seen: Sighting) -> Verdict:
    state = _LIVE[seen.state]
    return Verdict(state, seen.reason if state is TaskState.WAITING else "", job=seen.job)


def _waits_in_pack(seen: Sighting) -> Verdict:
    """Judge a task that the job which works through its pack hasn't come to."""
    reason = seen.reason if seen.state is JobState.WAITING else "its job runs"
    return Verdict(TaskState.WAITING, reason, job=seen.job)
