"""Keep the stage of a run's build: the directory is a run only once it is prepared."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from enum import Enum

from esis.errors import CorruptState
from esis.files import read_json_object, write_json
from esis.model.workdir import RunDir

SCHEMA = 1


class Stage(Enum):
    """Name the steps of a build, in their order."""

    SNAPSHOT = "snapshot"  # scripts and includes are in place
    GENERATING = "generating"  # the generator runs
    SETTING_UP = "setting up"  # the setup script runs
    PREPARED = "prepared"  # the run is built; tasks may be submitted


@dataclass(frozen=True)
class State:
    """Hold the stage, the tasks known by then, and the process of a user's script that may be at work."""

    stage: Stage
    first: int = 0  # index of the first task
    count: int = 0  # number of tasks
    max_parallel: int = 0
    pid: int | None = None
    pid_started: int = 0

    @property
    def tasks(self) -> range:
        """Return the indices of all tasks."""
        return range(self.first, self.first + self.count)


def save(run: RunDir, state: State) -> None:
    """Write the stage, durably. Raises OSError."""
    write_json(run.state, {
        "schema": SCHEMA, "stage": state.stage.value, "first": state.first, "count": state.count,
        "max_parallel": state.max_parallel, "pid": state.pid, "pid_started": state.pid_started,
    })


def read(run: RunDir) -> State | None:
    """Return the stage; None where there is no record of it (0.0.4's runs). Raises CorruptState."""
    try:
        raw = read_json_object(run.state)
    except FileNotFoundError:
        return None
    try:
        pid = raw["pid"]
        return State(Stage(raw["stage"]), int(raw["first"]), int(raw["count"]), int(raw["max_parallel"]),
                     operator.index(pid) if pid is not None else None, int(raw["pid_started"]))
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise CorruptState(f"{run.state} is corrupt: {error!r}") from error
