"""Write down which process writes a checkpoint, and tell whether it still does.

Files of an iterative checkpoint may only be put back to what was kept where nobody writes them any more: a look from
elsewhere (a plot of a running calculation, another rank) must not take them away under the worker.
"""

from __future__ import annotations

import os
from pathlib import Path

from esis.errors import CorruptState
from esis.files import read_limited, write_atomic
from esis.processes import UNKNOWN_BOOT, boot, process_alive, process_start
from esis.worker.task import own_record

BEGUN = "checkpoint.begun"  # until there is something to go on from
OPEN = "checkpoint.open"
_SMALL = 4096  # bytes
_NOTHING = "-"


class Writer:
    """Be a process that has written down that it writes a checkpoint."""

    def __init__(self, host: str, pid: int, start: int, booted: str, attempt: str) -> None:
        """Take what identifies it; `attempt` names the attempt at a task that it belongs to, if any."""
        self.host, self.pid, self.start, self.booted, self.attempt = host, pid, start, booted, attempt

    @classmethod
    def current(cls) -> Writer:
        """Describe this process."""
        pid = os.getpid()
        return cls(os.uname().nodename, pid, process_start(pid) or 0, boot(), _own_attempt())

    def lives(self) -> bool | None:
        """Return whether the process lives; None where it can't be known here, as on another machine."""
        if self.host != os.uname().nodename or self.booted != boot() or self.booted == UNKNOWN_BOOT:
            return None
        return process_alive(self.pid, self.start)

    def is_over(self) -> bool:
        """Return whether nothing of it can go on, as far as this process can know.

        On another machine that is so where this is a later attempt at the same task (an earlier one that goes on in
        spite of that is stopped by worker/attempts.py). Other ranks of one attempt share its name.
        """
        lives, own = self.lives(), _own_attempt()
        if lives is not None:
            return not lives
        return own not in ("", self.attempt) and _task(self.attempt) in ("", _task(own))


def note(directory: Path, name: str) -> None:
    """Write down that this process writes the checkpoint. Raises OSError."""
    me = Writer.current()
    write_atomic(directory / name, f"{me.host} {me.pid} {me.start} {me.booted} {me.attempt or _NOTHING}\n")


def noted(directory: Path, name: str) -> Writer | None:
    """Return who has written that down last; None where nobody has. What can't be read is nobody who lives."""
    try:
        words = read_limited(directory / name, _SMALL).decode("utf-8", "replace").split()
    except FileNotFoundError:
        return None
    except (OSError, CorruptState):
        words = []
    words += [""] * (5 - len(words))
    number, start = (int(word) if word.isascii() and word.isdecimal() else 0 for word in words[1:3])
    return Writer(words[0], number, start, words[3], words[4] if words[4] != _NOTHING else "")


def forget(directory: Path, name: str) -> None:
    """Take that away. Raises OSError."""
    try:
        (directory / name).unlink()
    except FileNotFoundError:
        return


def forget_quietly(directory: Path, name: str) -> None:
    """Take that away at the end of a process, whatever has become of the directory."""
    try:
        forget(directory, name)
    except OSError:
        return


def _own_attempt() -> str:
    return (own_record() or "").rpartition("/")[2]


def _task(attempt: str) -> str:
    return attempt.partition(".")[0]
