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
    for job, part in [(status.evidence.job_called(job), parts[place]) for job, place in places.items()]:
        problem = slurm.set_throttle(job, part)
        if problem is not None:
            raise SlurmRefused(f"{run.label}: job {job.id}: {problem}")
    packed = any(item.submission is not None and item.submission.packed for item in status.queue)
    return Throttled(tuple(places), together, packed)


def _places(queue: Sequence[Held]) -> dict[str, int]:
    """Return by job, in their order, which place it has among those that may be active at a time.

    Arrays that take turns (Submission.lanes) share one.
    """
    held = {item.seen.job: item for item in sorted(queue, key=lambda item: (len(item.seen.job), item.seen.job))}
    known: dict[object, int] = {}
    places: dict[str, int] = {}
    for job, item in held.items():
        turns = item.submission if item.sent and item.submission is not None and item.submission.lanes else None
        lane = (turns.number, item.position % turns.lanes) if turns is not None else job
        places[job] = known.setdefault(lane, len(known))
    return places
