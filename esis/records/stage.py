"""Keep the stage of a run's build: the directory is a run only once it is prepared."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from esis.files import write_json
from esis.model.index_sets import MOST_TASKS
from esis.model.workdir import RunDir
from esis.typed import Fields, read_object

SCHEMA = 1
_LARGEST = 2**63 - 1  # of what the kernel and users count


class Stage(Enum):
    """Name the steps of a build, in their order."""

    SNAPSHOT = "snapshot"  # scripts and includes are in place
    GENERATING = "generating"  # the generator runs
    SETTING_UP = "setting up"  # the setup script runs
    PREPARED = "prepared"  # the run is built; tasks may be submitted


class State(NamedTuple):
    """Hold the stage, the tasks known by then, and the process of a user's script that may be at work."""

    stage: Stage
    first: int = 0  # index of the first task
    total: int = 0  # number of tasks
    max_parallel: int = 0
    pid: int | None = None
    pid_started: int = 0
    process: str | None = None  # the same process as locks.Owner.text: on which host, since which boot

    @property
    def tasks(self) -> range:
        """Return the indices of all tasks."""
        return range(self.first, self.first + self.total)


def save(run: RunDir, state: State, check: Callable[[], None] | None = None) -> None:
    """Write the stage, durably, if `check` raises nothing at the last moment. Raises OSError."""
    write_json(
        run.state,
        {
            "schema": SCHEMA,
            "stage": state.stage.value,
            "first": state.first,
            "count": state.total,
            "max_parallel": state.max_parallel,
            "pid": state.pid,
            "pid_started": state.pid_started,
            "process": state.process,
        },
        check,
    )


def read(run: RunDir) -> State | None:
    """Return the stage; None where there is no record of it (0.0.4's runs). Raises CorruptState, OSError."""
    try:
        raw = read_object(run.state)
    except FileNotFoundError:
        return None
    fields = Fields(run.state, raw)
    stage = Stage(fields.choice("stage", [item.value for item in Stage]))
    return State(
        stage,
        fields.number("first", 0, 1),
        fields.number("count", 1 if stage is Stage.PREPARED else 0, MOST_TASKS),
        fields.number("max_parallel", 0, _LARGEST),
        fields.number_or_none("pid", 1, _LARGEST),
        fields.number("pid_started", 0, _LARGEST),
        fields.text("process") if fields.has("process") else None,
    )
