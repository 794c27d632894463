"""Make a directory appear at once or not at all: everything in it is on the disk before its name is."""

from __future__ import annotations

import os
import stat

from esis.errors import FileTrouble
from esis.files import TEMPORARY_PREFIX, fsync_directory, naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TRIES = 5


def aside(parent: Path) -> Path:
    """Return a new name inside `parent` for what isn't finished yet, or is about to go."""
    return parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"


def make(directory: Path) -> None:
    """Make a directory, and those above it, each with its name on the disk. Raises OSError.

    What is synced inside of it is lost with a name above it that isn't.
    """
    if directory.is_dir():
        return
    make(directory.parent)
    directory.mkdir(exist_ok=True)
    fsync_directory(directory.parent)


def publish(staging: Path, target: Path) -> None:
    """Rename `staging` to `target`, which must not exist. Raises FileTrouble; order: files, rename, directory."""
    try:
        fsync_tree(staging)
        staging.rename(target)
        fsync_directory(target.parent)
    except OSError as error:
        raise FileTrouble.of(error, "publishing a checkpoint", "the one before it is as it was") from error


def fsync_tree(directory: Path) -> None:
    """Bring all files and names below `directory` to the disk. Raises OSError.

    A FIFO or a socket that a worker left there is a name alone, as a link is: to open one waits for its other end.
    """
    from pathlib import Path

    for root, _, names in os.walk(directory, onerror=_raise):
        for name in names:
            path = Path(root, name)
            if not stat.S_ISREG(path.lstat().st_mode):
                continue
            with naming(path):
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        fsync_directory(Path(root))


def _raise(error: OSError) -> None:
    """Let a directory that can't be listed be an error: what is in it may not be on the disk."""
    raise error


def discard(path: Path) -> None:
    """Remove a directory so that a kill half-way leaves no half of it under its name; errors are no matter."""
    trash = path
    if not path.name.startswith(TEMPORARY_PREFIX):
        trash = aside(path.parent)
        try:
            path.rename(trash)
        except OSError:
            return
    _remove(trash)


def sweep(parent: Path) -> None:
    """Remove what killed attempts have left unfinished; only where nobody else writes."""
    for name in os.listdir(parent):
        if name.startswith(TEMPORARY_PREFIX):
            path = parent / name
            if path.is_dir() and not path.is_symlink():
                _remove(path)
            else:
                path.unlink(missing_ok=True)


def insist(act: Callable[[], object]) -> None:
    """Do it once more where another process has swept away what was half done: several may open one checkpoint at once.

    Raises FileNotFoundError in the end, and what `act` raises else.
    """
    for _ in range(_TRIES - 1):
        try:
            act()
        except FileNotFoundError:
            continue
        return
    act()


def _remove(directory: Path) -> None:
    import shutil  # draws in much, and there is seldom anything to remove

    shutil.rmtree(directory, ignore_errors=True)
