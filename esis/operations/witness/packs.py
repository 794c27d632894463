"""Know what the end of a job of packs says of its tasks: it is about all of them, and each may have its own end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from esis.records.submissions import Submission
from esis.records.tasks import TaskRecord
from esis.schedulers.base import Sighting

CUT_OFF = "CUT_OFF"  # kept in a record's name like a verdict of Slurm's
TERMINATED = 143  # what a task of a pack records where its job is ended: all of the job's processes get SIGTERM

_CUTTING = frozenset({"TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL", "PREEMPTED"})
_FAILED = "FAILED"
_STOPPED = frozenset({None, TERMINATED, 130, 138})  # what tasks leave where their job got a signal; None: no end
_MOMENT = 1  # second; of tasks that begin together one may leave its record behind the others


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
    """Yield what a job has recorded of the tasks in the pack of one of them; no notes of ESIS's on others."""
    for other in _pack(submission, task):
        record = records.get(other)
        if record is not None and record.job == job and not record.is_outdone:
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


class Packs:
    """Know which tasks the jobs of packs have come to, also where they could record nothing of them (a full quota).

    Tasks begin in the order of their pack, `parallel` at a time, and record that at once.
    """

    def __init__(self, records: Mapping[int, TaskRecord]) -> None:
        """Look at a pack when somebody asks."""
        self._records = records
        self._known: dict[tuple[int, int, int, str], _Pack] = {}

    def has_begun(self, submission: Submission, task: int, job: str, behind: int = -1) -> bool:
        """Return whether a job came to a task, in a start after `behind`, as what it did of those behind that shows."""
        if not submission.packed:
            return False
        begun = self._of(submission, task, job).begun
        return any(task < bound for restart, bound in begun.items() if restart > behind)

    def is_through(self, submission: Submission, task: int, job: str, seen: Sighting) -> bool:
        """Return whether a job of which Slurm says FAILED came to the end of a pack: a task had failed, and no more.

        So says its exit status, where that is told: another one is that of a signal.
        """
        if not submission.packed or seen.word.split()[0] != _FAILED or seen.code not in (None, 1) or seen.signal:
            return False
        return self._of(submission, task, job).whole

    def _of(self, submission: Submission, task: int, job: str) -> _Pack:
        key = (submission.number, *submission.place_of(task), job)
        if key not in self._known:
            self._known[key] = _read(list(of_pack(self._records, submission, task, job)), submission.parallel)
        return self._known[key]


class _Pack(NamedTuple):
    begun: Mapping[int, int]  # by restart count, the task before which it has begun all that it had to do
    whole: bool  # whether nothing shows that its last start was cut off


def _read(recorded: Sequence[TaskRecord], parallel: int) -> _Pack:
    starts: dict[int, list[TaskRecord]] = {}
    for record in recorded:
        starts.setdefault(record.restart, []).append(record)
    begun: dict[int, int] = {}
    for restart, records in starts.items():
        last = max(record.end or record.start for record in records)
        # While that many tasks behind it have begun, one is either at work or has ended.
        sure = [record.task for record in records if last - record.start > _MOMENT]
        if len(records) >= parallel:
            sure.append(records[-parallel].task)
        begun[restart] = max(sure, default=0)
    return _Pack(begun, bool(starts) and all(record.code not in _STOPPED for record in starts[max(starts)]))
