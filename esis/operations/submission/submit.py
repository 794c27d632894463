"""Hand tasks to a scheduler, once: intent on disk, then the call, then the answer on disk.

Where the answer is lost (time-out, killed between call and record), the job is looked up by its place and adopted. Only
error-free "not there" answers over a grace period allow the same submission to be sent again, under the same number, so
that the fence in the job lets just one of the two do the work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from esis.digests import sha256
from esis.errors import BadInput, Busy, CorruptState, EsisError, LimitReached, SlurmRefused, SlurmUnanswered
from esis.files import write_atomic
from esis.locks import Owner, require, still
from esis.model.index_sets import as_sequence
from esis.model.limits import Limits
from esis.model.parametersets import ParameterSets
from esis.model.requirements import base_name
from esis.model.template import joined, own_dependency, read_template, without
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow
from esis.operations.context import Context
from esis.operations.submission.arrays import UNPACKED, Packing, Plan, plan
from esis.operations.submission.limits import (
    ArrayRefused,
    DependencyRefused,
    asked_limits,
    described,
    kind_of_refusal,
    known_limits,
    new_limits,
)
from esis.operations.submission.lookup import look_up
from esis.operations.submission.moved import follow
from esis.operations.submission.script import render_script, write_script
from esis.records import job_ids, log_names, submissions, traces
from esis.records.origin import origin_here
from esis.records.start_time import format_start_time
from esis.records.submissions import Cluster, Job, Outcome, Submission
from esis.schedulers.base import Answer, Scheduler
from esis.schedulers.slurm import Slurm

MINIMUM_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Request:
    """Say what to submit."""

    run: RunDir
    workflow: Workflow  # as it is described in the run, whatever became of the workflow file since
    tasks: Sequence[int]  # sorted
    throttle: int  # tasks at a time (of packs: packs); 0: no limit
    dependency: str | None = None
    seen: tuple[str, ...] = ()  # job ids of this run that the scheduler knows already
    options: tuple[str, ...] = ()  # sbatch options that outrank those of the template
    packing: Packing = UNPACKED
    active: bool = False  # whether other tasks of the run wait or run
    counted: bool = False  # whether its parameter sets were counted when it was built, just now


def submit(request: Request, known: Sequence[Submission], scheduler: Scheduler, context: Context) -> Submission:
    """Submit under the run's lock and return the record. Raises SlurmRefused, SlurmUnanswered, OSError.

    Where a limit on the number of jobs leaves no room for all, the record holds those that were taken.
    """
    missing = ParameterSets(request.run).missing(request.tasks) if not request.counted else ()
    if missing:
        raise CorruptState(
            f"{request.run.parameters} holds no parameter sets of {len(missing)} tasks, {missing[0]} the first of them",
            "nothing was submitted: bring them back from a copy",
        )
    limits = known_limits(request.run, scheduler)
    tasks, asked = request.tasks, False
    still_ours = still(request.run.lock, request.run.label)
    while True:
        intent = _intend(request, tasks, limits, known, scheduler, context)
        try:
            done = _send_all(request.run, intent, known, scheduler, context)
        except ArrayRefused as refusal:
            changed = None if asked or limits is None else new_limits(request.run, limits, scheduler, still_ours)
            if changed is None:
                latest = asked_limits(request.run.script, scheduler) or limits
                told = f" ({described(latest)})" if latest is not None else ""
                raise SlurmRefused(f"{refusal.message}{told}", refusal.advice) from refusal
            context.say(f"{refusal.message}; by now Slurm has {described(changed)}: cutting the tasks anew")
            limits, asked = changed, True
            continue
        except SlurmRefused as refusal:
            if not isinstance(refusal, LimitReached):
                if limits is None or limits.problem is None:
                    raise
                raise SlurmRefused(
                    f"{refusal.message} (what it takes couldn't be asked: {limits.problem})", refusal.advice
                ) from refusal
            # Arrays are refused whole. If nothing of the run is active, a part of one has to fit, or it never starts.
            tasks = tasks[: intent.arrays[0].tasks // 2]
            if request.active or not tasks:
                raise
            continue
        left = len(request.tasks) - len(done.tasks)
        if left:
            context.say(
                f"{request.run.label}: a limit of Slurm leaves {left} tasks unsubmitted; the same command "
                f"submits them later"
            )
        return done


def _intend(
    request: Request,
    tasks: Sequence[int],
    limits: Limits | None,
    known: Sequence[Submission],
    scheduler: Scheduler,
    context: Context,
) -> Submission:
    """Write script, map and intent of a submission."""
    run = request.run
    traces.bring_back(run)
    follow(run, context)
    number = next_number(run)
    # On this machine each task is a process of its own.
    packing = request.packing if limits is not None else UNPACKED
    planned = plan(tasks, request.throttle, limits, packing)
    rendered = render_script(
        request.workflow, run, planned, tasks, number, request.dependency, context.records, packing
    )
    if not rendered.records and (
        planned.mapped or packing.per_job > 1 or len(planned.arrays) > 1 or planned.arrays[0].offset
    ):
        raise BadInput(
            f"{run.label}: {len(tasks)} tasks don't fit into one array as they are, and without task "
            f"records no job can look its task up",
            "use a template for a POSIX shell, without --no-task-records; or give fewer --tasks at a time",
        )
    held = still(run.lock, run.label)
    write_script(run, rendered.text, held)
    if number == 1:
        write_atomic(run.start_time, format_start_time(time.time()), check=held)
    intent = Submission(
        number=number,
        scheduler=scheduler.name,
        tasks=as_sequence(tasks),
        arrays=planned.arrays,
        mapped=planned.mapped,
        throttle=request.throttle,
        per_job=packing.per_job,
        parallel=packing.parallel,
        options=request.options,
        output=log_names.written_output(rendered.text, request.options),
        unique_output=log_names.unique_output(rendered.text, request.options),
        unique_error=log_names.unique_error(rendered.text, request.options),
        script_digest=_digest(rendered.text),
        created=time.time(),
        owner=Owner.current().text(),
        records=rendered.records,
        argv=context.argv,
        dependency=rendered.dependency,
        seen=request.seen,
        provenance=origin_here(),
        cluster=_present(scheduler, known),
    )
    _save(run, intent)
    _write_map(run, intent)
    return intent


def _save(run: RunDir, submission: Submission) -> None:
    """Write the record, if this process still has the run; else it is the record of whoever took the run over."""
    submissions.save(run, submission, still(run.lock, run.label))


def _present(scheduler: Scheduler, known: Sequence[Submission]) -> Cluster | None:
    """Return the cluster to which a submission goes that names none; None where that isn't known."""
    # Once more where the limits couldn't be asked a moment ago: without a name, any cluster's queue would be believed.
    return scheduler.queue.present(known, again=True)[0] if scheduler.queue is not None else None


