"""Tell the state of every task from its witnesses: its own records first, then the scheduler's queue.

A query that fails, or a task absent from an answer, proves nothing by itself: where no witness is left the state is
`unknown`, never `failed` or `done`.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from esis.errors import CorruptState
from esis.files import write_atomic
from esis.locks import Owner, process_alive
from esis.model.parameters import find_parameter_files, format_ranges
from esis.model.workdir import RunDir
from esis.records import stage, submissions, tasks
from esis.records.stage import Stage, State
from esis.records.submissions import Outcome, Submission
from esis.records.tasks import TaskRecord
from esis.schedulers.base import JobState, Scheduler, Sighting, Snapshot
from esis.schedulers.local import NAME as LOCAL

# A network file system may show a directory as it was a minute ago (NFS: acdirmax 60 s).
GRACE_SECONDS = 65.0


class TaskState(Enum):
    """Name the states of a task, in the order in which they are shown."""

    DONE = "done"
    RUNNING = "running"
    WAITING = "waiting"
    UNSUBMITTED = "unsubmitted"
    FAILED = "failed"
    LOST = "lost"
    UNKNOWN = "unknown"


_LIVE = frozenset({JobState.WAITING, JobState.ACTIVE})
ACTIVE_STATES = frozenset({TaskState.RUNNING, TaskState.WAITING})


@dataclass(frozen=True)
class TaskStatus:
    """Hold what is known of one task."""

    state: TaskState
    reason: str = ""
    code: int | None = None
    job: str | None = None


@dataclass(frozen=True)
class RunStatus:
    """Hold what is known of a run."""

    run: RunDir
    tasks: Mapping[int, TaskStatus]
    complete: bool
    problem: str | None = None  # a witness that couldn't be asked, and why
    active_jobs: tuple[str, ...] = field(default=())

    def counts(self) -> dict[TaskState, int]:
        """Return how many tasks are in each state; states without a task are left out."""
        counted = Counter(status.state for status in self.tasks.values())
        return {state: counted[state] for state in TaskState if counted[state]}

    def indices(self, *states: TaskState) -> list[int]:
        """Return the sorted indices of the tasks in any of `states`."""
        return sorted(task for task, status in self.tasks.items() if status.state in states)

    def summary(self) -> str:
        """Return the counts as one line."""
        if not self.tasks:
            return "complete" if self.complete else "no tasks"
        return ", ".join(f"{count} {state.value}" for state, count in self.counts().items())


@dataclass(frozen=True)
class Evidence:
    """Hold what a run's directory tells."""

    run: RunDir
    state: State | None
    indices: Sequence[int]
    submissions: tuple[Submission, ...]
    records: Mapping[int, TaskRecord]
    marked_complete: bool

    @property
    def built(self) -> bool:
        """Return whether the directory is a run, not a build that was interrupted."""
        return self.state is None or self.state.stage is Stage.PREPARED

    @property
    def clusters(self) -> tuple[str, ...]:
        """Return the clusters that sbatch named when it took the run's jobs."""
        return tuple(sorted({job.cluster for sub in self.submissions for job in sub.jobs if job.cluster is not None}))

    def needs_queue(self) -> bool:
        """Return whether the scheduler could add anything."""
        if self.marked_complete or not any(sub.scheduler != LOCAL for sub in self.submissions):
            return False
        return any((record := self.records.get(task)) is None or record.code != 0 for task in self.indices)


def gather(run: RunDir) -> Evidence | None:
    """Read a run's directory; None where there is none. Raises CorruptState."""
    if not run.private.is_dir():
        return None
    subs = tuple(submissions.read_all(run))
    state = read_stage(run, subs)
    if state is not None and state.stage is Stage.PREPARED:
        indices: Sequence[int] = state.tasks
    else:
        indices = find_parameter_files(run.parameters) if run.parameters.is_dir() else ()
    return Evidence(run, state, indices, subs, tasks.latest(tasks.read_records(run.tasks)), is_marked_complete(run))


def read_stage(run: RunDir, subs: Sequence[Submission]) -> State | None:
    """Return the stage; a corrupt record of it is derived anew.

    A run with a submission was prepared; without one nothing is lost by building it again.
    """
    try:
        return stage.read(run)
    except CorruptState:
        indices = find_parameter_files(run.parameters) if run.parameters.is_dir() else []
        if not subs or not indices:
            return State(Stage.SNAPSHOT)
        return State(Stage.PREPARED, indices[0], len(indices))


def is_marked_complete(run: RunDir) -> bool:
    """Return whether completed.state holds 1."""
    try:
        return run.completed.read_bytes()[:16].strip() == b"1"
    except OSError:
        return False


def status_of(evidence: Evidence, snapshot: Snapshot, now: float | None = None) -> RunStatus:
    """Judge every task of a run; marks the run as complete where all are done."""
    run = evidence.run
    if evidence.marked_complete:
        return RunStatus(run, {task: TaskStatus(TaskState.DONE) for task in evidence.indices}, complete=True)
    judge = _Judge(evidence, snapshot, time.time() if now is None else now)
    found = {task: judge.task(task) for task in evidence.indices}
    complete = bool(found) and evidence.built and all(item.state is TaskState.DONE for item in found.values())
    if complete:
        mark_complete(run)
    active = sorted({item.job for item in found.values() if item.state in ACTIVE_STATES and item.job is not None},
                    key=lambda job: (len(job), job))
    return RunStatus(run, found, complete, snapshot.problem if evidence.needs_queue() else None, tuple(active))


