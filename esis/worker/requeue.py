"""End a worker so that its task goes on later: requeued by Slurm, or marked for `esis resubmit`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, NoReturn

from esis.hook import AGAIN, RESUME_SUFFIX
from esis.worker.attempts import later_attempt
from esis.worker.job import JobHere, asking_environment

_ASK_SECONDS = 300.0  # scontrol itself gives up earlier


class Requeued(SystemExit):
    """End the process with exit code 75; `how` says what will bring the task back.

    `how` is "slurm" (it is queued again), "resubmit" (marked: `esis resubmit` takes it) or "nothing" (outside of a
    run, where no record is written, or a later attempt has begun: this one has just failed with 75). `problem` says
    why it isn't "slurm".
    """

    asked: ClassVar[bool] = False  # whether this process was to be requeued

    def __init__(self, how: str, problem: str | None = None) -> None:
        """Keep both."""
        super().__init__(AGAIN)
        self.how = how
        self.problem = problem


def requeue(at_most: int | None = None) -> NoReturn:
    """Ask Slurm to run this one task again, from its beginning, and end the process. Save everything before.

    After `at_most` restarts, or where Slurm can't or won't, the task is marked instead. Raises Requeued, which is a
    SystemExit with code 75.
    """
    Requeued.asked = True
    job = JobHere.here()
    later = later_attempt(job.record) if job is not None and job.record is not None else None
    if later is not None:
        # Slurm knows both by one name, and would end the later one.
        raise Requeued("nothing", f"attempt {later} at this task began after this one")
    problem = _obstacle(job, at_most)
    if job is not None and problem is None:
        problem = _ask_slurm(job)
        if problem is None:
            raise Requeued("slurm")
    marked = job is not None and _mark(job)
    raise Requeued("resubmit" if marked else "nothing", problem)


def _obstacle(job: JobHere | None, at_most: int | None) -> str | None:
    """Say why Slurm is not to be asked."""
    if job is None:
        return "there is no job"
    if job.local:
        return "esis run --local requeues nothing"
    if job.packed:
        return "several tasks share the job"
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    if at_most is not None and restarts.isdigit() and int(restarts) >= at_most:
        return f"requeued {restarts} times already"
    return None


def _ask_slurm(job: JobHere) -> str | None:
    """Return what went wrong. An answer that got lost counts as that: then the task is marked *and* comes back."""
    from esis.process import capture

    try:
        done = capture(["scontrol", "requeue", job.name], env=asking_environment(), timeout=_ASK_SECONDS)
    except OSError as error:
        return f"scontrol: {error.strerror}"
    if done.timed_out:
        return "scontrol gave no answer"
    if done.code != 0:
        return done.stderr.decode("utf-8", "replace").strip() or f"scontrol ended with {done.code}"
    return None


def _mark(job: JobHere) -> bool:
    """Leave an empty file beside the record of this attempt; task.sh turns it into the record's last word."""
    if job.record is None:
        return False
    try:
        Path(f"{job.record}{RESUME_SUFFIX}").touch()
    except OSError:
        return False
    return True
