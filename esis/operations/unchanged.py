"""Remove files that are still what they were when they were looked at: jobs by hand take no lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from esis.files import TEMPORARY_PREFIX, names_in

_ASIDE = f"{TEMPORARY_PREFIX}folded-"  # before the name of a file that is about to be removed
_LONGEST_NAME = 255  # bytes

Signature = tuple[int, int, int, int]


def signatures(directory: Path, names: Iterable[str]) -> dict[str, Signature]:
    """Return what tells of a change in each of these files that is there. Raises OSError."""
    found: dict[str, Signature] = {}
    for name in names:
        with suppress(FileNotFoundError):
            found[name] = signature_of(os.lstat(directory / name))
    return found


def signature_of(found: os.stat_result) -> Signature:
    """Return what tells of a change in a file."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def remove(
    directory: Path, seen: Mapping[str, Signature], may: Callable[[], bool] = lambda: True, aside: bool = True
) -> int:
    """Remove the files that are what they were, while `may` says so; return how many.

    Each is moved `aside`, and all is looked at once more, unless nobody ever changes it: who opens it by its name from
    then on makes another one.
    """
    if not seen:
        return 0
    removed = 0
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name, signature in seen.items():
            with suppress(FileNotFoundError):  # another one may be at it as well
                if not may() or signature_of(os.stat(name, dir_fd=place, follow_symlinks=False)) != signature:
                    continue
                moved = _ASIDE + name
                if not aside or len(os.fsencode(moved)) > _LONGEST_NAME:
                    os.unlink(name, dir_fd=place)
                    removed += 1
                    continue
                os.rename(name, moved, src_dir_fd=place, dst_dir_fd=place)
                # Being renamed is a change of the inode, too. Who has opened it just before may not have written yet.
                if may() and signature_of(os.stat(moved, dir_fd=place, follow_symlinks=False))[:3] == signature[:3]:
                    os.unlink(moved, dir_fd=place)
                    removed += 1
                else:
                    _put_back(place, moved)
    finally:
        os.close(place)
    return removed


def _put_back(place: int, moved: str) -> None:
    """Give a file that was moved aside its name back; a newer one of that name stays."""
    name = moved[len(_ASIDE) :]
    try:
        os.link(moved, name, src_dir_fd=place, dst_dir_fd=place, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError:  # no such links here
        os.rename(moved, name, src_dir_fd=place, dst_dir_fd=place)
        return
    os.unlink(moved, dir_fd=place)


def put_back(directory: Path) -> None:
    """Undo what a killed command was about to remove: it is folded again, or has changed since it was."""
    left = [name for name in names_in(directory) if name.startswith(_ASIDE)]
    if left:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in left:
                with suppress(FileNotFoundError):
                    _put_back(place, name)
        finally:
            os.close(place)
