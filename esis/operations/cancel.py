"""Cancel tasks that are queued or running, and see that they are gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esis.errors import BadInput, SlurmRefused
from esis.locks import Owner, holder
from esis.model.index_sets import format_ranges
from esis.model.workdir import RunDir
from esis.operations.active.asked import asked, sender_of
from esis.operations.active.machine import interrupt
from esis.operations.active.targets import Targets, beyond_reach, choose
from esis.operations.active.unbegun import note_unbegun
from esis.operations.polling import pause_until
from esis.operations.witness.status import ACTIVE_STATES, RunStatus, TaskState
from esis.operations.witness.target import evidence_of
from esis.records import old
from esis.schedulers.slurm import Slurm

_SETTLE_SECONDS = 60.0
_ENDING = "COMPLETING"  # Slurm's word for a job that was cancelled, while something of it still runs


@dataclass(frozen=True)
class Cancelled:
    """Hold what became of a cancellation."""

    run: RunDir
    gone: tuple[int, ...]
    left: tuple[int, ...]  # still active when the wait was over
    feeders: tuple[str, ...] = ()  # jobs that would have submitted the rest, and don't any more
    feeding: tuple[str, ...] = ()  # those that go on to do so
    strangers: tuple[str, ...] = ()  # jobs that were cancelled of which nobody knows the tasks
    strangers_left: tuple[str, ...] = ()
    sender: Owner | None = None  # who was still handing arrays of the run to Slurm when the wait for that was over
    done: tuple[int, ...] = ()  # of those that are gone: they had come to their end, or were done before
    problem: str | None = None  # what scancel said, or why it could not be asked


def cancel(run: RunDir, tasks: Sequence[int] | None, pending_only: bool, slurm: Slurm) -> Cancelled:
    """Cancel active tasks (all where None are named) and see that they are gone.

    Where none are named, first the jobs that would submit the rest of the run: what they add meanwhile goes, too; and
    the run's jobs of which nobody knows the tasks. A submission under way is waited for, since it sends one array after
    the other. Only what was there then is cancelled, not what somebody submits while this waits for its end. The exit
    status of scancel tells nothing, so the queue is asked again. Raises BadInput where nothing is active, or a local
    run can't be ended from here, SlurmUnanswered where the queue can't be asked.
    """
    status, sender = _settled(run, slurm)
    targets = choose(status, tasks, pending_only)
    fed = status.feeders if tasks is None else ()
    if not targets.tasks and not targets.strangers and not fed:
        beyond, busy = beyond_reach(status, tasks, pending_only, targets), sender or holder(run.lock)
        hint = ": ".join(old.what_is_known(run)) if status.evidence.is_old and not status.evidence.submissions else None
        if beyond:
            hint = f"task {beyond[0]} runs {status.tasks[beyond[0]].reason}: end it there"
        elif busy is not None:
            hint = f"{busy} is at work on the run, and may submit tasks: end it first"
        raise BadInput(f"{run.label}: there is nothing to cancel: {status.summary()}", hint)
    gone: tuple[str, ...] = ()
    if fed:
        status, gone = _starve(status, slurm)
        targets = choose(status, tasks, pending_only)
    meant = {**targets.elements, **targets.strangers}
    said: str | None = None
    # Where nothing tells the cluster of one of them, none is changed.
    for job, indices in [(status.evidence.job_called(job), indices) for job, indices in meant.items()]:
        refusal, unheard = slurm.cancel(job, sorted(indices), pending_only)
        said = said or unheard
        if refusal is not None:
            raise SlurmRefused(f"{run.label}: job {job.id}: {refusal}", "its owner can cancel it")
    problems = [interrupt(status, *part) for part in targets.local]
    waited = targets._replace(local=tuple(part for part, problem in zip(targets.local, problems) if problem is None))
    left, left_jobs, done = _wait_gone(run, waited, slurm)
    left = sorted({*left, *beyond_reach(status, tasks, pending_only, targets)})
    ended = [task for task in waited.tasks if task not in left]
    note_unbegun(status, waited, ended, left_jobs)
    for problem in problems:
        if problem is not None:
            raise (
                problem
                if not ended
                else BadInput(f"{problem.message}; cancelled: {format_ranges(ended)}", problem.advice)
            )
    return Cancelled(
        run,
        tuple(ended),
        tuple(left),
        gone,
        tuple(seen.job for seen in status.feeders),
        tuple(job for job in targets.strangers if job not in left_jobs),
        tuple(left_jobs),
        sender,
        tuple(task for task in done if task not in left),
        said,
    )


def _settled(run: RunDir, slurm: Slurm) -> tuple[RunStatus, Owner | None]:
    """Wait for a submission under way; return what there is then, and who is still at it when the wait is over."""
    seen: list[RunStatus] = []

    def settled() -> bool:
        # Before the queue is asked, for it may be at rest a second later; and after, for one may have begun since.
        before = evidence_of(run)
        seen[:] = [asked(before, slurm)] if sender_of(before) is None else []
        return bool(seen) and sender_of(seen[0].evidence) is None

    pause_until(settled, _SETTLE_SECONDS, first=0.1, longest=2.0)
    status = seen[0] if seen else asked(evidence_of(run), slurm)
    return status, sender_of(status.evidence)


def _starve(status: RunStatus, slurm: Slurm) -> tuple[RunStatus, tuple[str, ...]]:
    """Cancel the jobs that submit the rest, and those that they queue meanwhile; return the latest look and their ids.

    One that came again is cancelled again: Slurm takes a request to requeue also of a job that it is just cancelling
    (22.05 to 26.05). Those that don't go in time are among the feeders of that look.
    """
    seen, dropped = [status], dict[str, None]()

    def gone() -> bool:
        if dropped:
            seen[0] = asked(evidence_of(status.run), slurm)
        for feeder in seen[0].feeders:
            if feeder.job not in dropped or feeder.word != _ENDING:
                dropped[feeder.job] = None
                refusal = slurm.drop_feeder(seen[0].evidence.queued(feeder.job))
                if refusal is not None:
                    raise SlurmRefused(
                        f"{status.run.label}: job {feeder.job}, which submits the rest: {refusal}",
                        "its owner can cancel it",
                    )
        return not seen[0].feeders

    pause_until(gone, _SETTLE_SECONDS, first=0.2, longest=5.0)
    left = {feeder.job for feeder in seen[0].feeders}
    return seen[0], tuple(job for job in dropped if job not in left)


def _wait_gone(run: RunDir, targets: Targets, slurm: Slurm) -> tuple[list[int], list[str], list[int]]:
    """Wait until nothing of it is active; return the tasks and jobs that still are when the time is over.

    And the tasks that are done in the end.
    """
    left = list(targets.tasks), list(targets.strangers), list[int]()

    def gone() -> bool:
        status = asked(evidence_of(run), slurm)
        tasks, jobs = set[int](), set[str]()
        for held in status.queue:
            elements = targets.elements.get(held.seen.job, {})
            strange = targets.strangers.get(held.seen.job, frozenset())
            for index in held.seen.indices or ():
                if index in elements:
                    tasks.update(elements[index].tasks)
                if index in strange:
                    jobs.add(held.seen.job)
        for submission, of_it in targets.local:
            later = [item for item in status.evidence.submissions if item.number > submission.number]
            tasks.update(task for task in of_it if not any(item.holds(task) for item in later))
        left[0][:] = sorted(task for task in tasks if status.tasks[task].state in ACTIVE_STATES)
        left[1][:] = sorted(jobs)
        left[2][:] = sorted(set(status.indices(TaskState.DONE)).intersection(targets.tasks))  # not each judged alone
        return not left[0] and not left[1]

    if left[0] or left[1]:
        pause_until(gone, _SETTLE_SECONDS, first=0.2, longest=5.0)
    return left
