"""Make the disks that a power cut may leave of something that is traced; what that is, and who judges, say subjects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from tests.crash_states.disk import Disk, Model, Node, Operation, Synced, after, lost, pending


@dataclass(frozen=True)
class State:
    """A disk that a cut may leave, and how it came about."""

    cut: int  # operations of the command before it
    model: Model
    what: str
    home: Disk
    elsewhere: Disk


class Subject(Protocol):
    """Be something that a power cut may strike: it is traced once, and judged on each disk."""

    # Breaks of the product, each to be noticed.
    breaks: ClassVar[Mapping[str, str]]
    jobs: ClassVar[bool]  # whether something waits that may run before

    @property
    def home(self) -> Path:
        """Return the directory on the disk that the cut strikes."""

    @property
    def elsewhere(self) -> Path:
        """Return the one of other machines, which go on: the controller of Slurm, those who were told something."""

    def trace(self, broken: str) -> list[tuple[Path, Operation]]:
        """Do it, and return the operations; `broken` names a break of the product."""

    def check(self, state: State, jobs_first: bool) -> list[str]:
        """Go on from such a disk; return what is wrong then. `jobs_first`: what Slurm had taken runs before that."""

    def close(self) -> None:
        """End what it has started."""


@dataclass
class Traced:
    """A subject with the operations that it does."""

    subject: Subject
    home: Disk
    elsewhere: Disk
    operations: list[tuple[Path, Operation]]

    @classmethod
    def make(cls, subject: Subject, broken: str = "") -> Traced:
        """See what the subject does undisturbed."""
        home, elsewhere = Disk.read(subject.home), Disk.read(subject.elsewhere)
        traced = cls(subject, home, elsewhere, subject.trace(broken))
        traced.check_replay()
        return traced

    def check_replay(self) -> None:
        """See that the operations make of the disk before the command the one behind it: nothing escaped the trace."""
        for root, before in ((self.subject.home, self.home), (self.subject.elsewhere, self.elsewhere)):
            operations = [operation for place, operation in self.operations if place == root]
            replayed = after(before, operations, len(operations))
            there, made = dict(Disk.read(root).reachable()), dict(replayed.reachable())
            wrong = sorted(path for path in there.keys() | made.keys() if not _alike(there.get(path), made.get(path)))
            assert not wrong, wrong

    def states(self) -> Iterator[State]:
        """Yield what each cut may leave, every disk once."""
        seen: set[tuple[bytes, bytes]] = set()
        cuts = [number for number, (_, item) in enumerate(self.operations, 1) if not isinstance(item, Synced)]
        for end in (0, *cuts):
            done = self.operations[:end]
            mine = [operation for root, operation in done if root == self.subject.home]
            theirs = [operation for root, operation in done if root == self.subject.elsewhere]
            elsewhere = after(self.elsewhere, theirs, len(theirs))
            there = elsewhere.digest()
            for model in Model:
                for what, missing, half in lost(mine, pending(mine, len(mine), model), model):
                    home = after(self.home, mine, len(mine), missing, half)
                    key = home.digest(), there
                    if key not in seen:
                        seen.add(key)
                        yield State(end, model, what, home, elsewhere)


def _alike(there: Node | None, made: Node | None) -> bool:
    return there is not None and made is not None and (there.kind, there.data) == (made.kind, made.data)
