"""Make rows of tasks: state, reason, attempts, times, and the parameters joined to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esis.errors import BadInput
from esis.model.index_sets import format_ranges
from esis.model.parametersets import ParameterSets
from esis.operations.table.columns import sort_key
from esis.operations.witness.conditions import Condition
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.status import RunStatus, TaskState, TaskStatus

_TASKS = "tasks"
_COUNTS = frozenset({_TASKS, *(state.value for state in TaskState)})  # what columns of counts may be called


@dataclass(frozen=True)
class Row:
    """Hold one task."""

    task: int
    status: TaskStatus
    attempts: int
    parameters: Mapping[str, Any]

    def cells(self) -> dict[str, Any]:
        """Return the columns; a parameter with the name of a column of ESIS's gets `parameters.` before it.

        Should two names still be alike, the later one gets `_2` behind it, as in an export.
        """
        own = {
            "task": self.task,
            "state": self.status.state.value,
            "reason": self.status.reason,
            "code": self.status.code,
            "attempts": self.attempts,
            "job": self.status.job,
            "elapsed": self.status.elapsed,
        }
        cells = dict(own)
        for key, value in self.parameters.items():
            plain = name = f"parameters.{key}" if key in own else str(key)
            count = 1
            while name in cells:
                count += 1
                name = f"{plain}_{count}"
            cells[name] = value
        return cells


def choose_rows(
    status: RunStatus, evidence: Evidence, tasks: Sequence[int] | None, states: Sequence[TaskState], where: str | None
) -> list[Row]:
    """Return the rows of the chosen tasks in the order of their indices. Raises BadInput."""
    if tasks is not None and not set(tasks) <= set(status.tasks):
        absent = sorted(set(tasks) - set(status.tasks))
        raise BadInput(f"{status.run.label} has no tasks {format_ranges(absent)}")
    test = Condition(where) if where is not None else None
    chosen = [
        task
        for task in sorted(tasks if tasks is not None else status.tasks)
        if not states or status.tasks[task].state in states
    ]
    return [
        Row(task, status.tasks[task], evidence.attempts[task], parameters)
        for task, parameters in ParameterSets(status.run).iterate(chosen)
        if test is None or test(parameters, task)
    ]


def group_rows(rows: Sequence[Row], name: str) -> list[dict[str, Any]]:
    """Return the counts by state for each value of the parameter `name`. Raises BadInput where no task has it.

    The values are in the column of that name; `parameters.` stands before it where it is that of a count.
    """
    groups: dict[str, tuple[Any, dict[TaskState, int]]] = {}
    for row in rows:
        if name not in row.parameters:
            known = ", ".join(sorted(map(str, row.parameters)))
            raise BadInput(f"task {row.task} has no parameter {name!r}", f"its parameters are: {known}")
        value = row.parameters[name]
        _, counts = groups.setdefault(repr(value), (value, {}))
        counts[row.status.state] = counts.get(row.status.state, 0) + 1
    shown = [state for state in TaskState if any(state in counts for _, counts in groups.values())]
    column = f"parameters.{name}" if name in _COUNTS else name
    found = [
        {column: value, _TASKS: sum(counts.values()), **{state.value: counts.get(state, 0) for state in shown}}
        for value, counts in groups.values()
    ]
    return sorted(found, key=lambda group: sort_key(group[column]))
