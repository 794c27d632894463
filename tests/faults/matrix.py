"""Break a command at its 1st, 2nd, 3rd … step until an untouched pass ends it, and see that it comes out clean.

    python -m tests.faults.matrix [--command run] [--kind kill] [--every N] [--workers N] [--stop-after SECONDS]

Clean: the same command once more gives exactly one job for each submission, its id recorded, and the very files of an
undisturbed run. See README.md here.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.faults.bench import WORKER, Bench, Broken, Nursery, differences, is_litter, only_run

KINDS = ("kill", "ENOSPC", "EDQUOT", "EIO", "EACCES", "short", "full")
COMMANDS = ("run", "resubmit", "dependency", "arrays")  # arrays: a run whose tasks need three of them
# What a command may tell before the one line of the error.
_NOTE = re.compile(
    r"esis: wrkdir\.[0-9a-f]{12}: (submitted as job|the answer to submission|.*looking whether|"
    r"not in the queue|Slurm has it|Slurm never got it|nothing to submit)"
)
_SHOWN = 600  # characters of a fault
_MOST = 2000  # steps; a command that has more is not the one that this was made for


TASKS = {"arrays": 5}  # the others have three


def lay_out(bench: Bench, command: str, worker: str = WORKER) -> Path:
    """Make the workflows of a command as they are before it; return the directory where it is given."""
    place = bench.workflow("a", TASKS.get(command, 3), worker)
    if command == "arrays":
        bench.slurm.set(max_array_size=2)
    if command == "resubmit":
        (place / "flaky").touch()
        bench.esis(place, "run").ok()
        bench.slurm.run()
        (only_run(place) / "mended").touch()
    if command == "compact":
        bench.esis(place, "run").ok()
        bench.slurm.run()
        bench.esis(place, "status").ok()
    if command == "dependency":
        place = bench.workflow("b", worker=worker, requires=["a"])
    return place


@dataclass
class Scene:
    """A command on a bench, with what it leaves when nothing goes wrong."""

    bench: Bench
    command: str
    place: Path
    jobs: int = 0
    expected: dict[str, Any] = field(default_factory=dict)
    queue: list[Any] = field(default_factory=list)
    steps: tuple[str, ...] = ()
    tasks: int = 3

    @property
    def argv(self) -> list[str]:
        """Return the command as esis gets it."""
        return ["run" if self.command == "arrays" else self.command]

    @classmethod
    def make(
        cls, directory: Path, command: str, nursery: Nursery | None, kind: type[Bench] = Bench, worker: str = WORKER
    ) -> Scene:
        """Build the scene as it is before the command, and see what the command does undisturbed."""
        bench = kind(directory, nursery)
        place = lay_out(bench, command, worker)
        bench.keep()
        scene = cls(bench, command, place, tasks=TASKS.get(command, 3))
        untouched = bench.broken(place, scene.argv, "count", 0)
        untouched.result.ok()
        scene.steps = untouched.steps
        scene.expected, scene.queue, scene.jobs = bench.tree(), queue(bench), len(bench.slurm.jobs())
        return scene


@dataclass(frozen=True)
class Point:
    """What became of one fault."""

    command: str
    kind: str
    at: int
    hit: str
    duplicates: int = 0
    lost: int = 0
    litter: int = 0
    faults: tuple[str, ...] = ()
    absorbed: bool = False

    @property
    def clean(self) -> bool:
        return not self.faults

    def __str__(self) -> str:
        return f"{self.command}, {self.kind} at step {self.at} ({self.hit}): " + "; ".join(
            fault if len(fault) < _SHOWN else f"{fault[:_SHOWN]}…" for fault in self.faults
        )


def queue(bench: Bench) -> list[Any]:
    """Return what the fake has, in words that don't change."""
    return [
        (
            job.id,
            Path(job.workdir).name,
            Path(job.workdir).parent.name,
            job.command,
            job.dependency,
            sorted(map(str, job.states)),
        )
        for job in bench.slurm.jobs()
    ]


