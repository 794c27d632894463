"""Run a workflow: build its run if need be, and submit what was never submitted."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from esis.errors import (
    EsisError,
    Interrupted,
    RequirementTrouble,
    SlurmRefused,
    SlurmUnanswered,
    TasksFailed,
    UserScriptFailed,
)
from esis.model.index_sets import as_sequence, format_ranges
from esis.model.requirements import Node, Requirement
from esis.model.workdir import RunDir
from esis.operations.build.check_files import check_sources
from esis.operations.build.prepare import prepared, trial
from esis.operations.build.worker_bit import mend_worker
from esis.operations.context import Context
from esis.operations.submission.arrays import Packing, plan
from esis.operations.submission.feed import drop_held, submit_what_fits
from esis.operations.submission.limits import asked_limits
from esis.operations.submission.lookup import check_recorded
from esis.operations.submission.settle import settle
from esis.operations.submission.submit import Request
from esis.operations.witness.evidence import Evidence, gather
from esis.operations.witness.keep import keep
from esis.operations.witness.look import look, status_after, status_of
from esis.operations.witness.old_runs import how_to_go_on, leave_alone
from esis.operations.witness.status import ACTIVE_STATES, Done, RunStatus, TaskState, describe_failures, known_complete
from esis.operations.witness.target import definition
from esis.records import old
from esis.records.submissions import LOCAL, Submission
from esis.schedulers.base import Scheduler, Snapshot

_FRESH_SECONDS = 30.0  # building the earlier runs of a chain may take hours: then the queue is asked again


@dataclass(frozen=True)
class Asked:
    """Hold an answer of the scheduler, and what the run's directory told when it was asked."""

    snapshot: Snapshot
    evidence: Evidence | None
    at: float  # time.monotonic()

    def still_counts(self, found: Evidence) -> bool:
        """Return whether it is fresh and nothing was submitted since, as far as the run's directory tells."""
        return (
            self.evidence is not None
            and self.evidence.submissions == found.submissions
            and time.monotonic() - self.at < _FRESH_SECONDS
        )


class DryRun(NamedTuple):
    """Hold what a dry run shows."""

    node: Node
    array: str
    tasks: int
    script: str
    exists: bool


def dry_run(node: Node, context: Context, max_parallel: int | None = None) -> DryRun:
    """Build the run in a temporary directory as far as its script, and leave nothing behind."""
    import tempfile  # takes a while, and only a dry run needs it

    check_sources(node)
    throttle = node.workflow.maxparallel if max_parallel is None else max_parallel
    with tempfile.TemporaryDirectory(prefix="esis-dry-run-") as scratch:
        try:
            state, script = trial(node, Path(scratch).resolve(), context, throttle)
        except UserScriptFailed as error:
            kept = scratch not in (error.advice or "")  # else it names a log that goes with the dry run
            advice = error.advice if kept else "a dry run keeps nothing; with -v all that the scripts say is shown"
            raise UserScriptFailed(error.message, advice) from None
    arrays = plan(state.tasks, throttle, None).arrays
    return DryRun(node, "; ".join(array.spec for array in arrays), state.total, script, node.run.path.exists())


def run(
    node: Node, finished: Evidence | None, scheduler: Scheduler, context: Context, max_parallel: int | None = None
) -> Done:
    """Run the workflow of `node`, whose requirements have to be complete; see `bring_up`. Raises EsisError."""
    check_sources(node)
    check_available(scheduler)
    check_requirements(node, scheduler)
    return bring_up(node, finished, scheduler, context, max_parallel)


def bring_up(
    node: Node,
    finished: Evidence | None,
    scheduler: Scheduler,
    context: Context,
    max_parallel: int | None = None,
    dependency: str | None = None,
    asked: Asked | None = None,
) -> Done:
    """Build the run if need be, and submit its tasks that were never submitted, behind `dependency`.

    `finished` is what its directory told the caller just now, without the lock; `asked` what Slurm did, which counts
    unless another esis has submitted something since. In this order, so that nothing is submitted twice:

    1. What is known to be complete is left, without a lock and without a question.
    2. The run is locked, built where it isn't, and read once more under the lock.
    3. Submissions without an answer are settled: their jobs may be in the queue.
    4. Slurm is asked about all that may be there, unless the run was made just now by this very command.
    5. What nobody has a trace of is submitted; where Slurm gave no answer, nothing is.
    """
    complete = known_complete(finished)
    if complete is not None:
        return Done(node, None, complete)
    if old.is_old(node.run) or old.is_oldest(node.run):
        return Done(node, None, leave_alone(node.run, finished, scheduler, context))
    fresh = finished is None or not finished.built
    template = node.workflow.resolve(node.workflow.sbatchtemplate)
    with prepared(node, context, asked_limits(template, scheduler) if fresh else None) as found:
        workflow = definition(node.run)
        known = settle(node.run, workflow, found.submissions, scheduler, context, dependency)
        found = found._replace(submissions=tuple(known))
        # A run that was there before may have been submitted by hand; one that wasn't may have been made by another
        # esis while this one waited for the lock.
        untouched = fresh and not found.submissions and not found.records
        if asked is not None and asked.still_counts(found):
            snapshot = asked.snapshot
        elif found.needs_queue() and not untouched:
            # Only sacct may still know that a job ended before it came to all tasks of its pack.
            snapshot, _ = look([found], scheduler)
        else:
            snapshot = Snapshot() if untouched else scheduler.observe(found.clusters, found.owners)
        before = status_after(found, snapshot)
        keep(before)
        todo = as_sequence(before.indices(TaskState.UNSUBMITTED))
        throttle = max_parallel if max_parallel is not None else node.workflow.maxparallel
        if todo:
            require_answer(found, snapshot, scheduler)
            check_recorded(node.run, known, snapshot)
        if not todo:
            drop_held(before, scheduler, context)
            _note_throttle(before, known, throttle, context)
            return Done(node, None, before)
        if before.indices(*ACTIVE_STATES) and scheduler.name == LOCAL:
            raise EsisError(
                f"{node.run.label}: tasks {format_ranges(before.indices(*ACTIVE_STATES))} are still waiting or running",
                "wait for them, then repeat the command",
            )
        mend_worker(node.run, workflow, context)
        seen = tuple(sorted({sight.job for sight in snapshot.of_run(node.run, found.jobs)}))
        active = bool(before.indices(*ACTIVE_STATES))
        request = Request(
            node.run,
            workflow,
            todo,
            throttle,
            dependency,
            seen,
            active=active,
            counted=untouched,
            packing=Packing(workflow.tasks_per_job, workflow.tasks_parallel),
        )
        submission = submit_what_fits(request, before, snapshot, scheduler, context)
        left = len(todo) - (len(submission.tasks) if submission is not None else 0)
        return Done(node, submission, before if known or submission is None else None, left)