def _write_map(run: RunDir, intent: Submission) -> None:
    """Write the list that the jobs of a mapped submission read.

    Behind the intent: a map without its record means that the record was lost.
    """
    if intent.mapped:
        text = "".join(f"{task}\n" for task in intent.tasks)
        write_atomic(run.map(intent.number), text, check=still(run.lock, run.label))


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
            found = _adopted(run, submission, known, scheduler, context)
            submission = found or submission
            if len(submission.jobs) < len(submission.arrays):
                follow(run, context)
                own = own_dependency(read_template(run.path / base_name(workflow.sbatchtemplate)))
                behind = dependency if renew else without(submission.dependency, own)
                if submission.jobs:
                    submission = submission._replace(dependency=joined(behind, own))
                else:
                    submission = _renewed(run, workflow, submission, behind, _present(scheduler, known))
            try:
                submission = _send_all(run, submission, known, scheduler, context, last=found is None)
            except (LimitReached, ArrayRefused, DependencyRefused) as refusal:
                # What isn't queued is like what never was: smaller arrays, or others to wait behind, may be taken.
                context.say(refusal.message)
                submission = next(item for item in submissions.read_all(run) if item.number == submission.number)
        settled.append(submission)
    job_ids.mend(run, settled, still(run.lock, run.label))
    return settled


def next_number(run: RunDir) -> int:
    """Return the number of the next submission; a refused one at the end left nothing behind, so it is used again."""
    known = submissions.read_all(run)  # also what was refused a moment ago
    return traces.next_number(run, known, (item.number for item in known if item.outcome is Outcome.REFUSED))


def _send_all(
    run: RunDir,
    intent: Submission,
    known: Sequence[Submission],
    scheduler: Scheduler,
    context: Context,
    last: bool = False,
) -> Submission:
    """Send the arrays that aren't sent yet, one after the other; each answer is on disk before the next call."""
    current = intent
    while len(current.jobs) < len(current.arrays):
        try:
            current = _send(run, current, known, scheduler, context, last)
        except SlurmRefused as refusal:
            if not current.jobs:
                raise
            done = _cut_short(run, current, refusal)
            if not isinstance(refusal, LimitReached):
                raise
            context.say(refusal.message)
            return done
        last = False
    return current


