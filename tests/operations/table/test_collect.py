"""One row per task: what is written reads back as what the tasks had, in every format, in constant memory."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from esis.errors import BadInput, CorruptState, ExitCode, IncompleteResults
from esis.model.workdir import RunDir
from esis.operations.table.collect import OWN_COLUMNS, Collected, Wanted, collect, find_out
from esis.operations.table.columns import ABSENT, PARAMETERS, RESULTS, Columns
from esis.operations.table.formats import column_type, format_of, write_csv, write_jsonl, write_parquet
from esis.operations.table.frame import Frame, Long, Table
from esis.operations.witness.look import status_of
from esis.operations.witness.status import TaskState
from esis.schedulers.base import Snapshot
from tests.operations.made import make_run

PARAMETER_SETS = [{"T": 1.5, "L": 8}, {"T": 2.5, "L": 8}, {"T": 1.5, "L": 16}]
EXPORTED = {0: {"energy": -1.25, "fit": {"a": 1, "ok": True}}, 2: {"energy": -1.5, "fit": {"a": 2, "ok": False}}}


ALL = Wanted()


def collected(run: RunDir, request: Wanted = ALL) -> Collected:
    return collect(find_out(run, request, lambda evidence: status_of(evidence, Snapshot())), request)


def data_of(run: RunDir, **wanted: Any) -> Table:
    """Return the table without what depends on the tasks' records."""
    return collected(run, Wanted(**wanted)).frame


def written(table: Table, form: str = "csv") -> bytes:
    stream = io.BytesIO()
    {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}[form](table, stream)
    return stream.getvalue()


def rows_of(table: Table) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(table, "jsonl").decode().split("\n")[:-1]]


def as_csv(table: Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO(written(table).decode(), newline="")))


@pytest.mark.parametrize("lines", [False, True])
def test_a_row_holds_parameters_state_and_results(tmp_path: Path, lines: bool) -> None:
    """The same table of both forms; what a task has not is empty."""
    run = make_run(tmp_path, PARAMETER_SETS, EXPORTED, lines=lines)
    found = collected(run)
    assert written(found.frame).decode() == (
        "task,T,L,state,attempts,elapsed,host,energy,fit.a,fit.ok\n"
        "0,1.5,8,done,1,0.0,node0,-1.25,1,true\n"
        "1,2.5,8,done,1,1.0,node1,,,\n"
        "2,1.5,16,done,1,2.0,node2,-1.5,2,false\n"
    )
    assert found.without_results == "1"


def test_states_and_attempts_are_those_of_the_status(tmp_path: Path) -> None:
    run = make_run(tmp_path, PARAMETER_SETS, EXPORTED, complete=False, exit_codes={1: 3})
    wanted = Wanted(columns=["task", "state", "reason", "code", "job", "attempts"])
    assert as_csv(collected(run, wanted).frame)[1:] == [
        ["0", "done", "", "0", "77", "1"],
        ["1", "failed", "exit code 3", "3", "77", "1"],
        ["2", "done", "", "0", "77", "1"],
    ]
    failed = collected(run, Wanted(states=(TaskState.FAILED,), columns=["task"]))
    assert as_csv(failed.frame) == [["task"], ["1"]]
    assert failed.without_results == "1"


def test_the_status_is_not_asked_for_where_nothing_needs_it(tmp_path: Path) -> None:
    """No squeue for a table of data."""
    run = make_run(tmp_path, PARAMETER_SETS, EXPORTED, complete=False)
    source = find_out(run, Wanted(columns=["T", "energy"]), lambda evidence: pytest.fail("asked"))
    assert (source.status, source.evidence) == (None, None)


def test_columns_come_in_the_given_order(tmp_path: Path) -> None:
    run = make_run(tmp_path, PARAMETER_SETS, EXPORTED)
    assert as_csv(data_of(run, columns=["fit.ok", "T", "task"])) == [
        ["fit.ok", "T", "task"],
        ["true", "1.5", "0"],
        ["", "2.5", "1"],
        ["false", "1.5", "2"],
    ]
    with pytest.raises(BadInput, match=r"no column 'fit'; there are: task, T, L, .*energy, fit\.a, fit\.ok"):
        data_of(run, columns=["fit"])


