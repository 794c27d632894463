"""Make the disks that a power cut during a command may leave, and see that the command comes out clean all the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.crash_states import trace
from tests.crash_states.disk import Disk, Model, Node, Operation, Synced, after, lost, pending
from tests.faults.bench import WORKER as PLAIN
from tests.faults.bench import Nursery, differences
from tests.faults.matrix import Scene, check_finish, check_list, queue

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
COMMANDS = ("run", "resubmit", "dependency", "arrays", "compact")


@dataclass(frozen=True)
class State:
    """A disk that a cut may leave, and how it came about."""

    cut: int  # operations of the command before it
    model: Model
    what: str
    home: Disk
    slurm: Disk  # what the controller has: on another machine, which goes on


@dataclass
class Traced:
    """A command with the operations that it does."""

    scene: Scene
    home: Disk
    slurm: Disk
    operations: list[tuple[Path, Operation]]

    @classmethod
    def make(cls, directory: Path, command: str, nursery: Nursery | None, broken: str = "") -> Traced:
        """Lay out a scene, and see what the command does undisturbed; `broken`: statements that break the product."""
        scene = Scene.make(directory, command, nursery, worker=WORKER)
        bench = scene.bench
        bench.restore()
        home, slurm = Disk.read(bench.home), Disk.read(bench.slurm.state_dir)
        argv = [sys.executable, "-c", f"{broken}\n{_LIKE_THE_NURSERY}", *scene.argv]
        operations = trace.record(argv, scene.place, bench.env(), [bench.home, bench.slurm.state_dir])
        wrong = differences(scene.expected, bench.tree())
        assert not wrong, wrong
        traced = cls(scene, home, slurm, operations)
        traced.check_replay()
        return traced

    def check_replay(self) -> None:
        """See that the operations make of the disk before the command the one behind it: nothing escaped the trace."""
        bench = self.scene.bench
        for root, before in ((bench.home, self.home), (bench.slurm.state_dir, self.slurm)):
            operations = [operation for place, operation in self.operations if place == root]
            replayed = after(before, operations, len(operations))
            there, made = dict(Disk.read(root).reachable()), dict(replayed.reachable())
            wrong = sorted(path for path in there.keys() | made.keys() if not _alike(there.get(path), made.get(path)))
            assert not wrong, wrong

    def states(self) -> Iterator[State]:
        """Yield what each cut may leave, every disk once."""
        bench = self.scene.bench
        seen: set[tuple[bytes, bytes]] = set()
        cuts = [number for number, (_, item) in enumerate(self.operations, 1) if not isinstance(item, Synced)]
        for end in (0, *cuts):
            done = self.operations[:end]
            mine = [operation for root, operation in done if root == bench.home]
            theirs = [operation for root, operation in done if root == bench.slurm.state_dir]
            slurm = after(self.slurm, theirs, len(theirs))
            there = slurm.digest()
            for model in Model:
                for what, missing, half in lost(mine, pending(mine, len(mine), model), model):
                    home = after(self.home, mine, len(mine), missing, half)
                    key = home.digest(), there
                    if key not in seen:
                        seen.add(key)
                        yield State(end, model, what, home, slurm)


def _alike(there: Node | None, made: Node | None) -> bool:
    return there is not None and made is not None and (there.kind, there.data) == (made.kind, made.data)


def check(scene: Scene, state: State, jobs_first: bool) -> list[str]:
    """Let the command be given once more on such a disk; return what is wrong then.

    `jobs_first`: what Slurm had taken runs before that.
    """
    bench = scene.bench
    state.home.write(bench.home)
    state.slurm.write(bench.slurm.state_dir)
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


def _check_work(scene: Scene) -> Iterator[str]:
    """See that no task was given anything but its parameter set, and none did its work twice for one submission."""
    most = 2 if scene.command == "resubmit" else 1
    for path in scene.bench.home.rglob("did.*"):
        lines = path.read_text().splitlines()
        wanted = f'{{"n": {path.name.partition(".")[2]}}}'
        if set(lines) != {wanted} or len(lines) > most:
            yield f"{path.name} was given {lines} instead of {wanted}"
