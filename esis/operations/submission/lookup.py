"""Find the job of a submission whose answer was lost: by its claim, in the queue, or by what ESIS noted of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from esis.errors import SlurmUnanswered
from esis.model.index_sets import format_ranges
from esis.model.template import read_template
from esis.model.workdir import RunDir
from esis.operations.context import Context
from esis.records.claims import read_claim
from esis.records.origin import are_different, elsewhere
from esis.records.submissions import Job, Submission
from esis.records.tasks import Names, TaskRecord
from esis.schedulers.base import Scheduler
from esis.schedulers.directives import chosen_clusters

_POLL_SECONDS = 2.0


def look_up(
    run: RunDir, intent: Submission, known: Sequence[Submission], scheduler: Scheduler, context: Context, grace: float
) -> Job | None:
    """Return the job of `intent`; None after the grace period without a trace of it, so that it may be sent again."""
    others = {job.id for item in (*known, intent) for job in item.jobs} | set(intent.seen)
    clusters = chosen_clusters(read_template(run.script), intent.options)
    first_absent: float | None = None
    while True:
        job = _find(run, intent, others, scheduler, clusters)
        if job is not None:
            context.say(f"{run.label}: Slurm has it as job {job.id}")
            return job
        now = time.monotonic()
        if first_absent is None:
            _check_cluster(run, intent, clusters, scheduler)
            first_absent = now
            context.say(f"{run.label}: not in the queue; watching it for {grace:.0f} s before submitting again")
        if now - first_absent >= grace:
            break
        time.sleep(min(_POLL_SECONDS, grace / 5))
    context.say(f"{run.label}: Slurm never got it; submitting again")
    return None


def _check_cluster(run: RunDir, intent: Submission, asked: Sequence[str], scheduler: Scheduler) -> None:
    """Raise SlurmUnanswered where a submission went to another cluster than the one that would be asked for it."""
    if intent.cluster is None or intent.cluster.name in asked or scheduler.queue is None:
        return
    present, problem = scheduler.queue.present([intent])
    if present is not None and are_different(intent.cluster, present):
        problem = elsewhere(intent.cluster, present)
    if problem is not None:
        raise SlurmUnanswered(
            f"{run.label}: tasks {format_ranges(intent.tasks)} may or may not be queued, and Slurm can't be asked: "
            f"{problem}",
            "repeat the command there: it finds out",
        )


def _find(
    run: RunDir, intent: Submission, others: set[str], scheduler: Scheduler, clusters: Sequence[str]
) -> Job | None:
    """Return the job of the array that was sent last. Raises SlurmUnanswered where the question couldn't be asked."""
    claim = read_claim(run, intent.number, len(intent.jobs))
    if claim is not None and len(clusters) <= 1:
        return Job(claim, *clusters)  # it has even started
    # Each by itself: of several, squeue doesn't tell in its rows which one has the job.
    named: list[list[str]] = [[name] for name in clusters] or [[]]
    snapshots = [scheduler.observe(cluster) for cluster in named]
    for cluster, snapshot in zip(named, snapshots):
        # Not what somebody typed in the meantime: that has its own array, and no fence.
        found = sorted(snapshot.submitted(run) - others, key=int)
        if claim is not None:
            found = [claim] if claim in found else []
        if found and snapshot.problem is None:
            return Job(found[0], *cluster)
    if claim is not None:
        return Job(claim)
    problem = next((snapshot.problem for snapshot in snapshots if snapshot.problem is not None), None)
    if problem is not None:
        raise SlurmUnanswered(
            f"{run.label}: tasks {format_ranges(intent.tasks)} may or may not be queued, and "
            f"Slurm can't be asked: {problem}",
            "repeat the command later: it finds out",
        )
    noted = _noted(run, intent, others)
    return Job(noted[0], *(clusters if len(clusters) == 1 else ())) if noted else None


def _noted(run: RunDir, intent: Submission, others: set[str]) -> list[str]:
    """Return the jobs that were seen in the queue with tasks of that array, as ESIS noted when these were cancelled.

    Once Slurm has forgotten them nothing else tells. A job whose tasks have begun has left a claim; without one it was
    typed by hand, and what it did isn't this submission.
    """
    position = len(intent.jobs)
    start = sum(array.tasks for array in intent.arrays[:position])
    tasks = set(intent.tasks[start : start + intent.arrays[position].tasks])
    mark = f".{intent.number:04d}."
    records = (TaskRecord.parse(name) for name in Names(run) if mark in name)
    counted = Counter(
        item.job
        for item in records
        if item is not None
        and (item.submission, item.verdict is not None, item.end) == (intent.number, True, item.start)
        and item.task in tasks
        and item.job not in others
    )
    return sorted(counted, key=lambda job: (-counted[job], int(job)))
