"""Keep how far a run is: the stage of its build, for it is a run only once it is prepared, and that it is complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from esis.errors import CorruptState
from esis.files import read_limited, write_json
from esis.model.index_sets import MOST_TASKS
from esis.model.workdir import RunDir
from esis.records.submissions import Submission
from esis.typed import Fields, read_object

SCHEMA = 1
_LARGEST = 2**63 - 1  # of what the kernel and users count
_OWN_MARK = "esis "
_BLANK = " \t\r\n\f\v\0"  # a power cut may leave zeros where somebody wrote
_CLAIM_LIMIT = 16  # bytes of completed.state


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
    if raw.get("schema", SCHEMA) != SCHEMA:
        raise CorruptState(f"{run.state} has schema {raw['schema']!r}, this esis knows {SCHEMA}", "use a newer esis")
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


def is_marked(run: RunDir, known: Iterable[Submission] = ()) -> bool:
    """Return whether ESIS, or somebody by hand, says that the run is complete; what can't be read says nothing.

    ESIS's own mark counts for the run, the submissions and the records that it was written for: a rerun by hand, or a
    mark that came from another run with a copy, makes it void. Records that were removed since, all of them, don't.
    """
    text = _mark(run)
    if not text.strip(_BLANK).startswith(_OWN_MARK):
        return bool(text.strip(_BLANK))
    told = _told(text)
    latest, moment = max((item.number for item in known), default=None), records_moment(run)
    return (
        told.get("run") == run.digest
        and latest in (None, _number(told.get("submission")))
        and (moment in (None, _number(told.get("records"))) or _holds_nothing(run.tasks))
    )


def marked_submission(run: RunDir) -> int | None:
    """Return the latest submission of which ESIS's own mark tells; None where there is no such mark of this run."""
    text = _mark(run)
    told = _told(text) if text.strip(_BLANK).startswith(_OWN_MARK) else {}
    return _number(told.get("submission")) if told.get("run") == run.digest else None


def has_own_mark(run: RunDir) -> bool:
    """Return whether the mark of a complete run is one of ESIS's, not of somebody by hand."""
    return _mark(run).startswith(_OWN_MARK)


def mark_text(run: RunDir, known: Iterable[Submission], moment: int | None, version: str) -> str:
    """Return what ESIS writes to mark a run as complete; `moment`: of before its records were read."""
    latest = max((item.number for item in known), default=0)
    return f"{_OWN_MARK}{version} run={run.digest} submission={latest} records={moment or 0}\n"


def records_moment(run: RunDir) -> int | None:
    """Return when a record last came or went, in nanoseconds since 1970; None where nobody keeps them any more."""
    try:
        return run.tasks.stat().st_mtime_ns
    except OSError:
        return None


def _mark(run: RunDir) -> str:
    """Return the text of the mark of a complete run; nothing where it can't be read."""
    try:
        return read_limited(run.complete_mark).decode("utf-8", "replace")
    except (CorruptState, OSError):
        return ""


def _told(mark: str) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in mark.split())


def _holds_nothing(place: Path) -> bool:
    """Return whether a directory holds no record, whatever else file managers and servers leave there."""
    try:
        with os.scandir(place) as entries:
            return all(entry.name.startswith(".") for entry in entries)
    except OSError:
        return False


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def is_claimed(run: RunDir) -> bool:
    """Return whether completed.state holds 1, which workers of ESIS 0.0.4 write; what can't be read says nothing."""
    try:
        return read_limited(run.completed, _CLAIM_LIMIT).strip() == b"1"
    except (CorruptState, OSError):
        return False
