"""Change how many tasks of the queued arrays run at a time."""

from __future__ import annotations

from typing import NamedTuple

from esis.errors import BadInput, SlurmRefused
from esis.model.workdir import RunDir
from esis.operations.active.asked import asked
from esis.operations.submission.arrays import share
from esis.operations.witness.target import evidence_of
from esis.schedulers.slurm import Slurm


class Throttled(NamedTuple):
    """Say which arrays were changed, and whether elements of any of them work on several tasks."""

    jobs: tuple[str, ...]
    packed: bool


def throttle(run: RunDir, limit: int, slurm: Slurm) -> Throttled:
    """Let at most `limit` elements (0: any number) of the queued arrays run at a time, each a task or a pack of them.

    Raises BadInput where none is queued, SlurmRefused, SlurmUnanswered.
    """
    status = asked(evidence_of(run), slurm)
    jobs = sorted({held.seen.job for held in status.queue}, key=lambda job: (len(job), job))
    if not jobs:
        raise BadInput(f"{run.label}: no array of it is queued: {status.summary()}")
    for job, part in zip([status.evidence.job_called(job) for job in jobs], share(limit, len(jobs))):
        problem = slurm.set_throttle(job, part)
        if problem is not None:
            raise SlurmRefused(f"{run.label}: job {job.id}: {problem}")
    return Throttled(tuple(jobs), any(item.submission is not None and item.submission.packed for item in status.queue))
