"""Find out which tasks a scheduler speaks of: indices may be shifted, positions in a list, or packs of tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING

from esis.operations.witness.evidence import Evidence
from esis.operations.witness.status import Held
from esis.records.submissions import Submission
from esis.schedulers.base import JobState, Sighting, Snapshot

if TYPE_CHECKING:
    from esis.operations.witness.readings import Place, Readings

_LIVING = (JobState.WAITING, JobState.ACTIVE)
# So sacct calls an attempt that has ended. Of the next one, which waits, it says PENDING; there may be none.
_GIVEN_BACK = "REQUEUED"


class Owners:
    """Know the latest submission of each task, and in which of its arrays the task stands."""

    def __init__(self, indices: Sequence[int], taken: Sequence[Submission]) -> None:
        """Note the `taken` submissions in their order; later ones own what they hold."""
        self._first = indices[0] if indices else 0
        # By far larger than the number of tasks only where somebody put strange files among the parameters.
        size = min(indices[-1] - self._first + 1, 10 * len(indices) + 1000) if indices else 0
        self._places: list[tuple[Submission | None, int]] = [(None, 0)]
        self._numbers = [0] * size
        for item in taken:
            start = 0
            for position, array in enumerate(item.arrays):
                self._places.append((item, position))
                self._note(item.tasks[start : start + array.tasks], len(self._places) - 1)
                start += array.tasks

    @property
    def any(self) -> bool:
        """Return whether there is any submission."""
        return len(self._places) > 1

    def numbers(self, tasks: Sequence[int]) -> Iterable[int]:
        """Return for each of many tasks a number that is the same for all tasks of one place."""
        if isinstance(tasks, range) and tasks.step == 1 and 0 <= tasks.start - self._first <= len(self._numbers):
            return chain(islice(self._numbers, tasks.start - self._first, None), repeat(0))
        return map(self._number, tasks)

    def place(self, task: int) -> tuple[Submission | None, int]:
        """Return a task's submission, if it has one, and the position of its array."""
        return self._places[self._number(task)]

    def _number(self, task: int) -> int:
        at = task - self._first
        return self._numbers[at] if 0 <= at < len(self._numbers) else 0

    def _note(self, tasks: Sequence[int], number: int) -> None:
        size = len(self._numbers)
        if isinstance(tasks, range):
            low, high = max(0, tasks.start - self._first), min(size, tasks.stop - self._first)
            self._numbers[low:high] = [number] * max(0, high - low)
            return
        for task in tasks:
            if 0 <= task - self._first < size:
                self._numbers[task - self._first] = number


