"""Try every disk that a power cut may leave.

    python -m tests.crash_states [--command run] [--every N] [--first N] [--workers N] [--break NAME]

See README.md here. Ends with 1 if a command doesn't come out clean, or with --break if nobody notices.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tests.crash_states.disk import Model
from tests.crash_states.states import State, Traced
from tests.crash_states.subjects import BREAKS, SUBJECTS
from tests.faults.bench import Nursery

_JOBS_EVERY = 5  # of so many states one is tried with jobs that run before the command is given again


@dataclass(frozen=True)
class Tried:
    """What became of one state."""

    number: int
    command: str
    state: State
    jobs_first: bool
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        jobs = ", its jobs first" if self.jobs_first else ""
        where = f"{self.command}, state {self.number}: cut after {self.state.cut} operations"
        return f"{where}, {self.state.model.value}, {self.state.what}{jobs}: " + "; ".join(self.wrong)[:1000]


def attempts(command: str, traced: Traced, numbers: range) -> Iterator[Tried]:
    """Try the states with these numbers."""
    for number, state in enumerate(traced.states()):
        if number in numbers:
            for jobs_first in (False, True) if traced.subject.jobs and number % _JOBS_EVERY == 0 else (False,):
                wrong = traced.subject.check(state, jobs_first)
                yield Tried(number, command, state, jobs_first, tuple(wrong))


def _work(given: argparse.Namespace, part: int) -> list[tuple[str, int, list[Tried]]]:
    """Go through one worker's share; tell of what is unclean at once."""
    found = []
    nursery = Nursery()
    scratch = Path(tempfile.mkdtemp(prefix="esis-crash-"))
    try:
        for command in given.command or (BREAKS[given.broken] if given.broken else SUBJECTS):
            traced = Traced.make(SUBJECTS[command](scratch / command, nursery), given.broken or "")
            tried = []
            every = given.every * given.workers
            for item in attempts(command, traced, range(given.first + part * given.every, sys.maxsize, every)):
                tried.append(item)
                if item.wrong:
                    print(f"UNCLEAN {item}", flush=True)
                    if given.broken is not None:
                        break
            found.append((command, len(traced.operations), tried))
            traced.subject.close()
    finally:
        nursery.close()
        shutil.rmtree(scratch, ignore_errors=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the states and print how many there were; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash_states", description=__doc__)
    parser.add_argument("--command", action="append", choices=SUBJECTS)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth state")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="from state N on")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes to share the states")
    parser.add_argument("--break", dest="broken", choices=BREAKS, help="break the product, and see who notices")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        shares = [share.result() for share in [pool.submit(_work, given, part) for part in range(given.workers)]]
    unclean = 0
    for parts in zip(*shares):
        tried = [item for _, _, items in parts for item in items]
        wrong = sum(bool(item.wrong) for item in tried)
        of_each = ", ".join(f"{sum(item.state.model is model for item in tried)} {model.value}" for model in Model)
        print(f"{parts[0][0]}: {parts[0][1]} operations, {len(tried)} states tried ({of_each}), {wrong} unclean")
        unclean += wrong
    print(f"total: {unclean} unclean, in {time.monotonic() - began:.0f} s")
    return int(bool(unclean) is (given.broken is None))
