"""Tell whether those who had a checkpoint open ended well: then its files count as they were left.

A worker may write behind its last set_iteration, or have a file open over it, and then come to its end: with 0.0.4 the
next attempt goes on with these files. After any other end they go back to the copy, for they may be half: what was
declared is right in any case.

- A process that ends well (`leaving` tells) says so in its mark (`opened`), when all files are on the disk. Else it was
  cut off.
- All who wrote have to have ended so; one rank that was killed is enough. Somebody who only looked may be killed, if
  the files are still those that the last mark speaks of.
"""

from __future__ import annotations

import atexit
import os

from esis.checkpoint.opened import come_to_an_end
from esis.worker.durable import fsync_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from esis.checkpoint.opened import Mark

_LETTERS = 32  # of a digest, in the name of a mark


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


def ended_well(known: list[Mark], files: Path) -> bool:
    """Return whether the files count as they are: nobody of the `known` who may have written them was cut off."""
    if not known or not files.is_dir():
        return False
    cut_off = [mark.writer for mark in known if not mark.look]
    if not cut_off or any(writer.writes for writer in cut_off):
        return not cut_off
    try:
        return _looks_of(files) in [mark.look for mark in known]
    except OSError:
        return False


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
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()[:_LETTERS]


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
    """Say that it ends well, once the files are on the disk. Raises OSError."""
    _flush(files)
    fsync_tree(files)
    come_to_an_end(directory, _looks_of(files))


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
