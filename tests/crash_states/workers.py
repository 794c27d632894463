"""Cut the power while a worker saves: the next attempt finds the state before or the one behind it, whole.

The worker saves 1, 2 and 3, and after each tells it elsewhere: what was told must not be taken back.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from esis.model.workdir import RunDir
from esis.processes import boot
from tests.crash_states import trace
from tests.crash_states.disk import Operation
from tests.crash_states.states import State
from tests.worker.saved import SCENARIOS, Failed, alone

TIMES = 3  # a third one takes away the first of esis.checkpoints
_SAVES = "import sys; from tests.crash_states.workers import save_all; save_all(*sys.argv[1:])"
_NO_FSYNC = (
    "import os, stat\nreal = os.fsync\nos.fsync = lambda file: {} if stat.S_ISDIR(os.fstat(file).st_mode) else {}"
)
BREAKS = {
    "saved-without-fsync-of-content": _NO_FSYNC.format("real(file)", "None"),
    "saved-without-fsync-of-directories": _NO_FSYNC.format("None", "real(file)"),
    "checkpoint-renamed-before-its-sync": "import esis.worker.durable as m, esis.worker.checkpoints as c\n"
    "def publish(staging, target):\n"
    "    staging.rename(target)\n    m.fsync_tree(target)\n    m.fsync_directory(target.parent)\n"
    "c.publish = publish",
}


def save_all(scenario: str, run: str, told: str) -> None:
    """Be the worker."""
    work = SCENARIOS[scenario](Path(run))
    for value in range(1, TIMES + 1):
        work.save(value)
        Path(told, str(value)).touch()


@dataclass
class Worker:
    """A worker that saves in one of the ways of tests/worker/saved.py."""

    scenario: str
    directory: Path
    attempts: int = 0
    breaks: ClassVar[Mapping[str, str]] = BREAKS
    jobs: ClassVar[bool] = False

    @classmethod
    def make(cls, directory: Path, scenario: str) -> Worker:
        """Make an empty run, and the place elsewhere."""
        made = cls(scenario, directory)
        made.elsewhere.mkdir(parents=True)
        run = RunDir(made.home)
        for path in (run.path, *run.directories()):
            path.mkdir()
        return made

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def elsewhere(self) -> Path:
        return self.directory / "told"

    def trace(self, broken: str) -> list[tuple[Path, Operation]]:
        argv = [sys.executable, "-c", f"{self.breaks.get(broken, '')}\n{_SAVES}", self.scenario]
        roots = [self.home, self.elsewhere]
        repository = Path(__file__).parents[2]
        env = {**os.environ, **self._job(), "PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1"}
        return trace.record([*argv, *map(str, roots)], self.home, env, roots)

    def check(self, state: State, jobs_first: bool) -> list[str]:
        told = max(map(int, state.elsewhere.nodes[0].names), default=0)
        for node in state.home.nodes.values():  # the machine starts anew, or it is another one
            node.data = node.data.replace(boot().encode(), b"before/1")
        state.home.write(self.home)
        work = SCENARIOS[self.scenario](self.home)
        try:
            found = self._attempt(work.load)
            if found not in ([told, told], [told + 1, told + 1]):
                return [f"{told} was told as saved, and {found} is there"]
            following = found[0] + 1
            self._attempt(lambda: work.save(following))
            found = self._attempt(work.load)
            if found != [following, following]:
                return [f"{following} was saved again, and {found} is there"]
            left = self._attempt(work.litter)
        except Failed as failed:
            return [f"told as saved: {told}; {failed}"]
        # The mark of a checkpoint that is complete may come back; it blocks nothing, for checkpoint.ok outranks it.
        left = [name for name in left if name != "checkpoint.begun"]
        return [f"left behind: {left}"] if left else []

    def close(self) -> None:
        """Have nothing that runs."""

    def _attempt(self, work: Callable[[], Any]) -> Any:
        """Do it as Slurm's next attempt at the task."""
        self.attempts += 1

        def requeued() -> Any:
            os.environ.update(self._job())
            return work()

        return alone(requeued)

    def _job(self) -> dict[str, str]:
        return {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0", "SLURM_RESTART_COUNT": str(self.attempts)}
