"""Keep what a job checks before its work: the runs that it requires, a line each, `<first task>:<last task>:<path>`.

`task.sh` reads the list in the job, and `sbatch.sh` tells it how many lines there have to be. No path of a run holds a
newline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from esis.errors import CorruptState
from esis.files import read_limited, write_atomic
from esis.model.workdir import RunDir

_LINE = re.compile(r"([0-9]{1,12}):([0-9]{1,12}):(.+)\Z", re.DOTALL)

Entry = tuple[int, int, Path]  # the first and the last task of a run, and where it is


def save(run: RunDir, required: Iterable[Entry], check: Callable[[], None] | None = None) -> None:
    """Write the list, if `check` raises nothing at the last moment; without any run there is none."""
    lines = [f"{first}:{last}:{path}\n" for first, last, path in required]
    if lines:
        write_atomic(run.requirements, "".join(lines), check=check)


def entries(run: RunDir) -> list[Entry]:
    """Return what the list holds. Raises CorruptState, OSError."""
    found = []
    for line in _lines(run):
        match = _LINE.match(line)
        if match is None:
            raise CorruptState(f"{run.requirements} is corrupt: {line!r} is no <first task>:<last task>:<path>")
        found.append((int(match[1]), int(match[2]), Path(match[3])))
    return found


def paths(run: RunDir) -> list[Path]:
    """Return where the required runs were when the run was built. Raises CorruptState, OSError."""
    return [Path(line.split(":", 2)[2]) for line in _lines(run) if line.count(":") >= 2]


def count(run: RunDir) -> int:
    """Return how many runs a job checks. Raises CorruptState, OSError."""
    return len(_lines(run))


def _lines(run: RunDir) -> list[str]:
    try:
        text = read_limited(run.requirements).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]  # an editor may leave the last newline out; task.sh reads that line, too
