"""Read the parameters of one task: from its own file, else by its offset from the one file that holds all."""

from __future__ import annotations

import json

from esis.errors import BadInput, CorruptState
from esis.model.workdir import INDEX_ENTRY, RunDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def read_parameters(run: RunDir, task: int) -> Any:
    """Return the parameters of `task`. Raises BadInput where there are none, CorruptState where they are no JSON."""
    path = run.parameter_file(task)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        path = run.parameters_lines
        data = _line(run, task)
    except OSError as error:
        raise BadInput(f"the parameters of task {task} can't be read: {path}: {error.strerror}") from error
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptState(
            f"the parameters of task {task} in {path} are no JSON: {error}",
            "look at what the parameter generator wrote",
        ) from error


def _line(run: RunDir, task: int) -> bytes:
    """Return line `task` (from 0) of parameters.jsonl."""
    path = run.parameters_lines
    try:
        with path.open("rb") as lines:
            offset = _offset(run, task)
            if offset is not None:
                lines.seek(offset)
                return _some(lines.readline(), run, task)
            for number, line in enumerate(lines):
                if number == task:
                    return line
    except FileNotFoundError:
        raise BadInput(
            f"task {task} has no parameters: there is neither {run.parameter_file(task)} nor {path.name}",
            "is it a task of this run?",
        ) from None
    except OSError as error:
        raise BadInput(f"the parameters of task {task} can't be read: {path}: {error.strerror}") from error
    raise BadInput(f"task {task} has no parameters: {path} has fewer lines", "is it a task of this run?")


def _offset(run: RunDir, task: int) -> int | None:
    """Return where the task's line begins; None where there is no index."""
    try:
        with run.parameters_index.open("rb") as index:
            index.seek(INDEX_ENTRY * task)
            entry = index.read(INDEX_ENTRY)
    except FileNotFoundError:
        return None
    if not entry:
        raise BadInput(
            f"task {task} has no parameters: {run.parameters_index} ends before it", "is it a task of this run?"
        )
    if len(entry) != INDEX_ENTRY or not entry[:-1].isdigit() or entry[-1:] != b"\n":
        raise CorruptState(f"{run.parameters_index} is corrupt at entry {task}: {entry[:40]!r}")
    return int(entry)


def _some(line: bytes, run: RunDir, task: int) -> bytes:
    if not line:
        raise CorruptState(f"{run.parameters_index} points behind the end of the lines for task {task}")
    return line
