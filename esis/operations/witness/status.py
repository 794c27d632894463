"""Tell the states of runs, asking squeue at most once and sacct at most once, whatever the number of runs and tasks."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain

from esis.errors import EsisError, ExitCode
from esis.model.index_sets import format_ranges
from esis.model.workdir import RunDir
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.judge import ACTIVE_STATES, CLAIMED, Judge, TaskState, TaskStatus, Verdict
from esis.records.tasks import TaskRecord
from esis.schedulers.base import Scheduler, Sighting, Snapshot

_UNRESOLVED = frozenset({TaskState.LOST, TaskState.UNKNOWN, TaskState.FAILED})
_UNEXPLAINED = frozenset({TaskState.LOST, TaskState.UNKNOWN})
NEVER = "DependencyNeverSatisfied"  # the reason of what waits for a job that failed
_HELD = "JobHeld"  # JobHeldUser, JobHeldAdmin
_SAMPLE = 1000  # done tasks whose times are looked at


@dataclass(frozen=True)
class News:
    """Hold what was found out and isn't on disk yet."""

    complete: bool = False  # and no witness was left out
    outranked: tuple[tuple[TaskRecord, str], ...] = ()  # records, and Slurm's word that counts
    unrecorded: tuple[tuple[int, tuple[int, str, str]], ...] = ()  # by task: submission, job, Slurm's word


NOTHING_NEW = News()


