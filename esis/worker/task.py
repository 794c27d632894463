"""Know the task that this process works on: its index, parameters, places and seed.

On a node, under `esis run --local`, by hand inside of a run, or told explicitly, as in a unit test. What costs an
import or a look at the disk is done when it is first asked for.
"""

from __future__ import annotations

import os
from functools import partial

from esis.errors import BadInput
from esis.hook import RECORD_VARIABLE, RUNNING_SUFFIX
from esis.model.workdir import RunDir, is_run_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from esis.worker.checkpoints import Checkpoints

_NOTHING = ...  # as itself in a copy of a task too, such as another process gets
_DEPTH = 2  # of a run's directory above its records


class Task:
    """Be one task of a run."""

    def __init__(self, index: int, run: RunDir, base_seed: object = None, parameters: object = _NOTHING) -> None:
        """Take what is known; `esis.task()` finds it out."""
        self.index = index
        self._run = run
        record = own_record()
        self._record = record if record is not None and record.rpartition("/")[0] == str(run.tasks) else None
        self._base = base_seed
        self._parameters = parameters

    def __repr__(self) -> str:
        return f"<task {self.index} of {self.paths.path}>"

    @property
    def paths(self) -> RunDir:
        """Return the run that it is of, and where: somebody may move it under the task."""
        record = own_record() if self._record is not None else None
        if record is not None and record != self._record:
            from pathlib import Path

            self._run, self._record = RunDir(Path(record).parents[_DEPTH]), record
        return self._run

    @property
    def parameters(self) -> Any:
        """Return the task's parameters, as its JSON has them. Raises BadInput where there are none."""
        if self._parameters is _NOTHING:
            from esis.worker.parameters import read_parameters

            self._parameters = read_parameters(self.paths, self.index)
        return self._parameters

    @property
    def seed(self) -> int:
        """Return a number of 63 bits for this task; the same on every attempt."""
        from esis.worker.seeds import seed_of

        return seed_of(self.base_seed, self.index)

    def stream(self, name: object) -> int:
        """Return another such number, independent of the seed and of those of other names."""
        from esis.worker.seeds import seed_of

        return seed_of(self.base_seed, self.index, name)

    @property
    def base_seed(self) -> object:
        """Return what all seeds of the run come from: what `esis.task` was told, else the run's hash, else 0."""
        if self._base is not None:
            return self._base
        return self.paths.digest if is_run_name(self.paths.path.name) else 0

    @property
    def restarts(self) -> int:
        """Return how often Slurm has requeued this task within its present job."""
        return _number(os.environ.get("SLURM_RESTART_COUNT")) or 0

    @property
    def attempt(self) -> int:
        """Return how often the task was handed to a scheduler, this time included: 1, 2, …; lists a directory.

        Raises CorruptState, OSError where the records that were folded can't be read.
        """
        jobs = set()
        for name in self._records():
            parts = name.split(".", 3)
            if len(parts) == 4 and parts[0] == str(self.index):
                jobs.add((parts[1], parts[2]))
        return max(1, len(jobs))

    def _records(self) -> Iterator[str]:
        """Yield the names of all records of the task, and others; first the files, for folding removes them last."""
        from esis.worker.folded import names_of

        try:
            with os.scandir(self.paths.tasks) as entries:
                yield from (entry.name for entry in entries)
        except FileNotFoundError:
            pass
        yield from names_of(self.paths, self.index)

    def checkpoints(self, name: str = "main", keep: int = 2) -> Checkpoints:
        """Return this task's checkpoints of that name; the last `keep` of them are kept."""
        from esis.worker.checkpoints import Checkpoints, check_name

        check_name(name)
        return Checkpoints(partial(self._checkpoints_at, name), keep, self._check_attempt)

    def _checkpoints_at(self, name: str) -> Path:
        run = self.paths
        check_there(run)
        return run.checkpoints_of(self.index, name)

    def export(self, /, **values: object) -> None:
        """Write results; those of earlier calls stay. Raises BadInput for what JSON can't hold, Overtaken."""
        from esis.worker.results import merge

        check_there(self.paths)
        self._check_attempt()
        merge(self.paths, self.index, values)

    def export_array(self, name: str, values: object) -> None:
        """Write numbers as results/results.<n>.<name>.npy, and the file's name into the results. Raises Overtaken."""
        from esis.worker.results import write_array

        check_there(self.paths)
        write_array(self.paths, self.index, name, values, self._check_attempt)

    def _check_attempt(self) -> None:
        """Raise Overtaken where a later attempt at this task has begun."""
        from esis.worker.attempts import check

        check(self.paths, self.index)


