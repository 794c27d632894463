"""A world of tests/simulation that can be put back to a moment: two workflows, of which the second requires the first.

Nothing happens by chance here: a situation is made, kept, and tried again and again from there.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from esis.model.workdir import RunDir
from tests.fakes.fake_slurm.queue import advance, finish, next_task
from tests.fakes.fake_slurm.records import Job, Task
from tests.simulation.commands import Command
from tests.simulation.files import SLEEP
from tests.simulation.messages import Stop
from tests.simulation.steps import Settings, Step, Story
from tests.simulation.truth import BY_ESIS, BY_HAND, Attempt, TrueJob
from tests.simulation.world import World

# As in the simulation. Its log and its result tell how often the task was worked on; without Slurm it works at once.
WORKER = """#!/bin/sh
read -r set <../parameters/parameters.$SLURM_ARRAY_TASK_ID.json
code=0
if [ -n "$SLURM_ESIS_LOCAL" ]; then
    echo "$SLURM_ARRAY_TASK_ID $SLURM_JOB_ID" >>"$WORLD/worked-here"
else
    go=$WORLD/go.$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}.$SLURM_ARRAY_TASK_ID
    mkfifo "$go"
    echo "$SLURM_ARRAY_TASK_ID $SLURM_JOB_ID ${SLURM_RESTART_COUNT:-0} $set" >"$WORLD/begun"
    read -r code <"$go"