def test_a_long_table_has_a_row_for_each_value(tmp_path: Path) -> None:
    run = make_run(tmp_path, PARAMETER_SETS, EXPORTED)
    frame = collected(run, Wanted(columns=["task", "T", "fit.ok"])).frame
    assert as_csv(Long(frame)) == [
        ["task", "name", "value"],
        ["0", "T", "1.5"],
        ["0", "fit.ok", "true"],
        ["1", "T", "2.5"],
        ["2", "T", "1.5"],
        ["2", "fit.ok", "false"],
    ]
    alone = collected(run, Wanted(columns=["energy"])).frame
    assert rows_of(Long(alone)) == [
        {"task": 0, "name": "energy", "value": -1.25},
        {"task": 2, "name": "energy", "value": -1.5},
    ]
    table = parquet.read_table(io.BytesIO(written(Long(alone), "parquet")))
    assert table.schema.field("value").type == pyarrow.float64()


def test_names_that_clash_get_their_source_before_them(tmp_path: Path) -> None:
    """A column of ESIS's own outranks a parameter, that one a result; the rest is counted."""
    run = make_run(
        tmp_path,
        [{"host": "x", "L": 8, "a.b": 1, "a": {"b": 2}}],
        {0: {"L": 9, "host": "y", "task": 7, "results.L": 0}},
    )
    (row,) = rows_of(data_of(run))
    assert row == {
        "task": 0,
        "parameters.host": "x",
        "L": 8,
        "a.b": 1,
        "a.b_2": 2,
        "state": "done",
        "attempts": 1,
        "elapsed": 0.0,
        "host": "node0",
        "results.L": 9,
        "results.host": "y",
        "results.task": 7,
        "results.L_2": 0,
    }


def test_conditions_see_parameters_and_results(tmp_path: Path) -> None:
    """A task without results doesn't fulfil one about results; a name that no task has is an error."""
    run = make_run(tmp_path, PARAMETER_SETS, {0: {"energy": -1.0, "L": 99}, 2: {"energy": -2.0, "fit": {"ok": True}}})

    def tasks(where: str) -> list[int]:
        return [row["task"] for row in rows_of(data_of(run, where=where, columns=["task"]))]

    assert tasks("T < 2 and energy < -1.5") == [2]
    assert tasks("energy < 0") == [0, 2]
    assert tasks("fit.ok") == [2]
    assert tasks("L == 8 and results.L == 99") == [0]
    assert tasks("L > 100") == []
    with pytest.raises(BadInput, match="'enrgy' is undefined"):
        tasks("enrgy < 0")
    with pytest.raises(BadInput, match="can't be read"):
        tasks("energy <")
    missing = collected(run, Wanted(where="energy < -1.5"))
    assert missing.without_results == "1"
    assert collected(run, Wanted(where="L == 16")).without_results == ""


def test_strict_wants_the_results_of_every_chosen_task(tmp_path: Path) -> None:
    run = make_run(tmp_path, PARAMETER_SETS, EXPORTED)
    with pytest.raises(IncompleteResults, match="no results of 1 task: 1; nothing was written") as error:
        collected(run, Wanted(strict=True))
    assert error.value.exit_code is ExitCode.INCOMPLETE
    assert collected(run, Wanted(strict=True, tasks=(0, 2))).frame.count == 2
    with pytest.raises(BadInput, match="has no tasks 3-4"):
        collected(run, Wanted(tasks=(2, 3, 4)))


def test_results_that_can_not_be_read_are_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path, PARAMETER_SETS, EXPORTED)
    run.result_file(1).write_text('{"energy": -1.')
    with pytest.raises(CorruptState, match=r"results\.1\.json"):
        collected(run)


def test_a_run_without_tasks_of_interest_is_a_header(tmp_path: Path) -> None:
    run = make_run(tmp_path, PARAMETER_SETS, EXPORTED)
    frame = data_of(run, states=(TaskState.LOST,))
    assert written(frame).decode() == "task,state,attempts,elapsed,host\n"
    assert written(frame, "jsonl") == b""
    assert parquet.read_table(io.BytesIO(written(frame, "parquet"))).num_rows == 0


