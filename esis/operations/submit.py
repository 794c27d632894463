"""Hand tasks to a scheduler, once: intent on disk, then the call, then the answer on disk.

Where the answer is lost (time-out, killed between call and record), the job is looked up by its place and adopted. Only
error-free "not there" answers over a grace period allow the same submission to be sent again, under the same number, so
that the fence in the job lets just one of the two do the work.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from esis.errors import BadInput, EsisError, SlurmRefused, SlurmUnanswered
from esis.files import write_atomic
from esis.locks import Owner
from esis.model.parameters import array_spec, format_ranges
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow
from esis.operations.context import Context
from esis.operations.prepare import render_script
from esis.records import submissions
from esis.records.provenance import Origin
from esis.records.submissions import Job, Outcome, Submission
from esis.schedulers.base import Answer, Scheduler, Snapshot
from esis.schedulers.local import Options
from esis.schedulers.slurm import Slurm

MINIMUM_GRACE_SECONDS = 30.0
_POLL_SECONDS = 2.0
ARRAY_SPEC_LIMIT = 3500  # characters: 3,544 were seen accepted, 4,944 refused


@dataclass(frozen=True)
class Request:
    """Say what to submit."""

    run: RunDir
    workflow: Workflow  # as it is described in the run, whatever became of the workflow file since
    tasks: tuple[int, ...]
    throttle: int  # tasks at a time; 0: no limit
    dependency: str | None = None
    seen: tuple[str, ...] = ()  # job ids of this run that the scheduler knows already
    options: tuple[str, ...] = ()  # sbatch options that outrank those of the template


def submit(request: Request, known: Sequence[Submission], scheduler: Scheduler, context: Context) -> Submission:
    """Submit under the run's lock and return the record. Raises SlurmRefused, SlurmUnanswered, OSError."""
    run = request.run
    number = next_number(known)
    array, mapped = fit_array(request.tasks, request.throttle)
    rendered = render_script(request.workflow, run, array, len(request.tasks), number, request.dependency,
                             context.records)
    if mapped:
        if not rendered.records:
            raise BadInput(f"{run.label}: {len(request.tasks)} scattered tasks don't fit into an array specification, "
                           f"and without task records no job can look its task up", "give fewer --tasks at a time")
        write_atomic(run.map(number), "".join(f"{task}\n" for task in request.tasks))
    write_atomic(run.script, rendered.text, executable=True)
    if number == 1:
        write_atomic(run.start_time, f"{time.time():.3f}")
    intent = Submission(
        number=number, scheduler=scheduler.name, tasks=request.tasks, array=array, mapped=mapped,
        options=request.options, output=log_pattern(rendered.text, request.options),
        script_digest=_digest(rendered.text),
        created=time.time(), owner=Owner.current().text(), records=rendered.records, argv=context.argv,
        dependency=request.dependency, seen=request.seen, provenance=Origin.here())
    submissions.save(run, intent)
    return _send(run, intent, known, scheduler, context)


def log_pattern(script: str, options: Sequence[str]) -> str:
    """Return the pattern of the log files' names, relative to the run's cwd/."""
    found = Options.of(script, options)
    return str(Path(found.directory or "") / found.output)


def fit_array(tasks: Sequence[int], throttle: int) -> tuple[str, bool]:
    """Return the array specification of `tasks`, and whether it counts positions instead of indices.

    Slurm takes 4,096 characters, 700 to 900 scattered indices; beyond that the job looks its index up in a map.
    """
    spec = array_spec(tasks, throttle)
    if len(spec) <= ARRAY_SPEC_LIMIT:
        return spec, False
    return array_spec(range(len(tasks)), throttle), True


def settle(run: RunDir, workflow: Workflow, known: Sequence[Submission], scheduler: Scheduler, context: Context,
           dependency: str | None = None) -> list[Submission]:
    """Find out what became of submissions to Slurm whose answer was lost; sends again what Slurm never got.

    That then waits behind `dependency`: what it was to wait behind at first may be over and forgotten. Raises
    SlurmUnanswered where Slurm can't be asked; the same command later finishes the matter.
    """
    settled: list[Submission] = []
    for submission in known:
        if submission.outcome is Outcome.OPEN and submission.scheduler == Slurm.name:
            if scheduler.name != Slurm.name:
                raise EsisError(f"{run.label}: submission {submission.number} was sent to Slurm, and its answer is "
                                f"missing", "esis run (without --local) finds out")
            context.say(f"{run.label}: the answer to submission {submission.number} is missing; asking Slurm")
            found = _look_up(run, submission, known, scheduler, context)
            submission = found if found is not None else _send(
                run, _renewed(run, workflow, submission, dependency), known, scheduler, context, last=True)
        settled.append(submission)
    _mend_job_ids(run, settled)
    return settled


def next_number(known: Sequence[Submission]) -> int:
    """Return the number of the next submission; a refused one at the end left nothing behind, so it is used again."""
    numbers = [item.number for item in known if item.outcome is not Outcome.REFUSED]
    return max(numbers, default=0) + 1


