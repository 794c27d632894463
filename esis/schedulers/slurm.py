"""Be the client of Slurm: `commands` builds what it runs, `answers` reads what comes back.

Facts about Slurm's behaviour were seen on live clusters (20.11 to 24.11); the cluster tests show them again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from esis.environment import query_environment, submit_environment
from esis.hook import FENCE_VARIABLE, OFFSET_VARIABLE
from esis.model.workdir import RunDir, fence_name
from esis.process import capture, is_on_path
from esis.records.submissions import Cluster, Job, Outcome, Submission
from esis.schedulers.answers import judge, parse_job, parse_sacct, parse_squeue, update_problem
from esis.schedulers.base import Answer, Sighting, Snapshot, went_this_way
from esis.schedulers.commands import (
    SACCT_OLD_FORMAT,
    SQUEUE_OLD_FORMAT,
    feeder_argv,
    on_that_of,
    sacct_argv,
    sbatch_argv,
    scancel_argvs,
    squeue_argv,
    update_argv,
)
from esis.schedulers.query import QUERY_SECONDS, ask

if TYPE_CHECKING:
    from esis.model.limits import Limits

# sbatch retries some errors by itself for about 120 s, so less would cut it off in the middle.
SUBMIT_SECONDS = 300.0


class Slurm:
    """Be the client of the Slurm commands on PATH."""

    name = "slurm"

    def __init__(self) -> None:
        """Know nothing of any cluster yet."""
        self._config: dict[str, tuple[Mapping[str, str], str | None]] = {}  # by cluster, and what went wrong

    @property
    def queue(self) -> Slurm:
        """Return where its jobs wait."""
        return self

    def has_slurm(self) -> bool:
        """Return whether there is an sbatch at all."""
        return is_on_path("sbatch")

    def limits(self, clusters: Sequence[str] = ()) -> Limits | None:
        """Ask for the configurations, once in the life of this client; Slurm's defaults where it doesn't answer."""
        from esis.model.limits import common
        from esis.schedulers.config import limits_in  # asked where a run is built

        named = [name for name in clusters if name != "all"]  # as sbatch calls them; scontrol takes the name of one
        asked = [self._configuration(cluster) for cluster in named or ("",)]
        return common([replace(limits_in(config), problem=problem) for config, problem in asked])

    def present(self, known: Sequence[Submission], again: bool = False) -> tuple[Cluster | None, str | None]:
        """Return which cluster it is, and why that can't be told; asked for unless a submission went the same way.

        `again`: ask once more where that failed.
        """
        told = next((item.cluster for item in known if item.cluster is not None and went_this_way(item)), None)
        if told is not None:
            return told, None
        from esis.schedulers.config import cluster_in

        config, problem = self._configuration("", again)
        return cluster_in(config), problem

    def _configuration(self, cluster: str, again: bool = False) -> tuple[Mapping[str, str], str | None]:
        if cluster not in self._config or (again and self._config[cluster][1] is not None):
            from esis.schedulers.config import ask_config

            self._config[cluster] = ask_config(cluster)
        return self._config[cluster]

    def submit(self, run: RunDir, submission: Submission, position: int, acknowledged: Callable[[Job], None]) -> Answer:
        """Call sbatch once. See Scheduler."""
        from esis.model.secrets import is_masked

        if is_masked(submission.options):
            return Answer(
                Outcome.REFUSED,
                "it was given values that ESIS doesn't keep (of --export, or secrets), "
                "so it can't be sent once more; give them again: esis resubmit -- --export=…",
            )
        env = submit_environment(**{FENCE_VARIABLE: fence_name(submission.number, position)})
        if len(submission.arrays) > 1:
            env[OFFSET_VARIABLE] = str(submission.arrays[position].offset)
        try:
            done = capture(sbatch_argv(run, submission, position), cwd=run.cwd, env=env, timeout=SUBMIT_SECONDS)
        except OSError as error:
            problem = f"sbatch can't be started: {error.strerror}"
            if str(error.filename) == str(run.cwd):  # it is the directory that can't be entered
                problem = f"sbatch can't be started in {run.cwd}: {error.strerror}"
                if isinstance(error, PermissionError):
                    problem += f" to enter that directory (chmod u+rwx {run.cwd})"
            return Answer(Outcome.REFUSED, problem, asked=False)
        answer = judge(done)
        if answer.outcome is Outcome.SUBMITTED:
            job = parse_job(done.stdout.decode("utf-8", "replace"))
            if job is not None:
                acknowledged(job)
        return answer

    def observe(self, clusters: Sequence[str], owners: Sequence[int] = ()) -> Snapshot:
        """Call squeue once, and once more for the default cluster beside named ones. See Scheduler.

        Before it scontrol where other users' jobs may be hidden.
        """
        hidden = _hidden_jobs(owners)
        seen: list[Sighting] = []
        problems: list[str] = []
        for named in _together(clusters):
            default = bool(clusters) and not named
            text, problem = ask(squeue_argv(named, owners), default)
            if problem is not None and "invalid job format" in problem.lower():
                text, problem = ask(squeue_argv(named, owners, SQUEUE_OLD_FORMAT), default)
            if problem is None:
                found, problem = parse_squeue(text)
                seen += found
            if problem is not None:
                problems.append(problem)
        return Snapshot(tuple(seen), problems[0] if problems else hidden)

    def cancel(self, job: Job, positions: Sequence[int], pending_only: bool) -> tuple[str | None, str | None]:
        """Call scancel for array positions of a job; return what it says where it may not, and whatever went wrong.

        Whether it did anything has to be asked of the queue.
        """
        answers = [ask(argv)[1] for argv in scancel_argvs(job, positions, pending_only)]
        problems = [problem for problem in answers if problem is not None]
        return next(filter(None, map(_forbidden, problems)), None), next(iter(problems), None)

    def reserve_feeder(self, run: RunDir, options: Sequence[str]) -> tuple[Job | None, Answer]:
        """Queue the run's feeding job, held; return it, or None, and what was answered.

        A second one after a lost answer does no harm: whatever it does, it does under the lock of the run.
        """
        try:
            done = capture(
                feeder_argv(run.feed_script, run.feed_log, options),
                cwd=run.private,
                env=submit_environment(),
                timeout=SUBMIT_SECONDS,
            )
        except OSError as error:
            return None, Answer(Outcome.REFUSED, f"sbatch can't be started: {error.strerror}", asked=False)
        answer = judge(done)
        taken = answer.outcome is Outcome.SUBMITTED and done.code == 0
        return parse_job(done.stdout.decode("utf-8", "replace")) if taken else None, answer

    def start_feeder(self, job: Job, behind: Sequence[str], delay: float) -> str | None:
        """Let the feeding job start once the jobs `behind` have ended; without such ones after `delay` seconds.

        Returns what went wrong.
        """
        change = f"dependency=afterany:{':'.join(behind)}" if behind else f"starttime=now+{int(delay)} dependency="
        return _update(job, change) or ask(["scontrol", *on_that_of(job), "release", job.id])[1]

    def drop_feeder(self, job: Job) -> str | None:
        """Take the feeding job out of the queue; return what scancel says where it may not."""
        return _forbidden(ask(["scancel", *on_that_of(job), job.id])[1])

    def set_throttle(self, job: Job, limit: int) -> str | None:
        """Change how many tasks of a queued array run at a time; return what went wrong."""
        return _update(job, f"ArrayTaskThrottle={limit}")

    def set_dependency(self, job: Job, dependency: str) -> str | None:
        """Change what a queued job waits for (an empty text: nothing); return what went wrong."""
        return _update(job, f"dependency={dependency}")

    def account(
        self,
        snapshot: Snapshot,
        jobs: Sequence[str],
        clusters: Sequence[str],
        since: float,
        completed: bool = True,
        besides: Container[str] = (),
    ) -> Snapshot:
        """Call sacct once, and once more for the default cluster beside named ones. See Scheduler."""
        if not jobs:
            return snapshot._replace(accounting_asked=True)
        seen: list[Sighting] = []
        problems: list[str] = []
        for named in _together(clusters):
            default = bool(clusters) and not named
            text, problem = ask(sacct_argv(jobs, named, since), default)
            if problem is not None and "invalid field" in problem.lower():
                text, problem = ask(sacct_argv(jobs, named, since, SACCT_OLD_FORMAT), default)
            seen += parse_sacct(text, completed, besides)
            if problem is not None:
                problems.append(problem)
        return snapshot._replace(
            accounting=tuple(seen), accounting_problem=problems[0] if problems else None, accounting_asked=True
        )


def _together(clusters: Sequence[str]) -> list[list[str]]:
    """Return which clusters are asked by one call each: those with names, and the default one ("", or none at all)."""
    named = [name for name in clusters if name]
    return ([named] if named else []) + ([[]] if "" in clusters or not named else [])


def _hidden_jobs(owners: Sequence[int]) -> str | None:
    """Return why the jobs of these users may be hidden from this one, so that squeue says the same as without any."""
    if set(owners) <= {os.getuid()} or os.geteuid() == 0:
        return None
    from esis.schedulers.config import ask_config  # where somebody looks at another's run

    config, problem = ask_config()
    if problem is not None:
        return f"whether this cluster hides the jobs of other users can't be asked: {problem}"
    if "jobs" in config.get("PrivateData", "").split(","):
        return "this cluster hides the jobs of other users (PrivateData)"
    return None


def _forbidden(problem: str | None) -> str | None:
    """Return a problem of scancel's if it says that the job is somebody else's."""
    return problem if problem is not None and "permission denied" in problem.lower() else None


def _update(job: Job, change: str) -> str | None:
    """Change a queued job; return what went wrong."""
    argv = update_argv(job, change)
    try:
        done = capture(argv, env=query_environment(), timeout=QUERY_SECONDS)
    except OSError as error:
        return f"{argv[0]}: {error.strerror}"
    if done.timed_out:
        return f"{argv[0]} gave no answer in {QUERY_SECONDS:.0f} s"
    if done.code == 0:
        return None
    return update_problem(done.stderr.decode("utf-8", "replace"), done.code)