@dataclass(frozen=True)
class RunStatus:
    """Hold what is known of a run."""

    evidence: Evidence
    tasks: Mapping[int, TaskStatus]  # judged when somebody looks
    groups: Mapping[Verdict, Sequence[int]]  # the sorted tasks of each verdict
    complete: bool
    problem: str | None = None  # why the queue couldn't be asked
    accounting_problem: str | None = None  # why sacct couldn't be asked, where it would have mattered
    active_jobs: tuple[str, ...] = ()
    feeders: tuple[Sighting, ...] = ()  # the jobs that wait or run to submit the rest
    news: News = NOTHING_NEW

    @property
    def feeding(self) -> tuple[str, ...]:
        """Return the ids of the jobs that will submit tasks; one that is held won't."""
        if TaskState.UNSUBMITTED not in self.counts():
            return ()
        return tuple(seen.job for seen in self.feeders if not seen.reason.startswith(_HELD))

    @property
    def run(self) -> RunDir:
        """Return the run's directory."""
        return self.evidence.run

    @property
    def started(self) -> float | None:
        """Return the time of the first submission, in seconds since 1970."""
        return self.evidence.submissions[0].created if self.evidence.submissions else None

    def counts(self) -> dict[TaskState, int]:
        """Return how many tasks are in each state; states without a task are left out."""
        counted: Counter[TaskState] = Counter()
        for verdict, tasks in self.groups.items():
            counted[verdict.state] += len(tasks)
        return {state: counted[state] for state in TaskState if counted[state]}

    def indices(self, *states: TaskState) -> list[int]:
        """Return the sorted indices of the tasks in any of `states`."""
        found = [tasks for verdict, tasks in self.groups.items() if verdict.state in states]
        return list(found[0]) if len(found) == 1 else sorted(chain.from_iterable(found))

    @property
    def stuck(self) -> bool:
        """Return whether all tasks that are left wait for something that can't happen any more."""
        left = [verdict for verdict in self.groups if verdict.state in ACTIVE_STATES]
        return bool(left) and all(verdict.reason == NEVER for verdict in left)

    @property
    def exit_code(self) -> ExitCode:
        """Return what `esis status --check` and `esis wait` exit with."""
        if self.complete:
            return ExitCode.OK
        if self.indices(*ACTIVE_STATES) or self.feeding:
            return ExitCode.ACTIVE
        if self.indices(TaskState.UNKNOWN):
            return ExitCode.UNANSWERED
        return ExitCode.TASKS_FAILED if self.indices(TaskState.FAILED, TaskState.LOST) else ExitCode.INCOMPLETE

    def summary(self) -> str:
        """Return the counts as one line."""
        if not self.groups:
            return "complete" if self.complete else "no tasks"
        return ", ".join(f"{count} {state.value}" for state, count in self.counts().items())

    def by_reason(self, *states: TaskState) -> dict[tuple[TaskState, str], list[int]]:
        """Return the sorted tasks by state and reason, in the order of states (none named: all)."""
        found: dict[tuple[TaskState, str], list[Sequence[int]]] = {}
        for verdict, tasks in self.groups.items():
            if not states or verdict.state in states:
                found.setdefault((verdict.state, verdict.reason), []).append(tasks)
        order = list(TaskState)
        return {key: list(parts[0]) if len(parts) == 1 else sorted(chain.from_iterable(parts))
                for key, parts in sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))}

    def elapsed(self, now: float) -> float | None:
        """Return the seconds since the first submission, up to the last word where nothing is active any more."""
        if self.started is None:
            return None
        last = self.last_word() if not self.indices(*ACTIVE_STATES) else None
        return max(0.0, (last if last is not None else now) - self.started)

    def last_word(self) -> float | None:
        """Return when the records were last heard of, in seconds since 1970."""
        return self.evidence.last_word()

    def times(self, state: TaskState) -> list[float]:
        """Return the seconds that (a sample of) the tasks in a state took, as far as known."""
        tasks = self.indices(state)
        sample = tasks[:: max(1, -(-len(tasks) // _SAMPLE))]
        return [elapsed for task in sample if (elapsed := self.tasks[task].elapsed) is not None]

    def remaining(self) -> float | None:
        """Estimate the seconds until all active tasks have ended; None where nothing tells.

        From the mean time of (a sample of) the tasks that are done and the number that run now.
        """
        running = self.indices(TaskState.RUNNING)
        if not running:
            return None
        spent = self.times(TaskState.DONE)
        if not spent:
            return None
        mean = sum(spent) / len(spent)
        work = sum(max(0.0, mean - (self.tasks[task].elapsed or 0.0)) for task in running)
        return (work + mean * len(self.indices(TaskState.WAITING))) / len(running)


class _Tasks(Mapping[int, TaskStatus]):
    """Judge single tasks when somebody looks at them."""

    def __init__(self, indices: Sequence[int], judge: Callable[[int], TaskStatus]) -> None:
        self._indices = indices if isinstance(indices, range) else dict.fromkeys(indices)
        self._judge = judge

    def __getitem__(self, task: int) -> TaskStatus:
        if task not in self._indices:
            raise KeyError(task)
        return self._judge(task)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __contains__(self, task: object) -> bool:
        return task in self._indices


def status_of(evidence: Evidence, snapshot: Snapshot, now: float | None = None) -> RunStatus:
    """Judge every task of a run; nothing is written."""
    if evidence.marked_complete:
        return _complete(evidence)
    judge = Judge(evidence, snapshot, time.time() if now is None else now)
    return _judged(evidence, judge, judge.groups(), snapshot)


def look(found: Iterable[Evidence | None], scheduler: Scheduler, accounting: bool = True
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
        unexplained = any(verdict.state in _UNEXPLAINED or verdict.fleeting
                          for _, groups in judged.values() for verdict in groups)
        snapshot = scheduler.account(snapshot, jobs, _clusters(asking), since, completed=unexplained)
        judged = {run: heard for run, heard in judged.items() if not snapshot.accounted(run)}  # others: more to hear
    statuses: list[RunStatus | None] = []
    for item in items:
        if item is None or item.run not in judged:
            statuses.append(None if item is None else status_of(item, snapshot, now))
        else:
            statuses.append(_judged(item, *judged[item.run], snapshot))
    return snapshot, statuses


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


def describe_failures(status: RunStatus) -> str:
    """Return the failed tasks by reason in one line."""
    by_reason: dict[str, list[int]] = {}
    for (_, reason), tasks in status.by_reason(TaskState.FAILED, TaskState.LOST).items():
        by_reason.setdefault(reason, []).extend(tasks)
    return "; ".join(f"{format_ranges(sorted(tasks))}: {reason}" for reason, tasks in sorted(by_reason.items()))


def _judged(evidence: Evidence, judge: Judge, groups: dict[Verdict, list[int]], snapshot: Snapshot) -> RunStatus:
    states = {verdict.state for verdict in groups}
    complete = evidence.built and (states == {TaskState.DONE} or (not states and evidence.looks_complete))
    heard = snapshot.accounting_asked and (snapshot.problem is None or snapshot.accounting_problem is None)
    # A claim is believed while there is nothing better; to write it down as found would make more of it.
    found = bool(states) and all(verdict.reason != CLAIMED for verdict in groups)
    # With squeue silent, a lagging sacct may still speak of the attempt before a requeue.
    certain = snapshot.problem is None
    news = News(complete and found and (heard or not evidence.in_slurm) and not evidence.is_old,
                tuple(judge.outranked.values()) if certain else (),
                # Once squeue has forgotten them, nobody could tell, unless sacct does.
                tuple(judge.unrecorded.items()) if certain and snapshot.accounting_problem is not None else ())
    active = {verdict.job for verdict in groups if verdict.state in ACTIVE_STATES and verdict.job is not None}
    missed = snapshot.accounting_problem if states & {TaskState.LOST, TaskState.UNKNOWN} else None
    return RunStatus(evidence, _Tasks(evidence.indices, judge.task), groups, complete,
                     snapshot.problem if evidence.in_slurm or evidence.fed else None, missed,
                     tuple(sorted(active, key=lambda job: (len(job), job))),
                     tuple(snapshot.feeders(evidence.run)) if evidence.fed else (), news)


def _complete(evidence: Evidence) -> RunStatus:
    """Return the status of a run that was found complete before: nobody is asked any more."""
    done = Verdict(TaskState.DONE)
    groups: dict[Verdict, Sequence[int]] = {done: evidence.indices} if evidence.indices else {}

    records = evidence.records
    verdicts: dict[int | None, Verdict] = {None: done}  # by kind of record

    def judge(task: int) -> TaskStatus:
        kind = records.kind(task)
        if kind not in verdicts:
            record = records[task]
            verdicts[kind] = Verdict(TaskState.DONE, code=record.code, job=record.job)
        return TaskStatus(verdicts[kind], records.elapsed(task))

    return RunStatus(evidence, _Tasks(evidence.indices, judge), groups, complete=True)


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
    return (bool(states & _UNRESOLVED) or states == {TaskState.DONE}
            or any(verdict.fleeting for verdict in groups))