fi
place=${PWD%/wrkdir*}
count=$WORLD/count.${place##*/}.$SLURM_ARRAY_TASK_ID
echo >>"$count"
echo "log of $SLURM_ARRAY_TASK_ID, $(wc -l <"$count")"
[ "$code" != 0 ] || echo "{\\"r\\": $(wc -l <"$count")}" >../results/results.$SLURM_ARRAY_TASK_ID.json
exit "$code"
"""
FEEDER, HERE = "feeder", "here"  # who makes a job: beside those of the simulation's truth
_SPECIAL = ("begun", "go.*")
_ROUNDS = 20
AGAIN = (6, 7, 130)  # exit codes after which the messages say: repeat it


class Scene(World):
    """Two workflows in a world; `base` has to be done before `scan`, if that requires it."""

    def __init__(self, root: Path, settings: Settings, injector: ModuleType) -> None:
        super().__init__(root, Story(settings, ()), injector)
        self.here = self.places.workflow  # where the command is that is being followed
        self._again = False  # the command that is being followed does once more what is done
        self._kept: Path | None = None
        self._memory: tuple[float, dict[str, str], dict[str, Any], int] | None = None
        (self.places.workflow / "worker.sh").write_text(WORKER)
        # A job gives what it requires a minute, which nothing here would use.
        (self.places.root / "bin" / "sleep").write_text(SLEEP)
        (self.places.root / "bin" / "sleep").chmod(0o755)
        shutil.copytree(self.places.workflow, self.base)
        self.truth.tasks[self.base] = settings.tasks
        (self.base / "worker.sh").write_text(WORKER + "# the base\n")

    @property
    def base(self) -> Path:
        return self.places.base

    @property
    def run(self) -> Path | None:
        return self.truth.run_of(self.here)

    def done(self) -> set[tuple[str, int]]:
        return set() if self._again else super().done()

    def runs(self) -> dict[str, RunDir]:
        """Return the runs that there are, by the name of their workflow."""
        found = {}
        for place in (self.base, self.places.workflow):
            for path in sorted(place.glob("wrkdir.*")):
                found[place.name] = RunDir(path)
        return found

    # --- a moment that is kept

    def keep(self, aside: Path) -> None:
        """Remember this moment; nothing may be at work."""
        if self.jobs.running or self.held:
            raise ValueError("something is at work")
        self._kept = aside
        shutil.copytree(self.places.root, aside, symlinks=True, ignore=shutil.ignore_patterns(*_SPECIAL))
        self._memory = copy.deepcopy((self.clock.now, self.slurm.store._files, self.truth.__dict__, self._number))

    def restore(self) -> None:
        """Go back to it."""
        if self._kept is None or self._memory is None:
            raise ValueError("nothing was kept")
        self.end_all()
        for entry in os.scandir(self.places.root):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif entry.name != "begun":
                os.unlink(entry.path)
        shutil.copytree(self._kept, self.places.root, symlinks=True, dirs_exist_ok=True)
        now, known, truth, number = copy.deepcopy(self._memory)
        self.slurm.store._files = known
        self.truth.__dict__.update(truth)
        self.clock.now, self._number = now, number
        self.oracle.problems.clear()
        self.jobs.problems.clear()
        self.log.clear()
        self.rules.clear()

    def end_all(self) -> None:
        """Kill what is at work."""
        self.kill_held()
        for item in list(self.jobs.running):
            self.jobs.end(item, "node")

    # --- commands

    def command(
        self, argv: Sequence[str], host: str = "a", stop: Stop | None = None, place: Path | None = None, **more: str
    ) -> Command:
        """Start a command at one of the workflows, and follow it to its end or to where it is held."""
        self.here = place or self.places.workflow
        self._again = "done" in argv
        self.log.append(f"esis {' '.join(argv)} @{host} {stop or ''} {self.here.name}")
        done = self.esis(tuple(argv), host, stop, place=self.here, more=more, readings=argv[0] in READERS)
        self.settle()
        return done

    def go_on(self, command: Command) -> None:
        """Let a command that is held go on."""
        self.held.remove(command)
        self.log.append(f"go on: esis {' '.join(command.argv)}")
        self.here = command.place
        self._again = "done" in command.argv
        self._say(command, self.clock.now)
        self._follow(command)
        self.settle()

    def _follow(self, command: Command) -> None:
        super()._follow(command)
        if command in self.held:
            self.log.append(f"    before: {command.step}")
        self._hear_of_local_work()

    def judge_states(self, command: Command, run: str) -> None:
        """Judge them, unless it was held: then it tells of an earlier moment, and the serial orders judge.

        Nor where what was done was submitted again: then that counts, whatever becomes of it. Nor beside a local run,
        of which the truth hears task by task.
        """
        beside_local = any("--local" in held.argv for held in self.held)
        if not command.step and not beside_local and not any(job.again for job in self.truth.jobs):
            super().judge_states(command, run)

    def _note(self, number: int, env: Mapping[str, str], maker: str) -> TrueJob:
        job = self.slurm.cluster().jobs[number]
        if not job.command.endswith("feed.sh"):
            true = super()._note(number, env, maker)
            true.again = self._again
            return true
        true = TrueJob(number, FEEDER, self.clock.now, str(self.run))
        self.truth.jobs.append(true)
        self.log.append(f"    job {number} would submit the rest")
        return true

    def _hear_of_local_work(self) -> None:
        """See what was done by tasks on this machine, and that nobody else does or has done it."""
        heard = self.places.root / "worked-here"
        run = self.run
        if run is None or not heard.exists():
            return
        for line in heard.read_text().splitlines():
            task, number = map(int, line.split())
            if any(item.job.maker == HERE and item.job.id == number for item in self.truth.attempts):
                continue
            true = TrueJob(number, HERE, self.clock.now, str(run), tasks=(task,), units={task: (task,)}, began=True)
            attempt = Attempt(str(run), task, true, task, 0, self.clock.now, number, False, 0, "COMPLETED")
            self.jobs._check_begin(attempt)
            self.truth.attempts.append(attempt)

    # --- jobs

    def begin(self) -> bool:
        """Let the task that is next begin; False where there is none."""
        found = self._next()
        if found is None:
            return False
        true = self.truth.job(found[0].id)
        if true is not None and true.maker == FEEDER:
            self._feed(found[0].id)
        else:
            self.log.append(f"a task of job {found[0].id} begins")
            self.jobs.start()
        self.settle()
        return True

    def end(self, how: str) -> bool:
        """Let the work of the first task that runs end; False where none does."""
        if not self.jobs.running:
            return False
        self.log.append(f"a task of job {self.jobs.running[0].job} ends: {how}")
        self.do_end(Step("end", how))
        self.settle()
        return True

    def by_hand(self) -> None:
        """Let the user queue the latest script once more."""
        self.here = self.places.workflow
        run = self.run
        if run is not None and (run / "sbatch.sh").exists():
            self._submit(["sbatch", "../sbatch.sh"], str(run / "cwd"), BY_HAND)

    def requeue(self) -> bool:
        """Let the user put the first task back that a job has ended; False where there is none."""
        for job in self.slurm.cluster().jobs.values():
            for task in job.ordered_tasks():
                if task.finished and task.index is not None:
                    name = f"{job.id}_{task.index}"
                    self.log.append(f"scontrol requeue {name}")
                    self.slurm.call(["scontrol", "requeue", name], str(self.places.root), self._environment, 60.0)
                    return True
        return False

    def finish(self) -> bool:
        """Let all jobs run to their ends; False where that has none."""
        for _ in range(_ROUNDS):
            self.clock.pass_by(400)  # what was to be tried later is tried now, and Slurm forgets what has ended
            if not self.jobs.running and self._next() is None:
                return True
            for _ in range(_ROUNDS):
                if not (self.end("ok") or self.begin()):
                    break
        return False

    def _next(self) -> tuple[Job, Task] | None:
        cluster, knobs = self.slurm.store.read(), self.slurm.store.knobs()
        advance(cluster, knobs, self.clock.now)
        return next_task(cluster, knobs, self.clock.now)[0]

    def _feed(self, number: int) -> None:
        """Run the job that submits the rest, as its script does; the command is what esis itself wrote there."""
        cluster = self.slurm.store.read()
        job, task = next_task(cluster, self.slurm.store.knobs(), self.clock.now)[0] or (None, None)
        if job is None or task is None:
            return
        task.state, task.start = "RUNNING", self.clock.now
        self.slurm.store.write(cluster)
        script = Path(self.slurm.store.spool(number), "slurm_script").read_text()
        line = next(line for line in script.splitlines() if " -m esis resubmit " in line)
        argv = line.partition(" -m esis ")[2].replace("'", "").split()
        place = Path(next(word for word in argv if "/wrkdir." in word)).parent
        done = self.command(argv, "n", None, place, SLURM_JOB_ID=str(number))
        if done.code in (6, 7, 11):
            self.slurm.call(["scontrol", "requeue", str(number)], str(place), self._environment, 60.0)
        cluster = self.slurm.store.read()
        job = cluster.jobs[number]
        for task in job.tasks.values():
            if task.state == "RUNNING":
                finish(job, task, "COMPLETED" if done.code == 0 else "FAILED", f"{done.code}:0", "None", self.clock.now)
        self.slurm.store.write(cluster)

    def lay_chain(self) -> None:
        """Let `scan` require `base`."""
        setup = ("setup", "setup.sh", "gen.sh", "template.sh", "worker.sh")
        self.command(setup, place=self.base)
        self.command(("require", "../base/wf.esis.json", "base"))

    def esis_jobs(self) -> list[TrueJob]:
        """Return the jobs with tasks that ESIS submitted."""
        return [job for job in self.truth.jobs if job.maker == BY_ESIS]


READERS = frozenset({"status", "export", "archive", "errors", "list", "wait"})  # of these each reading is a step, too
