"""Act on tasks that are queued or running: cancel them, change how many run at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from esis.errors import BadInput, SlurmRefused, SlurmUnanswered
from esis.locks import Owner
from esis.model.index_sets import format_ranges
from esis.model.workdir import RunDir
from esis.operations.polling import pause_until
from esis.operations.submission.arrays import share
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.keep import look_and_keep
from esis.operations.witness.status import ACTIVE_STATES, RunStatus, TaskState
from esis.operations.witness.target import evidence_of
from esis.records import old
from esis.records.submissions import LOCAL, Job, Submission
from esis.records.tasks import note
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


def cancel(run: RunDir, tasks: Sequence[int] | None, pending_only: bool, slurm: Slurm) -> Cancelled:
    """Cancel active tasks (all where None are named) and see that they are gone.

    Where none are named, first the jobs that would submit the rest of the run: what they add meanwhile goes, too.
    The exit status of scancel tells nothing, so the queue is asked again. Raises BadInput where nothing is active,
    SlurmUnanswered where the queue can't be asked.
    """
    evidence = evidence_of(run)
    status = _asked(evidence, slurm)
    wanted = _active(status, tasks, pending_only)
    fed = status.feeders if tasks is None else ()
    if not wanted and not fed:
        hint = ": ".join(old.what_is_known(run)) if evidence.is_old and not evidence.submissions else None
        raise BadInput(f"{run.label}: there is nothing to cancel: {status.summary()}", hint)
    if _is_local(evidence):
        _refuse_part(status, wanted)
    gone: tuple[str, ...] = ()
    if fed:
        status, gone = _starve(status, slurm)
        evidence, wanted = status.evidence, _active(status, tasks, pending_only)
    feeding = tuple(seen.job for seen in status.feeders)

    def outcome(left: Sequence[int]) -> Cancelled:
        return Cancelled(run, tuple(task for task in wanted if task not in left), tuple(left), gone, feeding)

    if not wanted:
        return outcome(())
    if _is_local(evidence):
        _interrupt(evidence)
        return outcome(_wait_gone(run, wanted, slurm))
    asked: set[str] = set()

    def cancel_jobs(found: RunStatus, tasks: Sequence[int]) -> None:
        """Cancel each job once: behind the one that was seen another may wait with the same tasks, a rerun by hand."""
        for job, positions in _by_job(evidence, found, tasks).items():
            if job not in asked:
                asked.add(job)
                refusal = slurm.cancel(evidence.job_called(job), positions, pending_only)
                if refusal is not None:
                    raise SlurmRefused(f"{run.label}: job {job}: {refusal}", "its owner can cancel it")

    cancel_jobs(status, wanted)
    left = _wait_gone(run, wanted, slurm, cancel_jobs)
    _note_unbegun(run, status, [task for task in wanted if task not in left])
    return outcome(left)


def throttle(run: RunDir, limit: int, slurm: Slurm) -> tuple[str, ...]:
    """Let at most `limit` tasks (0: any number) of the queued arrays run at a time; return their job ids."""
    evidence = evidence_of(run)
    status = _asked(evidence, slurm)
    if not status.active_jobs:
        raise BadInput(f"{run.label}: no array of it is queued: {status.summary()}")
    for job, part in zip(status.active_jobs, share(limit, len(status.active_jobs))):
        problem = slurm.set_throttle(evidence.job_called(job), part)
        if problem is not None:
            raise SlurmRefused(f"{run.label}: job {job}: {problem}")
    return status.active_jobs


def _asked(evidence: Evidence, slurm: Slurm) -> RunStatus:
    # A rerun by hand may wait behind a mark that says that the run is complete.
    status = look_and_keep(evidence._replace(marked_complete=False), slurm)
    if status.problem is not None:
        raise SlurmUnanswered(f"{evidence.run.label}: the queue can't be asked: {status.problem}", "try again later")
    return status


def _active(status: RunStatus, tasks: Sequence[int] | None, pending_only: bool) -> list[int]:
    active = status.indices(TaskState.WAITING) if pending_only else status.indices(*ACTIVE_STATES)
    if tasks is None:
        return active
    named = set(tasks)
    idle = sorted(named - set(status.indices(*ACTIVE_STATES)))
    if idle:
        raise BadInput(f"{status.run.label}: tasks {format_ranges(idle)} are neither waiting nor running")
    return [task for task in active if task in named]


def _by_job(evidence: Evidence, status: RunStatus, tasks: Sequence[int]) -> dict[str, list[int]]:
    """Return Slurm's indices of what is to be cancelled, by job id. Raises BadInput for a part of a pack."""
    found: dict[str, dict[int, set[int]]] = {}
    for task in tasks:
        job = status.tasks[task].job
        if job is not None:
            submission = _submission_of(evidence, job)
            index = submission.place_of(task)[1] if submission is not None and submission.holds(task) else task
            found.setdefault(job, {}).setdefault(index, set()).add(task)
    for job, elements in found.items():
        _refuse_parts_of_packs(evidence, status, job, elements)
    return {job: sorted(elements) for job, elements in found.items()}


def _submission_of(evidence: Evidence, job: str) -> Submission | None:
    """Return the submission whose script a job runs: one by hand has that of the latest."""
    known = next((sub for sub in evidence.submissions if sub.position_of(job) is not None), None)
    return known if known is not None or not evidence.in_slurm else evidence.in_slurm[-1]


