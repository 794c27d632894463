"""Try one interleaving of two commands, and compare it with the serial orders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from esis.errors import ExitCode
from tests.interleavings import normal
from tests.interleavings.scene import AGAIN, READERS, Scene
from tests.interleavings.situations import COMMANDS, EVENTS, SITUATIONS, STALE, happen, make, perform
from tests.simulation.commands import Command
from tests.simulation.messages import Stop

_REPEATS = 4
_FORGOTTEN = 400.0  # seconds: squeue doesn't show what has ended
_CHANGED = "changed while it was being packed; repeat the command"
_LATER = 40.0  # seconds: what can't be known yet is known then


@dataclass(frozen=True)
class Pair:
    """Two commands (or a command and what a job does) on the runs of a situation."""

    first: str
    second: str
    situation: str

    def __str__(self) -> str:
        return f"{self.first} / {self.second}, {self.situation}"


@dataclass(frozen=True)
class Told:
    """What came of one trial."""

    pair: Pair
    at: tuple[int, ...]  # the steps at which the first was held, and perhaps the second
    steps: tuple[str, ...]
    problems: tuple[str, ...]
    log: tuple[str, ...]

    def __str__(self) -> str:
        where = ", ".join(f"{number} ({step})" for number, step in zip(self.at, self.steps))
        return f"{self.pair}, held before step {where}: " + "; ".join(self.problems)


_UNSEEN = (
    "os.fsync",
    "after ",
    "os.chmod",
    "os.write",
)  # what nobody else can see, or is the moment before the next step


def points(steps: Sequence[str], every: bool = False) -> list[int]:
    """Return at which of its steps a command is held: before those that others can see, or before all."""
    return [at for at, step in enumerate(steps, 1) if every or not step.startswith(_UNSEEN)]


class Bench:
    """Hold one situation, and try pairs of commands in it again and again."""

    def __init__(self, root: Path, situation: str, injector: ModuleType) -> None:
        self._situation = SITUATIONS[situation]
        (root / "world").mkdir()
        self.scene = Scene(root / "world", self._situation.settings, injector)
        make(self.scene, self._situation)
        self._check(self.scene.problems)
        self._lay = frozenset(normal.litter(self.scene))  # the killed commands of the situation left it
        self.scene.keep(root / "kept")
        # The lock of a killed process is only free for others on its host.
        self._hosts = "aa" if situation.startswith("open") else "ab"
        self._under_way = False  # a submission was on the disk, and not answered, when the second began
        self._serial: dict[tuple[str, str, bool], str] = {}

    def close(self) -> None:
        """End what is at work."""
        self.scene.end_all()
        self.scene.jobs.close()

    def _check(self, problems: list[str]) -> None:
        if problems:
            raise ValueError(f"the situation itself is wrong: {problems}")

    def _begin(self) -> None:
        self.scene.restore()
        for line in self._situation.live:
            perform(self.scene, line)

    def steps(self, name: str) -> list[str]:
        """Return the steps of a command that nobody disturbs."""
        self._begin()
        return self._listed(name, "a")

    def serial(self, pair: Pair, back: bool) -> str:
        """Return what comes of the one after the other, whole; with `back` the second goes first."""
        key = (pair.first, pair.second, back)
        if key not in self._serial:
            self._begin()
            if back:
                second = self._do(pair.second, self._hosts[1])
            first = self._do(pair.first, "a")
            if not back:
                second = self._do(pair.second, self._hosts[1])
            self._serial[key] = self._end(pair, first, second)
            self._check(self.scene.problems)
        return self._serial[key]

    def one(self, pair: Pair, at: int) -> Told | None:
        """Hold the first before a step, let the second run to its end; None where the first has no such step."""
        self._begin()
        first = self._held(pair.first, "a", at)
        if first is None:
            return None
        if pair.second == "run --take-over" and first.step.startswith("subprocess.Popen sbatch"):
            return None  # the moment between question and step, of which esis.locks.require tells
        self._under_way = self._is_under_way()
        second = self._do(pair.second, self._hosts[at % 2])
        self.scene.go_on(first)
        return self._judge(pair, (at,), (first.step,), first, second)

    def two(self, pair: Pair, at: int, then: int) -> Told | None:
        """Hold the first, then the second; the first goes on to its end, then the second."""
        self._begin()
        first = self._held(pair.first, "a", at)
        if first is None:
            return None
        self._under_way = self._is_under_way()
        second = self._held(pair.second, self._hosts[at % 2], then)
        if second is None:
            return None
        steps = first.step, second.step
        self.scene.go_on(first)
        self.scene.go_on(second)
        return self._judge(pair, (at, then), steps, first, second)

    def steps_beside(self, pair: Pair, at: int) -> list[str]:
        """Return the steps of the second while the first is held."""
        self._begin()
        if self._held(pair.first, "a", at) is None:
            return []
        return self._listed(pair.second, self._hosts[at % 2])

    def _is_under_way(self) -> bool:
        """Return whether a submission has no answer yet; not where a killed command has left one so."""
        if self._hosts == "aa":
            return False
        found = self.scene.places.root.glob("home/*/wrkdir.*/__esis__/submissions/*.json")
        return any('"outcome": "open"' in path.read_text() for path in found)

    def _do(self, name: str, host: str, stop: Stop | None = None) -> Command | None:
        scene = self.scene
        if name in EVENTS:
            for line in EVENTS[name]:
                happen(scene, line)
            return None
        if name.endswith("--take-over"):
            scene.clock.pass_by(STALE)
            host = "b"
        place = scene.base if name.endswith(" @base") else scene.places.workflow
        return scene.command(COMMANDS[name], host, stop, place)

    def _held(self, name: str, host: str, at: int) -> Command | None:
        """Hold a command before a step; None where it has no such step."""
        command = self._do(name, host, Stop("hold", at))
        return command if command in self.scene.held else None

    def _listed(self, name: str, host: str) -> list[str]:
        """Let a command run to its end, and return its steps."""
        done = self._do(name, host, Stop("list", 0))
        return Path(f"{done.out}.steps").read_text("utf-8", "replace").splitlines() if done is not None else []

    def _judge(
        self, pair: Pair, at: tuple[int, ...], steps: tuple[str, ...], first: Command, second: Command | None
    ) -> Told:
        scene = self.scene
        outcome = json.loads(self._end(pair, first, second))
        problems, log = list(scene.problems), tuple(scene.log)
        nearest: list[str] | None = None
        for back in (False, True):
            different = [
                what
                for what in _walk(pair, outcome, json.loads(self.serial(pair, back)), "")
                if self._under_way or not _by_the_fate(pair, what)
            ]
            nearest = different if nearest is None or len(different) < len(nearest) else nearest
            if not nearest:
                break
        if nearest:
            problems.append("as in no serial order: " + " | ".join(nearest))
        return Told(pair, at, steps, tuple(problems), log)

    def _end(self, pair: Pair, first: Command | None, second: Command | None) -> str:
        """Let the user repeat what he is told to, and the jobs run to their ends; return what came of it."""
        scene = self.scene
        left = [name for name in normal.litter(scene) if name not in self._lay]
        if left:
            scene.oracle.problems.append(f"left lying: {left}")
        told, codes = {}, {}
        for role, name, command in (("second", pair.second, second), ("first", pair.first, first)):
            began = command
            for _ in range(_REPEATS):
                if command is None or not (command.code in AGAIN or _CHANGED in command.stderr):
                    break
                scene.clock.pass_by(_LATER)
                command = self._do(name, "a")
            if command is not None:
                told[role], codes[role] = normal.shown(command), command.code
                if name.startswith("cancel") and began is not command and command.code == ExitCode.BAD_INPUT:
                    codes[role] = 0  # at first it said what it had cancelled, and that there may be more
        before = normal.state(scene)
        if not scene.finish():
            scene.oracle.problems.append("the jobs come to no end")
        states = {}
        scene.clock.pass_by(_FORGOTTEN)
        for name, run in scene.runs().items():
            done = scene.command(COMMANDS["status"], place=run.path.parent)
            states[name] = normal.shown(done) or done.stderr
        return json.dumps(
            {
                "codes": codes,
                "shown": told,
                "before the jobs ran": before,
                "states": states,
                "end": normal.state(scene),
            },
            sort_keys=True,
        )


def _walk(pair: Pair, one: object, other: object, path: str) -> Iterator[str]:
    """Yield how an outcome differs from that of an order."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from _walk(pair, one.get(key), other.get(key), f"{path}/{key}")
    elif one != other and not _is_between(pair, path, one):
        yield f"{path}: {one} instead of {other}"


