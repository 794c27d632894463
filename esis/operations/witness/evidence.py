"""Read what a run's directory tells: its stage, its tasks, its submissions and the tasks' own records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import NamedTuple

from esis.errors import BadInput, CorruptState
from esis.files import is_directory, is_there
from esis.model.workdir import RunDir
from esis.records import stage, submissions
from esis.records.stage import Stage, State
from esis.records.submissions import LOCAL, Job, Outcome, Submission

TYPE_CHECKING = False
if TYPE_CHECKING:
    from esis.records.attempts import Attempts
    from esis.records.tasks import TaskRecords


class _Read(NamedTuple):
    """Hold what was read of a run's directory."""

    run: RunDir
    state: State | None
    indices: Sequence[int]
    submissions: tuple[Submission, ...]
    listed: TaskRecords | None  # None: to be listed when somebody asks, as of a run that is known to be complete
    marked_complete: bool  # ESIS found it complete before, or somebody overruled the evidence by hand
    moment: int | None = None  # when a record had last come or gone before they were read (stage.records_moment)
    claim: bool | None = None  # see `claimed`; None: to be read when somebody asks


class Evidence(_Read):
    """Hold what a run's directory tells."""

    @cached_property
    def records(self) -> TaskRecords:
        """Return the latest attempt at each task. Raises OSError, CorruptState."""
        return self.listed if self.listed is not None else _records(self.run, later=True)

    @cached_property
    def claimed(self) -> bool:
        """Return whether completed.state holds 1: a worker may have written it after the first task."""
        return self.claim if self.claim is not None else stage.is_claimed(self.run)

    @property
    def built(self) -> bool:
        """Return whether the directory is a run, not a build that was interrupted."""
        return self.state is None or self.state.stage is Stage.PREPARED

    @property
    def clusters(self) -> tuple[str, ...]:
        """Return the clusters to be named where the run's jobs are asked for, "" for the default one beside others.

        None where neither sbatch nor the user named any: that needs slurmdbd.
        """
        from esis.environment import named_clusters  # where somebody is asked

        named = {job.cluster for sub in self.in_slurm for job in sub.jobs if job.cluster is not None}
        named.update(named_clusters())
        return tuple(sorted(named | self.homes)) if named else ()

    @cached_property
    def unnamed(self) -> tuple[Submission, ...]:
        """Return the submissions that went to the default cluster, whichever that was."""
        return tuple(sub for sub in self.in_slurm if not sub.jobs or any(job.cluster is None for job in sub.jobs))

    @property
    def homes(self) -> frozenset[str]:
        """Return the default clusters that jobs went to; "" where the record doesn't tell."""
        return frozenset(sub.cluster.name if sub.cluster is not None else "" for sub in self.unnamed if sub.jobs)

    @property
    def in_slurm(self) -> tuple[Submission, ...]:
        """Return the submissions that Slurm took or may have taken."""
        return tuple(sub for sub in self.submissions if sub.scheduler != LOCAL and sub.outcome is not Outcome.REFUSED)

    @cached_property
    def jobs(self) -> frozenset[str]:
        """Return the ids of all jobs in Slurm that the run knows.

        Slurm gave them, or the jobs themselves wrote them down, among them those of reruns by hand.
        """
        known = {job.id for sub in self.in_slurm for job in sub.jobs}
        local = {job.id for sub in self.submissions if sub.scheduler == LOCAL for job in sub.jobs}
        known.update(self.records.jobs)
        known.update(job for claims in self.claims.values() for job in claims if job is not None)
        return frozenset(known - local)

    @cached_property
    def fed(self) -> bool:
        """Return whether a job was to submit the rest of it at some time."""
        return self.run.feed_script.exists()

    @cached_property
    def is_old(self) -> bool:
        """Return whether ESIS 0.0.4 made the run, which kept no records."""
        if self.state is not None:
            return False
        from esis.records.old import is_old  # seldom needed

        return is_old(self.run)

    @cached_property
    def claims(self) -> Mapping[int, Sequence[str | None]]:
        """Return by submission which jobs have begun the work of its arrays."""
        from esis.records.claims import claims  # a complete run has no need to know

        return {item.number: claims(self.run, item) for item in self.submissions if item.outcome is not Outcome.REFUSED}

    @cached_property
    def owners(self) -> tuple[int, ...]:
        """Return the users whose jobs may be the run's: its owner's, and who submitted it."""
        found = {sub.provenance.uid for sub in self.in_slurm if sub.provenance is not None}
        with suppress(OSError):
            found.add(self.run.path.stat().st_uid)
        return tuple(sorted(found))

    def needs_queue(self) -> bool:
        """Return whether the queue could add anything; jobs may have been submitted by hand, the first ones, too."""
        return not self.marked_complete and bool(self.submissions or self.records or self.fed or self.built)

    def job_called(self, job: str) -> Job:
        """Return the job of that id with its cluster, as far as that has to be named. Raises BadInput as `queued` does.

        Those by hand are in no record of a submission.
        """
        if not self.clusters:
            return Job(job)
        homes = {
            item.cluster or (sub.cluster.name if sub.cluster is not None else None)
            for sub in self.in_slurm
            for item in sub.jobs
            if item.id == job
        }
        return Job(job, *homes) if len(homes) == 1 else self.queued(job)

    def queued(self, job: str) -> Job:
        """Return a job that the queue showed, on the cluster that was asked. Raises BadInput where that was several.

        Their ids meet: what is done to the job of that id on the default one may be done to another run's.
        """
        if len(self.clusters) > 1:
            listed = ", ".join(name or "(the default)" for name in self.clusters)
            raise BadInput(
                f"{self.run.label}: job {job} is on one of the clusters {listed}, and nothing tells on which",
                f"look there, and end it: squeue -M <cluster>, scancel -M <cluster> {job}",
            )
        return Job(job, *self.clusters)

    def cluster_of(self, job: str) -> str:
        """Return the name of the cluster that a job went to; "" for the default one where no record names it."""
        for sub in reversed(self.submissions):
            for item in sub.jobs:
                if item.id == job:
                    return item.cluster or (sub.cluster.name if sub.cluster is not None else "")
        return ""

    @property
    def recorded_complete(self) -> bool:
        """Return whether the records alone say that all tasks are done."""
        if not self.indices or len(self.records) < len(self.indices):
            return False
        kinds = {self.records.kind(task): task for task in self.indices}
        return all(kind is not None and self.records[task].done for kind, task in kinds.items())

    @property
    def looks_complete(self) -> bool:
        """Return whether the run's directory alone says that all tasks are done; nobody is asked."""
        if self.marked_complete or self.recorded_complete:
            return True
        untold = not self.records and not any(item.records for item in self.submissions)
        return self.claimed and untold and (self.is_old or bool(self.submissions))

    @cached_property
    def attempts(self) -> Attempts:
        """Return how often each task was handed to a scheduler."""
        from esis.records.attempts import Attempts  # seldom needed

        return Attempts(self.indices, self.submissions)

    def last_word(self) -> float | None:
        """Return when the records were last heard of, in seconds since 1970."""
        times = [sub.answered for sub in self.submissions if sub.answered is not None]
        if self.records:
            times.append(self.records.last_time())
        return max(times, default=None)


