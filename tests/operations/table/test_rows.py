"""Rows and counts keep every parameter, whatever it is called and however large it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esis.errors import BadInput
from esis.operations.table.rows import Row, choose_rows, group_rows
from esis.operations.witness.look import status_of
from esis.operations.witness.status import TaskState
from esis.operations.witness.target import evidence_of
from esis.schedulers.base import Snapshot
from tests.operations.made import make_run


def rows_of(place: Path, parameters: list[Any], where: str | None = None) -> list[Row]:
    evidence = evidence_of(make_run(place, parameters, {}, complete=False, exit_codes={1: 3}))
    return choose_rows(status_of(evidence, Snapshot()), evidence, None, (), where)


@pytest.mark.parametrize("name", ["tasks", *(state.value for state in TaskState)])
def test_a_parameter_with_the_name_of_a_count_keeps_its_values(tmp_path: Path, name: str) -> None:
    """As in the rows it gets `parameters.` before its name, also where no task is in that state."""
    rows = rows_of(tmp_path, [{name: 8}, {name: 4}, {name: 8}])
    column = f"parameters.{name}"
    assert group_rows(rows, name) == [
        {column: 4, "tasks": 1, "done": 0, "failed": 1},
        {column: 8, "tasks": 2, "done": 2, "failed": 0},
    ]


def test_other_parameters_keep_their_names(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [{"state": 1, "job": 2}, {"state": 1, "job": 2}])
    assert [list(group) for group in group_rows(rows, "state")] == [["state", "tasks", "done", "failed"]]
    assert [list(group) for group in group_rows(rows, "job")] == [["job", "tasks", "done", "failed"]]


def test_no_column_takes_the_place_of_another(tmp_path: Path) -> None:
    cells = rows_of(tmp_path, [{"task": 5, "parameters.task": 6, "n": 7}])[0].cells()
    assert (cells["task"], cells["parameters.task"], cells["parameters.task_2"], cells["n"]) == (0, 5, 6, 7)


def test_groups_are_sorted_by_value_however_large(tmp_path: Path) -> None:
    """Moduli are larger than any float; what is no number comes last."""
    values = [10**400, 2, float("inf"), -(10**400), 1.5, 10**400 + 1, "x", float("nan"), True, None]
    rows = rows_of(tmp_path, [{"p": value} for value in values])
    shown = [repr(group["p"]) for group in group_rows(rows, "p")]
    large = [-(10**400), 1.5, 2, 10**400, 10**400 + 1, float("inf")]
    assert shown == [*map(repr, large), "None", "True", "nan", "'x'"]


def test_a_condition_names_the_task_that_it_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="of task 1: ValueError: substring not found"):
        rows_of(tmp_path, [{"name": "x"}, {"name": "y"}], "name.index('x')>2")
