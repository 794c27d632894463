"""The parameters of required runs are joined through a key: the one set that fits, never a guess."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from esis.errors import BadInput, CorruptState, RequirementTrouble
from esis.files import write_json
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow, dump
from esis.operations.table.collect import Wanted, collect, find_out
from esis.operations.table.frame import Table
from esis.operations.table.join import joins_of, required_runs
from esis.operations.witness.look import status_of
from esis.schedulers.base import Snapshot
from tests.operations.made import make_run
from tests.operations.table.test_collect import rows_of

FIRST, SECOND, OWN = "1" * 64, "2" * 64, "3" * 64


def a_chain(
    directory: Path, own: Sequence[Any], first: Sequence[Any], second: Sequence[Any] | None = None, lines: bool = False
) -> RunDir:
    """Make a run that requires others, as esis writes it."""
    requires = {"../a/wf.esis.json": ("first", FIRST, first)}
    if second is not None:
        requires["../b:c/wf.esis.json"] = ("second", SECOND, second)
    for stored, (_, digest, sets) in requires.items():
        place = (directory / "own" / stored).parent
        place.mkdir(parents=True, exist_ok=True)
        (place / "wf.esis.json").write_text(dump(Workflow(place / "wf.esis.json", "s", "p", "t", "w")))
        make_run(place.resolve(), sets, {}, digest=digest, lines=lines)
    run = make_run(directory / "own", own, {0: {"y": 1}}, digest=OWN)
    workflow = Workflow(
        directory / "own/wf.esis.json",
        "s",
        "p",
        "t",
        "w",
        requires=tuple(requires),
        requires_names={stored: name for stored, (name, _, _) in requires.items()},
    )
    run.workflow_definition.write_text(dump(workflow))
    tags = ["setupscript:" + "0" * 64, *(f"{stored}:{digest}" for stored, (_, digest, _) in requires.items())]
    run.wf_status.write_text("\n".join(tags))
    run.requirements.write_text(
        "".join(
            f"0:{len(sets) - 1}:{(directory / 'own' / stored).parent.resolve()}/wrkdir.{digest}\n"
            for stored, (_, digest, sets) in requires.items()
        )
    )
    write_json(run.provenance, {"workflow_file": str(workflow.path)})
    return run


def joined(run: RunDir, *keys: str) -> list[dict[str, Any]]:
    request = Wanted(columns=None, joins=joins_of(run, keys))
    table: Table = collect(find_out(run, request, lambda evidence: status_of(evidence, Snapshot())), request).frame
    return [{name: value for name, value in row.items() if "." in name} for row in rows_of(table)]


@pytest.mark.parametrize("lines", [False, True])
def test_the_set_with_the_same_value_is_joined(tmp_path: Path, lines: bool) -> None:
    """Whatever its index; 2 and 2.0 are the same, 1 and true are not; what fits nothing stays empty."""
    run = a_chain(
        tmp_path,
        [{"T": 2, "z": 0}, {"T": 1.5}, {"T": True}, {"T": [1, {"a": 2}]}],
        [
            {"T": 1.5, "seed": 10, "deep": {"x": 1}},
            {"T": 1, "seed": 11},
            {"T": 2.0, "seed": 12},
            {"T": [1, {"a": 2}], "seed": 13},
        ],
        lines=lines,
    )
    assert joined(run, "T") == [
        {"first.T": 2.0, "first.seed": 12},
        {"first.T": 1.5, "first.seed": 10, "first.deep.x": 1},
        {},
        {"first.T": [1, {"a": 2}], "first.seed": 13},
    ]


def test_every_requirement_may_have_a_key_of_its_own(tmp_path: Path) -> None:
    run = a_chain(tmp_path, [{"T": 1, "deep": {"L": 8}}], [{"T": 1, "a": 1}], [{"deep": {"L": 8}, "b": 2}])
    expected = [{"deep.L": 8, "first.T": 1, "first.a": 1, "second.deep.L": 8, "second.b": 2}]
    assert joined(run, "first:T", "second:deep.L") == expected
    assert joined(run, "second:deep.L") == [{"deep.L": 8, "second.deep.L": 8, "second.b": 2}]
    with pytest.raises(BadInput, match="task 0 of the required run 'second' has no parameter 'T'"):
        joined(run, "T")
    with pytest.raises(BadInput, match="two keys for the requirement 'first': T and deep"):
        joined(run, "first:T", "first:deep")
    with pytest.raises(BadInput, match="no requirement called 'third'; there are: first, second"):
        joined(run, "third:T")


def test_several_that_fit_are_an_error(tmp_path: Path) -> None:
    """Only if a task needs one of them."""
    run = a_chain(tmp_path, [{"T": 1}, {"T": 2}], [{"T": 1, "L": 8}, {"T": 2, "L": 8}, {"T": 2, "L": 16}])
    with pytest.raises(BadInput, match=r"several tasks of the required run 'first' \(1, 2, …\) have T = 2, as task 1"):
        joined(run, "T")
    run.parameter_file(1).write_text('{"T": 3}')
    assert joined(run, "T") == [{"first.T": 1, "first.L": 8}, {}]


def test_a_task_without_the_key_is_an_error(tmp_path: Path) -> None:
    run = a_chain(tmp_path, [{"T": 1}, {"t": 2}], [{"T": 1}])
    with pytest.raises(BadInput, match="task 1 has no parameter 'T'; its parameters are: t"):
        joined(run, "T")


def test_required_runs_are_found_by_list_and_else_beside_their_workflow(tmp_path: Path) -> None:
    """Of runs whose tasks write no records the jobs have no list; a run that is gone is an error."""
    run = a_chain(tmp_path, [{"T": 1}], [{"T": 1}], [{"T": 1}])
    found = [(item.name, item.run.path) for item in required_runs(run)]
    assert [name for name, _ in found] == ["first", "second"]
    run.requirements.unlink()
    assert [(item.name, item.run.path) for item in required_runs(run)] == found
    shutil.rmtree(found[1][1])
    with pytest.raises(RequirementTrouble, match=r"requirement 'second', .* can't be found"):
        required_runs(run)
    run.wf_status.write_text("setupscript:" + "0" * 64)
    with pytest.raises(CorruptState, match="no hash of the requirement"):
        required_runs(run)


def test_a_run_that_requires_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path, [{}], {})
    run.workflow_definition.write_text(dump(Workflow(tmp_path / "wf", "s", "p", "t", "w")))
    run.wf_status.write_text(json.dumps({}))
    with pytest.raises(BadInput, match="requires no runs"):
        joins_of(run, ["T"])
