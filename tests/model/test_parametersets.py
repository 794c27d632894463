"""Parameter sets in their two forms read the same, and the index of the one file is checked, not believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esis.errors import BadInput, CorruptState, ExitCode, UserScriptFailed
from esis.model import parametersets
from esis.model.index_sets import MOST_TASKS
from esis.model.parametersets import ParameterSets, write_index
from esis.model.workdir import INDEX_ENTRY, RunDir
from tests.ground.openings import opened

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def a_run(directory: Path) -> RunDir:
    run = RunDir.of(directory, "a" * 64)
    run.parameters.mkdir(parents=True)
    return run


def in_lines(run: RunDir, sets: list[object], index: bool = True) -> ParameterSets:
    run.parameters_lines.write_text("".join(json.dumps(item) + "\n" for item in sets))
    if index:
        assert write_index(run.parameters_lines) == len(sets)
    return ParameterSets(run)


def in_files(run: RunDir, sets: list[object], first: int = 0) -> ParameterSets:
    for number, item in enumerate(sets, first):
        run.parameter_file(number).write_text(json.dumps(item))
    return ParameterSets(run)


@settings(deadline=None)  # files on a busy machine
@given(sets=st.lists(JSON, min_size=1, max_size=12), order=st.randoms(use_true_random=False))
def test_both_forms_give_the_same(tmp_path_factory: pytest.TempPathFactory, sets: list[object], order: object) -> None:
    """In any order of tasks, some left out, some twice."""
    directory = tmp_path_factory.mktemp("runs")
    (directory / "lines").mkdir()
    (directory / "files").mkdir()
    lines, files = in_lines(a_run(directory / "lines"), sets), in_files(a_run(directory / "files"), sets)
    tasks = [order.randrange(len(sets)) for _ in range(10)]  # type: ignore[attr-defined]
    expected = [(task, sets[task] if isinstance(sets[task], dict) else {"value": sets[task]}) for task in tasks]
    assert list(lines.iterate(tasks)) == list(files.iterate(tasks)) == expected
    assert [lines.get(task) for task in tasks] == [files.get(task) for task in tasks]
    assert list(lines.indices()) == list(files.indices()) == list(range(len(sets)))
    assert lines.count() == files.count() == len(sets)


def test_files_may_begin_at_one(tmp_path: Path) -> None:
    sets = in_files(a_run(tmp_path), [{"a": 1}, {"a": 2}], first=1)
    assert list(sets.indices()) == [1, 2]
    assert sets.get(2) == {"a": 2}


def test_the_lines_outrank_the_files(tmp_path: Path) -> None:
    """A job makes parameters.<n>.json for its worker; that one may be old, half written or left over."""
    run = a_run(tmp_path)
    run.parameter_file(0).write_text("half of")
    run.parameter_file(7).write_text("{}")
    sets = in_lines(run, [{"a": 1}, {"a": 2}])
    assert list(sets.iterate([0, 1])) == [(0, {"a": 1}), (1, {"a": 2})]
    assert list(sets.indices()) == [0, 1]
    assert ParameterSets(run).get(0) == {"a": 1}


def test_an_entry_of_the_index_has_17_bytes_and_tells_where_its_line_begins(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    in_lines(run, [{"a": "ä"}, {}, {"b": 2}])
    entries = run.parameters_index.read_bytes()
    assert len(entries) == 3 * INDEX_ENTRY
    content = run.parameters_lines.read_bytes()
    for number, expected in enumerate([{"a": "ä"}, {}, {"b": 2}]):
        entry = entries[INDEX_ENTRY * number : INDEX_ENTRY * (number + 1)]
        assert entry.endswith(b"\n")
        assert json.loads(content[int(entry) :].split(b"\n")[0]) == expected


def test_many_lines_are_indexed_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of lines is against the size of a batch."""
    monkeypatch.setattr(parametersets, "_BATCH", 4)
    for count in (3, 4, 5, 8, 9):
        run = a_run(tmp_path / str(count))
        sets = in_lines(run, [{"n": n * n} for n in range(count)])
        assert [parameters["n"] for _, parameters in sets.iterate(range(count))] == [n * n for n in range(count)]
        assert sets.get(count - 1) == {"n": (count - 1) ** 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1 is empty"),
        ("\n\n", "line 1 is empty"),
        ('{"a": 1}\n\n{"a": 2}\n', "line 2 is empty"),
        ("\n{}\n", "line 1 is empty"),
        ("{}\n{}\n  \t\n{}\n", "line 3 is empty"),
        ('{\n  "a": 1\n}\n', "line 1 is no JSON"),
        ("\ufeff{}\n{}\n", "line 1 is no JSON.*BOM"),  # F297: as in a workflow file; other languages read no such line
    ],
)
def test_lines_that_break_the_contract_are_named(tmp_path: Path, text: str, words: str) -> None:
    """With the exit code of a generator that broke its contract; no index and no litter is left."""
    run = a_run(tmp_path)
    run.parameters_lines.write_text(text)
    with pytest.raises(UserScriptFailed, match=words) as error:
        write_index(run.parameters_lines)
    assert error.value.exit_code is ExitCode.USER_SCRIPT
    assert os.listdir(run.parameters) == ["parameters.jsonl"]


