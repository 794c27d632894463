"""The model of Slurm: the fake's own code, in one process, with its state in memory and the world's clock.

The contract tests hold the fake to the real Slurm's behaviour; this module only gives it another place for its state,
another clock, and another way for what a client says.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.fake_slurm import program
from tests.fakes.fake_slurm.records import Cluster
from tests.fakes.fake_slurm.store import Lock, Store
from tests.simulation.messages import Reply

CALL_SECONDS = 0.05  # what a client takes


class Clock:
    """The world's time, in seconds since 1970; it begins later than any real file was made. Jobs read it in a file."""

    def __init__(self, file: Path) -> None:
        self.now = 2_100_000_000.0
        self._file = file
        self.pass_by(0.0)

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self._file.write_text(f"{int(self.now)}\n")


class _Free(Lock):
    """A lock that nobody else can hold: there is one process."""

    def acquire(self, blocking: bool = True) -> bool:
        return True


class Memory(Store):
    """The fake's state, in memory; the spool of scripts is on disk."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._files: dict[str, str] = {}

    def lock(self) -> Lock:
        return _Free("")

    def kick(self) -> None:
        """Start nothing: the world runs the jobs."""

    def log_call(self, program: str, argv: list[str]) -> None:
        """Keep no log: the world hears of each call itself."""

    def _json(self, name: str, default: Any) -> Any:
        text = self._files.get(name)
        return default if text is None else json.loads(text)

    def _replace(self, name: str, value: Any) -> None:
        self._files[name] = json.dumps(value)


class _HungError(Exception):
    """The client would stand still."""


class Slurm:
    """Answer what Slurm's clients are asked."""

    def __init__(self, root: str, clock: Clock) -> None:
        self.store = Memory(root)
        self.clock = clock

    def call(self, argv: Sequence[str], cwd: str, env: Mapping[str, str], timeout: float) -> Reply:
        """Run one client."""
        said: dict[int, list[bytes]] = {1: [], 2: []}
        self.clock.pass_by(CALL_SECONDS)
        try:
            with self.as_client(cwd, env, said):
                code = program.client_of(self.store, argv[0], list(argv[1:]))
        except _HungError:
            self.clock.pass_by(timeout)
            return Reply(self.clock.now, -15, timed_out=True)
        return Reply(self.clock.now, code, b"".join(said[1]), b"".join(said[2]))

    @contextmanager
    def as_client(self, cwd: str, env: Mapping[str, str], said: Mapping[int, list[bytes]]) -> Iterator[None]:
        """Be a client's process during the block: its environment, directory, time and output."""

        def write(descriptor: int, text: str) -> None:
            said[descriptor].append(os.fsencode(text)[: program._LEFT.get(descriptor)])

        def hang(seconds: float) -> None:
            raise _HungError

        here, kept = os.getcwd(), (os.environ, time.time, time.sleep, program._write)
        os.chdir(cwd)
        try:
            os.environ = dict(env)  # type: ignore[assignment] # noqa: B003  the fake only reads it
            time.time, time.sleep, program._write = (lambda: self.clock.now), hang, write  # type: ignore[assignment]
            yield
        finally:
            os.environ, time.time, time.sleep, program._write = kept
            program._LEFT.clear()
            os.chdir(here)

    def cluster(self) -> Cluster:
        """Return what slurmctld knows; a change has to be written back."""
        return self.store.read()
