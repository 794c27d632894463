"""Write down what was found out; nothing else in this room writes."""

from __future__ import annotations

from collections.abc import Callable

from esis.files import write_atomic
from esis.model.workdir import RunDir
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.look import look
from esis.operations.witness.status import RunStatus
from esis.records import stage
from esis.records.tasks import keep_verdict, note
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
    remembers.
    """
    run, news = status.run, status.news
    if news.complete and not status.feeders:  # nobody asks for those once it is marked
        mark_complete(status.evidence)
    for record, word in news.outranked:
        keep_verdict(run.tasks, record, word)
    for task, (submission, job, word) in news.unrecorded:
        try:
            note(run.tasks, task, submission, job, word)
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
