"""Know what the end of a job of packs says of its tasks: it is about all of them, and each may have its own end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from esis.records.submissions import Submission
from esis.records.tasks import TaskRecord

CUT_OFF = "CUT_OFF"  # kept in a record's name like a verdict of Slurm's
TERMINATED = 143  # what a task of a pack records where its job is ended: all of the job's processes get SIGTERM

_CUTTING = frozenset({"TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL", "PREEMPTED"})
_FAILED = "FAILED"


def cuts_off(word: str, began: bool) -> bool:
    """Return whether Slurm's word on a job of packs means that it ended before it was through with them.

    A plain FAILED does where the work had begun: else the job never got as far as that.
    """
    return word in _CUTTING or (word == _FAILED and began)


def _pack(submission: Submission, task: int) -> Sequence[int]:
    """Return the tasks of the pack that holds a task."""
    position, index = submission.place_of(task)
    return submission.tasks_at(position, (index,))


def of_pack(records: Mapping[int, TaskRecord], submission: Submission, task: int, job: str) -> Iterator[TaskRecord]:
    """Yield what a job has recorded of the tasks in the pack of one of them."""
    for other in _pack(submission, task):
        record = records.get(other)
        if record is not None and record.job == job:
            yield record


def is_alone(records: Mapping[int, TaskRecord], submission: Submission, record: TaskRecord) -> bool:
    """Return whether a task was all that was left of its pack for a start of its job: then Slurm's word is about it.

    The others were done before it began.
    """
    others = (records.get(task) for task in _pack(submission, record.task) if task != record.task)
    return all(
        other is not None
        and other.done
        and (other.job, other.restart) != (record.job, record.restart)
        and (other.end or 0) <= record.start
        for other in others
    )


def leaves_no_ends(records: Mapping[int, TaskRecord], submission: Submission, record: TaskRecord) -> bool:
    """Return whether more tasks of a pack lack an end than were under way at any time.

    Then the script leaves none (an EXIT trap of its own, `exec`), and nobody knows which of them have done their work.
    """
    endless = (
        other
        for other in of_pack(records, submission, record.task, record.job)
        if not other.ended and other.restart == record.restart
    )
    return next(islice(endless, submission.parallel, None), None) is not None