def task(
    index: int | None = None,
    run: str | os.PathLike[str] | None = None,
    *,
    base_seed: object = None,
    parameters: object = _NOTHING,
) -> Task:
    """Return the task that this process works on.

    Without arguments from the variables that a job has, and the working directory. A unit test says which one:
    `esis.task(3, "wrkdir.…")`, or `esis.task(0, tmp_path, parameters={"beta": 2.0})`. Raises BadInput.
    """
    from pathlib import Path

    if index is None:
        index = _number(os.environ.get("SLURM_ARRAY_TASK_ID"))
        if index is None:
            raise BadInput(
                "SLURM_ARRAY_TASK_ID isn't set, so the task isn't known",
                "set it, or name the task: esis.task(0, 'wrkdir.…')",
            )
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        raise BadInput(f"{index!r} is no index of a task", "they count from 0 or 1")
    if run is not None:
        place = _around(Path(run)) or Path(os.path.abspath(run))
    else:
        place = around_here() if parameters is _NOTHING else _search() or _here() or Path()
    return Task(index, RunDir(place), base_seed, parameters)


def checkpoints(name: str = "main", keep: int = 2) -> Checkpoints:
    """Return the present task's checkpoints. See Task."""
    return task().checkpoints(name, keep)


def export(**values: object) -> None:
    """Write results of the present task, e.g. `esis.export(mass=0.31, error=0.02)`. See Task."""
    task().export(**values)


def export_array(name: str, values: object) -> None:
    """Write an array of the present task. See Task."""
    task().export_array(name, values)


def around_here() -> Path:
    """Return the run that this process works in. Raises BadInput outside of one."""
    place = _search()
    if place is None:
        raise BadInput(
            f"{_here() or 'the working directory, which is gone,'} is not inside of a run (wrkdir.<hash>)",
            "go to its cwd/, or name the run: esis.task(0, 'wrkdir.…')",
        )
    return place


def _search() -> Path | None:
    """Find the run from the job's record, the working directory, or where the job was submitted."""
    from pathlib import Path

    for place in (own_record(), _here(), os.environ.get("SLURM_SUBMIT_DIR")):
        found = _around(Path(place)) if place else None
        if found is not None:
            return found
    return None


def check_there(run: RunDir) -> None:
    """Raise BadInput where the run's directory isn't to be seen from here, OSError where nobody can tell.

    In a container into which nothing of it is bound, or cwd/ alone, it could be made, and would go with the container;
    and a directory that isn't there holds no checkpoint only for those who can't see it.
    """
    from esis.files import is_directory

    record = own_record()
    needed = run.private if record is not None and record.rpartition("/")[0] == str(run.tasks) else run.path
    if not is_directory(needed):
        raise BadInput(
            f"there is no directory {needed} here, on {os.uname().nodename}",
            "bind the whole run into the container (--bind), or see that this node has its file system; "
            "nothing is written, for it would be lost",
        )


def own_record() -> str | None:
    """Return the path of this attempt's record, without its last word; None where the job writes none.

    A job that was submitted from within another one inherits the variable; it names that other job. Where somebody has
    moved the run, and cwd/ with this process in it, the record went along (task.sh looks for it in the same way).
    """
    record, job = os.environ.get(RECORD_VARIABLE), os.environ.get("SLURM_ARRAY_JOB_ID")
    name = record.rpartition("/")[2] if record else ""
    if not record or (job and name.split(".")[2:3] != [job]):
        return None
    if not os.path.exists(f"{record}{RUNNING_SUFFIX}"):
        here = _here()
        run = _around(here) if here is not None else None
        if run is not None and os.path.exists(moved := f"{RunDir(run).tasks}/{name}{RUNNING_SUFFIX}"):
            return moved[: -len(RUNNING_SUFFIX)]
    return record


def _here() -> Path | None:
    from pathlib import Path

    try:
        return Path.cwd()
    except FileNotFoundError:  # somebody has removed it
        return None


def _around(place: Path) -> Path | None:
    """Return the run at or above a path."""
    from pathlib import Path

    place = Path(os.path.abspath(place))
    for directory in (place, *place.parents):
        run = RunDir(directory)
        if is_run_name(directory.name) or (run.private.is_dir() and run.parameters.is_dir()):
            return directory
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
