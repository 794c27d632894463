"""Cut the power in the middle of a command of ESIS: given once more, it comes out clean."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.crash_states import trace
from tests.crash_states.disk import Operation
from tests.crash_states.states import State
from tests.faults.bench import WORKER as PLAIN
from tests.faults.bench import Bench, Nursery, differences
from tests.faults.matrix import Scene, check_finish, check_list, queue

COMMANDS = ("run", "resubmit", "dependency", "arrays", "compact")
# A task says what it was given: one that works on an empty file would be seen.
WORKER = PLAIN.replace('echo "$SLURM_ARRAY_TASK_ID"', "cat ../parameters/parameters.$SLURM_ARRAY_TASK_ID.json")
# What records tell of the command is the same as of those that the nursery starts.
_LIKE_THE_NURSERY = "import sys; sys.argv[0] = 'esis'; from esis.cli.main import run; run()"
# Breaks of the product, each to be noticed.
BREAKS = {
    "no-fsync-of-content": "import os, stat\nreal = os.fsync\n"
    "os.fsync = lambda file: real(file) if stat.S_ISDIR(os.fstat(file).st_mode) else None",
    "no-fsync-of-directories": "import os, stat\nreal = os.fsync\n"
    "os.fsync = lambda file: None if stat.S_ISDIR(os.fstat(file).st_mode) else real(file)",
    "no-sync-of-what-scripts-wrote": "import esis.operations.build.prepare as m\nm.sync_tree = lambda root: None",
    "intent-without-fsync": "import os, esis.records.submissions as m\nreal, fsync = m.save, os.fsync\n"
    "def save(*given):\n"
    "    os.fsync = lambda file: None\n"
    "    try:\n        return real(*given)\n"
    "    finally:\n        os.fsync = fsync\n"
    "m.save = save",
}


@dataclass(frozen=True)
class Command:
    """A command, which another time makes the very files of an undisturbed one, and the same queue."""

    scene: Scene
    breaks: ClassVar[Mapping[str, str]] = BREAKS
    jobs: ClassVar[bool] = True

    @classmethod
    def make(cls, directory: Path, name: str, nursery: Nursery | None) -> Command:
        """Lay out a scene."""
        scene = Scene.make(directory, name, nursery, worker=WORKER)
        scene.bench.restore()
        return cls(scene)

    @property
    def home(self) -> Path:
        return self.scene.bench.home

    @property
    def elsewhere(self) -> Path:
        return self.scene.bench.slurm.state_dir

    def trace(self, broken: str) -> list[tuple[Path, Operation]]:
        operations = traced(self.scene.bench, self.scene.place, self.scene.argv, self.breaks.get(broken, ""))
        wrong = differences(self.scene.expected, self.scene.bench.tree())
        assert not wrong, wrong
        return operations

    def check(self, state: State, jobs_first: bool) -> list[str]:
        scene, bench = self.scene, self.scene.bench
        state.home.write(bench.home)
        state.elsewhere.write(bench.slurm.state_dir)
        told = [*check_list(scene)]
        if jobs_first:
            bench.slurm.run()
            told += _check_work(scene)
        again = bench.again(scene.place, *scene.argv)
        if again.code != 0:
            told.append(f"the same command again ended with {again.code}: {again.stderr.strip()}")
        if "Traceback" in again.stderr or "internal error" in again.stderr:
            told.append(f"no message: {again.stderr}")
        if told:
            return told  # what is corrupt can't be compared
        if jobs_first:
            told += check_finish(scene)
            return [*told, *_check_work(scene)]
        if queue(bench) != scene.queue:
            told.append(f"the queue holds {queue(bench)} instead of {scene.queue}")
        return told + differences(scene.expected, bench.tree())

    def close(self) -> None:
        self.scene.bench.slurm.close()


def traced(bench: Bench, place: Path, arguments: list[str], broken: str) -> list[tuple[Path, Operation]]:
    """Give a command; return its operations. `broken`: statements that break the product."""
    return trace.record(argv_of(arguments, broken), place, bench.env(), [bench.home, bench.slurm.state_dir])


def argv_of(arguments: list[str], broken: str) -> list[str]:
    """Return a command as a program of its own. `broken`: statements that break the product."""
    return [sys.executable, "-c", f"{broken}\n{_LIKE_THE_NURSERY}", *arguments]


def _check_work(scene: Scene) -> Iterator[str]:
    """See that no task was given anything but its parameter set, and none did its work twice for one submission."""
    most = 2 if scene.command == "resubmit" else 1
    for path in scene.bench.home.rglob("did.*"):
        lines = path.read_text().splitlines()
        wanted = f'{{"n": {path.name.partition(".")[2]}}}'
        if set(lines) != {wanted} or len(lines) > most:
            yield f"{path.name} was given {lines} instead of {wanted}"
