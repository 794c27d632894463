"""Act on tasks that are queued or running: cancel them, change how many run at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from esis.errors import BadInput, SlurmRefused, SlurmUnanswered
from esis.locks import Owner, holder
from esis.model.index_sets import format_ranges
from esis.model.workdir import RunDir
from esis.operations.polling import pause_until
from esis.operations.submission.arrays import share
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.keep import look_and_keep
from esis.operations.witness.look import behind_mark
from esis.operations.witness.on_machine import left_behind
from esis.operations.witness.status import ACTIVE_STATES, Held, RunStatus, TaskState
from esis.operations.witness.target import evidence_of
from esis.processes import process_alive
from esis.records import old
from esis.records.notes import note
from esis.records.submissions import LOCAL, Outcome, Submission
from esis.records.tasks import read_details
from esis.schedulers.base import JobState
from esis.schedulers.identity import sent_as
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


class _Element(NamedTuple):
    """Hold an element of a queued array, and which of the chosen tasks it works on."""

    held: Held
    tasks: tuple[int, ...]


class _Targets(NamedTuple):
    """Hold what is to be cancelled, as it was known when that was asked: what comes later isn't meant."""

    elements: Mapping[str, Mapping[int, _Element]]  # by job and Slurm's index
    strangers: Mapping[str, frozenset[int]]  # the same of jobs of which nobody knows the tasks
    local: tuple[tuple[Submission, tuple[int, ...]], ...]  # what runs or waits on a machine, by submission

    @property
    def tasks(self) -> list[int]:
        """Return the tasks, sorted."""
        found = {task for elements in self.elements.values() for item in elements.values() for task in item.tasks}
        return sorted(found.union(*(tasks for _, tasks in self.local)))


def cancel(run: RunDir, tasks: Sequence[int] | None, pending_only: bool, slurm: Slurm) -> Cancelled:
    """Cancel active tasks (all where None are named) and see that they are gone.

    Where none are named, first the jobs that would submit the rest of the run: what they add meanwhile goes, too; and
    the run's jobs of which nobody knows the tasks. A submission under way is waited for, since it sends one array after
    the other. Only what was there then is cancelled, not what somebody submits while this waits for its end. The exit
    status of scancel tells nothing, so the queue is asked again. Raises BadInput where nothing is active, or a local
    run can't be ended from here, SlurmUnanswered where the queue can't be asked.
    """
    evidence = evidence_of(run)
    if _sender(evidence) is not None:
        pause_until(lambda: _sender(evidence_of(run)) is None, _SETTLE_SECONDS, first=0.1, longest=2.0)
        evidence = evidence_of(run)
    sender = _sender(evidence)
    status = _asked(evidence, slurm)
    targets = _targets(status, tasks, pending_only)
    fed = status.feeders if tasks is None else ()
    if not targets.tasks and not targets.strangers and not fed:
        beyond, busy = _beyond_reach(status, tasks, pending_only, targets), sender or holder(run.lock)
        hint = ": ".join(old.what_is_known(run)) if evidence.is_old and not evidence.submissions else None
        if beyond:
            hint = f"task {beyond[0]} runs {status.tasks[beyond[0]].reason}: end it there"
        elif busy is not None:
            hint = f"{busy} is at work on the run, and may submit tasks: end it first"
        raise BadInput(f"{run.label}: there is nothing to cancel: {status.summary()}", hint)
    gone: tuple[str, ...] = ()
    if fed:
        status, gone = _starve(status, slurm)
        targets = _targets(status, tasks, pending_only)
    meant = {**targets.elements, **targets.strangers}
    # Where nothing tells the cluster of one of them, none is changed.
    for job, indices in [(status.evidence.job_called(job), indices) for job, indices in meant.items()]:
        refusal = slurm.cancel(job, sorted(indices), pending_only)
        if refusal is not None:
            raise SlurmRefused(f"{run.label}: job {job.id}: {refusal}", "its owner can cancel it")
    problems = [_interrupt(status, *part) for part in targets.local]
    waited = targets._replace(local=tuple(part for part, problem in zip(targets.local, problems) if problem is None))
    left, left_jobs, done = _wait_gone(run, waited, slurm)
    left = sorted({*left, *_beyond_reach(status, tasks, pending_only, targets)})
    ended = [task for task in waited.tasks if task not in left]
    _note_unbegun(status, waited, ended, left_jobs)
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
    )


def throttle(run: RunDir, limit: int, slurm: Slurm) -> tuple[str, ...]:
    """Let at most `limit` tasks (0: any number) of the queued arrays run at a time; return their job ids."""
    status = _asked(evidence_of(run), slurm)
    jobs = sorted({held.seen.job for held in status.queue}, key=lambda job: (len(job), job))
    if not jobs:
        raise BadInput(f"{run.label}: no array of it is queued: {status.summary()}")
    for job, part in zip([status.evidence.job_called(job) for job in jobs], share(limit, len(jobs))):
        problem = slurm.set_throttle(job, part)
        if problem is not None:
            raise SlurmRefused(f"{run.label}: job {job.id}: {problem}")
    return tuple(jobs)


