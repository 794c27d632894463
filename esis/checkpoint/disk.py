"""Know what stands in the directory of a checkpoint of 0.0.4's, and what its seeds are made of."""

from __future__ import annotations

import errno
import operator
import os
import time
from contextlib import suppress

from esis.checkpoint.writers import BEGUN, forget
from esis.errors import BadInput, CorruptState, FileTrouble
from esis.files import read_json_object, read_limited, write_atomic, write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

STORAGE, META, OK, EXTERNAL, KEPT = "storage", "checkpoint.meta.json", "checkpoint.ok", "external", "kept"
PLAIN, ITERATIVE = "Checkpoint", "IterativeCheckpoint"
OWNER = ".esis-checkpoint"  # beside large files: which checkpoint they belong to
EXTERNAL_VARIABLE = "ESIS_EXTERNAL_STORAGE"
ELSEWHERE = f"give another external_storage_path, or {EXTERNAL_VARIABLE}, of a directory that can be written to"
_KEPT_WELL = "the one before it is as it was"
_TO_READ = "checkpoint_facility.open_external(path) opens a run to be read, and writes nothing"
_SMALL = 4096  # bytes


class CheckpointTrouble(BadInput, ValueError):
    """Report what can't be done with a checkpoint; 0.0.4 raised a ValueError."""


class NoSuchPlace(BadInput, FileNotFoundError):
    """Report a run that isn't there; 0.0.4 raised a FileNotFoundError."""

    def __init__(self, message: str, advice: str | None = None, path: str | None = None) -> None:
        """Keep the texts, and what programs look for in an OSError."""
        super().__init__(message, advice)
        self.errno, self.strerror, self.filename = errno.ENOENT, os.strerror(errno.ENOENT), path


class trouble:  # noqa: N801  reads like a function
    """Turn an OSError of the block into one that says what was being done."""

    def __init__(self, doing: str, advice: str = _KEPT_WELL) -> None:
        self._doing, self._advice = doing, advice

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            closed = self._advice == _KEPT_WELL and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
            raise FileTrouble.of(error, self._doing, _TO_READ if closed else self._advice) from error


def base_seed(given: object) -> int | str:
    """Return a base seed as it is stored: a whole number (also one of NumPy) or a text. Raises CheckpointTrouble."""
    if isinstance(given, str):
        return given
    try:
        return operator.index(given)  # type: ignore[arg-type]
    except TypeError:
        raise CheckpointTrouble(f"{given!r} is no base seed", "give a whole number or a text") from None


def seed_text(base: int | str, name: str, iteration: int | None) -> str:
    """Return 0.0.4's seed as text."""
    return f"{base}{name}{'' if iteration is None else iteration}"


def seed_number(base: int | str, name: str, iteration: int | None) -> int:
    """Return 0.0.4's seed as a number. Other names may have the same one ("ab", "ba"): it stays what it was."""
    start = base if isinstance(base, int) else sum(map(ord, base))
    return start + sum(map(ord, name)) + (iteration or 0)


def inner(name: str | os.PathLike[str], what: str) -> str:
    """Return a name that stays inside of its directory, as text. Raises CheckpointTrouble."""
    from pathlib import PurePath

    text = os.fspath(name) if isinstance(name, (str, os.PathLike)) else None
    path = PurePath(text) if isinstance(text, str) else None
    if text is None or path is None or not path.parts or path.is_absolute() or ".." in path.parts or "\0" in text:
        raise CheckpointTrouble(f"{name!r} can't be the name of {what}", "give a relative path without '..'")
    return text


def new_meta(kind: str, directory: Path, workdir: Path, base: int | str, external: str | None) -> dict[str, Any]:
    """Return what stands in checkpoint.meta.json of a new checkpoint."""
    meta: dict[str, Any] = {
        "__type__": kind,
        "created_on": time.strftime("%d.%m.%Y-%H:%M:%S"),
        "original_internal": str(directory),
        "storage_rela": STORAGE,
        "state_OK_file": OK,
        "external_storage_path": external,
        "workdir_name": workdir.name,
        "external_link_name": EXTERNAL,
        "baseseed": base,
    }
    if kind == ITERATIVE:
        meta["iteration"] = 0
    return meta


