"""Results in their two forms read the same, in the order of the tasks; what can't be read is an error, not a gap."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esis.errors import CorruptState
from esis.model.workdir import RunDir
from esis.records.results import Results, find_files
from tests.ground.openings import opened

EXPORTED = st.dictionaries(st.text(max_size=5), st.integers() | st.floats(allow_nan=False) | st.text(), max_size=3)


def a_run(directory: Path) -> RunDir:
    run = RunDir.of(directory, "a" * 64)
    run.results.mkdir(parents=True)
    return run


def in_files(run: RunDir, results: dict[int, object]) -> None:
    for task, value in results.items():
        run.result_file(task).write_text(json.dumps(value))


def in_lines(run: RunDir, results: dict[int, object]) -> None:
    run.results_lines.write_text(
        "".join(json.dumps({"task": task, "results": results[task]}) + "\n" for task in sorted(results))
    )


@settings(deadline=None)  # files on a busy machine
@given(
    results=st.dictionaries(st.integers(0, 15), EXPORTED, max_size=10),
    later=st.sets(st.integers(0, 15)),
    tasks=st.sets(st.integers(0, 20)),
)
def test_every_form_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, results: dict[int, object], later: set[int], tasks: set[int]
) -> None:
    """Files, lines, or both: a file outranks the line of its task."""
    place = tmp_path_factory.mktemp("runs")
    files, lines, both = a_run(place / "files"), a_run(place / "lines"), a_run(place / "both")
    in_files(files, results)
    in_lines(lines, results)
    in_lines(both, {task: "of an earlier attempt" if task in later else value for task, value in results.items()})
    in_files(both, {task: value for task, value in results.items() if task in later})
    expected = [(task, results.get(task)) for task in sorted(tasks)]
    for run in (files, lines, both):
        assert list(Results(run).iterate(sorted(tasks))) == expected
        assert [(task, Results(run).get(task)) for task in sorted(tasks)] == expected


def test_what_is_no_object_is_a_value(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    in_files(run, {0: 1.5, 1: [1, 2]})
    assert [value for _, value in Results(run).iterate([0, 1])] == [{"value": 1.5}, {"value": [1, 2]}]
    in_lines(run, {2: "x"})
    assert Results(run).get(2) == {"value": "x"}


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\xff", b"[" * 100_000, b'{"a": 1}{"a": 1}'])
def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    """A worker that was killed while it wrote leaves half a file: that is not "no results"."""
    run = a_run(tmp_path)
    run.result_file(3).write_bytes(content)
    with pytest.raises(CorruptState, match=r"results\.3\.json is no JSON.*esis resubmit --tasks 3"):
        Results(run).get(3)


@pytest.mark.parametrize(
    "line",
    [
        b'{"task": 5, "results"',
        b"",
        b"7",
        b'{"task": 5}',
        b'{"task": 3, "results": {}}',
        b'{"task": "5", "results": {}}',
        b'{"task": true, "results": {}}',
        b'{"task": 2, "results": {}}',
    ],
)
def test_a_line_that_can_not_be_read_is_named(tmp_path: Path, line: bytes) -> None:
    """Also one that is out of order: the tasks behind it would silently be missing."""
    run = a_run(tmp_path)
    run.results_lines.write_bytes(b'{"task": 3, "results": {}}\n' + line + b'\n{"task": 9, "results": {}}\n')
    with pytest.raises(CorruptState, match=r"results\.jsonl is corrupt: line 2"):
        list(Results(run).iterate(range(10)))


def test_a_directory_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.result_file(0).mkdir()
    with pytest.raises(CorruptState, match=f"{run.result_file(0)} is not a regular file"):
        Results(run).get(0)


def test_a_run_without_results(tmp_path: Path) -> None:
    """Nothing was exported, or 0.0.4 made the run: no results, no error."""
    run = RunDir.of(tmp_path, "b" * 64)
    assert list(Results(run).iterate([0, 1])) == [(0, None), (1, None)]
    assert list(find_files(run.results)) == []


def test_names_beside_results_are_told_apart(tmp_path: Path) -> None:
    """Arrays, temporary files and files of the user's are no results."""
    run = a_run(tmp_path)
    in_files(run, {0: {}, 12: {}})
    for name in (
        "results.0.correlator.npy",
        "results.0.a.b.npy",
        "results.12.ä b.npy",
        "results.npy",
        ".esis-tmp-1",
        "results.01.json",
        "results.1.json.tmp",
        "results.1..npy",
        "results.jsonl.bak",
        "results.x.json",
    ):
        (run.results / name).touch()
    assert sorted(find_files(run.results)) == [0, 12]


def test_what_was_compacted_is_read_from_one_file(tmp_path: Path) -> None:
    """No name of a task is tried where no file of a task is there."""
    run = a_run(tmp_path)
    in_lines(run, {task: {"n": task} for task in range(500)})
    results = Results(run)
    with opened(tmp_path) as names:
        assert sum(value["n"] for _, value in results.iterate(range(0, 500, 3)) if value) == sum(range(0, 500, 3))
    assert sorted(names) == ["results", "results.jsonl"]
    assert len(os.listdir(run.results)) == 1
