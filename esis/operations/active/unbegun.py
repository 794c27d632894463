"""Record the tasks that were cancelled before they began, for Slurm may keep no trace of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from esis.files import fsync_directory
from esis.operations.active.asked import untold
from esis.operations.active.targets import Targets
from esis.operations.witness.status import RunStatus, TaskState
from esis.operations.witness.target import evidence_of
from esis.records.notes import note
from esis.records.submissions import LOCAL, Outcome, Submission
from esis.schedulers.base import JobState


def note_unbegun(before: RunStatus, targets: Targets, gone: Sequence[int], left_jobs: Sequence[str]) -> None:
    """Record the tasks that never began, for Slurm may keep no trace of them.

    Under the submission whose job it was; not where another one holds the task by now, or an attempt of this one is
    recorded. Nor of a rerun by hand: what was before it stands. What can't be written (somebody else's run, a full
    disk) is left, as `keep` leaves it: they are cancelled all the same.
    """
    if before.evidence.is_old:  # nothing is written into a run of 0.0.4
        return
    evidence, noted = evidence_of(before.run), False
    unbegun = (*_unbegun(before, targets, frozenset(gone)), *_unanswered(before, targets, left_jobs))
    for mine, job, task in unbegun:
        later = any(
            item.number > mine.number and item.outcome is not Outcome.REFUSED and item.holds(task)
            for item in evidence.submissions
        )
        record = evidence.records.get(task)
        if not later and (record is None or record.submission < mine.number):
            try:
                note(before.run.tasks, task, mine.number, job, "CANCELLED")
                noted = True
            except OSError:
                break
    if noted:
        with suppress(OSError):  # told after this, and nothing else may know it after a power cut
            fsync_directory(before.run.tasks)


def _unbegun(before: RunStatus, targets: Targets, gone: Collection[int]) -> Iterator[tuple[Submission, str, int]]:
    """Yield the tasks that waited in jobs of ESIS's own and are gone: submission, job, task."""
    for job, elements in targets.elements.items():
        for held, tasks in elements.values():
            for task in tasks if held.sent else ():
                if held.submission is not None and task in gone and before.tasks[task].state is TaskState.WAITING:
                    yield held.submission, job, task


def _unanswered(before: RunStatus, targets: Targets, left_jobs: Sequence[str]) -> Iterator[tuple[Submission, str, int]]:
    """Yield the same of the one job that ESIS submitted, and neither an id nor a path tells as what (up to 0.1.0)."""
    lost = [
        item
        for item in before.evidence.submissions
        if item.outcome is Outcome.OPEN and item.scheduler != LOCAL and len(item.jobs) < len(item.arrays)
    ]
    held = untold(before)
    jobs = {item.seen.job for item in held}
    if len(lost) != 1 or len(jobs) != 1 or not jobs <= targets.strangers.keys() - set(left_jobs):
        return
    for item in held:
        if item.seen.state is JobState.WAITING:
            for task in lost[0].tasks_at(len(lost[0].jobs), item.seen.indices or ()):
                yield lost[0], item.seen.job, task
