"""Find the job of a submission whose answer was lost: by its claim, in the queue, or by what ESIS noted of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from esis.errors import SlurmUnanswered
from esis.model.index_sets import format_ranges
from esis.model.workdir import RunDir
from esis.records.claims import read_claim
from esis.records.submissions import Job, Submission
from esis.records.tasks import Names, TaskRecord
from esis.schedulers.base import Snapshot


def find(run: RunDir, intent: Submission, others: set[str], snapshot: Snapshot, clusters: Sequence[str]) -> Job | None:
    """Return the job of the array that was sent last. Raises SlurmUnanswered where the question couldn't be asked."""
    cluster = clusters[0] if len(clusters) == 1 else None
    claim = read_claim(run, intent.number, len(intent.jobs))
    if claim is not None:
        return Job(claim, cluster)  # it has even started
    if snapshot.problem is not None:
        raise SlurmUnanswered(
            f"{run.label}: tasks {format_ranges(intent.tasks)} may or may not be queued, and "
            f"Slurm can't be asked: {snapshot.problem}",
            "repeat the command later: it finds out",
        )
    # Not what somebody typed in the meantime: that has its own array, and no fence.
    found = sorted(snapshot.submitted(run) - others, key=int) or _noted(run, intent, others)
    return Job(found[0], cluster) if found else None


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
