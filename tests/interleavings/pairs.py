"""Which commands are tried with which, and where."""

from __future__ import annotations

from collections.abc import Iterator

from tests.interleavings.scene import READERS
from tests.interleavings.situations import COMMANDS, EVENTS, SITUATIONS
from tests.interleavings.trial import Pair

# Where a command that is held has something to do.
FIRSTS: dict[str, tuple[str, ...]] = {
    "run": (
        "never built", "built", "waiting", "open, queued", "open, not queued", "arrays", "packs", "limit",
    ),
    "run --local": ("built",),
    "run --feed": ("limit", "fed"),
    "resubmit": ("failed", "packs", "limit", "open, queued"),
    "resubmit --state done": ("complete",),
    "cancel": ("waiting", "running", "open, queued", "packs", "fed", "behind"),
    "dependency": ("chain", "behind", "behind one that failed"),
    "throttle": ("waiting", "running"),
    "compact": ("complete", "forgotten by Slurm", "marked"),
    "status": ("running", "failed", "complete", "forgotten by Slurm", "open, queued", "out of memory"),
    "wait": ("running", "complete"),
    "export": ("running", "failed", "forgotten by Slurm", "marked"),
    "archive": ("failed", "forgotten by Slurm", "marked"),
    "errors": ("failed", "complete"),
    "list": ("waiting", "complete"),
    "run @base": ("chain",),
    "resubmit @base": ("behind one that failed",),
    "cancel @base": ("behind",),
}  # fmt: skip
# Who may come in between where the first has hundreds of steps: those that change something, and the one that all ask.
_LONG = {("run", "never built"), ("dependency", "chain"), ("run @base", "chain")}
_FEW = ("run", "run --take-over", "resubmit", "cancel", "dependency", "compact", "status", "run @base", "cancel @base")
# A run that is taken over from a command of these kinds; of a local one the successor begins anew.
_TAKEN_OVER = ("run", "run --feed", "resubmit", "resubmit --state done", "dependency", "compact")
# By hand the user may rerun what ESIS has submitted, and no command that submits is at work (tests/simulation).
_BY_HAND = {"compact", "status", "export", "archive", "wait", "errors", "list"}
_BY_HAND_IN = {"complete", "forgotten by Slurm", "marked", "failed"}
_ENDED = {"complete", "failed", "out of memory"}  # there is something to requeue
WRITERS = tuple(name for name in FIRSTS if name not in READERS)


def pairs() -> Iterator[Pair]:
    """Yield all pairs, those of one situation together."""
    for situation in SITUATIONS:
        for first, places in FIRSTS.items():
            if situation in places:
                for second in (*COMMANDS, *EVENTS):
                    if _fits(first, second, situation):
                        yield Pair(first, second, situation)


def _fits(first: str, second: str, situation: str) -> bool:
    chain = SITUATIONS[situation].chain
    if "@base" in second and not chain:
        return False
    if (first, situation) in _LONG and second not in _FEW:
        return False
    if second == "cancel" and situation in ("limit", "fed"):
        return False  # it makes room for what is just being refused, or takes the feeding job: neither before nor after
    if second == "run --take-over":
        return first in _TAKEN_OVER
    if second == "a task runs by hand":
        return first in _BY_HAND and situation in _BY_HAND_IN
    if "requeued" in second:
        return first in ("compact", *READERS) and situation in _ENDED
    if second == "a task is resubmitted and begins":
        return first in READERS and situation in _ENDED
    if first in READERS:
        return second not in READERS or second == "status"
    return True


def writing(pair: Pair) -> bool:
    """Return whether both change something: these are tried with two switches, too."""
    return all(name in WRITERS for name in (pair.first, pair.second))