def read_meta(directory: Path) -> dict[str, Any]:
    """Return checkpoint.meta.json as it is; nothing where there is none. Raises CorruptState."""
    try:
        return read_json_object(directory / META)
    except FileNotFoundError:
        return {}


def write_meta(directory: Path, meta: dict[str, Any]) -> None:
    """Write checkpoint.meta.json, atomically. Raises OSError."""
    write_json(directory / META, meta)


def iteration_in(meta: dict[str, Any], directory: Path) -> int:
    """Return the iteration that the meta data hold; 0 where they hold none. Raises CorruptState."""
    found: object = meta.get("iteration", 0)
    if isinstance(found, bool) or not isinstance(found, int):
        raise CorruptState(
            f"{directory / META} is corrupt: iteration is {found!r}", f"mend it, or begin anew: remove {directory}"
        )
    return found


def exists(directory: Path) -> bool:
    """Return whether there is a checkpoint, complete or not."""
    return (directory / STORAGE).is_dir()


def is_ok(directory: Path) -> bool:
    """Return whether set_OK was called: checkpoint.ok holds 1 (ESIS 0.1 left it empty)."""
    try:
        said = read_limited(directory / OK, _SMALL)
    except (OSError, CorruptState):
        return False
    return said.strip() in (b"1", b"") and exists(directory)


def say_ok(directory: Path) -> None:
    """Write checkpoint.ok; what was begun is there now. Raises OSError.

    Who has it open stays written down: he may go on writing.
    """
    forget(directory, BEGUN)
    write_atomic(directory / OK, "1\n")


def make_external(place: Path, directory: Path, anew: bool) -> None:
    """Make the place of a checkpoint's large files; `anew`: without what a killed attempt of its own left there.

    Copies of a run have one name, and so one place below the same root. Raises CheckpointTrouble where the files belong
    to another one, CorruptState, OSError.
    """
    owner = _owner(place)
    if owner is not None and not _is_one(owner, directory) and os.path.lexists(owner):
        raise CheckpointTrouble(
            f"{place} holds the large files of the checkpoint {owner}",
            f"runs of one name need storage of their own: give another external_storage_path, or {EXTERNAL_VARIABLE}",
        )
    if anew and owner is not None and _is_one(owner, directory):
        _clear(place, directory)
    place.mkdir(parents=True, exist_ok=True)
    write_atomic(place / OWNER, f"{directory}\n")


def check_external(link: Path, directory: Path) -> None:
    """See that a link to large files leads to a checkpoint's own ones, and that their place is there.

    The link of a copied run leads to those of the first one. A scratch may have been cleared. Raises CheckpointTrouble,
    CorruptState, OSError.
    """
    from pathlib import Path

    place = Path(os.path.realpath(link))
    owner = _owner(place)
    if owner is not None and not _is_one(owner, directory):
        if _is_one(owner / EXTERNAL, place):
            raise CheckpointTrouble(
                f"{place} holds the large files of the checkpoint {owner}",
                f"this is one of a copied run: copy them, too, and let {link} lead to the copy",
            )
        write_atomic(place / OWNER, f"{directory}\n")  # it was moved
    elif not place.is_dir():
        make_external(place, directory, anew=False)


def _owner(place: Path) -> Path | None:
    from pathlib import Path

    try:
        return Path(os.fsdecode(read_limited(place / OWNER, _SMALL)).rstrip("\n"))
    except FileNotFoundError:
        return None


def _is_one(path: Path, other: Path) -> bool:
    try:
        return path == other or path.samefile(other)
    except OSError:
        return False


def _clear(place: Path, directory: Path) -> None:
    """Remove large files, not those of checkpoints whose names go on behind this one's (a and a/b). Raises OSError."""
    with os.scandir(place) as listing:
        for item in listing:
            inner = place / item.name
            if not item.is_dir(follow_symlinks=False):
                if item.name != OWNER:
                    inner.unlink()
            elif _owner(inner) is None and not exists(directory / item.name):
                _clear(inner, directory / item.name)
                with suppress(OSError):  # one of them is in there
                    inner.rmdir()
