"""Let a job submit what a limit on the number of jobs left over, so that no process has to stay on the login node.

The feeding job takes its place in the queue before the arrays fill it, held; it is let go behind them if something was
left over, and taken away if not. It runs `esis resubmit --unsubmitted --feed` on the run, under the run's lock like any
other command, so that two of them do no more than one. Where it finds no place for the one behind it, it goes back into
the queue itself, outside of the lock, for a requeue kills what runs.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

from esis.errors import Busy, EsisError, ExitCode, LimitReached, SlurmRefused, SlurmUnanswered
from esis.files import write_atomic
from esis.locks import require, still
from esis.model.options import line_options, script_options
from esis.model.template import read_template
from esis.model.workdir import RunDir
from esis.operations.context import Context
from esis.operations.submission.submit import Request, submit
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.status import RunStatus, TaskState, is_held
from esis.records.submissions import Job, Outcome, Submission
from esis.schedulers.base import JobState, Queue, Scheduler, Sighting, Snapshot

_LATER_SECONDS = 600.0  # after which it tries again where no job of the run's own is in the way
_LATER_CODES = (ExitCode.NO_ROOM, ExitCode.UNANSWERED, ExitCode.BUSY)
_MOST_REQUEUES = 500  # Slurm lets two minutes pass before each
_PLACE = ("clusters", "partition", "account", "qos", "reservation")  # where a job may run, and on whose account
_SCRIPT = """\
#!/bin/sh
# Submits the tasks of this run that are not submitted yet, as far as Slurm has room for them.
trap 'exit 130' TERM  # once the command has ended: cancelled, it needs time to leave the run in order
# A node that was lost while a job like this one was at work has left the lock of the run.
{python} -m esis resubmit --unsubmitted --feed --take-over {throttle}{run}{options}
code=$?
[ "$code" != 0 ] || exit 0
case $code.$((${{SLURM_RESTART_COUNT:-0}} < {most})) in
{later}) # no place for the job behind this one, no answer, or another esis at work: this one comes again
    scontrol requeue "$SLURM_JOB_ID" && exit $code ;;
