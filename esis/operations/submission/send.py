"""Send the arrays of an intent that is on disk, and find out what became of them where the answer is lost.

The job is looked up by its place and adopted. Only error-free "not there" answers over a grace period allow the same
submission to be sent again, under the same number, so that the fence in the job lets just one of the two do the work.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from esis.errors import Busy, EsisError, LimitReached, SlurmRefused, SlurmUnanswered
from esis.files import write_atomic
from esis.locks import require, still
from esis.model.workdir import RunDir
from esis.operations.context import Context
from esis.operations.submission.arrays import share
from esis.operations.submission.limits import kind_of_refusal, known_limits
from esis.operations.submission.lookup import look_up, typed_meanwhile
from esis.records import job_ids, submissions
from esis.records.claims import give_up, is_given_up
from esis.records.start_time import format_start_time
from esis.records.submissions import Cluster, Job, Outcome, Submission
from esis.schedulers.base import Answer, Scheduler

MINIMUM_GRACE_SECONDS = 30.0


def send_all(
    run: RunDir,
    intent: Submission,
    known: Sequence[Submission],
    scheduler: Scheduler,
    context: Context,
    last: bool = False,
) -> Submission:
    """Send the arrays that aren't sent yet, one after the other; each answer is on disk before the next call."""
    if intent.number == 1 and not intent.jobs:  # behind the intent: it stands for one
        write_atomic(run.start_time, format_start_time(time.time()), check=still(run.lock, run.label))
    current = intent
    while len(current.jobs) < len(current.arrays):
        try:
            current = _send(run, current, known, scheduler, context, last)
        except SlurmRefused as refusal:
            if not current.jobs:
                raise
            done = _cut_short(run, current, refusal.message)
            if not isinstance(refusal, LimitReached):
                raise
            context.say(refusal.message)
            return _shared_anew(run, done, scheduler, context)
        last = False
    return current


def save(run: RunDir, submission: Submission) -> None:
    """Write the record, if this process still has the run; else it is the record of whoever took the run over."""
    submissions.save(run, submission, still(run.lock, run.label))


def present(scheduler: Scheduler, known: Sequence[Submission]) -> Cluster | None:
    """Return the cluster to which a submission goes that names none; None where that isn't known."""
    # Once more where the limits couldn't be asked a moment ago: without a name, any cluster's queue would be believed.
    return scheduler.queue.present(known, again=True)[0] if scheduler.queue is not None else None


def adopted(
    run: RunDir, intent: Submission, known: Sequence[Submission], scheduler: Scheduler, context: Context
) -> Submission | None:
    """Adopt the job of `intent`; None after the grace period without a trace of it, so that it may be sent again.

    Raises QueuedByHand where somebody has queued tasks of it meanwhile.
    """
    given_up = is_given_up(run, intent.number, len(intent.jobs))  # by a command that was killed behind that
    job = look_up(run, intent, known, scheduler, context, _grace(run, scheduler, context)) if not given_up else None
    if job is not None:
        return _record_job(run, intent, job)
    typed = typed_meanwhile(run, intent, known, scheduler)
    if typed or given_up:
        raise _left_to(typed, run, intent)
    context.say(f"{run.label}: Slurm never got it; submitting again")
    return None


class QueuedByHand(SlurmUnanswered):
    """Slurm never got a submission, and somebody has typed sbatch in the meantime; its record is closed."""


def _left_to(jobs: Mapping[str, bool], run: RunDir, intent: Submission) -> EsisError:
    """Close a submission, whose tasks are what others make of them from now on; return what is to be raised.

    Its own job, should it come after all, finds that nobody is to do the work, and steps aside.
    """
    if intent.jobs and any(jobs.values()):  # which of the arrays it is, the record has to go on telling
        return SlurmUnanswered(
            f"{run.label}: job {', '.join(jobs)} was queued by hand, and may have tasks of submission "
            f"{intent.number}, of which Slurm never got all",
            "wait for it, or cancel it, then repeat the command",
        )
    if not _given_up(run, intent, len(intent.arrays)):
        return _begun(run, intent)
    by_hand = f"job {', '.join(jobs)} was" if jobs else "some of its tasks were"
    done = QueuedByHand(
        f"{run.label}: Slurm never got submission {intent.number}, and {by_hand} queued by hand meanwhile",
        "the same command submits what that leaves",
    )
    if intent.jobs:
        _cut_short(run, intent, done.message)
    else:
        save(run, intent._replace(outcome=Outcome.REFUSED, message=done.message, answered=time.time()))
    return done


