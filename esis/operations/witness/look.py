"""Tell the states of runs, asking squeue at most once and sacct at most once, whatever the number of runs and tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from esis.errors import EsisError
from esis.files import refresh
from esis.model.workdir import RunDir
from esis.operations.witness.evidence import Evidence, gather
from esis.operations.witness.judge import Judge
from esis.operations.witness.status import (
    ACTIVE_STATES,
    CLAIMED,
    News,
    RunStatus,
    Tasks,
    TaskState,
    TaskStatus,
    Verdict,
    complete_status,
)
from esis.schedulers.base import Scheduler, Snapshot

_UNRESOLVED = frozenset({TaskState.LOST, TaskState.UNKNOWN, TaskState.FAILED})
_UNEXPLAINED = frozenset({TaskState.LOST, TaskState.UNKNOWN})


def status_of(evidence: Evidence, snapshot: Snapshot, now: float | None = None) -> RunStatus:
    """Judge every task of a run; nothing is written."""
    if evidence.marked_complete:
        return complete_status(evidence)
    judge = Judge(evidence, snapshot, time.time() if now is None else now)
    return _judged(evidence, judge, judge.groups(), snapshot)


def status_after(evidence: Evidence, snapshot: Snapshot, now: float | None = None) -> RunStatus:
    """Judge as `status_of` does, and once more where jobs had ended, and records may have come since these were read.

    A job ends behind what its tasks write. So what is read behind the answer that it has ended is all that there will
    be, if it comes from the server: else a task of a job that was cut off would be taken for one that never began.
    """
    return _settled(status_of(evidence, snapshot, now), snapshot, now)


def _settled(status: RunStatus, snapshot: Snapshot, now: float | None) -> RunStatus:
    """Return the status, or another one of records that are read anew where that may tell more."""
    if not any(verdict.unread for verdict in status.groups):
        return status
    refresh(status.run.tasks)
    found = gather(status.run)
    if found is None:
        return status
    # What a command has just found out of submissions may not be what stands on the disk of this view.
    return status_of(found._replace(submissions=status.evidence.submissions), snapshot, now)


def look(
    found: Iterable[Evidence | None], scheduler: Scheduler, accounting: bool = True
) -> tuple[Snapshot, list[RunStatus | None]]:
    """Judge several runs with at most one call of squeue, and one of sacct where squeue left something open.

    `accounting` False: without sacct. Nothing is written.
    """
    items = list(found)
    asking = [item for item in items if item is not None and item.needs_queue()]
    with _reading(asking):
        snapshot = scheduler.observe(_clusters(asking), _owners(asking)) if asking else Snapshot()
    now = time.time()
    judged: dict[RunDir, tuple[Judge, dict[Verdict, list[int]]]] = {}
    unclear = []
    for asked in asking if accounting else ():
        judge = Judge(asked, snapshot, now)
        judged[asked.run] = judge, judge.groups()
        if asked.in_slurm and _is_unclear(judged[asked.run][1]):
            unclear.append(asked)
    if unclear:
        since = min(sub.created for item in unclear for sub in item.in_slurm)
        jobs = sorted({job for item in unclear for job in item.jobs}, key=lambda job: (len(job), job))
        # Where the records know all ends, that a script ended with 0 adds nothing.
        unexplained = any(
            verdict.state in _UNEXPLAINED or verdict.fleeting for _, groups in judged.values() for verdict in groups
        )
        snapshot = scheduler.account(snapshot, jobs, _clusters(asking), since, completed=unexplained)
        judged = {run: heard for run, heard in judged.items() if not snapshot.accounted(run)}  # others: more to hear
    statuses: list[RunStatus | None] = []
    for item in items:
        if item is None or item.run not in judged:
            statuses.append(None if item is None else status_after(item, snapshot, now))
        else:
            statuses.append(_settled(_judged(item, *judged[item.run], snapshot), snapshot, now))
    return snapshot, statuses


def behind_mark(evidence: Evidence, asked: RunStatus) -> RunStatus:
    """Return the status of a run that is marked as complete, but for what waits or runs all the same, or may."""
    complete = complete_status(evidence)
    groups: dict[Verdict, Sequence[int]] = {
        verdict: tasks for verdict, tasks in asked.groups.items() if verdict.state in ACTIVE_STATES or verdict.passing
    }
    busy = {task for tasks in groups.values() for task in tasks}
    done = [task for task in evidence.indices if task not in busy]
    if done:
        groups[Verdict(TaskState.DONE)] = done

    def judge(task: int) -> TaskStatus:
        return (asked if task in busy else complete).tasks[task]

    return asked._replace(
        evidence=evidence, tasks=Tasks(evidence.indices, judge), groups=groups, complete=not busy, news=News()
    )


@contextmanager
def _reading(found: Iterable[Evidence]) -> Iterator[None]:
    """Read the tasks' records that wait to be read during the block, in which somebody else takes his time.

    A task that ends meanwhile is seen as the queue told: it runs.
    """

    def read() -> None:
        for item in found:
            with suppress(EsisError, OSError):  # whoever asks for them gets the error
                item.records.load()

    # A daemon: an interrupt is not held up by it.
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    yield
    thread.join()


def _judged(evidence: Evidence, judge: Judge, groups: dict[Verdict, list[int]], snapshot: Snapshot) -> RunStatus:
    states = {verdict.state for verdict in groups}
    complete = evidence.built and (states == {TaskState.DONE} or (not states and evidence.looks_complete))
    heard = snapshot.accounting_asked and (snapshot.problem is None or snapshot.accounting_problem is None)
    # A claim is believed while there is nothing better; to write it down as found would make more of it.
    found = bool(states) and all(verdict.reason != CLAIMED for verdict in groups)
    # With squeue silent, a lagging sacct may still speak of the attempt before a requeue.
    certain = snapshot.problem is None
    news = News(
        complete and found and (heard or not evidence.in_slurm) and not evidence.is_old,
        tuple(judge.outranked.values()) if certain else (),
        # Once squeue has forgotten them, nobody could tell, unless sacct does.
        tuple(judge.unrecorded.items()) if certain and snapshot.accounting_problem is not None else (),
    )
    active = {verdict.job for verdict in groups if verdict.state in ACTIVE_STATES and verdict.job is not None}
    active.update(held.seen.job for held in judge.queue if not held.known)
    missed = snapshot.accounting_problem if states & {TaskState.LOST, TaskState.UNKNOWN} else None
    return RunStatus(
        evidence,
        Tasks(evidence.indices, judge.task),
        groups,
        complete,
        snapshot.problem if evidence.in_slurm or evidence.fed else None,
        missed,
        tuple(sorted(active, key=lambda job: (len(job), job))),
        tuple(snapshot.feeders(evidence.run)) if evidence.fed else (),
        judge.queue,
        news,
    )


def _clusters(found: Iterable[Evidence]) -> list[str]:
    return sorted({cluster for item in found for cluster in item.clusters})


def _owners(found: Iterable[Evidence]) -> list[int]:
    return sorted({owner for item in found for owner in item.owners})


def _is_unclear(groups: Mapping[Verdict, Sequence[int]]) -> bool:
    """Return whether sacct could change the picture.

    That is: something failed or unexplained, or everything done, which isn't believed before a verdict of failure
    (OUT_OF_MEMORY with exit status 0) was looked for once.
    """
    states = {verdict.state for verdict in groups}
    return bool(states & _UNRESOLVED) or states == {TaskState.DONE} or any(verdict.fleeting for verdict in groups)