def _sender(evidence: Evidence) -> Owner | None:
    """Return who is handing arrays of the run to Slurm just now."""
    under_way = any(item.outcome is Outcome.OPEN and item.scheduler != LOCAL for item in evidence.submissions)
    return holder(evidence.run.lock) if under_way else None


def _asked(evidence: Evidence, slurm: Slurm) -> RunStatus:
    # A rerun by hand may wait behind a mark that says that the run is complete.
    status = look_and_keep(evidence._replace(marked_complete=False), slurm)
    if status.problem is not None:
        raise SlurmUnanswered(f"{evidence.run.label}: the queue can't be asked: {status.problem}", "try again later")
    return behind_mark(evidence, status) if evidence.marked_complete else status


def _targets(status: RunStatus, tasks: Sequence[int] | None, pending_only: bool) -> _Targets:
    """Return what is to be cancelled. Raises BadInput for tasks that aren't active, and parts of what ends whole."""
    wanted = set(_active(status, tasks, pending_only))
    queued: set[int] = set()  # tasks that wait or run in Slurm
    found: dict[str, dict[int, _Element]] = {}
    strangers: dict[str, set[int]] = {}
    for held in status.queue:
        meant = not pending_only or held.seen.state is JobState.WAITING
        if not held.known and tasks is None and meant:
            strangers.setdefault(held.seen.job, set()).update(held.seen.indices or ())
        for index in held.seen.indices or () if held.known else ():
            of_it = held.tasks(index)
            queued.update(of_it)
            chosen = tuple(task for task in of_it if task in wanted)
            if chosen and meant:
                _refuse_part_of_pack(status, of_it, chosen)
                found.setdefault(held.seen.job, {})[index] = _Element(held, chosen)
    return _Targets(
        found, {job: frozenset(indices) for job, indices in strangers.items()}, _local_parts(status, wanted, queued)
    )


def _active(status: RunStatus, tasks: Sequence[int] | None, pending_only: bool) -> list[int]:
    active = status.indices(TaskState.WAITING) if pending_only else status.indices(*ACTIVE_STATES)
    if tasks is None:
        return active
    named = set(tasks)
    idle = sorted(named - set(status.indices(*ACTIVE_STATES)))
    if idle:
        unknown = sorted(set(idle).intersection(status.indices(TaskState.UNKNOWN)))
        jobs = sorted({held.seen.job for held in status.queue if not held.known}, key=lambda job: (len(job), job))
        raise BadInput(
            f"{status.run.label}: tasks {format_ranges(idle)} are neither waiting nor running"
            + (f", as far as anybody knows ({status.tasks[unknown[0]].reason})" if unknown else ""),
            f"scancel {' '.join(jobs)} cancels what nobody knows the tasks of; so does esis cancel without --tasks"
            if unknown and jobs
            else None,
        )
    return [task for task in active if task in named]


def _beyond_reach(status: RunStatus, tasks: Sequence[int] | None, pending_only: bool, targets: _Targets) -> list[int]:
    """Return the chosen tasks that are active, but neither in Slurm nor of a local run: begun by hand."""
    outside = set(status.outside_slurm()).difference(targets.tasks)
    return sorted(outside.intersection(_active(status, tasks, pending_only)) if outside else ())