UNREADABLE = "" if sys.version_info >= (3, 11) else "\0"  # to the csv module, which reads back what is written
SPELT = ("NaN", "Infinity", "-Infinity")
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    # A text that stands for a number becomes one in results; other tests are about these.
    | st.text(st.characters(codec="utf-8", exclude_characters=UNREADABLE)).filter(lambda text: text not in SPELT)
)
KEYS = st.sampled_from(["a", "b", "c", "d.e", "ä b", "task", 'quote"', "line\nbreak", ""])
VALUES = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=2), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
SETS = st.dictionaries(KEYS, VALUES, max_size=4)


def frame_of(tasks: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]], chunk: int = 3) -> Frame:
    columns = Columns(OWN_COLUMNS)
    frame = Frame(columns)
    for start in range(0, len(tasks), chunk):
        part = tasks[start : start + chunk]
        made: dict[int, Sequence[Any]] = {}
        columns.put_own(made, 0, range(start, start + len(part)))
        columns.put(made, PARAMETERS, [parameters for parameters, _ in part])
        columns.put(made, RESULTS, [results or {} for _, results in part])
        frame.add(len(part), made)
    frame.finish(OWN_COLUMNS[1:], None)
    return frame


def flattened(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Return what stands where, by the definition."""
    found = []
    for key, inner in value.items():
        found += flattened(inner, (*path, key)) if isinstance(inner, dict) and inner else [((*path, key), inner)]
    return found


@settings(deadline=None)
@given(tasks=st.lists(st.tuples(SETS, st.none() | SETS), min_size=1, max_size=8))
def test_flattening_loses_nothing(tasks: list[tuple[dict[str, Any], dict[str, Any] | None]]) -> None:
    """Every value of every task is in a cell of its own, names are unique, and no cell holds anything else."""
    with frame_of(tasks) as frame:
        rows = rows_of(frame)
        assert len(set(frame.names)) == len(frame.names)
        for task, ((parameters, results), row) in enumerate(zip(tasks, rows)):
            assert row.pop("task") == task
            values = [value for _, value in flattened(parameters) + flattened(results or {})]
            assert sorted(map(repr, row.values())) == sorted(map(repr, values))


@settings(deadline=None)
@given(tasks=st.lists(st.tuples(SETS, st.none() | SETS), min_size=1, max_size=8))
def test_a_column_is_one_place(tasks: list[tuple[dict[str, Any], dict[str, Any] | None]]) -> None:
    """What stands at one place in all tasks is in one column, whatever the order of keys and chunks."""
    with frame_of(tasks) as frame, frame_of(tasks, chunk=100) as at_once:
        by_column: dict[str, set[Any]] = {}
        rows, others = rows_of(frame), rows_of(at_once)
        assert sorted(frame.names) == sorted(at_once.names)
        assert dict(zip(frame.names, frame.kinds)).keys() == dict(zip(at_once.names, at_once.kinds)).keys()
        places = {("p", path) for parameters, _ in tasks for path, _ in flattened(parameters)}
        places |= {("r", path) for _, results in tasks for path, _ in flattened(results or {})}
        assert len(frame.names) == len(places) + 1
        assert [sorted(map(repr, row.values())) for row in rows] == [sorted(map(repr, row.values())) for row in others]
        for row in rows:
            for name, value in row.items():
                by_column.setdefault(name, set()).add(type(value))
        for name, kinds in zip(frame.names, frame.kinds):
            assert kinds - {ABSENT} == by_column[name]


def csv_cell(row: Mapping[str, Any], name: str) -> str:
    """Return what a cell has to be, by the documentation."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, (bool, list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else repr(value)


@settings(deadline=None)
@given(tasks=st.lists(st.tuples(SETS, st.none() | SETS), min_size=1, max_size=8))
def test_csv_reads_back_equal(tasks: list[tuple[dict[str, Any], dict[str, Any] | None]]) -> None:
    """Commas, quotes, line breaks of all kinds, digits of floats: Python's reader gets the same cells."""
    with frame_of(tasks) as frame:
        header, *lines = as_csv(frame)
        assert header == list(frame.names)
        assert lines == [[csv_cell(row, name) for name in frame.names] for row in rows_of(frame)]


@settings(deadline=None)
@given(tasks=st.lists(st.tuples(SETS, st.none() | SETS), min_size=1, max_size=8))
def test_parquet_reads_back_equal(tasks: list[tuple[dict[str, Any], dict[str, Any] | None]]) -> None:
    """Columns of one type keep it; of integers and floats they are doubles; all others are text."""
    with frame_of(tasks) as frame:
        table = parquet.read_table(io.BytesIO(written(frame, "parquet")))
        assert table.schema.names == list(frame.names)
        rows = rows_of(frame)
        for name in frame.names:
            values = [row.get(name) for row in rows]
            read = table.column(name).to_pylist()
            kind = str(table.schema.field(name).type)
            if kind == "string":
                assert read == [
                    None
                    if value is None
                    else csv_cell(row, name)
                    if isinstance(value, str)
                    else json.dumps(value, ensure_ascii=False)
                    for row, value in zip(rows, values)
                ]
            elif kind == "double":
                assert read == [None if value is None else float(value) for value in values]
            else:
                assert read == values
                assert [type(value) for value in read] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "int64"),
        ([1, None], "int64"),
        ([1.5], "double"),
        ([1, 2.5], "double"),
        ([True, False], "bool"),
        (["a"], "string"),
        ([True, 1], "string"),
        (["1", 1], "string"),
        ([[1]], "string"),
        ([None], "null"),
        ([2**63 - 1, -(2**63)], "int64"),
        ([2**63], "string"),
        ([-(2**63) - 1], "string"),
        ([1.5, 2**63], "double"),
        ([1.5, 10**400], "string"),
        ([{}], "string"),
    ],
)
def test_types_of_parquet(values: list[Any], kind: str) -> None:
    with frame_of([({"x": value}, None) for value in values]) as frame:
        table = parquet.read_table(io.BytesIO(written(frame, "parquet")))
        assert str(table.schema.field("x").type) == kind
        assert table.num_rows == len(values)