def require_answer(evidence: Evidence, snapshot: Snapshot, scheduler: Scheduler) -> None:
    """Raise SlurmUnanswered where the queue had to be asked before anything is submitted, and gave no answer.

    A failed query proves nothing: the tasks may be queued, also by hand, and of a run that ESIS never submitted.
    """
    asked = scheduler.queue is not None or evidence.in_slurm or (evidence.records and scheduler.has_slurm())
    if snapshot.problem is not None and asked:
        raise SlurmUnanswered(
            f"{evidence.run.label}: nothing was submitted, for the queue can't be asked whether the "
            f"tasks are in it: {snapshot.problem}",
            "try again later",
        )


def check_available(scheduler: Scheduler) -> None:
    """Raise SlurmRefused before anything is written where this machine has no Slurm."""
    if scheduler.queue is not None and not scheduler.has_slurm():
        raise SlurmRefused("there is no sbatch on PATH", "esis run --local runs the tasks on this machine")


def check_requirements(node: Node, scheduler: Scheduler) -> None:
    """Raise RequirementTrouble listing every requirement that isn't complete."""
    missing = unmet(node.requirements, scheduler)
    if missing:
        raise RequirementTrouble(
            f"{node.workflow.path} requires runs that are not complete: " + "; ".join(missing),
            "or run them all in their order: esis dependency " + shlex.quote(str(node.workflow.path)),
        )


def unmet(requirements: Sequence[Requirement], scheduler: Scheduler) -> list[str]:
    """Describe each requirement that isn't complete, with its workflow file and the command for it."""
    _, found = look((gather(item.run) for item in requirements), scheduler, accounting=False)
    problems = []
    for item, status in zip(requirements, found):
        if status is not None:
            keep(status)
            if status.complete:
                continue
        what = "there is no such run" if status is None else status.summary()
        file = shlex.quote(str(item.workflow_file))
        command = "esis freeze-requirement pins another run" if item.frozen else f"esis run {file}"
        if status is not None and status.indices(TaskState.FAILED, TaskState.LOST):
            again = f"esis resubmit {shlex.quote(str(item.run.path))} reruns what failed"
            command = how_to_go_on(item.run) if status.evidence.is_old else again
        if status is not None and status.active_jobs:
            command = "wait for it"
        problems.append(f"{item.name} ({item.workflow_file}, {item.run.label}): {what}; {command}")
    return problems


def raise_failed(run: RunDir, submission: Submission | None, before: RunStatus | None) -> None:
    """Raise Interrupted where a local submission gave tasks back, TasksFailed where some of it failed.

    Where there was nothing to submit, what `before` says counts.
    """
    if submission is not None and submission.returned:
        raise Interrupted(
            f"{run.label}: interrupted, {len(submission.returned)} of {len(submission.tasks)} tasks are left",
            "the same command goes on",
        )
    found = gather(run) if submission is not None else None
    after = before
    if found is not None:
        after = status_of(found, Snapshot())
        keep(after)
    if after is None:
        return
    mine = set(submission.tasks) if submission is not None else set(after.tasks)
    failed = mine.intersection(after.indices(TaskState.FAILED, TaskState.LOST))
    if failed:
        groups = {
            verdict: left for verdict, tasks in after.groups.items() if (left := sorted(failed.intersection(tasks)))
        }
        raise TasksFailed(
            f"{run.label}: {len(failed)} of {len(mine)} tasks failed "
            f"({describe_failures(after._replace(groups=groups))})",
            "esis errors shows their last words",
        )


def _note_throttle(status: RunStatus, known: Sequence[Submission], throttle: int, context: Context) -> None:
    """Say so where another throttle was asked for than the queued array has: it isn't part of the hash."""
    if not status.active_jobs or not known:
        return
    queued = known[-1].throttle
    if queued != throttle:
        context.say(
            f"{status.run.label}: the queued array keeps its limit of {queued} tasks at a time; to change "
            f"it: esis throttle {throttle}"
        )