def _send(
    run: RunDir, intent: Submission, known: Sequence[Submission], scheduler: Scheduler, context: Context, last: bool
) -> Submission:
    """Send one array and record the answer; where none comes, look for the job, and try once more at most."""
    recorded = [intent]

    def acknowledged(job: Job) -> None:
        try:
            recorded[0] = _record_job(run, intent, job)
        except Busy as lost:
            # The record is that process's. Its intent has the same number: of the two jobs one does the work.
            raise Busy(f"{lost.message}; job {job.id} is queued", lost.advice) from lost

    require(run.lock, run.label)
    answer = scheduler.submit(run, intent, len(intent.jobs), acknowledged)
    if answer.outcome is Outcome.SUBMITTED:
        if answer.returned:
            recorded[0] = recorded[0]._replace(returned=answer.returned)
            _save(run, recorded[0])
        elif answer.message:
            context.say(f"{run.label}: sbatch took it, and said: {answer.message}")
        return recorded[0]
    if answer.outcome is Outcome.REFUSED:
        _refuse(run, intent, answer)
    context.say(f"{run.label}: {answer.message}; looking whether Slurm took the job")
    found = _adopted(run, intent, known, scheduler, context)
    if found is not None:
        return found
    if last:
        raise SlurmUnanswered(
            f"{run.label}: Slurm took the job neither time, and said no neither time: {answer.message}",
            "repeat the command later",
        )
    return _send(run, intent, known, scheduler, context, last=True)


def _cut_short(run: RunDir, sent: Submission, refusal: SlurmRefused) -> Submission:
    """Keep the arrays that were taken; the tasks of the others are unsubmitted again."""
    arrays = sent.arrays[: len(sent.jobs)]
    done = sent._replace(
        arrays=arrays,
        tasks=sent.tasks[: sum(array.tasks for array in arrays)],
        outcome=Outcome.SUBMITTED,
        message=refusal.message,
        answered=time.time(),
    )
    _save(run, done)
    return done


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
    write_script(run, rendered.text, still(run.lock, run.label))
    renewed = intent._replace(
        dependency=rendered.dependency,
        script_digest=_digest(rendered.text),
        owner=Owner.current().text(),
        cluster=cluster,
    )
    _save(run, renewed)
    _write_map(run, renewed)
    return renewed


def _digest(script: str) -> str:
    return sha256(script.encode("utf-8", "surrogateescape"))


def _record_job(run: RunDir, intent: Submission, job: Job) -> Submission:
    jobs = (*intent.jobs, job)
    whole = len(jobs) == len(intent.arrays)
    done = intent._replace(jobs=jobs, outcome=Outcome.SUBMITTED if whole else Outcome.OPEN, answered=time.time())
    _save(run, done)
    job_ids.save(run, done, still(run.lock, run.label))
    return done


def _refuse(run: RunDir, intent: Submission, answer: Answer) -> None:
    """Record and raise a refusal; where other arrays of the submission were taken, the record is the caller's."""
    queued = ", ".join(job.id for job in intent.jobs)
    if queued and not answer.asked:
        # Nothing of Slurm's: the record stays open, and the next command sends the arrays that are left.
        raise SlurmUnanswered(
            f"{run.label}: {answer.message}; job {queued} is queued, and not all of the submission",
            "once that is mended, the same command goes on",
        )
    if not queued:
        _save(run, intent._replace(outcome=Outcome.REFUSED, message=answer.message, answered=time.time()))
    message = f"Slurm refused {'more of ' if queued else ''}{run.label}: {answer.message}"
    kept = f"{f'job {queued}' if queued else 'nothing'} was queued and the run is kept"
    if answer.at_limit:
        raise LimitReached(
            message,
            f"{kept}: repeat the command when there is room (esis doc scale); or, if it is a "
            "limit on what one job asks for, ask for less",
        )
    kind = kind_of_refusal(answer.message, bool(queued))
    raise kind(
        message,
        f"{kept}: mend the cause (sbatch options can come from SBATCH_* variables or a new "
        "template), then repeat the command",
    )


def _adopted(
    run: RunDir, intent: Submission, known: Sequence[Submission], scheduler: Scheduler, context: Context
) -> Submission | None:
    """Adopt the job of `intent`; None after the grace period without a trace of it, so that it may be sent again."""
    job = look_up(run, intent, known, scheduler, context, _grace(run, scheduler, context))
    return _record_job(run, intent, job) if job is not None else None


def _grace(run: RunDir, scheduler: Scheduler, context: Context) -> float:
    """Return how many seconds of absence prove that a submission never arrived."""
    if context.grace is not None:
        return context.grace
    limits = known_limits(run, scheduler)
    return max(MINIMUM_GRACE_SECONDS, 2 * limits.message_timeout if limits is not None else 0.0)
