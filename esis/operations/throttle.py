"""Change how many tasks of the queued arrays run at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from esis.errors import BadInput, SlurmRefused
from esis.model.workdir import RunDir
from esis.operations.active.asked import asked
from esis.operations.submission.arrays import share
from esis.operations.witness.status import Held
from esis.operations.witness.target import evidence_of
from esis.schedulers.slurm import Slurm


class Throttled(NamedTuple):
    """Say which arrays were changed, and whether elements of any of them work on several tasks."""

    jobs: tuple[str, ...]
    together: int  # how many of them may be active at a time, each with one element at least: the others have turns
    packed: bool


def throttle(run: RunDir, limit: int, slurm: Slurm) -> Throttled:
    """Let at most `limit` elements (0: any number) of the queued arrays run at a time, each a task or a pack of them.

    Raises BadInput where none is queued, SlurmRefused, SlurmUnanswered.
    """
    status = asked(evidence_of(run), slurm)
    places = _places(status.queue)
    if not places:
        raise BadInput(f"{run.label}: no array of it is queued: {status.summary()}")
    together = max(places.values()) + 1
    parts = share(limit, together)
    for job, place in [(status.evidence.job_called(job), place) for job, place in places.items()]:
        problem = slurm.set_throttle(job, parts[place])
        if problem is not None:
            raise SlurmRefused(f"{run.label}: job {job.id}: {problem}")
    packed = any(item.submission is not None and item.submission.packed for item in status.queue)
    return Throttled(tuple(places), together, packed)


def _places(queue: Sequence[Held]) -> dict[str, int]:
    """Return by job, in their order, which place it has among those that may be active at a time.

    Arrays that take turns (Submission.lanes) share one.
    """
    held = {item.seen.job: item for item in sorted(queue, key=lambda item: (len(item.seen.job), item.seen.job))}
    lanes: dict[tuple[int, int], int] = {}
    places: dict[str, int] = {}
    for job, item in held.items():
        submission = item.submission if item.sent else None
        turns = submission.lanes if submission is not None else 0
        if submission is None or turns == 0:
            places[job] = len(set(places.values()))
            continue
        places[job] = lanes.setdefault((submission.number, item.position % turns), len(set(places.values())))
    return places