def _is_between(pair: Pair, path: str, value: object) -> bool:
    """Return whether it may be so where two commands are at work, and neither before nor after.

    Who looks in between may say that something isn't known, or not submitted yet. A local run is as long as its tasks;
    and who takes a run over begins another submission where a local one, or none that is known, was under way.
    """
    part, role = path[1:].split("/")[:2]
    if pair.first == "run --local" or pair.second == "run --take-over":
        return part != "states" and not path.startswith("/end/results")
    if part == "shown" and path.endswith("/attempts"):
        return True  # one that is being handed over counts, and not if Slurm refuses it
    if part == "shown" and path.endswith("/r") and value:
        return True  # results are read behind the states
    if part == "shown":
        return value in ("unknown", "unsubmitted")
    name = pair.first if role == "first" else pair.second
    if part == "codes" and pair.first == pair.second == "cancel":
        return value == ExitCode.OK  # both asked for it, and saw that it is gone
    if part == "codes" and name == "compact" and value == ExitCode.BAD_INPUT:
        return True  # it saw that a task has begun, though that one may have ended by now
    return part == "codes" and name in READERS and value in (ExitCode.UNANSWERED, ExitCode.INCOMPLETE)


def _by_the_fate(pair: Pair, what: str) -> bool:
    """Return whether a difference is one that a cancellation may make where no submission was under way.

    It takes no lock: what waited is cancelled, and what the other one had chosen before is handed over behind it. Of a
    job that was submitted behind its reading of the run no note is left, so that it is lost later.
    """
    if not {"cancel", "cancel @base"} & {pair.first, pair.second}:
        return False
    path, _, values = what.partition(": ")
    return path.startswith(("/before the jobs ran", "/end")) or (
        path.startswith("/states") and values.split(" ")[0] in ("done", "failed", "lost")
    )
