"""Judge what ESIS does and says by what is true."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from esis.errors import ExitCode
from tests.fakes.fake_slurm.records import Cluster
from tests.simulation.messages import Asked
from tests.simulation.slurm import Slurm
from tests.simulation.truth import BY_ESIS, TrueJob, Truth, alive

GRACE = 30.0  # the least that ESIS waits before it sends a submission again
_KILLED = -9


class Oracle:
    """Hear of everything, and keep what was wrong."""

    def __init__(self, slurm: Slurm, truth: Truth) -> None:
        self._slurm = slurm
        self._truth = truth
        self.problems: list[str] = []

    def accepted(
        self, made: TrueJob, seen: Sequence[TrueJob], done: Container[tuple[str, int]], overtaken: bool
    ) -> None:
        """Judge a submission of ESIS's own; the command had to know of the jobs `seen`, and of the tasks `done`.

        One that was `overtaken` had the run no more: the fence has to hold then. So it has where 0.1.0 doesn't find the
        job of a later version's submission whose answer was lost: the path that it looks for is longer since.
        """
        now, cluster = self._slurm.clock.now, self._slurm.cluster()
        for other in self._truth.of_run(made.run):
            if other is made:
                continue
            job = cluster.jobs.get(other.id)
            busy = alive(job, other, self._truth.attempts) if job is not None else {}
            if other.fence == made.fence and (busy or other.began):
                if made.old and not other.old and not self._is_noted(other):
                    continue
                if other in seen:
                    self._say(f"job {made.id} is submission {made.fence} once more, and squeue shows job {other.id}")
                elif now - other.accepted < GRACE and not overtaken:
                    self._say(f"job {made.id} is submission {made.fence} once more, {now - other.accepted:.0f} s later")
            elif other in seen:
                both = sorted(set(made.tasks) & busy.keys())
                if both:
                    self._say(f"job {made.id} has tasks {both}, and squeue shows them in job {other.id}")
        for task in made.tasks:
            wanted = any(job.again and task in job.tasks for job in self._truth.of_run(made.run))
            if (made.run, task) in done and self._truth.is_done(made.run, task) and not wanted:
                self._say(f"job {made.id} has task {task}, which is done")

    def foreign(self, runs: Container[str]) -> dict[int, object]:
        """Return all that Slurm knows of the jobs that are none of these runs'."""
        jobs = self._slurm.cluster().jobs
        return {
            job.id: jobs[job.id].plain()
            for job in self._truth.jobs
            if job.run not in runs and not job.lost and job.id in jobs
        }

    def changed(self, asked: Asked, runs: Container[str], before: Mapping[int, object]) -> None:
        """Judge a change that ESIS asked for: it may concern jobs of these runs alone.

        Whoever asks squeue lets slurmctld lift dependencies that are met.
        """
        if asked.argv[0] not in ("scancel", "scontrol"):
            return
        for number, known in self.foreign(runs).items():
            if number in before and before[number] != known:
                self._say(f"{' '.join(asked.argv)} changed job {number}, which is none of the run's")

    def ended(self, argv: Sequence[str], code: int, stderr: str) -> None:
        """Judge how a command ended."""
        what = " ".join(argv)
        if "Traceback" in stderr or "internal error" in stderr:
            self._say(f"esis {what} shows {stderr[-1500:]}")
        if code not in (*ExitCode.all().values(), _KILLED):
            self._say(f"esis {what} ended with {code}")

    def told(self, run: str, stdout: str, answered: bool, seen: Container[TrueJob]) -> None:
        """Judge a table of states; `answered`: nothing kept squeue from telling all. `seen`: the jobs it showed."""
        cluster = self._slurm.cluster()
        for row in json.loads(stdout)["rows"]:
            task, state, reason = int(row["task"]), str(row["state"]), str(row["reason"])
            busy = [
                job.id
                for job in self._truth.of_run(run)
                if task in job.tasks
                and self._is_shown(cluster, job)
                and task in alive(cluster.jobs[job.id], job, self._truth.attempts)
            ]
            done, doubtful = self._truth.is_done(run, task), self._truth.is_doubtful(run, task)
            wrong = {
                "done": not (done or (doubtful and not (answered and self._is_contradicted(run, task)))),
                "failed": (done and not doubtful) or bool(busy),
                "lost": done or bool(busy),
                "unsubmitted": done or bool(busy),
                "running": not busy,
                "waiting": not busy,
            }.get(state, False)
            holders = [job for job in self._truth.jobs if job.run == run and task in job.tasks]
            if not answered and state in ("unsubmitted", "running", "waiting"):
                wrong = False
            if not answered and state == "failed":
                # As the records tell, and the notes say so; but not of an attempt before the latest submission.
                last = self._truth.of_task(run, task)[-1:]
                later = {job.id for job in holders if job.id in busy and job.maker == BY_ESIS and job in seen}
                wrong = (done and not doubtful) or bool(later - {item.job.id for item in last})
            if state == "failed" and reason != "CANCELLED" and holders and all(job.lost for job in holders):
                wrong = wrong or not self._truth.of_task(run, task)  # nothing is known of it, so it is lost at most
            if wrong:
                self._say(f"task {task} is called {state} ({reason}); true: done {done}, active in jobs {busy}")

    def recorded(self, run: Path) -> None:
        """Judge the ids that ESIS has noted: they have to be those of jobs that it made for that submission."""
        for path in sorted(run.glob("__esis__/submissions/*.json")):
            try:
                kept = json.loads(path.read_text())
                jobs = kept["jobs"] if kept["scheduler"] != "local" else ()  # else of nobody else's
            except (OSError, ValueError, KeyError):
                continue
            for position, job in enumerate(jobs):
                fence = path.stem if position == 0 else f"{path.stem}.{position + 1}"
                number = int(job["id"])
                made = [item for item in self._truth.jobs if item.id == number and item.run == str(run)]
                if not any(item.maker == BY_ESIS and item.fence == fence for item in made):
                    self._say(f"submission {fence} names job {number}, which isn't its job")

    def _is_noted(self, job: TrueJob) -> bool:
        """Return whether the record of its submission names a job."""
        path = Path(job.run) / f"__esis__/submissions/{job.fence.partition('.')[0]}.json"
        return str(job.id) in [item["id"] for item in json.loads(path.read_text())["jobs"]]

    def _is_contradicted(self, run: str, task: int) -> bool:
        """Return whether squeue says that the latest attempt has failed, in a job of that task alone."""
        attempt = self._truth.of_task(run, task)[-1]
        job = self._slurm.cluster().jobs.get(attempt.job.id)
        element = job.tasks.get(str(attempt.index)) if job is not None and not attempt.job.lost else None
        now, age = self._slurm.clock.now, self._slurm.store.knobs().min_job_age
        alone = attempt.index is not None and len(attempt.job.units.get(attempt.index, ())) == 1
        return alone and element is not None and element.restarts == attempt.restart and element.visible(now, age)

    def _is_shown(self, cluster: Cluster, true: TrueJob) -> bool:
        job = cluster.jobs.get(true.id)
        return job is not None and not job.hidden(self._slurm.clock.now)

    def _say(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)
