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
    RESUMABLE,
    News,
    RunStatus,
    Tasks,
    TaskState,
    TaskStatus,
    Unrecorded,
    Verdict,
    complete_status,
)
from esis.records.submissions import Submission
from esis.schedulers.base import Scheduler, Snapshot, went_this_way

_UNRESOLVED = frozenset({TaskState.LOST, TaskState.UNKNOWN, TaskState.FAILED})
_UNEXPLAINED = frozenset({TaskState.LOST, TaskState.UNKNOWN})
_BELIEVED = frozenset({CLAIMED, RESUMABLE})  # reasons that hold where the queue doesn't show the task


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

    Before that one of scontrol where the queue may be that of another cluster: such a one is no witness of what it
    doesn't show. `accounting` False: without sacct. Nothing is written.
    """
    items = list(found)
    asking = [item for item in items if item is not None and item.needs_queue()]
    with _reading(asking):
        snapshot = scheduler.observe(_clusters(asking), _owners(asking)) if asking else Snapshot()
    now = time.time()
    judged: dict[RunDir, tuple[Judge, dict[Verdict, list[int]]]] = {}
    blind: dict[RunDir, Snapshot] = {}  # what the queue of another cluster tells
    unclear = []
    for asked in asking:
        judge = Judge(asked, snapshot, now)
        groups = judge.groups()
        told = _from_elsewhere(asked, groups, snapshot, _clusters(asking), scheduler)
        if told is not None:
            blind[asked.run] = told
            continue
        judged[asked.run] = judge, groups
        if accounting and asked.in_slurm and _is_unclear(groups):
            unclear.append(asked)
    if unclear:
        since = min(sub.created for item in unclear for sub in item.in_slurm)
        jobs = sorted({job for item in unclear for job in item.jobs}, key=lambda job: (len(job), job))
        # Where the records know all ends, that a script ended with 0 adds nothing, but to what they say of a failure.
        unexplained = any(
            verdict.state in _UNEXPLAINED or verdict.fleeting for _, groups in judged.values() for verdict in groups
        )
        failed = {element for item in unclear for element in _failed_elements(item, judged[item.run][1])}
        snapshot = scheduler.account(
            snapshot, jobs, _clusters(asking), since, completed=unexplained, besides=frozenset(failed)
        )
        judged = {run: heard for run, heard in judged.items() if not snapshot.accounted(run)}  # others: more to hear
    statuses: list[RunStatus | None] = []
    for item in items:
        if item is None or item.run not in judged:
            statuses.append(None if item is None else status_after(item, blind.get(item.run, snapshot), now))
        else:
            statuses.append(_settled(_judged(item, *judged[item.run], snapshot), snapshot, now))
    if blind and len(asking) > 1:
        return snapshot._replace(problem=next(iter(blind.values())).problem), statuses
    return next(iter(blind.values()), snapshot), statuses


def _failed_elements(evidence: Evidence, groups: Mapping[Verdict, Sequence[int]]) -> Iterator[str]:
    """Yield the elements of jobs that recorded a failure of a task, as sacct names them: they may have begun again."""
    known = {item.number: item for item in evidence.in_slurm}
    for verdict, tasks in groups.items():
        for task in tasks if verdict.state is TaskState.FAILED else ():
            record = evidence.records.get(task)
            submission = known.get(record.submission) if record is not None else None
            if record is not None and submission is not None and submission.holds(task):
                yield f"{record.job}_{submission.place_of(task)[1]}"


def _from_elsewhere(
    evidence: Evidence, groups: Mapping[Verdict, object], snapshot: Snapshot, asked: Sequence[str], scheduler: Scheduler
) -> Snapshot | None:
    """Return what the queue that was asked can tell of a run with jobs on another cluster; None where it tells all."""
    homes = [(item, item.cluster) for item in evidence.unnamed if item.cluster and item.cluster.name not in asked]
    hanging = _hangs_on_the_queue(groups)
    if snapshot.problem is not None or not (hanging or len({home[:2] for _, home in homes}) > 1):
        return None
    away = [(item, home) for item, home in homes if not went_this_way(item)]
    if not away:
        return None
    from esis.records.origin import are_different, elsewhere
    from esis.schedulers.slurm import Slurm

    queue = scheduler.queue if scheduler.queue is not None else Slurm()
    present, problem = queue.present(evidence.submissions, again=True)
    if present is None:
        shared: set[str] = set()
        problem = f"whether this is the cluster of the tasks can't be asked: {problem}" if problem is not None else None
    else:
        away = [(item, home) for item, home in away if are_different(home, present)]
        problem = elsewhere(away[0][1], present) if away else None
        shared = _shared(evidence.in_slurm, [item for item, _ in away])
    if problem is None or not (hanging or any(seen.job in shared for seen in snapshot.sightings)):
        return None
    sure = [seen for seen in snapshot.of_run(evidence.run, ()) if seen.job not in shared]
    return Snapshot(
        (*sure, *snapshot.feeders(evidence.run)), problem, accounting_problem=problem, accounting_asked=True
    )


def _shared(taken: Sequence[Submission], away: Sequence[Submission]) -> set[str]:
    """Return the ids that would be taken for those of jobs on another cluster: each is that of its latest submission.

    Numbers of two clusters meet.
    """
    found: set[str] = set()
    for item in taken:
        ids = {job.id for job in item.jobs}
        found = found | ids if item in away else found - ids
    return found


def _hangs_on_the_queue(groups: Mapping[Verdict, object]) -> bool:
    """Return whether a verdict would be another one if a queue that wasn't asked showed a task."""
    states = {verdict.state for verdict in groups}
    return (
        bool(states & _UNEXPLAINED)
        or states == {TaskState.DONE}
        or any(verdict.reason in _BELIEVED or verdict.unread for verdict in groups)
    )


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
    # sacct may be minutes late with a verdict: it alone proves nothing, nor does what it takes to be alive.
    heard = snapshot.accounting_asked and snapshot.problem is None and not judge.awaits_verdicts
    # A claim is believed while there is nothing better; to write it down as found would make more of it.
    found = bool(states) and all(verdict.reason != CLAIMED for verdict in groups)
    # With squeue silent, a lagging sacct may still speak of the attempt before a requeue.
    certain = snapshot.problem is None
    news = News(
        complete and found and (heard or not evidence.in_slurm) and not evidence.is_old,
        tuple(judge.outranked.values()) if certain else (),
        tuple(_worth_noting(judge, evidence, snapshot)) if certain else (),
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


def _worth_noting(judge: Judge, evidence: Evidence, snapshot: Snapshot) -> Iterator[tuple[int, Unrecorded]]:
    """Yield what Slurm said of tasks that wrote no records, as far as it has to be kept.

    Once squeue has forgotten them, nobody could tell, unless sacct does. The jobs of dependants ask neither: they would
    believe an earlier record, that says that a task failed.
    """
    for task, told in judge.unrecorded.items():
        record = evidence.records.get(task)
        if snapshot.accounting_problem is not None or (record is not None and not record.done):
            yield task, told


def _clusters(found: Iterable[Evidence]) -> list[str]:
    items = list(found)
    named = {cluster for item in items for cluster in item.clusters}
    # Where one has to be named for one run, the others' aren't forgotten.
    return sorted(named.union(*(item.homes for item in items))) if named else []


def _owners(found: Iterable[Evidence]) -> list[int]:
    return sorted({owner for item in found for owner in item.owners})


def _is_unclear(groups: Mapping[Verdict, Sequence[int]]) -> bool:
    """Return whether sacct could change the picture.

    That is: something failed or unexplained, or everything done, which isn't believed before a verdict of failure
    (OUT_OF_MEMORY with exit status 0) was looked for once.
    """
    states = {verdict.state for verdict in groups}
    return bool(states & _UNRESOLVED) or states == {TaskState.DONE} or any(verdict.fleeting for verdict in groups)