def _let_late_step_aside(run: RunDir, intent: Submission) -> None:
    """See that an array which is refused now does no work if its first try, of which Slurm showed nothing, comes late.

    Its tasks are submitted under another number then. Raises SlurmUnanswered where it has begun.
    """
    if not _given_up(run, intent, len(intent.jobs) + 1):  # those behind it were never sent
        raise _begun(run, intent)


def _given_up(run: RunDir, intent: Submission, end: int) -> bool:
    """Return whether no job does the work of the arrays before `end` that nobody knows of."""
    positions = range(len(intent.jobs), end)
    return sum(give_up(run, intent.number, position) for position in positions) == len(positions)


def _begun(run: RunDir, intent: Submission) -> SlurmUnanswered:
    return SlurmUnanswered(
        f"{run.label}: a job of submission {intent.number} has begun just now", "repeat the command: it finds out"
    )


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
            save(run, recorded[0])
        elif answer.message:
            context.say(f"{run.label}: sbatch took it, and said: {answer.message}")
        return recorded[0]
    if answer.outcome is Outcome.REFUSED:
        if last and intent.records and (answer.asked or not intent.jobs):  # else there is no fence, or it stays open
            _let_late_step_aside(run, intent)
        _refuse(run, intent, answer)
    context.say(f"{run.label}: {answer.message}; looking whether Slurm took the job")
    found = adopted(run, intent, known, scheduler, context)
    if found is not None:
        return found
    if last:
        raise SlurmUnanswered(
            f"{run.label}: Slurm took the job neither time, and said no neither time: {answer.message}",
            "repeat the command later",
        )
    return _send(run, intent, known, scheduler, context, last=True)


def _cut_short(run: RunDir, sent: Submission, message: str) -> Submission:
    """Keep the arrays that were taken; the tasks of the others are unsubmitted again."""
    arrays = sent.arrays[: len(sent.jobs)]
    done = sent._replace(
        arrays=arrays,
        tasks=sent.tasks[: sum(array.tasks for array in arrays)],
        outcome=Outcome.SUBMITTED,
        message=message,
        answered=time.time(),
    )
    save(run, done)
    return done


def _shared_anew(run: RunDir, sent: Submission, scheduler: Scheduler, context: Context) -> Submission:
    """Let the arrays that were taken run as many tasks at a time as all of them were to, in truth and on record."""
    arrays = list(sent.arrays)
    for position, limit in enumerate(share(sent.throttle, len(arrays))):
        array, job = arrays[position], sent.jobs[position]
        if limit == array.throttle or scheduler.queue is None:
            continue
        require(run.lock, run.label)
        problem = scheduler.queue.set_throttle(job, limit)
        if problem is not None:
            context.say(
                f"{run.label}: job {job.id} keeps its limit of {array.throttle} at a time: {problem}; esis throttle "
                "changes it"
            )
            break
        arrays[position] = array.throttled(limit)
    done = sent._replace(arrays=tuple(arrays))
    if done != sent:
        save(run, done)
    return done


def _record_job(run: RunDir, intent: Submission, job: Job) -> Submission:
    jobs = (*intent.jobs, job)
    whole = len(jobs) == len(intent.arrays)
    done = intent._replace(jobs=jobs, outcome=Outcome.SUBMITTED if whole else Outcome.OPEN, answered=time.time())
    save(run, done)
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
        save(run, intent._replace(outcome=Outcome.REFUSED, message=answer.message, answered=time.time()))
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


def _grace(run: RunDir, scheduler: Scheduler, context: Context) -> float:
    """Return how many seconds of absence prove that a submission never arrived."""
    if context.grace is not None:
        return context.grace
    limits = known_limits(run, scheduler)
    return max(MINIMUM_GRACE_SECONDS, 2 * limits.message_timeout if limits is not None else 0.0)
