"""Describe the processes that have a checkpoint open, and tell whether its files may be put back to what was kept.

A kill may leave half a file, so the next process starts from the copy. But nobody may take files away under a process
that is writing them: a second look (a plot of a running calculation, another rank) leaves them alone.

- Whoever opens it is written down (`opened`), and marked as one that writes where it works on a task, made the
  checkpoint, or has set an iteration. The others may just look.
- The files go back only where all others are over: on this machine where the process is gone; on another one where this
  process is a later attempt at the same task (or that one was no task at all).
- A task doesn't mind those who only look: somebody's notebook may be open for weeks.
- Nor is what somebody has begun, and nothing was kept of, begun anew while he may be at it: of another task he is over
  where its record says so.
- What this process has begun to write itself is left alone, too. One that only looked may put the files back if others
  have come and gone since.
"""

from __future__ import annotations

import errno
import os

from esis.errors import CorruptState
from esis.files import read_limited, write_atomic
from esis.processes import UNKNOWN_BOOT, boot, process_alive, process_start
from esis.worker.durable import aside, insist
from esis.worker.task import own_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import ClassVar

BEGUN = "checkpoint.begun"  # until there is something to go on from
_SMALL = 64 * 1024  # bytes
_NOTHING, _WRITES, _LOOKS = "-", "writes", "looks"
_RECORDED = 4  # dots in the name of an attempt that has a record


class Writer:
    """Be a process that has a checkpoint open."""

    WORDS: ClassVar[int] = 6

    def __init__(self, host: str, pid: int, start: int, booted: str, attempt: str, writes: bool) -> None:
        """Take what identifies it; `attempt` names the attempt at a task that it belongs to, if any."""
        self.host, self.pid, self.start, self.booted = host, pid, start, booted
        self.attempt, self.writes = attempt, writes

    @classmethod
    def current(cls, writes: bool = False) -> Writer:
        """Describe this process."""
        pid, attempt = os.getpid(), _own_attempt()
        return cls(os.uname().nodename, pid, process_start(pid) or 0, boot(), attempt, writes or attempt != "")

    @classmethod
    def parse(cls, line: str) -> Writer:
        """Read what `line` gave. What can't be read is a process of which nothing is known."""
        words = [*line.split(), *[""] * cls.WORDS][: cls.WORDS]
        pid, start = (int(word) if word.isascii() and word.isdecimal() else 0 for word in words[1:3])
        return cls(words[0], pid, start, words[3], words[4] if words[4] != _NOTHING else "", words[5] != _LOOKS)

    def line(self) -> str:
        """Return what is written down."""
        return (
            f"{self.host} {self.pid} {self.start} {self.booted} {self.attempt or _NOTHING} "
            f"{_WRITES if self.writes else _LOOKS}"
        )

    def is_same(self, other: Writer) -> bool:
        """Return whether both are one process."""
        return (self.host, self.pid, self.start, self.booted) == (other.host, other.pid, other.start, other.booted)

    def lives(self) -> bool | None:
        """Return whether the process lives; None where it can't be known here, as on another machine."""
        if self.host != os.uname().nodename or self.booted != boot() or self.booted == UNKNOWN_BOOT:
            return None
        return process_alive(self.pid, self.start)

    def is_over(self) -> bool:
        """Return whether nothing of it can go on, as far as this process can know.

        An earlier attempt that goes on in spite of a later one is stopped by worker/attempts.py. Other ranks of one
        attempt share its name.
        """
        lives, own = self.lives(), _own_attempt()
        if lives is not None:
            return not lives
        return own not in ("", self.attempt) and _task(self.attempt) in ("", _task(own))

    def has_ended(self, records: Path) -> bool:
        """Return whether it is over, or the record of its attempt at a task, in `records`, tells of an end."""
        if self.lives() is None and self.attempt.count(".") == _RECORDED and records.is_dir():
            return self.is_over() or not (records / f"{self.attempt}.running").exists()
        return self.is_over()


def claim(directory: Path, before: list[Writer]) -> bool:
    """Write down that this process begins a checkpoint; False where another one did at the same moment. Raises OSError.

    `before`: whose mark of that kind is there, and who are over. It is taken away in one step, so one process gets it;
    and put back if it turns out to be that of a process which was faster since the look before.
    """
    mark, fresh, taken = directory / BEGUN, aside(directory), aside(directory)
    try:
        write_atomic(fresh, f"{Writer.current(writes=True).line()}\n")
        if before:
            if _lines(noted(directory, BEGUN)) != _lines(before):
                return False
            mark.rename(taken)
            if _lines(noted(directory, taken.name)) != _lines(before):
                _give(taken, mark)
                return False
        _give(fresh, mark)
    except (FileExistsError, FileNotFoundError):  # whoever has it sweeps
        return False
    finally:
        for path in (fresh, taken):
            path.unlink(missing_ok=True)
    return True


def _give(path: Path, name: Path) -> None:
    """Give a file a name that no other one has. Raises FileExistsError, OSError."""
    try:
        os.link(path, name)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        path.replace(name)  # a file system without hard links, or somebody else's file


def _lines(writers: list[Writer]) -> list[str]:
    return [writer.line() for writer in writers]


def note(directory: Path, name: str) -> None:
    """Write down that it is this process, which writes. Raises OSError."""
    insist(lambda: write_atomic(directory / name, f"{Writer.current(writes=True).line()}\n"))


def noted(directory: Path, name: str) -> list[Writer]:
    """Return who has written that down, the latest last."""
    try:
        text = read_limited(directory / name, _SMALL).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    except (OSError, CorruptState):
        text = ""
    return [Writer.parse(line) for line in text.splitlines() or [""]]


def forget(directory: Path, name: str) -> None:
    """Take that away. Raises OSError."""
    try:
        (directory / name).unlink()
    except FileNotFoundError:
        return


def forget_quietly(directory: Path, name: str) -> None:
    """Take its mark away at the end of a process, whatever has become of the directory.

    A process that was forked from it ends in the same way, and leaves the mark.
    """
    try:
        if all(writer.is_same(Writer.current()) for writer in noted(directory, name)):
            forget(directory, name)
    except OSError:
        return


def _own_attempt() -> str:
    """Return what names the attempt around this process: its record, or where it writes none, what Slurm says."""
    record = own_record()
    if record is not None:
        return record.rpartition("/")[2]
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{task}.0.{job}.{os.environ.get('SLURM_RESTART_COUNT') or 0}" if job and task else ""


def _task(attempt: str) -> str:
    return attempt.partition(".")[0]
