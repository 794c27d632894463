"""The commands of a world: each comes, asks Slurm, perhaps is stopped, and ends; an oracle hears of everything."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

from esis.errors import ExitCode
from tests.simulation import child
from tests.simulation.files import Places, age
from tests.simulation.jobs import Jobs, Running
from tests.simulation.messages import Asked, Order, Paused, Reply, Slept, Stop
from tests.simulation.oracle import Oracle
from tests.simulation.slurm import Clock, Slurm
from tests.simulation.steps import Story
from tests.simulation.truth import BY_ESIS, FEEDER, TrueJob, Truth, describe


@dataclass
class Command:
    """A command of ESIS, as long as it lives."""

    argv: tuple[str, ...]
    pid: int
    line: Connection
    out: Path
    seen: list[TrueJob]  # jobs that squeue could show when it began, or was asked last
    done: set[tuple[str, int]]  # tasks that were done then, with their runs
    place: Path  # the directory of its workflow
    overtaken: bool = False  # it was stopped, and another one has taken the run over meanwhile, as told to
    faulty: bool = False  # an answer went wrong, or something else happened meanwhile
    code: int | None = None
    step: str = ""  # where it is held
    old: bool = False  # it is of the last release
    caller: Running | None = None  # the job that waits for its end

    @property
    def stdout(self) -> str:
        return self.out.read_text("utf-8", "replace")

    @property
    def stderr(self) -> str:
        return Path(f"{self.out}.err").read_text("utf-8", "replace")


class Commands:
    """Have a directory, a Slurm, and commands of ESIS that come and go."""

    def __init__(self, root: Path, story: Story, injector: ModuleType) -> None:
        settings = story.settings
        self.story = story
        self.places = Places(root)
        self.places.lay_out(settings.tasks, settings.base, settings.feed)
        self.clock = Clock(self.places.clock)
        self.slurm = Slurm(str(self.places.slurm), self.clock)
        self.slurm.store.set_knobs(
            max_array_size=settings.largest,
            accounting=settings.accounting,
            sacct_lag=float(settings.lag),
            min_job_age=float(settings.age),
            requeue_delay=float(settings.delay),
            version=settings.version,
            submit_limit=settings.limit,
        )
        self.truth = Truth({self.places.workflow: settings.tasks})
        if settings.base:
            self.truth.tasks[self.places.base] = settings.base
            self.truth.required[self.places.workflow] = self.places.base
        self.jobs = Jobs(self.places, self.slurm, self.truth, settings.pack > 1)
        self.oracle = Oracle(self.slurm, self.truth)
        self.held: list[Command] = []
        self.log: list[str] = []
        self.rules: list[str] = []
        self.counts: Counter[str] = Counter()
        self._injector = injector
        self._number = 0
        self._environment = self.places.environment()

    @property
    def run(self) -> Path | None:
        """Return the run, once there is one; of two workflows that of the one which requires the other one."""
        return self.truth.run_of(self.places.workflow)

    @property
    def problems(self) -> list[str]:
        return [*self.oracle.problems, *self.jobs.problems]

    def settle(self) -> None:
        """Give the files that were touched the world's time, unless a command is in the middle of something."""
        if not self.held:
            age(self.places.root / "home", self.clock.now)

    def esis(
        self,
        argv: tuple[str, ...],
        host: str,
        stop: Stop | None = None,
        late: bool = False,
        place: Path | None = None,
        more: Mapping[str, str] | None = None,
        readings: bool = False,
        old: bool | None = None,
        cwd: Path | None = None,
        caller: Running | None = None,
    ) -> Command:
        """Start a command, and follow it to its end or to where it is held; `more`: in its environment.

        `old`: whether it is one of the last release; None: as the world's settings say. `place`: the directory of its
        workflow, where it is given but for `cwd`.
        """
        self._number += 1
        every = self.story.settings.old
        if old is None:
            old = every > 0 and (self._number + self.story.seed) % every == 0
        self.counts["commands"] += 1
        self.counts["old commands"] += old
        out = self.places.root / f"command.{self._number}"
        ours, theirs = Pipe()
        order = Order(
            argv,
            str(cwd or place or self.places.workflow),
            {**self._environment, **(more or {})},
            f"login-{host}",
            self.clock.now,
            f"{self.story.seed}.{self._number}",
            str(out),
            f"{out}.err",
            stop,
            late,
            readings,
            old,
        )
        pid = child.fork(order, theirs, self._injector)
        theirs.close()
        about = place or self.places.workflow
        command = Command(argv, pid, ours, out, self.visible(), self.done(), about, old=old, caller=caller)
        self._follow(command)
        return command

    def visible(self) -> list[TrueJob]:
        """Return the jobs that squeue would show now."""
        jobs = self.slurm.store.look().jobs
        return [true for true in self.truth.jobs if not true.lost and true.id in jobs]

    def done(self) -> set[tuple[str, int]]:
        """Return the tasks that are done now, with their runs."""
        runs = [(str(self.truth.run_of(place)), tasks) for place, tasks in self.truth.tasks.items()]
        return {(run, task) for run, tasks in runs for task in range(tasks) if self.truth.is_done(run, task)}

    def _follow(self, command: Command) -> None:
        while True:
            try:
                said = command.line.recv()
            except (EOFError, ConnectionError):
                self._ended(command)
                return
            if isinstance(said, Paused):
                self.held.append(command)
                command.faulty = True
                command.step = said.step
                self.rules.append(f"held {command.argv[0]}")
                self.log.append(f"    {said.what}")
                return
            if isinstance(said, Slept):
                self.clock.pass_by(said.seconds)
                self.jobs.obey()
                self._say(command, self.clock.now)
            else:
                self._say(command, self._answer(command, said))

    def _say(self, command: Command, what: object) -> None:
        with suppress(ConnectionError):  # killed meanwhile; the end is heard of next
            command.line.send(what)

    def _ended(self, command: Command) -> None:
        command.code = child.reap(command.pid)
        command.line.close()
        self.rules.append(f"{command.argv[0]} {command.code}")
        self.log += [f"    {line}" for line in command.stderr.splitlines()] + [f"    exit code {command.code}"]
        self.oracle.ended(command.argv, command.code, command.stderr)
        for place in self.truth.tasks:
            built = self.truth.run_of(place)
            if built is not None:
                self.oracle.recorded(built)
        run = self.truth.run_of(command.place)
        if run is None:
            return
        if command.argv[0] == "status" and command.code in (0, ExitCode.UNANSWERED):
            self.judge_states(command, str(run))

    def judge_states(self, command: Command, run: str) -> None:
        """Judge the table of states that a command has shown."""
        self.oracle.told(run, command.stdout, not command.faulty, command.seen)

    def _answer(self, command: Command, asked: Asked) -> Reply:
        """Let Slurm answer, and hear what that means."""
        before = self.slurm.store.knobs()
        fault = next((item for item in before.faults if item["program"] == asked.argv[0]), None)
        nearest = self.slurm.cluster().next_id
        own = [command.place, *([self.places.base] if command.argv[0] == "dependency" else ())]
        runs = {str(self.truth.run_of(place)) for place in own}
        foreign = self.oracle.foreign(runs)
        reply = self.slurm.call(asked.argv, asked.cwd, asked.env, asked.timeout)
        after = self.slurm.cluster()
        if fault is not None:
            command.faulty = True
            self.rules.append(f"{asked.argv[0]} {fault['kind']}")
            self.log.append(f"    {asked.argv[0]}: {fault['kind']}")
        if before.down or (reply.code != 0 and (asked.argv[0] != "sacct" or before.accounting)):
            command.faulty = True
        if asked.argv[0] == "squeue" and fault is None and reply.code == 0:
            command.seen += self.visible()
            command.done |= self.done()
        self.oracle.changed(asked, runs, foreign)
        if asked.argv[0] == "sbatch" and after.next_id > nearest:
            made = self._note(nearest, asked.env, BY_ESIS)
            made.old = command.old
            if made.maker == BY_ESIS:
                self.oracle.accepted(made, command.seen, command.done, command.overtaken)
        self.jobs.obey()
        return reply

    def _note(self, number: int, env: Mapping[str, str], maker: str) -> TrueJob:
        job = self.slurm.cluster().jobs[number]
        script = Path(self.slurm.store.spool(number), "slurm_script").read_bytes()
        if maker == BY_ESIS and job.name == "esis-feed":
            maker = FEEDER
        true = describe(job, script, env, maker, self.clock.now)
        self.truth.jobs.append(true)
        self.log.append(f"    job {number} by {maker}: tasks {list(true.tasks)} {true.fence}")
        return true

    def kill_held(self) -> None:
        """Kill the commands that are held."""
        for command in self.held:
            os.kill(command.pid, 9)
            child.reap(command.pid)
            command.line.close()
        self.held.clear()