def gather(run: RunDir, later: bool = False) -> Evidence | None:
    """Read a run's directory; None where there is none; `later`: the tasks' records when somebody asks.

    Raises CorruptState, OSError.
    """
    if not is_directory(run.private):
        return None
    subs = tuple(submissions.read_all(run))
    state = read_stage(run, subs)
    if state is not None and state.stage is Stage.PREPARED:
        indices: Sequence[int] = state.tasks
    else:
        indices = _indices(run)
    if state is None and not subs:
        from esis.records import old  # seldom needed

        indices = old.tasks_of(run, indices)
        subs = old.submissions_of(run, indices)
    moment = stage.records_moment(run)
    complete = stage.is_marked(run, subs)  # all is known; times and hosts are wanted by some
    listed = _records(run, later) if not complete else None
    claim = stage.is_claimed(run) if not complete else None
    return Evidence(run, state, indices, subs, listed, complete, moment, claim)


def read_stage(run: RunDir, subs: Sequence[Submission]) -> State | None:
    """Return the stage; where its record is damaged or lost it is derived anew. Raises CorruptState, OSError.

    A run with a submission was prepared. Without a trace of one nothing is lost by building it again. What lies
    between is for the user to decide: nothing may be built anew, and nobody knows all of its tasks.
    """
    try:
        state = stage.read(run)
        if state is not None or not is_there(run.submissions):
            return state
        damage = CorruptState(f"{run.state} is missing")  # 0.0.4's runs have neither
    except CorruptState as error:
        damage = error
    indices = _indices(run)
    submitted = {task for sub in subs for task in (sub.tasks[0], sub.tasks[-1])}
    whole = bool(indices) and indices[-1] - indices[0] + 1 == len(indices) and submitted <= set(indices)
    if whole and (subs or stage.is_marked(run)):
        return State(Stage.PREPARED, indices[0], len(indices))
    from esis.records import traces  # of what is damaged

    left = traces.found(run, None)
    if not left:
        return State(Stage.SNAPSHOT)
    why = f"{run.parameters.name}/ holds {len(indices)} parameter sets" if not whole else "nothing was submitted"
    raise CorruptState(f"{damage.message}, and {why}; but there are {'; '.join(left)}", traces.KEPT)


def _records(run: RunDir, later: bool) -> TaskRecords:
    from esis.records.tasks import read_records  # a complete run is told without them

    return read_records(run, later)


def _indices(run: RunDir) -> Sequence[int]:
    from esis.model.parametersets import ParameterSets  # where the stage doesn't tell

    return ParameterSets(run).indices() if is_directory(run.parameters) else ()
