"""Say what a scheduler is to ESIS: something that takes a submission and tells what it knows about jobs."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from esis.environment import slurm_route
from esis.errors import printable
from esis.model.workdir import RunDir
from esis.records.submissions import Cluster, Job, Outcome, Submission
from esis.schedulers.identity import Sent, Whose, is_feeder, is_in_cwd, sent_as, whose_accounted, whose_in_queue

if TYPE_CHECKING:
    from esis.model.limits import Limits


class JobState(Enum):
    """Class the states in which a scheduler may see a task."""

    WAITING = "waiting"
    ACTIVE = "active"
    COMPLETED = "completed"  # the script exited with 0; nothing more
    FAILED = "failed"
    UNKNOWN = "unknown"


class Sighting(NamedTuple):
    """Hold what a scheduler says about elements of an array. There may be a hundred thousand: tuples are made fast."""

    job: str  # the array's job id
    indices: Sequence[int] | None  # Slurm's indices; None: the whole array, or some that aren't named
    state: JobState
    word: str  # the scheduler's own word for the state
    reason: str = ""
    place: str = ""  # "command|working directory" as squeue shows them, "working directory|submit line" as sacct
    code: int | None = None  # exit code of the script
    signal: int | None = None
    used: str = ""  # the time it took or has taken, as the scheduler shows it
    sluid: str = ""  # Slurm's name of this attempt, from 26.05 on; ids are used again, these aren't
    start: str = ""  # when it began, as the scheduler shows it, to ten seconds

    @property
    def elapsed(self) -> float | None:
        """Return the seconds that it took or has taken, if that is known."""
        if self.used.isdigit():
            return float(self.used)
        from esis.schedulers.units import parse_elapsed  # of what runs, where somebody asks

        return parse_elapsed(self.used)

    @property
    def began(self) -> float | None:
        """Return when it began, in seconds since 1970 and at most ten too early, if that is known."""
        from esis.schedulers.units import parse_start  # where a record says that it failed, and Slurm that it didn't

        return parse_start(self.start)


class Snapshot(NamedTuple):
    """Hold one answer about all of the user's jobs. With a `problem`, absence from it proves nothing."""

    sightings: tuple[Sighting, ...] = ()
    problem: str | None = None
    accounting: tuple[Sighting, ...] = ()  # what sacct says, where it was asked
    accounting_problem: str | None = None
    accounting_asked: bool = False

    def of_run(self, run: RunDir, jobs: Container[str], by_place: bool = False) -> list[Sighting]:
        """Return what was seen of a run, which knows the ids `jobs`; of what may be its own or not, nothing is told.

        `by_place`: a known id with the run's directory, and nothing else (ESIS 0.0.4 gave its scripts other names).
        """
        found = []
        judged: dict[str, Whose] = {}  # all tasks of an array have one place
        for seen in self.sightings:
            key = seen.place if seen.job not in jobs else f"{seen.place}\0"
            whose = judged.get(key)
            if whose is None:
                known = seen.job in jobs
                whose = is_in_cwd(run, seen.place, known) if by_place else whose_in_queue(run, seen.place, known)
                judged[key] = whose
            if whose is Whose.OURS:
                found.append(seen)
            elif whose is Whose.DOUBTFUL:
                found.append(_doubtful(seen, f"another script: {printable(seen.place.partition('|')[0])}"))
        return found

    def accounted(self, run: RunDir) -> list[Sighting]:
        """Return what sacct says of the jobs of a run that it was asked about."""
        judged: dict[str, Whose] = {}
        for seen in self.accounting:
            if seen.place not in judged:
                judged[seen.place] = whose_accounted(run, seen.place)
        return [
            seen if judged[seen.place] is Whose.OURS else _doubtful(seen, f"another place: {printable(seen.place)}")
            for seen in self.accounting
            if judged[seen.place] is not Whose.FOREIGN
        ]

    def submitted(self, run: RunDir) -> dict[str, Sent]:
        """Return the ids of the jobs that ESIS submitted for a run, and that squeue shows, with what they are."""
        places = {place: sent_as(run, place) for place in {seen.place for seen in self.sightings}}
        submitted = {place: sent for place, sent in places.items() if sent is not None}
        return {seen.job: submitted[seen.place] for seen in self.sightings if seen.place in submitted}

    def feeders(self, run: RunDir) -> list[Sighting]:
        """Return the jobs that wait or run to submit the rest of a run."""
        judged: dict[str, bool] = {}  # all tasks of an array have one place
        for seen in self.sightings:
            if seen.place not in judged:
                judged[seen.place] = is_feeder(run, seen.place)
        return [
            seen for seen in self.sightings if judged[seen.place] and seen.state in (JobState.WAITING, JobState.ACTIVE)
        ]