def _refuse_parts_of_packs(evidence: Evidence, status: RunStatus, job: str, elements: Mapping[int, set[int]]) -> None:
    """Raise BadInput where an element of an array works on active tasks that aren't to be cancelled."""
    submission = _submission_of(evidence, job)
    if submission is None or not submission.packed:
        return
    position = submission.position_of(job) or 0
    for index, chosen in elements.items():
        others = [
            task
            for task in submission.tasks_at(position, (index,))
            if task not in chosen and status.tasks[task].state in ACTIVE_STATES
        ]
        if others:
            raise BadInput(
                f"{evidence.run.label}: tasks {format_ranges(sorted(chosen))} are in one job with "
                f"{format_ranges(others)}, and can only be cancelled together with them",
                "name them too",
            )


def _starve(status: RunStatus, slurm: Slurm) -> tuple[RunStatus, tuple[str, ...]]:
    """Cancel the jobs that submit the rest, and those that they queue meanwhile; return the latest look and their ids.

    One that came again is cancelled again: Slurm takes a request to requeue also of a job that it is just cancelling
    (22.05 to 26.05). Those that don't go in time are among the feeders of that look.
    """
    seen, asked = [status], dict[str, None]()

    def gone() -> bool:
        if asked:
            seen[0] = _asked(evidence_of(status.run), slurm)
        for feeder in seen[0].feeders:
            if feeder.job not in asked or feeder.word != _ENDING:
                asked[feeder.job] = None
                refusal = slurm.drop_feeder(_feeder(seen[0].evidence, feeder.job))
                if refusal is not None:
                    raise SlurmRefused(
                        f"{status.run.label}: job {feeder.job}, which submits the rest: {refusal}",
                        "its owner can cancel it",
                    )
        return not seen[0].feeders

    pause_until(gone, _SETTLE_SECONDS, first=0.2, longest=5.0)
    left = {feeder.job for feeder in seen[0].feeders}
    return seen[0], tuple(job for job in asked if job not in left)


def _feeder(evidence: Evidence, job: str) -> Job:
    """Return a job that feeds, on the cluster that was asked. Raises BadInput where that was more than one."""
    if len(evidence.clusters) > 1:  # the same id may be another job's there
        raise BadInput(
            f"{evidence.run.label}: job {job} submits the rest, on one of the clusters {', '.join(evidence.clusters)}",
            f"end it there first: scancel -M <cluster> {job}",
        )
    return Job(job, *evidence.clusters)


def _is_local(evidence: Evidence) -> bool:
    """Return whether the tasks that are active belong to an esis on this machine."""
    return bool(evidence.submissions) and evidence.submissions[-1].scheduler == LOCAL


def _refuse_part(status: RunStatus, wanted: Sequence[int]) -> None:
    """Raise BadInput where not all of a local run is to be ended: there is one process to be told, and it ends all."""
    others = sorted(set(status.indices(*ACTIVE_STATES)) - set(wanted))
    if others:
        raise BadInput(
            f"{status.run.label}: a local run can only be ended as a whole, and tasks "
            f"{format_ranges(others)} wait or run, too",
            "esis cancel without options ends all of it, as Ctrl-C does",
        )


def _interrupt(evidence: Evidence) -> None:
    """Interrupt the esis that runs the tasks on this machine, as Ctrl-C would.

    Raises BadInput where that isn't certainly the process that the run names.
    """
    owner = Owner.parse(evidence.submissions[-1].owner)
    try:
        interrupted = owner is not None and owner.interrupt()
    except PermissionError:
        interrupted = False
    if not interrupted:
        raise BadInput(
            f"{evidence.run.label}: its local run belongs to {owner or 'an unknown process'}, which can't "
            "be signalled from here",
            "end that process on its own machine, as its own user",
        )


def _note_unbegun(run: RunDir, before: RunStatus, gone: Sequence[int]) -> None:
    """Record the tasks that never began, for Slurm may keep no trace of them.

    Not where a rerun by hand was cancelled of a task that had ended before: that end stands. What can't be written
    (somebody else's run, a full disk) is left, as `keep` leaves it: they are cancelled all the same.
    """
    evidence = evidence_of(run)
    for task in () if evidence.is_old else gone:  # nothing is written into a run of 0.0.4
        job = before.tasks[task].job
        submission = next((sub for sub in reversed(evidence.in_slurm) if sub.holds(task)), None)
        if before.tasks[task].state is not TaskState.WAITING or job is None or submission is None:
            continue
        record = evidence.records.get(task)
        by_hand = submission.position_of(job) is None and job not in evidence.claims.get(submission.number, ())
        if record is None or (record.job != job and not (by_hand and record.ended)):
            try:
                note(run.tasks, task, submission.number, job, "CANCELLED")
            except OSError:
                return


def _wait_gone(
    run: RunDir, tasks: Sequence[int], slurm: Slurm, again: Callable[[RunStatus, Sequence[int]], None] | None = None
) -> list[int]:
    """Wait until none of `tasks` is active; return those that still are when the time is over."""
    left = list(tasks)

    def gone() -> bool:
        status = _asked(evidence_of(run), slurm)
        left[:] = [task for task in tasks if status.tasks[task].state in ACTIVE_STATES]
        if left and again is not None:
            again(status, left)
        return not left

    pause_until(gone, _SETTLE_SECONDS, first=0.2, longest=5.0)
    return left