class Sightings:
    """Hold what squeue and sacct say, by task."""

    def __init__(self, evidence: Evidence, snapshot: Snapshot, taken: Sequence[Submission]) -> None:
        """Sort the sightings of a run; its `taken` submissions tell which tasks they are about."""
        self.live: dict[int, Sighting] = {}  # what waits or runs
        self.more: dict[int, list[Sighting]] = {}  # other jobs with the same task, where one may have come past it
        self.perhaps: dict[int, Sighting] = {}  # what waits or runs, and may hold the task; nobody knows
        self.queue: list[Held] = []  # the same by job
        self._kinds: dict[int, int] = {}  # by task the place in what was told of it
        self._told: list[Mapping[str, Sighting]] = [{}]  # of what has ended, by job; very many tasks share one
        self._whole: dict[str, Sighting] = {}  # jobs that ended, where their elements aren't named
        self.alive: dict[int, Sighting] = {}  # what waits or runs as sacct says, which may be late
        self._alive_whole: dict[str, Sighting] = {}  # the same of jobs, where their elements aren't named
        self._claims = evidence.claims
        self._packs = any(item.packed for item in taken)
        self._places: dict[str, Place] = {}
        self._unshifted: set[str] = set()  # jobs whose indices are the tasks
        for item in taken:
            for position in range(len(item.arrays)):
                ids = (
                    self._claims[item.number][position],
                    item.jobs[position].id if position < len(item.jobs) else None,
                )
                known = [job for job in ids if job is not None]
                self._places.update(dict.fromkeys(known, (item, position)))
                plain = not (item.mapped or item.packed or item.arrays[position].offset)
                (self._unshifted.update if plain else self._unshifted.difference_update)(known)
        self._known = frozenset(self._places)
        accounted = snapshot.accounted(evidence.run)
        self._accounted = frozenset(seen.job for seen in accounted)
        queued = snapshot.of_run(evidence.run, evidence.jobs, evidence.is_old)
        strangers = [seen for seen in chain(queued, accounted) if seen.job not in self._known]
        self._readings: Readings | None = None
        if strangers:
            from esis.operations.witness.readings import Readings  # seldom needed

            self._readings = Readings(evidence, strangers)
            self._places.update(self._readings.places)
        # sacct is believed about what lives only where squeue failed: its records lag behind.
        for seen in accounted:
            self._keep(seen, live=snapshot.problem is not None)
            if snapshot.problem is None and seen.state in _LIVING and seen.word != _GIVEN_BACK:
                self._note_alive(seen)
        for seen in queued:
            self._keep(seen, live=True)

    def job_of(self, submission: Submission, position: int) -> str | None:
        """Return the id of the job that does the work of an array, as far as anybody knows."""
        claim = self._claims[submission.number][position]
        if claim is not None or position >= len(submission.jobs):
            return claim
        return submission.jobs[position].id

    def ended(self, job: str, task: int) -> Sighting | None:
        """Return what was said of the end of a task in a job."""
        return self._told[self._kinds.get(task, 0)].get(job)

    def said_alive(self, job: str, task: int) -> Sighting | None:
        """Return what sacct says of a task in a job if that waits or runs."""
        seen = self.alive.get(task)
        return seen if seen is not None and seen.job == job else self._alive_whole.get(job)

    @property
    def awaits_ends(self) -> bool:
        """Return whether sacct says of anything that it waits or runs of whose end squeue doesn't tell."""
        ends = (self.ended(seen.job, task) for task, seen in self.alive.items())
        return any(end is None for end in ends) or not self._whole.keys() >= self._alive_whole.keys()

    def ended_whole(self, job: str, recorded: bool) -> Sighting | None:
        """Return what was said of the end of a job without naming its elements.

        Slurm shows so what is left of an array that is cancelled before it began. The others have left a record
        (`recorded`), or sacct lists them; else the task may be one of those that Slurm has forgotten.
        """
        seen = self._whole.get(job)
        if seen is None or recorded or job in self._accounted or seen.state is not JobState.FAILED:
            return seen
        return seen._replace(state=JobState.UNKNOWN, word=f"{seen.word.split()[0]} in part")

    @property
    def any_ended(self) -> bool:
        """Return whether anything was said of the end of a task, or of a job."""
        return bool(self._kinds or self._whole)

    def kinds(self, tasks: Iterable[int]) -> Iterator[int | None]:
        """Yield for each of many tasks a number that is the same where the same was said of their ends."""
        return map(self._kinds.get, tasks)

    def script_of(self, job: str) -> Submission | None:
        """Return the submission whose script a job runs, as far as anybody knows."""
        return self._places.get(job, (None, 0))[0]

    def _keep(self, seen: Sighting, live: bool) -> None:
        tasks = seen.indices if seen.job in self._unshifted else self._tasks(seen)
        if seen.state is JobState.WAITING or seen.state is JobState.ACTIVE:  # faster than to hash them
            if live and tasks is not None:
                self._hold(seen, tasks)
        elif tasks is None:
            self._whole[seen.job] = _joined(self._whole.get(seen.job), seen)
        elif self._kinds.keys().isdisjoint(tasks):
            self._told.append({seen.job: seen})
            self._kinds.update(dict.fromkeys(tasks, len(self._told) - 1))
        else:
            self._add(seen, tasks)

    def _hold(self, seen: Sighting, tasks: Iterable[int]) -> None:
        """Keep a job that waits or runs."""
        submission, position = self._places.get(seen.job, (None, 0))
        known = seen.job in self._places
        sent = seen.job in self._known or (self._readings is not None and seen.job in self._readings.sent)
        self.queue.append(Held(seen, submission, position, known, sent))
        if known and self._packs:
            for task in tasks:
                if self.live.setdefault(task, seen) is not seen:
                    self.more.setdefault(task, []).append(seen)
        elif known:
            for task in tasks:
                self.live.setdefault(task, seen)
        elif self._readings is not None:
            for task in self._readings.possible(seen):
                self.perhaps.setdefault(task, seen)

    def _note_alive(self, seen: Sighting) -> None:
        tasks = self._tasks(seen)
        if tasks is None:
            self._alive_whole[seen.job] = seen
        else:
            self.alive.update(dict.fromkeys(tasks, seen))

    def _add(self, seen: Sighting, tasks: Iterable[int]) -> None:
        """Keep what is said of tasks of which something was said before."""
        grown: dict[int, int] = {}
        for task in tasks:
            kind = self._kinds.get(task, 0)
            if kind not in grown:
                told = self._told[kind]
                self._told.append({**told, seen.job: _joined(told.get(seen.job), seen)})
                grown[kind] = len(self._told) - 1
            self._kinds[task] = grown[kind]

    def _tasks(self, seen: Sighting) -> Sequence[int] | None:
        """Return the tasks that Slurm speaks of: none where nobody knows which; None where it names no indices."""
        if seen.indices is None:
            return None
        place = self._places.get(seen.job)
        if place is None:
            return ()
        submission, position = place
        return seen.indices if submission is None else submission.tasks_at(position, seen.indices)


def _joined(told: Sighting | None, seen: Sighting) -> Sighting:
    """Return what is `seen` with what was `told` before of the same."""
    if told is None or told.state is not seen.state:
        return seen
    # squeue's word and reason, and what only sacct tells.
    return seen._replace(code=told.code, signal=told.signal, used=told.used or seen.used)
