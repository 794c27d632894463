"""Let the files of a checkpoint be those of a copy again, file by file.

Only what differs is replaced, each file in one rename. So whoever reads them meanwhile, or puts them back at the same
moment (the ranks of a calculation that starts again), finds each file whole and at its place.
"""

from __future__ import annotations

import os
import stat

from esis.worker.durable import aside, discard, insist

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = 1024 * 1024  # bytes


def restore(kept: Path, files: Path, beside: Path) -> None:
    """Let `files` hold what `kept` holds, and nothing else; what is copied is made in `beside`. Raises OSError."""
    from pathlib import Path

    for root, directories, names in os.walk(kept):
        place = files / Path(root).relative_to(kept)
        if place.is_symlink() or not place.is_dir():
            _remove(place)
            place.mkdir(exist_ok=True)
        links = [name for name in directories if Path(root, name).is_symlink()]
        for name in sorted({*os.listdir(place)} - {*directories, *names}):
            _remove(place / name)
        for name in (*names, *links):
            if not _are_alike(Path(root, name), place / name):
                _put(Path(root, name), place / name, beside)


def _put(source: Path, target: Path, beside: Path) -> None:
    import shutil  # draws in much, and seldom is there anything to put back

    def put() -> None:
        fresh = aside(beside)
        shutil.copy2(source, fresh, follow_symlinks=False)
        if target.is_dir() and not target.is_symlink():
            discard(target)
        fresh.replace(target)

    insist(put)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        discard(path)
        return
    try:
        path.unlink()
    except FileNotFoundError:
        return


def _are_alike(one: Path, other: Path) -> bool:
    """Compare what they hold: times tell nothing of two writes within one tick of a file system's clock."""
    try:
        first, second = one.lstat(), other.lstat()
    except FileNotFoundError:
        return False
    if stat.S_IFMT(first.st_mode) != stat.S_IFMT(second.st_mode):
        return False
    if stat.S_ISLNK(first.st_mode):
        return one.readlink() == other.readlink()
    if not stat.S_ISREG(first.st_mode) or first.st_size != second.st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while True:
            block = left.read(_BLOCK)
            if block != right.read(_BLOCK):
                return False
            if not block:
                return True
