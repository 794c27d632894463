"""Find out what became of submissions whose answer was lost, and send what Slurm never got."""

from __future__ import annotations

from collections.abc import Sequence

from esis.errors import EsisError, LimitReached
from esis.locks import Owner, still
from esis.model.requirements import base_name
from esis.model.template import joined, own_dependency, read_template, without
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow
from esis.operations.context import Context
from esis.operations.submission.arrays import Packing, Plan
from esis.operations.submission.limits import ArrayRefused, DependencyRefused
from esis.operations.submission.moved import follow
from esis.operations.submission.script import digest_of, render_script, write_map, write_script
from esis.operations.submission.send import QueuedByHand, adopted, present, save, send_all
from esis.records import job_ids, submissions, traces
from esis.records.submissions import Cluster, Outcome, Submission
from esis.schedulers.base import Scheduler
from esis.schedulers.slurm import Slurm


def settle(
    run: RunDir,
    workflow: Workflow,
    known: Sequence[Submission],
    scheduler: Scheduler,
    context: Context,
    dependency: str | None = None,
    renew: bool = True,
) -> list[Submission]:
    """Find out what became of submissions to Slurm whose answer was lost; sends what Slurm never got.

    That then waits behind `dependency`: what it was to wait behind at first may have failed, or be over and forgotten.
    Without `renew` it waits behind that all the same. Raises SlurmUnanswered where Slurm can't be asked; the same
    command later finishes the matter.
    """
    settled: list[Submission] = []
    for submission in known:
        if submission.outcome is Outcome.OPEN and submission.scheduler == Slurm.name:
            if scheduler.name != Slurm.name:
                raise EsisError(
                    f"{run.label}: submission {submission.number} was sent to Slurm, and its answer is missing",
                    "esis run (without --local) finds out",
                )
            context.say(f"{run.label}: the answer to submission {submission.number} is missing; asking Slurm")
            try:
                submission = _settled(run, workflow, submission, known, scheduler, context, dependency, renew)
            except (LimitReached, ArrayRefused, DependencyRefused, QueuedByHand) as reason:
                # What isn't queued is like what never was: smaller arrays, or others to wait behind, may be taken.
                context.say(reason.message)
                submission = next(item for item in submissions.read_all(run) if item.number == submission.number)
        settled.append(submission)
    job_ids.mend(run, settled, still(run.lock, run.label))
    return settled


def _settled(
    run: RunDir,
    workflow: Workflow,
    submission: Submission,
    known: Sequence[Submission],
    scheduler: Scheduler,
    context: Context,
    dependency: str | None,
    renew: bool,
) -> Submission:
    found = adopted(run, submission, known, scheduler, context)
    submission = found or submission
    if len(submission.jobs) < len(submission.arrays):
        follow(run, context)
        own = own_dependency(read_template(run.path / base_name(workflow.sbatchtemplate)))
        behind = dependency if renew else without(submission.dependency, own)
        if submission.jobs:
            submission = submission._replace(dependency=joined(behind, own))
        else:
            submission = _renewed(run, workflow, submission, behind, present(scheduler, known))
    return send_all(run, submission, known, scheduler, context, last=found is None)


def _renewed(
    run: RunDir, workflow: Workflow, intent: Submission, dependency: str | None, cluster: Cluster | None
) -> Submission:
    """Write script and intent anew, under the same number, so that the fence holds against the first try."""
    traces.bring_back(run)
    packing = Packing(intent.per_job, intent.parallel)
    rendered = render_script(
        workflow,
        run,
        Plan(intent.arrays, intent.mapped),
        intent.tasks,
        intent.number,
        dependency,
        intent.records,
        packing,
    )
    renewed = intent._replace(
        dependency=rendered.dependency,
        script_digest=digest_of(rendered.text),
        owner=Owner.current().text(),
        cluster=cluster,
    )
    save(run, renewed)
    write_map(run, renewed)
    write_script(run, rendered.text, still(run.lock, run.label))
    return renewed