esac
echo "ESIS: nothing submits the rest any more: mend what stands above, then esis run --feed" >&2
exit $code
"""


def submit_what_fits(
    request: Request, status: RunStatus, snapshot: Snapshot, scheduler: Scheduler, context: Context
) -> Submission | None:
    """Submit; None where Slurm has no room now and other tasks of the run are active. Raises as `submit` does.

    If the context wants it fed, a job in the queue submits what is left over. Where this is such a job, and the place
    that it keeps for the next one is all that there is, tasks take that place, and LimitReached brings it back.
    """
    run, known = request.run, status.evidence.submissions
    feeder = Feeder(run, scheduler.queue, context) if context.feed and scheduler.queue is not None else None
    if feeder is not None:
        feeder.reserve(status.evidence, snapshot, read_template(run.script), request.throttle, request.options)
    submission: Submission | None = None
    try:
        submission = submit(request, known, scheduler, context)
    except LimitReached as refusal:
        if feeder is not None and not request.active and feeder.give_way(snapshot):
            submission = submit(request, known, scheduler, context)
            left = len(request.tasks) - len(submission.tasks)
            if left:
                raise LimitReached(
                    f"{run.label}: {left} tasks are left, and there is no place for another job that would submit them",
                    "repeat the command when there is room",
                ) from refusal
            return submission
        if not request.active and feeder is None:
            raise
        context.say(f"{refusal.message}; {len(request.tasks)} tasks are left, the same command submits them later")
    except (SlurmUnanswered, Busy):
        raise  # the same command, or whoever took the run over, finds the job that keeps the place
    except (EsisError, OSError):
        if feeder is not None:
            feeder.give_up()
        raise
    jobs = [job.id for job in submission.jobs] if submission is not None else list(status.active_jobs)
    left = len(request.tasks) - (len(submission.tasks) if submission is not None else 0)
    if feeder is not None:
        feeder.settle(left, jobs[:1])
    elif not left and set(request.tasks).issuperset(status.indices(TaskState.UNSUBMITTED)):
        drop_held(status, scheduler, context)
    return submission


def drop_held(status: RunStatus, scheduler: Scheduler, context: Context) -> None:
    """Take away the feeding jobs that are held, under the lock of a run of which nothing is left to submit."""
    run, clusters, queue = status.run, status.evidence.clusters, scheduler.queue
    if queue is None or not status.held_feeders or len(clusters) > 1:  # the same id may be another job's there
        return
    require(run.lock, run.label)
    for job in status.held_feeders:
        problem = queue.drop_feeder(status.evidence.queued(job))
        context.say(
            f"{run.label}: job {job} kept a place to submit the rest from, and there is none: "
            f"{problem or 'it is cancelled'}"
        )


class Feeder:
    """Be the feeding job of one run, from before a submission until after it."""

    def __init__(self, run: RunDir, queue: Queue, context: Context) -> None:
        """Know nothing of a job yet."""
        self._run = run
        self._queue = queue
        self._context = context
        self._job: Job | None = None
        self._held = False  # queued by this command, or by one that didn't come to let it go

    def reserve(
        self, evidence: Evidence, snapshot: Snapshot, script: str, throttle: int, options: Sequence[str]
    ) -> None:
        """Keep a place in the queue, or find the one that an earlier command kept.

        Raises SlurmRefused, OSError, and BadInput where that one is on nobody knows which cluster.
        """
        run = self._run
        behind = f" -- {shlex.join(options)}" if options else ""
        write_atomic(
            run.feed_script,
            _SCRIPT.format(
                python=shlex.quote(sys.executable),
                throttle=f"-m {throttle} ",
                run=shlex.quote(str(run.path)),
                options=behind,
                later="|".join(f"{int(code)}.1" for code in _LATER_CODES),
                most=_MOST_REQUEUES,
            ),
            executable=True,
            check=still(run.lock, run.label),
        )
        found = _waiting(run, snapshot)
        if found is not None:
            self._job, self._held = evidence.queued(found.job), is_held(found)
        if self._job is None:
            self._job, answer = self._queue.reserve_feeder(run, place_options(script, options))
            self._held = self._job is not None
            if self._job is None:
                kind = (
                    LimitReached
                    if answer.at_limit
                    else SlurmUnanswered
                    if answer.outcome is Outcome.OPEN
                    else SlurmRefused
                )
                raise kind(
                    f"{run.label}: the job that would submit the rest can't be queued: {answer.message}",
                    "without --feed, repeat the command when there is room again",
                )

    def settle(self, left: int, active: Sequence[str]) -> None:
        """Let the job go behind the `active` ones if tasks are left, else take it away."""
        if self._job is None:
            return
        require(self._run.lock, self._run.label)  # whoever took the run over may need it
        if not left:
            self._queue.drop_feeder(self._job)
            return
        # One that was let go before keeps its time: repeated every few minutes this would put it off for ever.
        wanted = self._held or active
        problem = self._queue.start_feeder(self._job, active, _LATER_SECONDS) if wanted else None
        if problem is not None:
            raise SlurmRefused(
                f"{self._run.label}: job {self._job.id} would submit the rest, but it can't be let go: {problem}",
                f"scontrol release {self._job.id}",
            )
        self._context.say(f"{self._run.label}: job {self._job.id} submits the rest (its log: {self._run.feed_log})")

    def give_way(self, snapshot: Snapshot) -> bool:
        """Leave the place to tasks, if this command keeps it and is a feeding job itself: that can come again."""
        mine = os.environ.get("SLURM_JOB_ID")
        if not self._held or mine not in {seen.job for seen in snapshot.feeders(self._run)}:
            return False
        self.give_up()
        return True

    def give_up(self) -> None:
        """Take the job away if it is held: nobody would let it go, and it would wait for ever.

        Raises Busy where somebody took the run over: that one may need it.
        """
        if self._job is not None and self._held:
            require(self._run.lock, self._run.label)
            self._queue.drop_feeder(self._job)


def place_options(script: str, given: Sequence[str]) -> list[str]:
    """Return the options of a script and of sbatch's words that say where a job may run; the last of a kind counts."""
    found = {
        option.name: option.value for option in [*script_options(script), *line_options(given)] if option.name in _PLACE
    }
    return [f"--{name}={value or ''}" for name, value in found.items()]


def _waiting(run: RunDir, snapshot: Snapshot) -> Sighting | None:
    """Return a feeding job of the run that waits; not the one that this command may be running in."""
    mine = os.environ.get("SLURM_JOB_ID")
    return next((seen for seen in snapshot.feeders(run) if seen.state is JobState.WAITING and seen.job != mine), None)
