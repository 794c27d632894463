"""Keep checkpoints that a kill at any moment can't spoil: several files each, the last few of them kept.

On disk, for any language: __checkpoints__/task.<n>/<name>/<number>/ is one checkpoint, the highest number is the
latest. It is made in a directory beside it and renamed when it is complete. `step.json` in it holds what was noted.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from operator import index

from esis.errors import BadInput, FileTrouble
from esis.files import names_in, write_all
from esis.worker.durable import aside, discard, make, publish, sweep
from esis.worker.objects import encode, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

NOTE = "step.json"
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
_LONGEST_NUMBER, _LONGEST_NAME = 18, 100  # characters
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


def _whole(step: object) -> int:
    """Return a step as an integer, whatever kind of number it is. Raises BadInput where it is no whole number."""
    try:
        return index(step)  # type: ignore[arg-type]  # of NumPy, too
    except TypeError:
        if isinstance(step, float) and step.is_integer():
            return int(step)
    raise BadInput(
        f"{step!r:.60} is no step of a checkpoint",
        "give it a whole number; what else is to be kept has names of its own",
    )


def _encoded(note: dict[str, object]) -> bytes:
    what = ("the note of a checkpoint", "write what is large into a file of it")
    try:
        return encode(note, *what, default=_native)  # each value by itself: no form depends on what stands beside it
    except (TypeError, ValueError, RecursionError):
        from esis.worker.results import plain

        return encode({name: plain(value, name) for name, value in note.items()}, *what)  # it names what can't be noted


def _native(value: object) -> object:
    from esis.worker.results import native  # seldom needed: numbers and arrays of NumPy

    return native(value)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and name[0] != "0" and len(name) <= _LONGEST_NUMBER


def check_name(name: str) -> None:
    """Raise BadInput for a name that can't be that of a directory."""
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or name[0] in ".-" or name.strip(_LETTERS):
        raise BadInput(
            f"{name!r} can't be the name of checkpoints",
            "use letters, digits, dots, dashes and underscores: it becomes the name of a directory",
        )


class Checkpoint:
    """Be one complete checkpoint: `checkpoint / "state"` is the path of a file in it."""

    def __init__(self, directory: Path, number: int) -> None:
        """Name its directory."""
        self.directory = directory
        self.number = number
        self._note: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<checkpoint {self.directory}>"

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    @property
    def note(self) -> Mapping[str, Any]:
        """Return what was noted with `save`; nothing where another program made it. Raises CorruptState."""
        if self._note is None:
            try:
                self._note = read(self.directory / NOTE)
            except FileNotFoundError:
                self._note = {}
        return self._note

    @property
    def step(self) -> int:
        """Return the step that was noted, else 0."""
        step = self.note.get("step")
        return step if isinstance(step, int) else 0


class Checkpoints:
    """Be the checkpoints of one name, of which the last `keep` are kept."""

    def __init__(
        self,
        directory: Path | Callable[[], Path],
        keep: int = 2,
        allowed: Callable[[], None] | None = None,
        sweeps: bool = True,
    ) -> None:
        """Name the directory that holds them, or tell it whenever it is asked for; it is made with the first one.

        `allowed` raises where nothing may be saved any more; `sweeps`: nobody else saves here at the same time.
        """
        if keep < 1:
            raise BadInput(f"keep={keep} would keep no checkpoint", "keep at least 1")
        self._place = directory
        self.keep = keep
        self._swept = not sweeps
        self._allowed = allowed or _always

    @property
    def directory(self) -> Path:
        """Return the directory that holds them."""
        return self._place() if callable(self._place) else self._place

    def all(self) -> list[Checkpoint]:
        """Return what is there, the latest last."""
        numbers = sorted(int(name) for name in names_in(self.directory) if _is_number(name))
        return [Checkpoint(self.directory / str(number), number) for number in numbers]

    @property
    def latest(self) -> Checkpoint | None:
        """Return the latest one; None where there is none yet."""
        found = self.all()
        return found[-1] if found else None

    @contextmanager
    def save(self, step: int = 0, **note: object) -> Iterator[Path]:
        """Give a directory to write in; at the end of the block it becomes the latest checkpoint.

        Where the block raises, or the process is killed at any moment, the one before it stays the latest. Raises
        FileTrouble where the disk is full or fails, Overtaken where a later attempt at the task has begun, BadInput
        for a step that is no whole number, or a note that nobody could read again.
        """
        self._allowed()  # first, for what else lies there may be that of the later attempt
        noted = _encoded({"step": _whole(step), **note})
        staging = aside(self.directory)
        try:
            make(self.directory)
            if not self._swept:
                sweep(self.directory)
                self._swept = True
            staging.mkdir()
        except OSError as error:
            raise FileTrouble.of(error, "beginning a checkpoint") from error
        try:
            yield staging
            _write(staging / NOTE, noted)
            self._allowed()
            self._publish(staging)
        except BaseException:
            discard(staging)
            raise
        for old in self.all()[: -self.keep]:
            discard(old.directory)

    def _publish(self, staging: Path) -> None:
        """Give it the next number, which an attempt that was overtaken may take at the same moment."""
        while True:
            latest = self.latest
            try:
                return publish(staging, self.directory / str(latest.number + 1 if latest is not None else 1))
            except FileTrouble as trouble:
                if not isinstance(trouble.__cause__, OSError) or trouble.__cause__.errno not in _TAKEN:
                    raise


def _always() -> None:
    """Have nothing against it."""


def _write(path: Path, content: bytes) -> None:
    """Write a small file, in the place of whatever the worker left there; `publish` brings it to the disk."""
    try:
        path.unlink(missing_ok=True)  # a FIFO would wait for a reader, a link lead elsewhere
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            write_all(descriptor, content)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise FileTrouble.of(error, f"writing {path}", "the checkpoint before it is as it was") from error
