"""Tell whether those who had a checkpoint open ended well: then its files count as they were left.

A worker may write behind its last set_iteration, or have a file open over it, and then come to its end: with 0.0.4 the
next attempt goes on with these files. After any other end they go back to the copy, for they may be half: what was
declared is right in any case.

- A process that ends well (`leaving` tells) leaves a mark of its own, `checkpoint.ended.<…>`, so that ranks that end at
  one moment don't write over each other's. It is written when all files are on the disk. No mark: it was cut off.
- All who wrote have to have ended so; one rank that was killed is enough. Somebody who only looked may be killed, if
  the files are still those that the last mark speaks of.
"""

from __future__ import annotations

import atexit
import os

from esis.checkpoint.writers import OPEN, Writer, forget, noted
from esis.errors import CorruptState
from esis.files import names_in, read_limited, write_atomic
from esis.worker.durable import fsync_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

ENDED = "checkpoint.ended."  # and a name that no other process takes
_SMALL = 4096  # bytes


class _Watched:
    """Be what this process, and those that it was forked from, have open: process, directory, files."""

    def __init__(self) -> None:
        self.children: dict[tuple[int, Path, Path], object] = {}  # those that it had before


_watched = _Watched()


def watch(directory: Path, files: Path) -> None:
    """Leave a mark where this process, which has noted that it has a checkpoint open, ends well."""
    from esis.checkpoint.leaving import children, observe  # only for those who use one

    observe()
    _watched.children[os.getpid(), directory, files] = children()


def ended_well(directory: Path, files: Path) -> bool:
    """Return whether the files count as they are: nobody who may have written them was cut off."""
    known = noted(directory, OPEN)
    if not known or not files.is_dir():
        return False
    marks = _marks(directory)
    unmarked = [writer for writer in known if not any(writer.is_same(ended) for ended, _ in marks)]
    if not unmarked or any(writer.writes for writer in unmarked):
        return not unmarked
    try:
        return _looks_of(files) in [look for _, look in marks]
    except OSError:
        return False


def forget_ends(directory: Path) -> None:
    """Take the marks away: from here on the end of this process decides. Raises OSError."""
    for name in names_in(directory):
        if name.startswith(ENDED):
            forget(directory, name)


def _marks(directory: Path) -> list[tuple[Writer, str]]:
    """Return who has ended by himself, each with what the files looked like."""
    found = []
    for name in names_in(directory):
        if name.startswith(ENDED):
            try:
                line, _, look = read_limited(directory / name, _SMALL).decode("utf-8", "replace").partition("\n")
            except (OSError, CorruptState):
                continue
            found.append((Writer.parse(line), look.strip()))
    return found


def _looks_of(files: Path) -> str:
    """Return what changes with each write: of all files path, size and time. Raises OSError."""
    import hashlib
    from pathlib import Path

    lines = []
    for root, directories, names in os.walk(files):
        for name in (*directories, *names):
            path = Path(root, name)
            found = path.lstat()
            size = -1 if name in directories else found.st_size
            lines.append(f"{path.relative_to(files)}\0{size}\0{found.st_mtime_ns}\n")
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def _leave() -> None:
    """Be called at the end of a process. What can't be marked counts as cut off."""
    own = os.getpid()  # else one that was forked from it
    for (pid, directory, files), children_before in _watched.children.items():
        if pid == own:
            from esis.checkpoint.leaving import goes_well

            try:
                if goes_well(children_before):
                    _mark(directory, files)
            except OSError:
                continue


def _mark(directory: Path, files: Path) -> None:
    """Leave the mark, once the files are on the disk. Raises OSError."""
    current = Writer.current()
    me = next((writer for writer in noted(directory, OPEN) if writer.is_same(current)), None)
    if me is None:
        return
    _flush(files)
    fsync_tree(files)
    write_atomic(directory / f"{ENDED}{os.getpid()}-{os.urandom(4).hex()}", f"{me.line()}\n{_looks_of(files)}\n")


def _flush(files: Path) -> None:
    """Write out what this process holds of files that are still open: Python does so later, behind the mark.

    Raises OSError.
    """
    import gc
    import io

    inside = os.path.join(os.path.realpath(files), "")
    try:
        opened = {int(name): os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    except OSError:
        return
    ours = {number for number, place in opened.items() if place.startswith(inside)}
    for stream in gc.get_objects() if ours else ():
        if type(stream) in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom):
            try:
                if stream.fileno() in ours:
                    stream.flush()
            except ValueError:  # closed, or not to be written
                continue


atexit.register(_leave)
