"""Write down which processes have a checkpoint open, each by a file of its own, and which of them came to a good end.

    checkpoint.opened/<host>,<pid>,<start>,<boot>,<attempt>,<writes or looks>   has it open, or was cut off
    …,<look>                                      came to a good end; what the files looked like then

- A file each, for the ranks of a calculation open it at one moment, on many machines, and none may lose another's mark.
- The names tell all, so that one listing does, however many ranks there are.
- Who begins alone takes away what it found when it looked, and nothing that has come since.
- Where others go on, and many have come and gone beside them, one mark of those that were cut off stays for all.

0.1.0 kept all in one file, `checkpoint.open`, a line each.
"""

from __future__ import annotations

import os

from esis.checkpoint.writers import Writer, forget, noted
from esis.files import TEMPORARY_PREFIX, fsync_directory, names_in, refresh
from esis.worker.durable import make, sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

OPENED = "checkpoint.opened"
_OLD, _OLD_ENDED = "checkpoint.open", "checkpoint.ended."
_MANY = 100  # marks that nobody thins out


class Mark:
    """Be the mark of a process that has, or had, a checkpoint open."""

    def __init__(self, name: str, writer: Writer, look: str = "") -> None:
        """Take the file's name, whose mark it is, and if that has come to a good end what the files looked like."""
        self.name, self.writer, self.look = name, writer, look

    @classmethod
    def parse(cls, name: str) -> Mark:
        """Read what a name tells. One that can't be read is that of a process of which nothing is known."""
        words = name.split(",")
        if not Writer.WORDS <= len(words) <= Writer.WORDS + 1:
            return cls(name, Writer.parse(""))
        line = " ".join(words[: Writer.WORDS]).replace("+", "/")
        return cls(name, Writer.parse(line), "".join(words[Writer.WORDS :]))


class _Entered:
    """Be what this process, and those that it was forked from, have open, with whom each found there before itself."""

    def __init__(self) -> None:
        self.names: dict[tuple[int, Path], str] = {}
        self.before: dict[tuple[int, Path], set[str]] = {}


_entered = _Entered()


def marks(directory: Path, fresh: bool = False) -> list[Mark]:
    """Return the marks of all who have the checkpoint open, or had it; `fresh`: also those of a moment ago elsewhere.

    A client of NFS may show what was there a minute ago: a good end, where a later attempt has been cut off since.
    """
    if fresh:
        refresh(directory / OPENED)
    # Who begins alone writes its own mark, then takes away the others: a listing meanwhile may miss both.
    return _list(directory) or _list(directory)


def may_put_back(directory: Path, known: list[Mark]) -> bool:
    """Return whether the files of a checkpoint may be put back to what was kept. `known`: all marks."""
    me = Writer.current()
    own = next((mark for mark in known if mark.writer.is_same(me)), None)
    others = [mark.writer for mark in known if mark is not own]
    if own is not None:
        before = _entered.before.get((os.getpid(), directory))
        if own.writer.writes or before is None or all(writer.line() in before for writer in others):
            return False
    return all(writer.is_over() for writer in others if writer.writes or me.attempt == "")


def enter(directory: Path, known: list[Mark], alone: bool, writes: bool = False) -> None:
    """Write down that this process has the checkpoint open, before it writes anything; `alone`: in place of the others.

    `known`: all marks. Raises OSError.
    """
    me, place, key = Writer.current(writes), directory / OPENED, (os.getpid(), directory)
    own = next((mark for mark in known if mark.name and mark.writer.is_same(me)), None)
    others = [mark for mark in known if not mark.writer.is_same(me)]
    if own is None or (me.writes and not own.writer.writes):
        name = me.line().replace("/", "+").replace(" ", ",")
        make(place)
        _create(place / name)
        fsync_directory(place)
        _entered.names[key] = name
        if own is not None:
            forget(place, own.name)
    if alone:
        sweep(place)
        for mark in others:
            _remove(directory, mark)
    elif len(others) > _MANY:
        _thin(directory, others, me)
    if own is None or alone:
        _entered.before[key] = {mark.writer.line() for mark in others}


def declare(directory: Path) -> None:
    """Write down that this process writes. Raises OSError."""
    name = _entered.names.get((os.getpid(), directory))
    if name is None or not Mark.parse(name).writer.writes or not (directory / OPENED / name).exists():
        enter(directory, marks(directory), alone=False, writes=True)


def come_to_an_end(directory: Path, look: str) -> None:
    """Write down that this process comes to a good end, with all files on the disk. Raises OSError."""
    place = directory / OPENED
    name = _entered.names.get((os.getpid(), directory))
    if name is not None:
        (place / name).rename(place / f"{name},{look}")
        fsync_directory(place)


def _list(directory: Path) -> list[Mark]:
    try:
        names = sorted(name for name in names_in(directory / OPENED) if not name.startswith((TEMPORARY_PREFIX, ".nfs")))
    except OSError:
        return [Mark("", Writer.parse(""))]
    return [*(Mark("", writer) for writer in noted(directory, _OLD)), *map(Mark.parse, names)]


def _create(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(directory: Path, mark: Mark) -> None:
    if mark.name:
        forget(directory / OPENED, mark.name)
        return
    for name in names_in(directory):
        if name == _OLD or name.startswith(_OLD_ENDED):
            forget(directory, name)


def _thin(directory: Path, others: list[Mark], me: Writer) -> None:
    """Take away marks of those who are over, but one that tells of the others that somebody was cut off.

    Good ends are of no use beside a process that writes; who only looks leaves all that isn't of its kind.
    """
    over = [mark for mark in others if mark.name and (me.writes or not mark.writer.writes)]
    over = [mark for mark in over if mark.look or mark.writer.is_over()]
    cut_off = sorted((mark for mark in over if not mark.look), key=lambda mark: not mark.writer.writes)
    for mark in [*cut_off[1:], *(mark for mark in over if mark.look)]:
        _remove(directory, mark)
