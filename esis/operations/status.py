"""Tell the states of runs, asking squeue at most once and sacct at most once, whatever the number of runs and tasks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from esis.model.parameters import format_ranges
from esis.model.workdir import RunDir
from esis.operations.evidence import Evidence, gather, mark_complete
from esis.operations.judge import ACTIVE_STATES, Judge, TaskState, TaskStatus
from esis.records.tasks import TaskRecord, keep_verdict
from esis.schedulers.base import Scheduler, Snapshot

__all__ = ["ACTIVE_STATES", "Evidence", "RunStatus", "TaskState", "TaskStatus", "gather", "status_of", "statuses"]

_UNRESOLVED = (TaskState.LOST, TaskState.UNKNOWN, TaskState.FAILED)


@dataclass(frozen=True)
class RunStatus:
    """Hold what is known of a run."""

    run: RunDir
    tasks: Mapping[int, TaskStatus]
    complete: bool
    problem: str | None = None  # why the queue couldn't be asked
    accounting_problem: str | None = None  # why sacct couldn't be asked, where it would have mattered
    active_jobs: tuple[str, ...] = ()
    last_word: float | None = None  # of the records, seconds since 1970
    started: float | None = None  # first submission, seconds since 1970

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

    def elapsed(self, now: float) -> float | None:
        """Return the seconds since the first submission, up to the last word where nothing is active any more."""
        if self.started is None:
            return None
        over = self.last_word is not None and not self.indices(*ACTIVE_STATES)
        return max(0.0, (self.last_word if over and self.last_word is not None else now) - self.started)

    def remaining(self) -> float | None:
        """Estimate the seconds until all active tasks have ended; None where nothing tells.

        From the mean time of the tasks that are done and the number that run now.
        """
        spent = [item.elapsed for item in self.tasks.values()
                 if item.state is TaskState.DONE and item.elapsed is not None]
        running = [item.elapsed or 0.0 for item in self.tasks.values() if item.state is TaskState.RUNNING]
        if not spent or not running:
            return None
        mean = sum(spent) / len(spent)
        work = sum(max(0.0, mean - elapsed) for elapsed in running) + mean * len(self.indices(TaskState.WAITING))
        return work / len(running)


def status_of(evidence: Evidence, snapshot: Snapshot, now: float | None = None) -> RunStatus:
    """Judge every task of a run; marks the run as complete where all are done and no witness was left out."""
    run = evidence.run
    started = evidence.submissions[0].created if evidence.submissions else None
    if evidence.marked_complete:
        done = {task: _recorded_done(evidence.records.get(task)) for task in evidence.indices}
        return RunStatus(run, done, complete=True, last_word=evidence.last_word(), started=started)
    judge = Judge(evidence, snapshot, time.time() if now is None else now)
    found = {task: judge.task(task) for task in evidence.indices}
    complete = bool(found) and evidence.built and all(item.state is TaskState.DONE for item in found.values())
    problem = snapshot.problem if evidence.in_slurm else None
    heard = snapshot.accounting_asked and (snapshot.problem is None or snapshot.accounting_problem is None)
    if complete and (heard or not evidence.in_slurm):
        mark_complete(run)
    if snapshot.problem is None:
        # With squeue silent, a lagging sacct may still speak of the attempt before a requeue.
        for record, word in judge.outranked:
            keep_verdict(run.tasks, record, word)
    active = sorted({item.job for item in found.values() if item.state in ACTIVE_STATES and item.job is not None},
                    key=lambda job: (len(job), job))
    return RunStatus(run, found, complete, problem, None, tuple(active), evidence.last_word(), started)


def statuses(found: Iterable[Evidence | None], scheduler: Scheduler, accounting: bool = True
             ) -> list[RunStatus | None]:
    """Judge several runs with at most one call of squeue, and one of sacct where squeue left something open."""
    items = list(found)
    snapshot = ask(items, scheduler, accounting)
    return [None if item is None else status_of_asked(item, snapshot) for item in items]


def ask(found: Iterable[Evidence | None], scheduler: Scheduler, accounting: bool = True) -> Snapshot:
    """Ask squeue once about all of these runs, and sacct once where that leaves verdicts open (and if wanted)."""
    asking = [item for item in found if item is not None and item.needs_queue()]
    if not asking:
        return Snapshot()
    clusters = sorted({cluster for item in asking for cluster in item.clusters})
    snapshot = scheduler.observe(clusters)
    unclear = [item for item in asking if item.in_slurm and _is_unclear(item, snapshot)] if accounting else []
    if not unclear:
        return snapshot
    since = min(sub.created for item in unclear for sub in item.in_slurm)
    jobs = [job for item in unclear for job in item.jobs]
    return scheduler.account(snapshot, jobs, clusters, since)


def status_of_asked(evidence: Evidence, snapshot: Snapshot) -> RunStatus:
    """Judge a run with a snapshot that `ask` made; says where sacct was missed."""
    status = status_of(evidence, snapshot)
    if snapshot.accounting_problem is not None and status.indices(TaskState.LOST, TaskState.UNKNOWN):
        return replace(status, accounting_problem=snapshot.accounting_problem)
    return status


def describe_failures(status: RunStatus) -> str:
    """Return the failed tasks by reason in one line."""
    by_reason: dict[str, list[int]] = {}
    for task in status.indices(TaskState.FAILED, TaskState.LOST):
        by_reason.setdefault(status.tasks[task].reason, []).append(task)
    return "; ".join(f"{format_ranges(indices)}: {reason}" for reason, indices in sorted(by_reason.items()))


def _recorded_done(record: TaskRecord | None) -> TaskStatus:
    """Return what the record adds to a task of a complete run."""
    if record is None:
        return TaskStatus(TaskState.DONE)
    spent = float(record.end - record.start) if record.end is not None else None
    return TaskStatus(TaskState.DONE, code=record.code, job=record.job, elapsed=spent)


def _is_unclear(evidence: Evidence, snapshot: Snapshot) -> bool:
    """Return whether sacct could change the picture.

    That is: something failed or unexplained, or everything done, which isn't believed before a verdict of failure
    (OUT_OF_MEMORY with exit status 0) was looked for once.
    """
    judge = Judge(evidence, snapshot, time.time())
    states = {judge.task(task).state for task in evidence.indices}
    return bool(states & set(_UNRESOLVED)) or states == {TaskState.DONE}
