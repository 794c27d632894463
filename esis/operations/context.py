"""Carry what every operation may need of its caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple


def _silent(message: str) -> None:
    """Say nothing."""


class Copy(NamedTuple):
    """Name a copy of an include that was made while the include was hashed."""

    path: Path
    digest: str  # of the copy's bytes


class Context(NamedTuple):
    """Hold the caller's wishes; `say` takes notes for the user, one line each."""

    say: Callable[[str], None] = _silent
    argv: tuple[str, ...] = ()
    live: bool = False  # show the output of generator and setup script as it comes
    script_timeout: float | None = None  # seconds for the generator, and for the setup script
    take_over: bool = False  # take over the stale lock of another host
    records: bool = True  # let the tasks write records
    feed: bool = False  # let a job submit what a limit left over
    grace: float | None = None  # seconds of "not there" before a lost submission is repeated
    copies: Mapping[Path, Copy] = MappingProxyType({})  # of includes, to be moved into a new run