def try_point(scene: Scene, kind: str, at: int, finish: bool = False) -> Point | None:
    """Break the command at one step, run it again, and judge; None where it ended before the step."""
    bench = scene.bench
    bench.restore()
    broken = bench.broken(scene.place, scene.argv, kind, at)
    if broken.hit is None:
        return None
    told = [*_check_broken(scene, kind, broken), *check_list(scene)]
    again = bench.again(scene.place, *scene.argv)
    if again.code != 0:
        told.append(f"the same command again ended with {again.code}: {again.stderr.strip()}")
    if "Traceback" in again.stderr:
        told.append(f"traceback: {again.stderr}")
    jobs = bench.slurm.jobs()
    duplicates, lost = max(0, len(jobs) - scene.jobs), max(0, scene.jobs - len(jobs))
    if queue(bench) != scene.queue:
        told.append(f"the queue holds {queue(bench)} instead of {scene.queue}")
    absorbed = kind not in ("kill", "short") and broken.result.code == 0
    wrong = [
        what
        for what in differences(scene.expected, bench.tree())
        if not (kind not in ("kill", "short") and "provenance.json" in what and _may_differ(what, broken))
    ]
    if finish and not told and not wrong:
        told += check_finish(scene)
    litter = sum(map(is_litter, wrong))
    return Point(
        scene.command, kind, at, shortened(broken.hit, bench.home), duplicates, lost, litter, (*told, *wrong), absorbed
    )


def shortened(step: str, home: Path) -> str:
    """Return a step without what makes it long: the bench's place, hashes, owners of locks."""
    text = step.replace(f"{home}/", "")
    text = re.sub(r"([0-9a-f]{8})[0-9a-f]{56}", r"\1", text)
    return re.sub(r"[^/ ,]+,[^/ ,]+,\d+,\d+,[^/ ,]+,[0-9a-f]{8}", "OWNER", text)


def _check_broken(scene: Scene, kind: str, broken: Broken) -> Iterator[str]:
    """Judge how the broken command itself ended."""
    code, said = broken.result.code, broken.result.stderr
    if kind == "kill":
        if code != -9:
            yield f"the killed command ended with {code}"
        return
    if "Traceback" in said or "internal error" in said:
        yield f"not an error message: {said.strip()}"
    if kind == "short":
        if code != 0 or differences(scene.expected, scene.bench.tree()):
            yield f"a short write made a difference (exit code {code}): {said.strip()}"
        return
    if code == 0:
        # Absorbed: then everything has to be as it would have been without.
        yield from (
            f"exit code 0 in spite of the fault, and {what}"
            for what in differences(scene.expected, scene.bench.tree())
            if not _may_differ(what, broken)
        )
        return
    lines = said.strip().splitlines()
    name = "ENOSPC" if kind == "full" else kind
    if "Popen" in (broken.hit or ""):
        # A program that can't be started: its name and the reason say enough.
        if not lines or os.strerror(getattr(errno, name)) not in lines[-1]:
            yield f"the message doesn't say why: {said.strip()}"
    elif not lines or name not in lines[-1]:
        yield f"the message doesn't name {name}: {said.strip()}"
    elif "/" not in lines[-1]:
        yield f"the message names no path: {said.strip()}"
    if not all(_NOTE.match(line) for line in lines[:-1]):
        yield f"more than one line: {said.strip()}"


def _may_differ(what: str, broken: Broken) -> bool:
    """Return whether a fault that was absorbed may show until the command is run again.

    No git or no scontrol leaves a gap in the provenance, whatever becomes of the command; a lock that couldn't be
    removed is a dead process's next time.
    """
    hit = broken.hit or ""
    removing = hit.startswith(("os.remove", "os.rmdir"))
    return ("provenance.json" in what and "Popen" in hit) or ("/lock" in what and removing)


def check_list(scene: Scene) -> Iterator[str]:
    """See that a list shows whole runs only."""
    bench = scene.bench
    listed = bench.esis(bench.home, "list", "-r")
    if listed.code != 0:
        yield f"the list ended with {listed.code}: {listed.stderr.strip()}"
    for line in listed.stdout.splitlines():
        run = Path(line)
        state = json.loads((run / "__esis__/state.json").read_text())
        whole = (
            "sbatch.sh",
            "setup-ran",
            "worker.sh",
            "README",
            *(f"parameters/parameters.{n}.json" for n in range(scene.tasks)),
        )
        missing = [name for name in whole if not (run / name).exists()]
        if state["stage"] != "prepared" or missing:
            yield f"the list shows a half-built run (stage {state['stage']}, without {missing})"


