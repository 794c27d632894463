"""Keep what a job checks before its work: the runs that it requires, a line each, `<first task>:<last task>:<path>`.

`task.sh` reads the list in the job, and `sbatch.sh` tells it how many lines there have to be. No path of a run holds a
newline.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from esis.files import read_limited, write_atomic
from esis.model.workdir import RunDir


def save(run: RunDir, required: Iterable[tuple[int, int, Path]]) -> None:
    """Write the list, of each run the first and the last task and where it is; without any there is none."""
    lines = [f"{first}:{last}:{path}\n" for first, last, path in required]
    if lines:
        write_atomic(run.requirements, "".join(lines))


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
    return text.split("\n")[:-1]
