"""Where a pair of commands begins: what was done before, and what kind of Slurm there is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.interleavings.scene import Scene
from tests.simulation.messages import Stop
from tests.simulation.steps import Settings

# What the commands of the table are, and where: `@base` in the workflow that is required.
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run",),
    "run --local": ("run", "--local", "--max-parallel", "1"),
    "run --feed": ("run", "--feed"),
    "run --take-over": ("run", "--take-over"),
    "resubmit": ("resubmit",),
    "resubmit --state done": ("resubmit", "--state", "done"),
    "cancel": ("cancel",),
    "dependency": ("dependency",),
    "throttle": ("throttle", "1"),
    "compact": ("compact", "--results"),
    "status": ("status", "--json", "--tasks"),
    "wait": ("wait", "--timeout", "600"),
    "export": ("export",),
    "archive": ("archive", "--incomplete", "-o", "out.zip"),
    "errors": ("errors",),
    "list": ("list", "-r", ".."),
    "run @base": ("run",),
    "resubmit @base": ("resubmit",),
    "cancel @base": ("cancel",),
}
# What jobs do between two steps of a command.
EVENTS: dict[str, tuple[str, ...]] = {
    "a task begins": ("begin",),
    "a task ends": ("end ok",),
    "a task fails": ("end fail",),
    "a task runs by hand": ("hand", "begin", "end ok"),
    "a task is requeued and runs": ("requeue", "tick 130", "begin", "end ok"),
    "a task is requeued and begins": ("requeue", "tick 130", "begin"),
    "a task is resubmitted and begins": ("esis resubmit", "begin"),
}
STALE = 1000.0  # seconds without a sign of life, after which a lock may be taken over


@dataclass(frozen=True)
class Situation:
    """What was done before (kept once), and what has to be done anew each time, for processes can't be kept."""

    before: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)
    knobs: dict[str, Any] = field(default_factory=dict)
    chain: bool = False


_ENDED = ("esis run", "begin", "end ok", "begin", "end ok")
SITUATIONS: dict[str, Situation] = {
    "never built": Situation(),
    "built": Situation(("fault sbatch:refuse", "esis run")),
    "waiting": Situation(("esis run",)),
    "running": Situation(("esis run",), ("begin",)),
    "failed": Situation(("esis run", "begin", "end fail", "begin", "end ok")),
    "complete": Situation((*_ENDED, "tick 100"), knobs={"append_logs": True}),
    "forgotten by Slurm": Situation((*_ENDED, "tick 400")),
    "marked": Situation((*_ENDED, "tick 400", "esis status")),
    "out of memory": Situation(("esis run", "begin", "end oom0", "begin", "end ok")),
    "open, queued": Situation(("esis run killcall=4",)),
    "open, not queued": Situation(("esis run killcall=3",)),
    "arrays": Situation(("fault sbatch:refuse", "esis run"), settings=Settings(tasks=3, largest=2)),
    "packs": Situation(("esis run", "begin", "end fail", "end ok"), settings=Settings(tasks=3, pack=2)),
    "limit": Situation(("esis run",), settings=Settings(tasks=3, delay=120), knobs={"submit_limit": 2}),
    "fed": Situation(("esis run --feed",), settings=Settings(tasks=3, delay=120), knobs={"submit_limit": 3}),
    "chain": Situation(chain=True),
    "behind": Situation(("esis dependency",), chain=True),
    "behind one that failed": Situation(("esis dependency", "begin", "end fail", "begin", "end ok"), chain=True),
}


def make(scene: Scene, situation: Situation) -> None:
    """Do what was done before."""
    pack = str(situation.settings.pack)
    scene.command(("setup", "setup.sh", "gen.sh", "template.sh", "worker.sh", "--tasks-per-job", pack))
    if situation.chain:
        scene.lay_chain()
    if situation.knobs:
        scene.slurm.store.set_knobs(**situation.knobs)
    for line in situation.before:
        perform(scene, line)


def perform(scene: Scene, line: str) -> None:
    """Do one thing; raises ValueError where it can't be done, so that a situation is what its name says."""
    verb, *words = line.split()
    if verb == "esis":
        what, _, at = words[-1].partition("=")
        stop = Stop(what, int(at)) if at else None
        done = scene.command(COMMANDS[" ".join(words[: -1 if stop else None])], stop=stop)
        if done.code != (-9 if stop is not None else 5 if "fault sbatch:refuse" in scene.log else 0):
            raise ValueError(f"{line}: {done.code}: {done.stderr}")
    elif verb == "fault":
        program, _, kind = words[0].partition(":")
        details = {"message": "Invalid account"} if kind == "refuse" else {}
        scene.log.append(line)
        scene.slurm.store.add_fault({"program": program, "kind": kind, "times": 1, "skip": 0, **details})
    elif verb == "tick":
        scene.clock.pass_by(float(words[0]))
    elif not happen(scene, line):
        raise ValueError(f"{line}: there is nothing of the kind")


def happen(scene: Scene, line: str) -> bool:
    """Let others do something; False where it can't be done."""
    verb, *words = line.split()
    if verb == "esis":
        scene.command(COMMANDS[" ".join(words)], "b")
        return True
    if verb == "tick":
        scene.clock.pass_by(float(words[0]))
        return True
    if verb == "end":
        return scene.end(words[0])
    if verb == "hand":
        scene.by_hand()
        return True
    return scene.begin() if verb == "begin" else scene.requeue()
