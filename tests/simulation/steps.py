"""What happens in a world, as a list of steps: one line each, so that a failing list can be read, cut and replayed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from tests.simulation.jobs import ENDS
from tests.simulation.messages import ERRNOS, Stop

VERSIONS = ("22.05.8", "24.11.5", "26.05.0")


class Step(NamedTuple):
    """One thing that happens. Numbers choose among what is there at that moment, so any step may be left out."""

    verb: str
    word: str = ""
    number: int = 0
    host: str = "a"
    stop: Stop | None = None
    late: bool = False
    old: bool = False  # a command of the last release
    base: bool = False  # at the workflow that the other one requires

    def __str__(self) -> str:
        """Return the line that `parse` reads."""
        words = [self.verb]
        if self.word:
            words.append(self.word)
        if self.number:
            words.append(str(self.number))
        if self.host != "a":
            words.append(f"@{self.host}")
        if self.late:
            words.append("late")
        if self.old:
            words.append("old")
        if self.base:
            words.append("base")
        if self.stop is not None:
            words.append(f"{self.stop.what}={self.stop.at}")
        return " ".join(words)


@dataclass(frozen=True)
class Settings:
    """What kind of world it is."""

    tasks: int = 2
    largest: int = 1001  # MaxArraySize
    pack: int = 1  # tasks in a job
    accounting: bool = False
    lag: int = 0  # seconds
    age: int = 300  # MinJobAge
    delay: int = 0  # of a requeue
    version: str = "22.05.8"
    limit: int = 0  # of elements that a user may have in the queue; 0: none
    old: int = 0  # of the commands that no step names each n-th one is of the last release; 0: none
    base: int = 0  # tasks of a workflow that the other one requires; 0: it requires none
    feed: bool = False  # a job submits what a limit leaves over

    def __str__(self) -> str:
        """Return the line that `parse` reads."""
        return " ".join(["world", *(f"{item.name}={getattr(self, item.name)}" for item in fields(self))])


@dataclass(frozen=True)
class Story:
    """A world and what happens in it."""

    settings: Settings
    steps: tuple[Step, ...]
    seed: int = 0  # of names that nobody sees

    def __str__(self) -> str:
        """Return all of it as lines."""
        return "\n".join([f"{self.settings} seed={self.seed}", *map(str, self.steps)])


def parse(text: str) -> Story:
    """Read what `str` of a story gave."""
    head, *lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    given = dict(word.split("=", 1) for word in head.split()[1:])
    found: dict[str, Any] = {}
    for item in fields(Settings):
        usual, word = getattr(Settings(), item.name), given.get(item.name)
        if word is not None:
            found[item.name] = word == "True" if isinstance(usual, bool) else type(usual)(word)
    return Story(Settings(**found), tuple(map(_parse_step, lines)), int(given.get("seed", 0)))


def _parse_step(line: str) -> Step:
    verb, *words = line.split()
    step = Step(verb)
    for word in words:
        if word.startswith("@"):
            step = step._replace(host=word[1:])
        elif word == "late":
            step = step._replace(late=True)
        elif word == "old":
            step = step._replace(old=True)
        elif word == "base":
            step = step._replace(base=True)
        elif "=" in word:
            what, _, at = word.partition("=")
            step = step._replace(stop=Stop(what, int(at)))
        elif word.lstrip("-").isdigit():
            step = step._replace(number=int(word))
        else:
            step = step._replace(word=word)
    return step


def invent(seed: int) -> Story:
    """Return the world of a seed."""
    chance = random.Random(seed)
    settings = Settings(
        tasks=chance.choice((1, 2, 2, 3, 4)),
        largest=chance.choice((1001, 1001, 1001, 2)),
        pack=chance.choice((1, 1, 1, 2)),
        accounting=chance.random() < 0.4,
        lag=chance.choice((0, 0, 20, 90)),
        age=chance.choice((300, 300, 2, 60)),
        delay=chance.choice((0, 120)),
        version=chance.choice(VERSIONS),
        limit=chance.choice((0, 0, 0, 0, 1, 3)),
    )
    steps = list(_course(chance))
    return Story(settings, tuple(steps), seed)


def mixed(story: Story, share: float) -> Story:
    """Return the same story with a share of its commands of the last release; 0: none, 1: all."""
    chance = random.Random(f"{story.seed} old")
    steps = (step._replace(old=step.verb == "esis" and chance.random() < share) for step in story.steps)
    unnamed = math.ceil(1 / share) if share else 0
    return replace(story, settings=replace(story.settings, old=unnamed), steps=tuple(steps))


class Shares(NamedTuple):
    """Say how many worlds, or commands, are of another kind."""

    old: float = 0.0  # of the commands: the last release's
    chains: float = 0.0  # of the worlds: with a workflow that requires another one
    feeds: float = 0.0  # of the worlds: with jobs that submit the rest


def story_of(seed: int, shares: Shares) -> Story:
    """Return the world of a seed, as these shares make it."""
    return mixed(chained(fed(invent(seed), shares.feeds), shares.chains), shares.old)


def fed(story: Story, share: float) -> Story:
    """Return the same story with a limit on the elements in the queue, and jobs that submit what it leaves over.

    Of `share` of the stories; the others stay as they are.
    """
    chance = random.Random(f"{story.seed} feed")
    if chance.random() >= share:
        return story
    steps: list[Step] = []
    for step in story.steps:
        if step.verb == "start" and chance.random() < 0.3:
            step = step._replace(stop=_stop(chance, "resubmit"))
        steps.append(step)
        if step.verb == "esis" and chance.random() < 0.4:
            # What is queued has its turn, and then the job behind it, more often than by chance.
            steps += [Step("start", number=3), Step("end", "ok"), Step("end", "ok"), Step("tick", number=700)]
            stop = _stop(chance, "resubmit") if chance.random() < 0.4 else None
            steps.append(Step("start", number=2, stop=stop))
    settings = replace(
        story.settings, feed=True, tasks=chance.choice((3, 4, 5)), limit=chance.choice((2, 2, 3, 4)), pack=1, delay=120
    )
    return replace(story, settings=settings, steps=tuple(steps))


def chained(story: Story, share: float) -> Story:
    """Return the same story with two workflows, one of which requires the other one; of that are some of the steps.

    Of `share` of the stories; the others stay as they are.
    """
    chance = random.Random(f"{story.seed} chain")
    if chance.random() >= share:
        return story
    steps: list[Step] = []
    for step in story.steps:
        if step.verb == "esis" and step.word == "run":
            word = "run" if steps and chance.random() < 0.5 else "dependency"
            steps.append(step._replace(word=word, base=word == "run" and chance.random() < 0.5))
        else:
            steps.append(step._replace(base=step.verb in ("esis", "hand", "control") and chance.random() < 0.4))
        if step.verb == "esis" and chance.random() < 0.2:
            # The required one is done, more often than by chance, so that the other one has its turn.
            steps += [Step("start", number=2), Step("end", "ok"), Step("end", "ok")]
    base = chance.choice((1, 1, 2))
    return replace(story, settings=replace(story.settings, base=base), steps=tuple(steps))


FAULTS = {
    "sbatch": (("lost_reply", (0, 1, 5, 20, 28, 100)), ("lost_reply", (5, 20, 28, 100)), ("timeout", (0,)),
               ("refuse", (0,)), ("hang", (0, 1)), ("banner", (0,)), ("noise", (0,))),
    "squeue": (("error", (0,)), ("timeout", (0,)), ("empty", (0,)), ("cut", (10, 50, 90)), ("hang", (0,))),
    "sacct": (("error", (0,)), ("empty", (0,))),
    "scancel": (("error", (0,)),),
    "scontrol": (("error", (0,)),),
}  # fmt: skip
_SCENES = ("submit", "work", "crash", "strangers", "queries", "control", "hand", "together", "time", "status", "down",
           "scontrol", "split")  # fmt: skip


def _course(chance: random.Random) -> Iterable[Step]:
    """Yield steps: scenes of what a user does and what goes wrong.

    Each world prefers some scenes and leaves others out: what happens seldom has to come together with itself, too.
    """
    weights = [chance.choice((0, 1, 1, 3, 9)) for _ in _SCENES]
    weights[0], weights[1] = weights[0] + 2, weights[1] + 4
    bold = chance.choice((0.1, 0.5, 0.9))  # how often a command is stopped
    yield from _submit(chance, bold, "run")
    for scene in chance.choices(_SCENES, weights, k=chance.randrange(2, 8)):
        yield from _scene(chance, scene, bold)


def _scene(chance: random.Random, scene: str, bold: float) -> Iterator[Step]:
    if scene == "submit":
        yield from _submit(chance, bold, chance.choice(("run", "run", "resubmit")))
    elif scene == "work":
        yield Step("start", chance.choice(("", "", "", "", "dies")), chance.randrange(1, 5))
        for _ in range(chance.randrange(1, 5)):
            yield Step("end", chance.choice(("ok", "ok", "fail", *ENDS)), chance.randrange(4))
        if chance.random() < 0.4:
            yield _command(chance, "status", 0)
    elif scene == "crash":
        yield Step("crash")
        if chance.random() < 0.7:
            yield Step("stranger", chance.choice(("own", "own", "wrap", "elsewhere")), chance.randrange(1, 3))
    elif scene == "strangers":
        yield Step("stranger", chance.choice(("own", "own", "wrap", "elsewhere")), chance.randrange(1, 3))
    elif scene == "queries":
        yield _fault(chance, chance.choice(("squeue", "squeue", "sacct", "scancel", "scontrol")))
        yield _command(chance, chance.choice(("status", "run", "resubmit", "cancel", "wait")), bold)
    elif scene == "control":
        yield _command(
            chance, chance.choice(("cancel", "cancel", "cancel-pending", "throttle", "compact", "wait")), bold
        )
    elif scene == "hand":
        yield Step("hand")
    elif scene == "scontrol":
        yield Step("control", chance.choice(("hold", "release", "requeue", "requeue")), chance.randrange(4))
    elif scene == "split":
        yield Step("start", number=chance.randrange(1, 3))
        yield Step("end", "split", chance.randrange(4))
        if chance.random() < 0.7:
            yield Step("start", number=chance.randrange(1, 3))
        yield Step("wake", chance.choice(("ok", "ok", "fail")), chance.randrange(4))
    elif scene == "together":
        held = _command(chance, chance.choice(("run", "run", "resubmit", "cancel", "status")), bold)
        yield held._replace(stop=_stop(chance, held.word, chance.choice(("hold", "holdcall"))))
        for _ in range(chance.randrange(1, 4)):
            others = ("work", "control", "time", "status", "crash")
            yield from (
                _submit(chance, bold, "run") if chance.random() < 0.5 else _scene(chance, chance.choice(others), bold)
            )
        yield Step("go")
    elif scene == "time":
        yield Step("tick", number=chance.choice((1, 3, 12, 40, 70, 301, 1000, 4000)))
    elif scene == "status":
        yield _command(chance, "status", 0)
    elif scene == "down":
        yield Step("down")
        yield _command(chance, chance.choice(("status", "run", "resubmit")), bold)
        yield Step("up")


def _submit(chance: random.Random, bold: float, word: str) -> Iterator[Step]:
    """Yield a command that submits, perhaps with an answer that goes wrong, and perhaps the same once more."""
    if chance.random() < 0.4:
        yield _fault(chance, "sbatch")
    yield _command(chance, word, bold)
    while chance.random() < 0.5:
        if chance.random() < 0.3:
            yield Step("tick", number=chance.choice((1, 12, 40, 70, 1000)))
        if chance.random() < 0.3:
            yield Step("start", number=chance.randrange(1, 5))
        yield _command(chance, chance.choice((word, word, word, "status", "take-over")), bold)


def _command(chance: random.Random, word: str, bold: float) -> Step:
    stop = _stop(chance, word) if chance.random() < bold else None
    number = chance.randrange(1, 4) if word == "throttle" else 0
    return Step("esis", word, number, chance.choice("aaab"), stop, chance.random() < 0.5)


def _stop(chance: random.Random, word: str, what: str | None = None) -> Stop:
    most = {"run": 260, "take-over": 260, "resubmit": 60}.get(word, 30)
    what = what or chance.choice(("kill", "kill", "killcall", "killcall", "hold", "holdcall", chance.choice(ERRNOS)))
    return Stop(what, chance.randrange(1, 8 if what.endswith("call") else most))


def _fault(chance: random.Random, program: str) -> Step:
    kind, numbers = chance.choice(FAULTS[program])
    return Step("fault", f"{program}:{kind}", chance.choice(numbers))