def test_text_that_is_no_unicode_and_numbers_that_are_none(tmp_path: Path) -> None:
    """JSON from Python may hold both; every format can be written, and JSON Lines reads back equal."""
    run = make_run(tmp_path, [{"s": "\ud800"}], {0: {"x": math.nan, "y": -math.inf}})
    frame = data_of(run, columns=["s", "x", "y"])
    assert written(frame) == b"s,x,y\n\\ud800,nan,-inf\n"
    (row,) = rows_of(frame)
    assert row["s"] == "\ud800"
    assert math.isnan(row["x"])
    (read,) = parquet.read_table(io.BytesIO(written(frame, "parquet"))).to_pylist()
    assert read["s"] == "\\ud800"
    assert read["y"] == -math.inf


def test_texts_that_stand_for_numbers_are_numbers_again() -> None:
    """JSON has no NaN, so esis.export writes a text; one such task must not make text of all the others' numbers."""
    results: list[Mapping[str, Any]] = [
        {"x": 1.5, "n": 3, "name": "NaN"},
        {"x": "NaN", "n": "Infinity", "name": "b"},
        {"x": "-Infinity", "n": 4, "name": "c"},
    ]
    with frame_of([({"p": "NaN" if number else 1.0}, found) for number, found in enumerate(results)]) as frame:
        table = parquet.read_table(io.BytesIO(written(frame, "parquet")))
        assert [str(table.schema.field(name).type) for name in ("x", "n", "name", "p")] == [
            "double",
            "double",
            "string",
            "string",
        ]
        assert written(frame).splitlines()[1:] == [b"0,1.0,1.5,3,NaN", b"1,NaN,nan,inf,b", b"2,NaN,-inf,4,c"]
        assert [row["n"] for row in rows_of(frame)] == [3, math.inf, 4]
    with frame_of([({}, {"x": "NaN"}), ({}, {"x": "nan"})]) as frame:
        assert [row["x"] for row in rows_of(frame)] == ["NaN", "nan"], "only the three texts that esis.export writes"


def test_a_condition_compares_texts_that_stand_for_numbers(tmp_path: Path) -> None:
    """As numbers where it needs one, as the texts that they are where it asks for these."""
    results = {
        0: {"x": 1.5, "name": "a"},
        1: {"x": math.nan, "name": "NaN"},
        2: {"x": "NaN", "name": "NaN"},
        3: {"x": -1, "name": "d", "below": {"y": "Infinity"}},
    }
    run = make_run(tmp_path, [{}] * 4, results)
    for where, expected in (("x > 0", [0]), ("name == 'NaN'", [1, 2]), ("name == 'd' and below.y > 5", [3])):
        assert [row["task"] for row in rows_of(data_of(run, where=where, columns=["task"]))] == expected
    with pytest.raises(BadInput, match="doesn't fit"):
        data_of(run, where="x + name > 5")


