"""Write down what was found out; nothing else in this room writes."""

from __future__ import annotations

import os
from collections.abc import Callable

from esis.files import write_atomic
from esis.model.workdir import RunDir
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.look import look
from esis.operations.witness.status import RunStatus
from esis.records import stage
from esis.records.notes import note, note_all
from esis.records.old import job_ids_in
from esis.records.tasks import COMPLETED, keep_verdict
from esis.schedulers.base import Scheduler
from esis.version import VERSION


def look_and_keep(evidence: Evidence, scheduler: Scheduler) -> RunStatus:
    """Judge one run with at most one call of squeue and one of sacct, and write down what was found out."""
    _, (status,) = look([evidence], scheduler)
    if status is None:
        raise TypeError("evidence gives a status")
    keep(status)
    return status


def keep(status: RunStatus) -> None:
    """Write down what Slurm said and forgets, and that a run is complete. Judging alone writes nothing.

    What can't be written (somebody else's run, a full disk) is left: the next look says the same, as long as Slurm
    remembers. Nor does root, or who shares the directory, leave files of his own in somebody's run: its workers open
    completed.state for writing.
    """
    run, news = status.run, status.news
    own = (news.complete or bool(news.unrecorded)) and _is_own(run)
    if own and news.complete and not status.feeders:  # nobody asks for those once it is marked
        mark_complete(status.evidence)
    for record, word in news.outranked:
        keep_verdict(run.tasks, record, word)
    for task, told in news.unrecorded if own else ():
        try:
            note(run.tasks, task, *told)
        except OSError:
            return


def mark_complete(evidence: Evidence) -> None:
    """Mark a run as complete, so that nobody has to look at every task again; also in the way of 0.0.4."""
    run = evidence.run
    try:
        write_atomic(run.completed, "1")
        write_atomic(run.complete_mark, stage.mark_text(run, evidence.submissions, evidence.moment, VERSION))
    except OSError:
        return  # somebody else's run, or a full disk: the records still say the same


def unmark_complete(run: RunDir, check: Callable[[], None] | None = None) -> None:
    """Take the marks away, if `check` raises nothing: tasks are about to run again. Raises OSError."""
    if check is not None:
        check()
    run.complete_mark.unlink(missing_ok=True)
    write_atomic(run.completed, "0", check=check)


def note_unrecorded(evidence: Evidence, check: Callable[[], None]) -> None:
    """Note of a complete run that the tasks without a record are done, before its marks go. Raises OSError.

    Nothing else tells it: the records were removed, as `esis doc layout` allows, or none were written. Of all of them
    at once, and the marks hold until then. Not where somebody has overruled the evidence by hand.
    """
    run = evidence.run
    if evidence.marked_complete and not stage.has_own_mark(run):
        return
    records, latest = evidence.records, job_ids_in(run.job_ids)
    otherwise = (stage.marked_submission(run) or 1, latest[-1]) if latest else None
    told = [
        (task, *found)
        for task in evidence.indices
        if task not in records and (found := _latest_of(evidence, task) or otherwise) is not None
    ]
    if told:
        note_all(run, told, COMPLETED, check)


def _latest_of(evidence: Evidence, task: int) -> tuple[int, str] | None:
    """Return the latest submission of a task, and its job there, where both are known."""
    for sub in reversed(evidence.submissions):
        position = sub.place_of(task)[0] if sub.jobs and sub.holds(task) else len(sub.jobs)
        if position < len(sub.jobs):
            return sub.number, sub.jobs[position].id
    return None


def _is_own(run: RunDir) -> bool:
    try:
        return run.path.stat().st_uid == os.geteuid()
    except OSError:
        return False
