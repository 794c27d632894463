"""Hold what is known of a task (a verdict) and of a run: its tasks by verdict, what they come to, how long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from esis.errors import ExitCode
from esis.model.index_sets import format_ranges
from esis.model.workdir import RunDir
from esis.operations.witness.evidence import Evidence

if TYPE_CHECKING:
    from esis.model.requirements import Node
    from esis.records.submissions import Submission
    from esis.records.tasks import TaskRecord
    from esis.schedulers.base import Sighting

CLAIMED = "completed.state holds 1"
LAUNCH_FAILURE = "launch failure"  # Slurm failed it before its script began, as where its log can't be opened
RESUMABLE = "resumable"  # the reason of a task that saved its state and has more to do
NEVER = "DependencyNeverSatisfied"  # the reason of what waits for a job that failed
_HELD = "JobHeld"  # JobHeldUser, JobHeldAdmin
_SAMPLE = 1000  # done tasks whose times are looked at


class TaskState(Enum):
    """Name the states of a task, in the order in which they are shown."""

    DONE = "done"
    RUNNING = "running"
    WAITING = "waiting"
    UNSUBMITTED = "unsubmitted"
    FAILED = "failed"
    LOST = "lost"
    UNKNOWN = "unknown"


ACTIVE_STATES = frozenset({TaskState.WAITING, TaskState.RUNNING})


class Verdict(NamedTuple):
    """Hold what is known of tasks that fare alike."""

    state: TaskState
    reason: str = ""
    code: int | None = None  # exit code of the script
    job: str | None = None  # the array's job id
    passing: bool = False  # a later look will tell more
    fleeting: bool = False  # only the queue's memory tells it, and that is short
    unread: bool = False  # its job or process has ended, and a record may have come since they were read


class TaskStatus(NamedTuple):
    """Hold what is known of one task."""

    verdict: Verdict
    elapsed: float | None = None  # seconds

    @property
    def state(self) -> TaskState:
        """Return the state."""
        return self.verdict.state

    @property
    def reason(self) -> str:
        """Return why, in words for people."""
        return self.verdict.reason

    @property
    def code(self) -> int | None:
        """Return the exit code of the script."""
        return self.verdict.code

    @property
    def job(self) -> str | None:
        """Return the array's job id."""
        return self.verdict.job


class Held(NamedTuple):
    """Hold what is known of elements of a job that wait or run."""

    seen: Sighting
    submission: Submission | None  # whose script it runs; None: the indices are tasks, or nobody knows
    position: int  # of the array in there
    known: bool  # whether anybody knows which tasks they are
    sent: bool  # whether ESIS submitted it, and has its id, or the path of its script tells as what

    def tasks(self, index: int) -> Sequence[int]:
        """Return the tasks that one element works on, where that is known."""
        if not self.known:
            return ()
        return (index,) if self.submission is None else self.submission.tasks_at(self.position, (index,))


class Unrecorded(NamedTuple):
    """Hold what is known of an attempt that left no record."""

    submission: int
    job: str
    word: str  # what to note: Slurm's, or ESIS's own
    restart: int = 0  # at least


class News(NamedTuple):
    """Hold what was found out and isn't on disk yet."""

    complete: bool = False  # and no witness was left out
    outranked: tuple[tuple[TaskRecord, str], ...] = ()  # records, and Slurm's word that counts
    unrecorded: tuple[tuple[int, Unrecorded], ...] = ()  # by task


NOTHING_NEW = News()


class RunStatus(NamedTuple):
    """Hold what is known of a run."""

    evidence: Evidence
    tasks: Mapping[int, TaskStatus]  # judged when somebody looks
    groups: Mapping[Verdict, Sequence[int]]  # the sorted tasks of each verdict
    complete: bool
    problem: str | None = None  # why the queue couldn't be asked
    accounting_problem: str | None = None  # why sacct couldn't be asked, where it would have mattered
    active_jobs: tuple[str, ...] = ()
    feeders: tuple[Sighting, ...] = ()  # the jobs that wait or run to submit the rest
    queue: tuple[Held, ...] = ()  # the run's jobs that wait or run
    news: News = NOTHING_NEW

    @property
    def feeding(self) -> tuple[str, ...]:
        """Return the ids of the jobs that will submit tasks; one that is held won't."""
        if TaskState.UNSUBMITTED not in self.counts():
            return ()
        return tuple(seen.job for seen in self.feeders if not is_held(seen))

    @property
    def held_feeders(self) -> tuple[str, ...]:
        """Return the ids of those that are held, as a command leaves one that doesn't come to its end."""
        return tuple(seen.job for seen in self.feeders if is_held(seen))

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

    def outside_slurm(self) -> list[int]:
        """Return the sorted indices of the active tasks that no queued job works on: a shell of some machine does."""
        queued = {held.seen.job for held in self.queue}
        found = (
            tasks
            for verdict, tasks in self.groups.items()
            if verdict.state in ACTIVE_STATES and verdict.job not in queued
        )
        return sorted(chain.from_iterable(found))

    @property
    def stuck(self) -> bool:
        """Return whether all tasks that are left wait for something that can't happen any more."""
        left = [verdict for verdict in self.groups if verdict.state in ACTIVE_STATES]
        return bool(left) and all(verdict.reason == NEVER for verdict in left)

    @property
    def exit_code(self) -> int:
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
        return {
            key: list(parts[0]) if len(parts) == 1 else sorted(chain.from_iterable(parts))
            for key, parts in sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
        }

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


class Done(NamedTuple):
    """Hold what a run came to."""

    node: Node
    submission: Submission | None  # None: there was nothing to submit
    status: RunStatus | None  # of before the submission; None for a fresh run
    left: int = 0  # tasks for which Slurm had no room


class Tasks(Mapping[int, TaskStatus]):
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


def describe_failures(status: RunStatus) -> str:
    """Return the failed tasks by reason in one line."""
    by_reason: dict[str, list[int]] = {}
    for (_, reason), tasks in status.by_reason(TaskState.FAILED, TaskState.LOST).items():
        by_reason.setdefault(reason, []).extend(tasks)
    return "; ".join(f"{format_ranges(sorted(tasks))}: {reason}" for reason, tasks in sorted(by_reason.items()))


def is_held(feeder: Sighting) -> bool:
    """Return whether a job waits for somebody to let it go."""
    return feeder.reason.startswith(_HELD)


def known_complete(found: Evidence | None) -> RunStatus | None:
    """Return the status of a run that is known to be complete; None where it isn't. Neither locks nor asks."""
    return complete_status(found) if found is not None and found.built and found.marked_complete else None


def complete_status(evidence: Evidence) -> RunStatus:
    """Return the status of a run that was found complete before: nobody is asked any more."""
    done = Verdict(TaskState.DONE)
    groups: dict[Verdict, Sequence[int]] = {done: evidence.indices} if evidence.indices else {}

    verdicts: dict[int | None, Verdict] = {None: done}  # by kind of record

    def judge(task: int) -> TaskStatus:
        records = evidence.records  # not read before a task is looked at
        kind = records.kind(task)
        if kind not in verdicts:
            record = records[task]
            verdicts[kind] = Verdict(TaskState.DONE, code=record.code, job=record.job)
        return TaskStatus(verdicts[kind], records.elapsed(task))

    return RunStatus(evidence, Tasks(evidence.indices, judge), groups, complete=True)