def test_a_column_that_turns_up_late_is_empty_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the chunk in which it first was seen."""
    monkeypatch.setattr("esis.operations.table.collect.CHUNK", 2)
    run = make_run(tmp_path, [{"a": n} if n < 5 else {"b": n, "a": n} for n in range(7)], {6: {"z": 1}})
    rows = rows_of(data_of(run, columns=["a", "b", "z"]))
    assert rows == [{"a": 0}, {"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}, {"a": 5, "b": 5}, {"a": 6, "b": 6, "z": 1}]


@pytest.mark.parametrize(
    ("name", "form"), [("a.csv", "csv"), ("a.b.JSONL", "jsonl"), ("a.ndjson", "jsonl"), ("a.parquet", "parquet")]
)
def test_the_ending_tells_the_format(name: str, form: str) -> None:
    assert format_of(name) == form


def test_an_ending_that_tells_nothing_is_an_error() -> None:
    with pytest.raises(BadInput, match=r"'a\.txt' tells no format"):
        format_of("a.txt")


def test_the_type_of_a_column_does_not_depend_on_gaps() -> None:
    assert column_type(frozenset({int, ABSENT, type(None)})) == column_type(frozenset({int}))
    assert column_type(frozenset()) == column_type(frozenset({ABSENT})) == "null"


# Not ru_maxrss: that of a new process begins with what its parent had when it was started.
MEASURE = """
import sys
from pathlib import Path
from esis.model.workdir import RunDir
from esis.operations.table.collect import Wanted, collect, find_out
from esis.operations.table.formats import write_csv
request = Wanted(columns=["task", "T", "L", "energy", "name"])
found = collect(find_out(RunDir(Path(sys.argv[1])), request, None), request)
with found.frame as frame, open(sys.argv[2], "wb") as stream:
    write_csv(frame, stream)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


@pytest.mark.parametrize("lines", [True, False])
def test_memory_does_not_grow_with_the_number_of_tasks(tmp_path: Path, lines: bool) -> None:
    """2,000 and 50,000 tasks (10,000 in files of their own: making them takes long) need the same.

    Within 3 MiB, which is 64 bytes for each of the 48,000 more; a row held in memory would take ten times that.
    """
    peaks = []
    for count in (2000, 50_000 if lines else 10_000):
        sets = [{"T": n / 7, "L": n % 5, "name": f"set number {n}, with some text"} for n in range(count)]
        run = make_run(
            tmp_path / str(count), sets, {n: {"energy": -n / 3} for n in range(count)}, lines=lines, records=False
        )
        out = tmp_path / f"{count}.csv"
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(run.path), str(out)],
            check=True,
            timeout=120,
            capture_output=True,
            text=True,
        )
        assert len(out.read_bytes().splitlines()) == count + 1
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 3 * 1024, peaks  # KiB


def test_results_and_parameters_are_told_apart_whatever_they_are_called(tmp_path: Path) -> None:
    """A parameter called `results` is that alone; with a dot behind it the word means the results."""
    run = make_run(tmp_path, [{"results": "a/b", "x": 1}, {"results": "c/d", "x": 2}], {0: {"x": 5, "parameters": 9}})
    for where, tasks in {
        "results.x == 5": [0],
        "results['x'] == 5": [0],
        "results == 'c/d'": [1],
        "parameters.results == 'a/b' and parameters.x == 1": [0],
        "results.parameters == 9": [0],
        "results.startswith('c') or x == 2": None,
    }.items():
        if tasks is None:
            with pytest.raises(BadInput):
                collected(run, Wanted(where=where))
        else:
            assert [row["task"] for row in rows_of(data_of(run, where=where))] == tasks, where


def test_a_condition_names_the_task_that_it_does_not_fit(tmp_path: Path) -> None:
    run = make_run(tmp_path, [{"name": "x"}, {"name": "y"}], {})
    with pytest.raises(BadInput, match="of task 1: ValueError: substring not found"):
        collected(run, Wanted(where="name.index('x')>2"))
