"""Find the job of a submission whose answer was lost: by its claim, in the queue, or by what ESIS noted of it.

Jobs that somebody typed in meanwhile have the same script and the number of that submission, but no fence.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from esis.errors import CorruptState, SlurmUnanswered
from esis.model.index_sets import format_ranges
from esis.model.template import read_template
from esis.model.workdir import RunDir
from esis.operations.context import Context
from esis.records.claims import read_claim
from esis.records.origin import are_different, elsewhere
from esis.records.submissions import Job, Submission
from esis.records.tasks import Names, TaskRecord
from esis.schedulers.base import JobState, Scheduler, Snapshot
from esis.schedulers.directives import chosen_clusters

_POLL_SECONDS = 2.0


def look_up(
    run: RunDir, intent: Submission, known: Sequence[Submission], scheduler: Scheduler, context: Context, grace: float
) -> Job | None:
    """Return the job of `intent`; None after the grace period without a trace of it, so that it may be sent again."""
    others = _others(intent, known)
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
    return None


def typed_meanwhile(
    run: RunDir, intent: Submission, known: Sequence[Submission], scheduler: Scheduler
) -> Mapping[str, bool]:
    """Return the jobs by hand that the queue or their records show, of an intent of which there is no trace itself.

    With each, whether it waits or runs. Raises SlurmUnanswered where the queue can't be asked.
    """
    others = _others(intent, known)
    clusters = chosen_clusters(read_template(run.script), intent.options)
    snapshot = scheduler.observe(clusters)
    if snapshot.problem is not None:
        raise _unanswered(run, intent, snapshot.problem)
    found = {record.job: False for record in _records(run, intent)}
    others |= snapshot.submitted(run).keys()
    for seen in snapshot.of_run(run, others):
        found[seen.job] = found.get(seen.job, False) or seen.state in (JobState.WAITING, JobState.ACTIVE)
    return {job: found[job] for job in sorted(found, key=int) if job not in others}


def check_recorded(run: RunDir, known: Sequence[Submission], snapshot: Snapshot) -> None:
    """Raise CorruptState where a job waits or runs, and the record of the submission that it is of isn't there.

    Nobody knows its tasks, and the next submission would get its number. Under the lock of the run: nobody else is
    about to write that record.
    """
    numbers = {item.number for item in known}
    living = {seen.job for seen in snapshot.sightings if seen.state in (JobState.WAITING, JobState.ACTIVE)}
    for job, sent in sorted(snapshot.submitted(run).items()):
        if sent.number and sent.number not in numbers and job in living:
            raise CorruptState(
                f"{run.submission(sent.number)} is missing, and job {job} shows that submission {sent.number} was made",
                f"nothing was submitted: restore the record; or, if that job is of a run that was here before, "
                f"end it: scancel {job}; then repeat the command",
            )


def _others(intent: Submission, known: Sequence[Submission]) -> set[str]:
    """Return the jobs that were there before, or are those of other arrays."""
    return {job.id for item in (*known, intent) for job in item.jobs} | set(intent.seen)


def _records(run: RunDir, intent: Submission) -> list[TaskRecord]:
    """Return the records of tasks under the number of a submission."""
    mark = f".{intent.number:04d}."
    records = (TaskRecord.parse(name) for name in Names(run) if mark in name)
    return [item for item in records if item is not None and item.submission == intent.number]


def _unanswered(run: RunDir, intent: Submission, problem: str, advice: str = "later") -> SlurmUnanswered:
    return SlurmUnanswered(
        f"{run.label}: tasks {format_ranges(intent.tasks)} may or may not be queued, and Slurm can't be asked: "
        f"{problem}",
        f"repeat the command {advice}: it finds out",
    )


def _check_cluster(run: RunDir, intent: Submission, asked: Sequence[str], scheduler: Scheduler) -> None:
    """Raise SlurmUnanswered where a submission went to another cluster than the one that would be asked for it."""
    if intent.cluster is None or intent.cluster.name in asked or scheduler.queue is None:
        return
    present, problem = scheduler.queue.present([intent])
    if present is not None and are_different(intent.cluster, present):
        problem = elsewhere(intent.cluster, present)
    if problem is not None:
        raise _unanswered(run, intent, problem, "there")


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
        sent = snapshot.submitted(run)
        meant = ((intent.number, len(intent.jobs)), (0, 0))
        found = sorted((job for job in sent if sent[job] in meant and job not in others), key=int)
        if claim is not None:
            found = [claim] if claim in found else []
        if found and snapshot.problem is None:
            return Job(found[0], *cluster)
    if claim is not None:
        return Job(claim)
    problem = next((snapshot.problem for snapshot in snapshots if snapshot.problem is not None), None)
    if problem is not None:
        raise _unanswered(run, intent, problem)
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
    counted = Counter(
        item.job
        for item in _records(run, intent)
        if item.verdict is not None and item.end == item.start and item.task in tasks and item.job not in others
    )
    return sorted(counted, key=lambda job: (-counted[job], int(job)))