@pytest.mark.parametrize("text", ['{"a": 1}\n{"a": 2}', '{"a": 1}\n{"a": 2}\n\n', '{"a": 1}\r\n{"a": 2}\r\n'])
def test_the_end_of_the_last_line_is_free(tmp_path: Path, text: str) -> None:
    run = a_run(tmp_path)
    run.parameters_lines.write_bytes(text.encode())
    assert write_index(run.parameters_lines) == 2
    sets = ParameterSets(run)
    assert sets.get(1) == {"a": 2}
    run.parameters_index.unlink()
    assert sets.count() == 2


def test_without_the_index_the_lines_are_read_from_the_beginning(tmp_path: Path) -> None:
    sets = in_lines(a_run(tmp_path), [{"n": n} for n in range(5)], index=False)
    assert [parameters["n"] for _, parameters in sets.iterate([1, 3, 0, 4])] == [1, 3, 0, 4]
    assert sets.count() == 5
    with pytest.raises(BadInput, match="no line 6, for task 5"):
        sets.get(5)


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("task", [3, 99, -1])
def test_a_task_that_is_not_there_is_an_error(tmp_path: Path, index: bool, task: int) -> None:
    sets = in_lines(a_run(tmp_path), [{}, {}, {}], index)
    with pytest.raises(BadInput, match=f"for task {task}"):
        sets.get(task)


@pytest.mark.parametrize(
    "index",
    [
        b"0000000000000000\n0000000000000008\n0000000000000019\n",  # one byte before the line of task 1
        b"0000000000000000\n000000000000000x\n0000000000000019\n",
        b"0000000000000000\n0000000000000009 0000000000000019\n"[:-4],
    ],
)
def test_an_index_that_does_not_fit_is_an_error(tmp_path: Path, index: bytes) -> None:
    """It never leads to the rest of a line, or silently to fewer tasks."""
    run = a_run(tmp_path)
    sets = in_lines(run, [{"a": 1}, {"a": 2}, {"a": 3}])
    assert run.parameters_index.read_bytes() == b"0000000000000000\n0000000000000009\n0000000000000018\n"
    run.parameters_index.write_bytes(index)
    with pytest.raises(CorruptState, match=r"parameters\.index is corrupt.*remove it"):
        [sets.count(), sets.get(1)]


@pytest.mark.parametrize(("content", "words"), [(b"", "no JSON"), (b"{", "no JSON"), (b"\xff\xfe\xff", "no JSON")])
def test_a_set_that_is_no_json_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    """In both forms; of a line its number."""
    run = a_run(tmp_path)
    run.parameter_file(3).write_bytes(content)
    with pytest.raises(BadInput, match=rf"parameters\.3\.json is {words}"):
        ParameterSets(run).get(3)
    if content:
        run.parameters_lines.write_bytes(b"{}\n" + content + b"\n")
        with pytest.raises(BadInput, match=rf"parameters\.jsonl: line 2 is {words}"):
            ParameterSets(run).get(1)


def test_missing_files_are_named(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    with pytest.raises(BadInput, match=r"parameters\.4\.json is missing"):
        ParameterSets(run).get(4)


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    os.mkfifo(run.parameter_file(0))
    with pytest.raises(CorruptState, match=r"parameters\.0\.json is not a regular file"):
        ParameterSets(run).get(0)
    os.mkfifo(run.parameters_lines)
    with pytest.raises(CorruptState, match="not a regular file"):
        ParameterSets(run).get(0)
    run.parameters_lines.unlink()
    run.parameters_lines.write_text("{}\n")
    os.mkfifo(run.parameters_index)
    with pytest.raises(CorruptState, match="not a regular file"):
        ParameterSets(run).get(0)
    with pytest.raises(CorruptState, match="not a regular file"):
        ParameterSets(run).count()


def test_f58_an_index_of_absurd_size_gives_no_tasks(tmp_path: Path) -> None:
    """F58: a sparse index of a petabyte would make more tasks than any memory holds."""
    run = in_lines(a_run(tmp_path), [{"n": 0}])._run
    for size in (17 * (MOST_TASKS + 1), 17 * 2**38):
        os.truncate(run.parameters_index, size)
        with pytest.raises(CorruptState, match=r"parameters\.index"):
            ParameterSets(run).indices()


def test_reading_all_lines_opens_two_files(tmp_path: Path) -> None:
    sets = in_lines(a_run(tmp_path), [{"n": n} for n in range(500)])
    with opened(tmp_path) as names:
        assert sum(parameters["n"] for _, parameters in sets.iterate(range(0, 500, 2))) == sum(range(0, 500, 2))
    assert sorted(names) == ["parameters.index", "parameters.jsonl"]
