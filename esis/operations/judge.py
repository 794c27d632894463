"""Judge the state of a task from its three witnesses: its own records, squeue, and sacct where there is one.

A query that fails, or a task absent from an answer, proves nothing by itself: where no witness is left the state is
`unknown`, never `failed` or `done`. A Slurm verdict of failure outranks an exit status of 0.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from esis.locks import Owner, process_alive
from esis.operations.evidence import Evidence
from esis.records import submissions, tasks
from esis.records.submissions import Outcome, Submission
from esis.records.tasks import TaskRecord
from esis.schedulers.base import JobState, Sighting, Snapshot
from esis.schedulers.local import NAME as LOCAL

# A network file system may show a directory as it was a minute ago (NFS: acdirmax 60 s).
GRACE_SECONDS = 65.0
_LAUNCH_SIGNAL = 53  # Slurm's "0:53": a log file that can't be opened, or another failure before the script began


class TaskState(Enum):
    """Name the states of a task, in the order in which they are shown."""

    DONE = "done"
    RUNNING = "running"
    WAITING = "waiting"
    UNSUBMITTED = "unsubmitted"
    FAILED = "failed"
    LOST = "lost"
    UNKNOWN = "unknown"


RESUMABLE = "resumable"  # the reason of a task that saved its state and has more to do

_LIVE = {JobState.WAITING: TaskState.WAITING, JobState.ACTIVE: TaskState.RUNNING}
ACTIVE_STATES = frozenset(_LIVE.values())


@dataclass(frozen=True)
class TaskStatus:
    """Hold what is known of one task."""

    state: TaskState
    reason: str = ""
    code: int | None = None  # exit code of the script
    job: str | None = None  # the array's job id
    elapsed: float | None = None  # seconds
    passing: bool = False  # a later look will tell more


class Judge:
    """Hear the witnesses of one run's tasks."""

    def __init__(self, evidence: Evidence, snapshot: Snapshot, now: float) -> None:
        """Sort the sightings by task; `now` is in seconds since 1970."""
        self._evidence = evidence
        self._problem = snapshot.problem
        self._now = now
        self._host = socket.gethostname()
        self._submission: dict[int, Submission] = {}
        self._claims: dict[int, str | None] = {}
        for submission in evidence.submissions:
            if submission.outcome is not Outcome.REFUSED:
                self._submission.update(dict.fromkeys(submission.tasks, submission))
                self._claims[submission.number] = submissions.read_claim(evidence.run, submission.number)
        self.outranked: list[tuple[TaskRecord, str]] = []  # records that a verdict of Slurm's contradicts
        self._live: dict[int, Sighting] = {}
        self._ended: dict[tuple[str, int | None], Sighting] = {}
        self._sort(snapshot.accounted(evidence.run), live=snapshot.problem is not None)
        self._sort(snapshot.of_run(evidence.run), live=True)

    def task(self, task: int) -> TaskStatus:
        """Return the verdict on one task."""
        seen = self._live.get(task)
        if seen is not None:
            state = _LIVE[seen.state]
            return TaskStatus(state, seen.reason if state is TaskState.WAITING else "", job=seen.job,
                              elapsed=seen.elapsed if state is TaskState.RUNNING else None)
        submission, record = self._submission.get(task), self._evidence.records.get(task)
        if submission is not None and task in submission.returned and (
                record is None or record.submission < submission.number
                or record.job in {job.id for job in submission.jobs}):
            return TaskStatus(TaskState.UNSUBMITTED, "given back")
        if record is not None and (submission is None or record.submission >= submission.number):
            return self._recorded(task, record, submission)
        if submission is None and self._evidence.state is None:
            return TaskStatus(TaskState.UNKNOWN, "submitted by an ESIS that kept no records (0.0.4)")
        if submission is None:
            return TaskStatus(TaskState.UNSUBMITTED)
        return self._unrecorded(task, submission)

    def _sort(self, sightings: Iterable[Sighting], live: bool) -> None:
        """Keep the sightings by task; those of a mapped submission show positions, not indices."""
        taken = [item for item in self._evidence.submissions if item.outcome is not Outcome.REFUSED]
        by_job = {job: item for item in taken for job in (*(job.id for job in item.jobs), self._claims[item.number])}
        for seen in sightings:
            task = seen.task
            # A job that nobody recorded was submitted by hand, with the script of the latest submission.
            submission = by_job.get(seen.job, taken[-1] if taken else None)
            if task is not None and submission is not None and submission.mapped:
                if task >= len(submission.tasks):
                    continue
                task = submission.tasks[task]
            if seen.state in _LIVE:
                if live and task is not None:
                    self._live.setdefault(task, seen)
            else:
                told = self._ended.get((seen.job, task))
                if told is not None and told.state is seen.state:
                    # squeue's word and reason, and what only sacct tells.
                    seen = replace(seen, code=told.code, signal=told.signal, elapsed=told.elapsed or seen.elapsed)
                self._ended[seen.job, task] = seen

    def _recorded(self, task: int, record: TaskRecord, submission: Submission | None) -> TaskStatus:
        """Judge a task whose present attempt left a record."""
        verdict = self._ended.get((record.job, task))
        if record.verdict is not None:
            told = verdict is not None and verdict.state is JobState.FAILED
            reason = _reason(verdict, None, started=True) if told and verdict is not None else record.verdict
            return TaskStatus(TaskState.FAILED, reason, job=record.job)
        spent = float(record.end - record.start) if record.end is not None else None
        if record.resumable:
            # Whatever became of its job afterwards: the state is saved.
            return TaskStatus(TaskState.FAILED, RESUMABLE, record.code, record.job, spent)
        if verdict is not None and verdict.state is JobState.FAILED:
            if not record.code:
                self.outranked.append((record, verdict.word.split()[0]))
            return TaskStatus(TaskState.FAILED, _reason(verdict, record.code, started=True), record.code or None,
                              record.job, spent if spent is not None else verdict.elapsed)
        if record.code is not None:
            state = TaskState.DONE if record.code == 0 else TaskState.FAILED
            return TaskStatus(state, _exit_reason(record.code), record.code, record.job, spent)
        if submission is not None and submission.scheduler == LOCAL:
            return self._local_process(record)
        if verdict is not None:
            if verdict.state is JobState.COMPLETED:
                return TaskStatus(TaskState.DONE, "COMPLETED, no record of the end", job=record.job,
                                  elapsed=verdict.elapsed)
            return TaskStatus(TaskState.UNKNOWN, verdict.word, job=record.job)
        return self._absent(record.start, record.job, "started, and left no record of its end")

    def _unrecorded(self, task: int, submission: Submission) -> TaskStatus:
        """Judge a task whose present submission left no record of it."""
        if submission.scheduler == LOCAL:
            owner = Owner.parse(submission.owner)
            if owner is not None and owner.is_dead():
                return TaskStatus(TaskState.UNSUBMITTED, "its local run was killed")
            return TaskStatus(TaskState.WAITING, "local")
        claim = self._claims.get(submission.number)
        jobs = [job.id for job in submission.jobs] or ([claim] if claim is not None else [])
        if not jobs:
            return TaskStatus(TaskState.UNKNOWN, "outcome of the submission unknown")
        job = claim if claim is not None else jobs[0]
        verdict = self._ended.get((job, task)) or self._ended.get((job, None))
        if verdict is not None:
            if verdict.state is JobState.FAILED:
                return TaskStatus(TaskState.FAILED, _reason(verdict, None, started=not submission.records),
                                  verdict.code, job, verdict.elapsed)
            if verdict.state is JobState.COMPLETED and not submission.records:
                return TaskStatus(TaskState.DONE, "COMPLETED, no task records", job=job, elapsed=verdict.elapsed)
            return TaskStatus(TaskState.UNKNOWN, f"{verdict.word}, and no record of the task", job=job)
        since = submission.answered or submission.created
        if not submission.records and self._problem is None:
            return TaskStatus(TaskState.UNKNOWN, "Slurm has forgotten it, and it writes no task records", job=job)
        return self._absent(since, job, "Slurm doesn't know it, and it left no record")

    def _local_process(self, record: TaskRecord) -> TaskStatus:
        process = tasks.read_details(self._evidence.run.tasks, record)
        if process is None or process.host != self._host:
            where = process.host if process is not None else "an unknown host"
            return TaskStatus(TaskState.UNKNOWN, f"a local run on {where}", job=record.job)
        if process_alive(process.pid, 0):
            return TaskStatus(TaskState.RUNNING, job=record.job, elapsed=max(0.0, self._now - record.start))
        return TaskStatus(TaskState.LOST, "its local process is gone", job=record.job)

    def _absent(self, since: float, job: str, what: str) -> TaskStatus:
        """Judge a task that should be in the queue and isn't."""
        if self._problem is not None:
            return TaskStatus(TaskState.UNKNOWN, f"squeue: {self._problem}", job=job, passing=True)
        if self._now - since < GRACE_SECONDS:
            return TaskStatus(TaskState.UNKNOWN, f"not in the queue; judged after {GRACE_SECONDS:.0f} s", job=job,
                              passing=True)
        return TaskStatus(TaskState.LOST, what, job=job)


def _reason(verdict: Sighting, recorded: int | None, started: bool) -> str:
    """Say why Slurm holds a task for failed: its own word, or what stands behind a bare FAILED."""
    if verdict.word.split()[0] != "FAILED":
        return verdict.word.split()[0]
    if recorded not in (None, 0):
        return _exit_reason(recorded)
    if verdict.code:
        return _exit_reason(verdict.code)
    if not started or verdict.signal == _LAUNCH_SIGNAL:
        return "launch failure"
    if verdict.signal:
        return f"signal {verdict.signal}"
    return f"FAILED ({verdict.reason})" if verdict.reason not in ("", "None") else "FAILED"


def _exit_reason(code: int | None) -> str:
    return f"exit code {code}" if code else ""