def _doubtful(seen: Sighting, shown: str) -> Sighting:
    """Return a sighting of a job that may be the run's or not: no more is told than that it is there."""
    word = f"job {seen.job} has an id of the run's, and Slurm shows {shown}"
    return seen._replace(state=JobState.UNKNOWN, word=word)


class Answer(NamedTuple):
    """Hold a scheduler's answer to a submission."""

    outcome: Outcome
    message: str = ""
    returned: tuple[int, ...] = ()  # tasks given back without being finished
    asked: bool = True  # False: refused before the scheduler heard of it
    at_limit: bool = False  # refused because of a limit on the number of jobs, so that fewer may be taken


def went_this_way(submission: Submission) -> bool:
    """Return whether a submission was made on this machine, since it was booted, to where commands still go."""
    from esis.locks import Owner  # where a task is missing, or something is submitted

    owner = Owner.parse(submission.owner)
    cluster = submission.cluster
    return cluster is not None and owner is not None and owner.is_here() and cluster.route == slurm_route()


class Queue(Protocol):
    """Change jobs that wait; each method returns what went wrong, or None."""

    def present(self, known: Sequence[Submission], again: bool = False) -> tuple[Cluster | None, str | None]:
        """Return which cluster it is of, and why that can't be told; submissions `known` to have gone there tell it.

        `again`: ask once more where that failed.
        """
        ...

    def set_dependency(self, job: Job, dependency: str) -> str | None:
        """Let a job wait for others; an empty one: for nothing any more."""
        ...

    def set_throttle(self, job: Job, limit: int) -> str | None:
        """Let so many elements of an array run at a time; 0: any number."""
        ...

    def reserve_feeder(self, run: RunDir, options: Sequence[str]) -> tuple[Job | None, Answer]:
        """Queue the job that submits what is left, held; None where it isn't taken, and what was answered."""
        ...

    def start_feeder(self, job: Job, behind: Sequence[str], delay: float) -> str | None:
        """Let it go behind other jobs, else after `delay` seconds."""
        ...

    def drop_feeder(self, job: Job) -> str | None:
        """Take it away."""
        ...


class Scheduler(Protocol):
    """Take submissions and tell states."""

    name: str

    @property
    def queue(self) -> Queue | None:
        """Return where its jobs wait; None where they are run at once, in this process."""
        ...

    def has_slurm(self) -> bool:
        """Return whether this machine can submit to Slurm at all."""
        ...

    def limits(self, clusters: Sequence[str] = ()) -> Limits | None:
        """Ask once how large arrays may be, on each of the clusters (none named: the default one).

        None where arrays may have any size.
        """
        ...

    def submit(self, run: RunDir, submission: Submission, position: int, acknowledged: Callable[[Job], None]) -> Answer:
        """Hand one array of a submission to the scheduler, telling the job's id through `acknowledged` at once."""
        ...

    def observe(self, clusters: Sequence[str], owners: Sequence[int] = ()) -> Snapshot:
        """Ask once for all jobs of the users `owners` (none named: this one; no cluster named: on the default one).

        "" among the clusters is the default one, too, which takes one more question beside others. A failure is a
        Snapshot with a problem, never an empty answer.
        """
        ...

    def account(
        self,
        snapshot: Snapshot,
        jobs: Sequence[str],
        clusters: Sequence[str],
        since: float,
        completed: bool = True,
        besides: Container[str] = (),
    ) -> Snapshot:
        """Add to `snapshot` what the accounting says of `jobs`, submitted after `since` (seconds since 1970).

        `completed` False: what only says that a script ended with 0 isn't wanted, but of the elements `besides`.
        """
        ...