def check_finish(scene: Scene) -> Iterator[str]:
    """Let the jobs run: each task does its work once, and the run becomes complete."""
    bench = scene.bench
    before = {path: len(path.read_text().splitlines()) for path in bench.home.rglob("did.*")}
    bench.slurm.run()
    shown = json.loads(bench.esis(scene.place, "status", "--json").stdout)["states"]
    if {state: value["count"] for state, value in shown.items()} != {"done": scene.tasks}:
        yield f"after the jobs ran: {shown}"
    for path in bench.home.rglob("did.*"):
        times = len(path.read_text().splitlines()) - before.get(path, 0)
        if times > 1:
            yield f"{path} was done {times} times by one submission"


def points(scene: Scene, kind: str, numbers: Sequence[int] | None = None, stop: float | None = None) -> Iterator[Point]:
    """Try the steps in order until one isn't reached; or only those of `numbers`."""
    for at in numbers if numbers is not None else range(1, _MOST):
        if stop is not None and time.monotonic() > stop:
            return
        found = try_point(scene, kind, at, finish=at % 10 == 1)
        if found is None:
            return
        yield found


def chunk(every: int, part: int, parts: int, first: int = 1) -> range:
    """Return the steps of one of several workers."""
    return range(first + part * every, _MOST, every * parts)


def summary(command: str, kind: str, found: Sequence[Point]) -> str:
    """Return the line for people."""
    what = {"kill": "kill", "short": "short-write", "full": "full-disk"}.get(kind, kind)
    absorbed = f", {sum(point.absorbed for point in found)} absorbed" if kind not in ("kill", "short") else ""
    return (
        f"{command}: {len(found)} {what} points, {sum(point.clean for point in found)} clean, "
        f"{sum(point.duplicates for point in found)} duplicates, {sum(point.lost for point in found)} lost, "
        f"{sum(point.litter for point in found)} litter{absorbed}"
    )


def work(given: argparse.Namespace, part: int, parts: int) -> list[Point]:
    """Go through this worker's share of the matrix, telling of what is unclean at once."""
    stop = time.monotonic() + given.stop_after if given.stop_after else None
    found: list[Point] = []
    nursery = Nursery()
    scratch = Path(tempfile.mkdtemp(prefix="esis-faults-"))
    try:
        for command in given.command or COMMANDS:
            scene = Scene.make(scratch / command, command, nursery)
            for kind in given.kind or KINDS:
                for point in points(scene, kind, chunk(given.every, part, parts, given.first), stop):
                    found.append(point)
                    if not point.clean:
                        print(f"UNCLEAN {point}", flush=True)
            scene.bench.slurm.close()
    finally:
        nursery.close()
        shutil.rmtree(scratch, ignore_errors=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Go through the matrix; return 1 if any point is unclean, or none was reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix", description=__doc__)
    parser.add_argument("--command", action="append", choices=COMMANDS)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth step")
    parser.add_argument("--first", type=int, default=1, metavar="N", help="from step N on")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes to share the steps")
    parser.add_argument("--stop-after", type=float, metavar="SECONDS", help="leave the rest out when the time is over")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        shares = [pool.submit(work, given, part, given.workers) for part in range(given.workers)]
        found = sorted((point for share in shares for point in share.result()), key=lambda point: point.at)
    for command in given.command or COMMANDS:
        for kind in given.kind or KINDS:
            print(summary(command, kind, [point for point in found if (point.command, point.kind) == (command, kind)]))
    unclean = sum(not point.clean for point in found)
    seconds = time.monotonic() - began
    print(f"total: {len(found)} points in {seconds:.0f} s, {len(found) - unclean} clean, {unclean} unclean")
    if given.stop_after and seconds >= given.stop_after:
        print("NOT ALL: the time was over before the last step")
    return int(unclean > 0 or not found)


if __name__ == "__main__":
    sys.exit(main())