def _refuse_part_of_pack(status: RunStatus, pack: Sequence[int], chosen: Sequence[int]) -> None:
    """Raise BadInput where an element of an array works on active tasks that aren't to be cancelled."""
    others = [
        task
        for task in (pack if len(pack) > len(chosen) else ())
        if task not in chosen and task in status.tasks and status.tasks[task].state in ACTIVE_STATES
    ]
    if others:
        raise BadInput(
            f"{status.run.label}: tasks {format_ranges(sorted(chosen))} are in one job with "
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
                refusal = slurm.drop_feeder(seen[0].evidence.queued(feeder.job))
                if refusal is not None:
                    raise SlurmRefused(
                        f"{status.run.label}: job {feeder.job}, which submits the rest: {refusal}",
                        "its owner can cancel it",
                    )
        return not seen[0].feeders

    pause_until(gone, _SETTLE_SECONDS, first=0.2, longest=5.0)
    left = {feeder.job for feeder in seen[0].feeders}
    return seen[0], tuple(job for job in asked if job not in left)


def _local_parts(
    status: RunStatus, wanted: set[int], queued: set[int]
) -> tuple[tuple[Submission, tuple[int, ...]], ...]:
    """Return the chosen tasks that are active on a machine, not in Slurm, by the local run that they belong to.

    Raises BadInput where not all of one is to be ended: there is one process to be told, and it ends all.
    """
    taken = [item for item in status.evidence.submissions if item.outcome is not Outcome.REFUSED]
    by_number: dict[int, list[int]] = {}
    # Nobody has to look at each task of a run that was never on a machine.
    for task in status.indices(*ACTIVE_STATES) if any(item.scheduler == LOCAL for item in taken) else ():
        latest = next((item for item in reversed(taken) if item.holds(task)), None)
        if latest is None or latest.scheduler != LOCAL:
            continue
        if task not in queued or _is_on_machine(status, task, latest):
            by_number.setdefault(latest.number, []).append(task)
    parts = []
    for item in taken:
        active = by_number.get(item.number, [])
        chosen = tuple(task for task in active if task in wanted)
        others = [task for task in active if task not in wanted]
        if chosen and others:
            raise BadInput(
                f"{status.run.label}: a local run can only be ended as a whole, and tasks "
                f"{format_ranges(others)} wait or run, too",
                "esis cancel without options ends all of it, as Ctrl-C does",
            )
        if chosen:
            parts.append((item, chosen))
    return tuple(parts)


def _is_on_machine(status: RunStatus, task: int, submission: Submission) -> bool:
    """Return whether a task that is queued in Slurm waits or runs on this machine as well, for a local run."""
    record, owner = status.evidence.records.get(task), Owner.parse(submission.owner)
    if owner is None or not owner.is_here() or task in submission.returned:
        return False
    if record is None or record.submission < submission.number:
        return not owner.is_dead()
    details = read_details(status.run.tasks, record)
    mine = not record.ended and submission.position_of(record.job) is not None
    return mine and details is not None and process_alive(details.pid, details.started)


def _interrupt(status: RunStatus, submission: Submission, tasks: Sequence[int]) -> BadInput | None:
    """Interrupt the esis that runs the tasks on this machine, as Ctrl-C would.

    Returns why that can't be done: nobody is signalled who isn't certainly the process that the run names.
    """
    label, owner = status.run.label, Owner.parse(submission.owner)
    if owner is not None and owner.is_dead():
        begun = left_behind(status.evidence, submission, tasks)
        shown = [f"task {task}: process {process or 'unknown'}" for task, process in begun]
        return BadInput(
            f"{label}: its local run was killed, and what it had begun goes on by itself ({', '.join(shown)} on "
            f"{owner.host})",
            "end these processes there, each with its session: kill -- -<process>",
        )
    try:
        if owner is not None and owner.interrupt(status.run.path):
            return None
    except PermissionError:
        pass
    return BadInput(
        f"{label}: its local run belongs to {owner or 'an unknown process'}, which can't be signalled from here",
        "end that process on its own machine, as its own user; if this is a copy of the run: cancel that one",
    )


def _note_unbegun(before: RunStatus, targets: _Targets, gone: Sequence[int], left_jobs: Sequence[str]) -> None:
    """Record the tasks that never began, for Slurm may keep no trace of them.

    Under the submission whose job it was; not where another one holds the task by now, or an attempt of this one is
    recorded. Nor of a rerun by hand: what was before it stands. What can't be written (somebody else's run, a full
    disk) is left, as `keep` leaves it: they are cancelled all the same.
    """
    if before.evidence.is_old:  # nothing is written into a run of 0.0.4
        return
    evidence = evidence_of(before.run)
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
            except OSError:
                return


def _unbegun(before: RunStatus, targets: _Targets, gone: Collection[int]) -> Iterator[tuple[Submission, str, int]]:
    """Yield the tasks that waited in jobs of ESIS's own and are gone: submission, job, task."""
    for job, elements in targets.elements.items():
        for held, tasks in elements.values():
            for task in tasks if held.sent else ():
                if held.submission is not None and task in gone and before.tasks[task].state is TaskState.WAITING:
                    yield held.submission, job, task


def _unanswered(
    before: RunStatus, targets: _Targets, left_jobs: Sequence[str]
) -> Iterator[tuple[Submission, str, int]]:
    """Yield the same of the one job that ESIS submitted, and neither an id nor a path tells as what (up to 0.1.0)."""
    run = before.run
    lost = [
        item
        for item in before.evidence.submissions
        if item.outcome is Outcome.OPEN and item.scheduler != LOCAL and len(item.jobs) < len(item.arrays)
    ]
    held = [item for item in before.queue if not item.known and sent_as(run, item.seen.place) is not None]
    jobs = {item.seen.job for item in held}
    if len(lost) != 1 or len(jobs) != 1 or not jobs <= targets.strangers.keys() - set(left_jobs):
        return
    for item in held:
        if item.seen.state is JobState.WAITING:
            for task in lost[0].tasks_at(len(lost[0].jobs), item.seen.indices or ()):
                yield lost[0], item.seen.job, task


def _wait_gone(run: RunDir, targets: _Targets, slurm: Slurm) -> tuple[list[int], list[str], list[int]]:
    """Wait until nothing of it is active; return the tasks and jobs that still are when the time is over.

    And the tasks that are done in the end.
    """
    left = list(targets.tasks), list(targets.strangers), list[int]()

    def gone() -> bool:
        status = _asked(evidence_of(run), slurm)
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
