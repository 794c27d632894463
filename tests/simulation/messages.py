"""What a command and the world say to each other over their line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

ERRNOS = ("ENOSPC", "EIO", "EDQUOT", "EACCES")


class Stop(NamedTuple):
    """Stop a command at one of its steps: `kill`, `hold`, or an errno's name; `list`: nowhere, they are written down.

    `killcall` and `holdcall` count the moments before and behind the calls of Slurm's programs instead.
    """

    what: str
    at: int


class Order(NamedTuple):
    """Say what a command is, where, and what befalls it."""

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    host: str
    now: float
    seed: str
    stdout: str
    stderr: str
    stop: Stop | None
    reads_late: bool  # records behind the answer of squeue instead of before the question
    readings: bool = False  # whether what only reads is a step, too
    old: bool = False  # whether it is a command of the last release


class Asked(NamedTuple):
    """A program is started (by the command)."""

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    timeout: float


class Slept(NamedTuple):
    """The command waits."""

    seconds: float


class Paused(NamedTuple):
    """The command is held until it hears the time."""

    what: str
    step: str = ""


class Reply(NamedTuple):
    """What came of a program."""

    now: float
    code: int
    stdout: bytes = b""
    stderr: bytes = b""
    timed_out: bool = False