def _send(run: RunDir, intent: Submission, known: Sequence[Submission], scheduler: Scheduler, context: Context,
          last: bool = False) -> Submission:
    """Call the scheduler and record its answer; where none comes, look for the job, and try once more at most."""
    recorded = [intent]

    def acknowledged(job: Job) -> None:
        recorded[0] = _record_job(run, intent, job)

    answer = scheduler.submit(run, intent, acknowledged)
    if answer.outcome is Outcome.SUBMITTED:
        if answer.returned:
            recorded[0] = replace(recorded[0], returned=answer.returned)
            submissions.save(run, recorded[0])
        return recorded[0]
    if answer.outcome is Outcome.REFUSED:
        _refuse(run, intent, answer)
    context.say(f"{run.label}: {answer.message}; looking whether Slurm took the job")
    found = _look_up(run, intent, known, scheduler, context)
    if found is not None:
        return found
    if last:
        raise SlurmUnanswered(f"{run.label}: Slurm took the job neither time, and said no neither time: "
                              f"{answer.message}", "repeat the command later")
    return _send(run, intent, known, scheduler, context, last=True)


def _renewed(run: RunDir, workflow: Workflow, intent: Submission, dependency: str | None) -> Submission:
    """Write script and intent anew, under the same number, so that the fence holds against the first try."""
    rendered = render_script(workflow, run, intent.array, len(intent.tasks), intent.number, dependency, intent.records)
    write_atomic(run.script, rendered.text, executable=True)
    renewed = replace(intent, dependency=dependency, script_digest=_digest(rendered.text),
                      owner=Owner.current().text())
    submissions.save(run, renewed)
    return renewed


def _digest(script: str) -> str:
    return hashlib.sha256(script.encode("utf-8", "surrogateescape")).hexdigest()


def _record_job(run: RunDir, intent: Submission, job: Job) -> Submission:
    done = replace(intent, outcome=Outcome.SUBMITTED, jobs=(job,), answered=time.time())
    submissions.save(run, done)
    write_atomic(run.job_ids, job.id)
    return done


def _mend_job_ids(run: RunDir, known: Sequence[Submission]) -> None:
    """Write jobid.tx again where a kill kept it behind the records."""
    last = next((item for item in reversed(known) if item.jobs), None)
    if last is None:
        return
    text = "\n".join(job.id for job in last.jobs)
    try:
        if run.job_ids.read_bytes() == text.encode():
            return
    except OSError:
        pass
    write_atomic(run.job_ids, text)


def _refuse(run: RunDir, intent: Submission, answer: Answer) -> None:
    submissions.save(run, replace(intent, outcome=Outcome.REFUSED, message=answer.message, answered=time.time()))
    raise SlurmRefused(f"Slurm refused {run.label}: {answer.message}",
                       "nothing was queued and the run is kept: mend the cause (sbatch options can come from SBATCH_* "
                       "variables or a new template), then repeat the command")


def _look_up(run: RunDir, intent: Submission, known: Sequence[Submission], scheduler: Scheduler,
             context: Context) -> Submission | None:
    """Adopt the job of `intent`; None after the grace period without a trace of it, so that it may be sent again."""
    others = {job.id for item in known for job in item.jobs} | set(intent.seen)
    grace = _grace(scheduler, context)
    first_absent: float | None = None
    while True:
        job = _find(run, intent, others, scheduler.observe(()))
        if job is not None:
            context.say(f"{run.label}: Slurm has it as job {job.id}")
            return _record_job(run, intent, job)
        now = time.monotonic()
        if first_absent is None:
            first_absent = now
            context.say(f"{run.label}: not in the queue; watching it for {grace:.0f} s before submitting again")
        if now - first_absent >= grace:
            break
        time.sleep(min(_POLL_SECONDS, grace / 5))
    context.say(f"{run.label}: Slurm never got it; submitting again")
    return None


def _find(run: RunDir, intent: Submission, others: set[str], snapshot: Snapshot) -> Job | None:
    """Return the job that belongs to `intent`. Raises SlurmUnanswered where the question couldn't be asked."""
    claim = submissions.read_claim(run, intent.number)
    if claim is not None:
        return Job(claim)  # it has even started
    if snapshot.problem is not None:
        raise SlurmUnanswered(f"{run.label}: tasks {format_ranges(intent.tasks)} may or may not be queued, and "
                              f"Slurm can't be asked: {snapshot.problem}", "repeat the command later: it finds out")
    found = sorted({seen.job for seen in snapshot.of_run(run)} - others, key=int)
    return Job(found[0]) if found else None


def _grace(scheduler: Scheduler, context: Context) -> float:
    """Return how many seconds of absence prove that a submission never arrived."""
    if context.grace is not None:
        return context.grace
    timeout = scheduler.message_timeout() if isinstance(scheduler, Slurm) else 0.0
    return max(MINIMUM_GRACE_SECONDS, 2 * timeout)