def statuses(found: Iterable[Evidence | None], scheduler: Scheduler) -> list[RunStatus | None]:
    """Judge several runs with at most one query."""
    items = list(found)
    asking = [item for item in items if item is not None and item.needs_queue()]
    clusters = sorted({cluster for item in asking for cluster in item.clusters})
    snapshot = scheduler.observe(clusters) if asking else Snapshot()
    return [status_of(item, snapshot) if item is not None else None for item in items]


def mark_complete(run: RunDir) -> None:
    """Write 1 into completed.state, so that nobody has to look at every task again."""
    try:
        write_atomic(run.completed, "1")
    except OSError:
        return  # somebody else's run, or a full disk: the records still say the same


def describe_failures(status: RunStatus) -> str:
    """Return the failed tasks by reason in one line."""
    by_reason: dict[str, list[int]] = {}
    for task in status.indices(TaskState.FAILED, TaskState.LOST):
        by_reason.setdefault(status.tasks[task].reason, []).append(task)
    return "; ".join(f"{format_ranges(indices)}: {reason}" for reason, indices in sorted(by_reason.items()))


class _Judge:
    """Hear the witnesses of one run's tasks."""

    def __init__(self, evidence: Evidence, snapshot: Snapshot, now: float) -> None:
        self._records = evidence.records
        self._directory: Path = evidence.run.tasks
        self._problem = snapshot.problem
        self._now = now
        self._submission: dict[int, Submission] = {}
        self._claims: dict[int, str | None] = {}
        for submission in evidence.submissions:
            if submission.outcome is not Outcome.REFUSED:
                self._submission.update(dict.fromkeys(submission.tasks, submission))
                self._claims[submission.number] = submissions.read_claim(evidence.run, submission.number)
        self._live: dict[int, Sighting] = {}
        self._ended: dict[tuple[str, int | None], Sighting] = {}
        for seen in snapshot.of_run(evidence.run):
            if seen.state in _LIVE and seen.task is not None:
                self._live.setdefault(seen.task, seen)
            else:
                self._ended[seen.job, seen.task] = seen
        self._host = socket.gethostname()

    def task(self, task: int) -> TaskStatus:
        live = self._live.get(task)
        if live is not None:
            state = TaskState.RUNNING if live.state is JobState.ACTIVE else TaskState.WAITING
            return TaskStatus(state, live.reason if state is TaskState.WAITING else "", job=live.job)
        submission, record = self._submission.get(task), self._records.get(task)
        if submission is not None and task in submission.returned and (
                record is None or record.submission <= submission.number):
            return TaskStatus(TaskState.UNSUBMITTED, "given back")
        if record is not None and (submission is None or record.submission >= submission.number):
            return self._from_record(task, record, submission)
        if submission is None:
            return TaskStatus(TaskState.UNSUBMITTED)
        return self._without_record(task, submission)

    def _from_record(self, task: int, record: TaskRecord, submission: Submission | None) -> TaskStatus:
        verdict = self._ended.get((record.job, task))
        if verdict is not None and verdict.state is JobState.FAILED:
            # Slurm's verdict outranks the script's exit status: OUT_OF_MEMORY may come with 0.
            told = verdict.word == "FAILED" and record.code not in (None, 0)
            reason = _exit_reason(record.code) if told else verdict.word
            return TaskStatus(TaskState.FAILED, reason, record.code, record.job)
        if record.code is not None:
            if record.code == 0:
                return TaskStatus(TaskState.DONE, code=0, job=record.job)
            return TaskStatus(TaskState.FAILED, _exit_reason(record.code), record.code, record.job)
        if submission is not None and submission.scheduler == LOCAL:
            return self._local_process(record)
        if verdict is not None:
            if verdict.state is JobState.COMPLETED:
                return TaskStatus(TaskState.DONE, "COMPLETED, no record of the end", job=record.job)
            return TaskStatus(TaskState.UNKNOWN, verdict.word, job=record.job)
        return self._absent(record.start, record.job, "started, and left no record of its end")

    def _without_record(self, task: int, submission: Submission) -> TaskStatus:
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
                return TaskStatus(TaskState.FAILED, verdict.word, job=job)
            if verdict.state is JobState.COMPLETED and not submission.records:
                return TaskStatus(TaskState.DONE, "COMPLETED, no task records", job=job)
            return TaskStatus(TaskState.UNKNOWN, f"{verdict.word}, and no record of the task", job=job)
        if not submission.records and self._problem is None:
            return TaskStatus(TaskState.UNKNOWN, "Slurm has forgotten it, and it writes no task records", job=job)
        return self._absent(submission.answered or submission.created, job, "Slurm doesn't know it, and it left no "
                                                                            "record")

    def _local_process(self, record: TaskRecord) -> TaskStatus:
        process = tasks.read_process(self._directory, record)
        if process is None or process[0] != self._host:
            where = process[0] if process is not None else "an unknown host"
            return TaskStatus(TaskState.UNKNOWN, f"a local run on {where}", job=record.job)
        if process_alive(process[1], 0):
            return TaskStatus(TaskState.RUNNING, job=record.job)
        return TaskStatus(TaskState.LOST, "its local process is gone", job=record.job)

    def _absent(self, since: float, job: str, what: str) -> TaskStatus:
        if self._problem is not None:
            return TaskStatus(TaskState.UNKNOWN, self._problem, job=job)
        if self._now - since < GRACE_SECONDS:
            return TaskStatus(TaskState.UNKNOWN, f"not in the queue; judged after {GRACE_SECONDS:.0f} s", job=job)
        return TaskStatus(TaskState.LOST, what, job=job)


def _exit_reason(code: int | None) -> str:
    return f"exit code {code}"
