"""Results in their two forms read the same, in the order of the tasks; what can't be read is an error, not a gap."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esis.errors import Busy, CorruptState
from esis.files import LINE_LIMIT, STATE_FILE_LIMIT, is_there, parse_json
from esis.model.workdir import RunDir
from esis.records import results as module
from esis.records.results import Results, Unfit, as_line, find_files, folded
from esis.worker import folded as of_workers
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
    with pytest.raises(CorruptState, match=r"results\.3\.json is no JSON.*esis resubmit --tasks 3 .*--state done"):
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


# --- somebody folds them meanwhile


def fold(run: RunDir) -> None:
    """Do what `esis compact --results` does: the lines are in place before a file is removed."""
    lines = dict(folded(run))
    files = list(find_files(run.results))
    lines.update((task, as_line(run, task)) for task in files)
    fresh = run.results / "fresh"
    fresh.write_bytes(b"".join(lines[task] + b"\n" for task in sorted(lines)))
    fresh.rename(run.results_lines)
    for task in files:
        run.result_file(task).unlink()


@settings(deadline=None)
@given(
    results=st.dictionaries(st.integers(0, 12), EXPORTED, max_size=10),
    later=st.dictionaries(st.integers(0, 12), EXPORTED, max_size=10),
    at=st.lists(st.integers(0, 13), max_size=3),
    compacted=st.booleans(),
)
def test_results_that_are_folded_meanwhile_are_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    results: dict[int, object],
    later: dict[int, object],
    at: list[int],
    compacted: bool,
) -> None:
    """Whenever it happens, and however often: nothing is missing, and nothing is older than it was at the beginning."""
    run = a_run(tmp_path_factory.mktemp("run"))
    in_files(run, results)
    if compacted:
        fold(run)
    in_files(run, later)
    expected = {**results, **later}
    reading = Results(run).iterate(range(14))
    for task in range(14):
        for _ in range(at.count(task)):
            fold(run)
        assert next(reading) == (task, expected.get(task))
    assert next(reading, None) is None


def test_a_task_that_is_run_again_and_folded_meanwhile_has_its_later_results(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    in_files(run, {task: {"n": "old"} for task in range(4)})
    fold(run)
    in_files(run, {3: {"n": "new"}})
    reading = Results(run).iterate(range(4))
    assert next(reading) == (0, {"n": "old"})
    fold(run)
    assert list(reading)[-1] == (3, {"n": "new"})


def test_a_file_that_is_removed_by_hand_leaves_the_line(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    in_lines(run, {0: {"n": 0}, 1: {"n": 1}})
    in_files(run, {1: {"n": 2}})
    reading = Results(run).iterate(range(3))
    assert next(reading) == (0, {"n": 0})
    run.result_file(1).unlink()
    assert list(reading) == [(1, {"n": 1}), (2, None)]


@pytest.mark.parametrize("has_results", [True, False])
def test_who_is_told_too_late_that_they_were_folded_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_results: bool
) -> None:
    """A client of NFS may say for a while that there is no results.jsonl: that is no reason to leave tasks out."""
    run = a_run(tmp_path)
    in_files(run, {0: {"n": 0}, 2: {"n": 2}} if has_results else {0: {"n": 0}})
    answers = iter([False] * 4)  # one at the beginning, one for each task without a file
    monkeypatch.setattr(module, "is_there", lambda path: next(answers, True) and is_there(path))
    reading = Results(run).iterate(range(4))
    assert next(reading) == (0, {"n": 0})
    fold(run)
    if not has_results:
        assert list(reading) == [(1, None), (2, None), (3, None)]
        return
    assert [next(reading), next(reading)] == [(1, None), (2, None)]
    with pytest.raises(Busy, match="were folded while they were read; repeat the command"):
        next(reading)


# --- lines


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "caf\\udce9"}',
        '{"half": "\\ud83d"}',
        '{"pi": 3.14159265358979323846264338327950288419716939937510}',
        '{"twice": 1, "twice": 2}',
        '{"large": 1e400, "whole": 123456789012345678901234567890}',
        '{"nan": NaN, "inf": -Infinity}',
        '{"a":1,"b":[0,0,0]}',
        '{"größe": "\u2028\x85 \U0001d11e",  "blanks":  "a  b"}',
        "[1, 2.50]",
        "1.50",
    ],
)
@pytest.mark.parametrize("shape", ["{}", "{}\n", "\r\n {}\t\r\n\n"])
def test_a_line_holds_the_text_that_the_worker_wrote(tmp_path: Path, text: str, shape: str) -> None:
    run = a_run(tmp_path)
    run.result_file(3).write_bytes(shape.format(text).encode())
    before = repr(Results(run).get(3))
    assert as_line(run, 3) == f'{{"task": 3, "results": {text}}}'.encode()
    fold(run)
    assert repr(Results(run).get(3)) == before


def test_ends_of_lines_between_values_become_blanks(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.result_file(0).write_bytes(b'{\r\n  "a": [\n    1.50\n  ]\r}\n')
    assert as_line(run, 0) == b'{"task": 0, "results": {    "a": [     1.50   ] }}'


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_another_encoding_becomes_utf_8(tmp_path: Path, encoding: str) -> None:
    """Whatever Python reads as JSON may lie there; a line has to be UTF-8."""
    run = a_run(tmp_path)
    run.result_file(0).write_bytes('{"größe":\n"\ud83d x"}'.encode(encoding, "surrogatepass"))
    before = Results(run).get(0)
    assert before == {"größe": "\ud83d x"}
    assert as_line(run, 0) == '{"task": 0, "results": {"größe": "\\ud83d x"}}'.encode()
    fold(run)
    assert Results(run).get(0) == before


def test_lines_with_bytes_that_are_no_utf_8_are_read_and_mended(tmp_path: Path) -> None:
    """0.1.0 wrote names of files so when it folded."""
    run = a_run(tmp_path)
    run.results_lines.write_bytes(b'{"task": 0, "results": {"file": "caf\xe9.dat"}}\n{"task": 1, "results": {}}\n')
    assert list(Results(run).iterate([0, 1])) == [(0, {"file": "caf\udce9.dat"}), (1, {})]
    fold(run)
    assert Results(run).get(0) == {"file": "caf\udce9.dat"}
    assert b'"caf\\udce9.dat"' in run.results_lines.read_bytes()


def test_each_file_that_can_be_read_fits_into_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So do lines that 0.1.0 wrote, with a blank behind each comma. The worker's side has the same limit."""
    run = a_run(tmp_path)
    run.result_file(10**12 - 1).write_text("[" + "0," * 1000 + "0]")
    line = as_line(run, 10**12 - 1)
    around = len(line) - run.result_file(10**12 - 1).stat().st_size
    assert STATE_FILE_LIMIT + around < LINE_LIMIT == vars(of_workers)["LINE_LIMIT"]
    assert len(json.dumps([0] * 1000)) / len(json.dumps([0] * 1000, separators=(",", ":"))) < LINE_LIMIT / (
        STATE_FILE_LIMIT + around
    )
    monkeypatch.setattr(module, "LINE_LIMIT", len(line))
    with pytest.raises(Unfit, match=r"results\.999999999999\.json: its line would have"):
        as_line(run, 10**12 - 1)
    run.results_lines.write_bytes(line + b"\n")
    with pytest.raises(CorruptState, match="line 1 has more than"):
        Results(run).get(0)
    monkeypatch.setattr(module, "LINE_LIMIT", len(line) + 1)
    assert as_line(run, 10**12 - 1) == line
    fold(run)
    assert Results(run).get(10**12 - 1) == {"value": [0] * 1001}


def test_what_is_nested_too_deeply_for_a_line_is_none(tmp_path: Path) -> None:
    """Who reads it back may have fewer levels left than who wrote it."""
    run = a_run(tmp_path)

    def readable(depth: int) -> bool:
        try:
            parse_json("[" * depth + "]" * depth)
        except RecursionError:
            return False
        return True

    deep = 2
    while readable(deep) and deep < 2**24:
        deep *= 2
    least = deep // 2
    while deep - least > 1:
        middle = (deep + least) // 2
        least, deep = (middle, deep) if readable(middle) else (least, middle)
    run.result_file(0).write_text("[" * (least - 20) + "]" * (least - 20))
    assert Results(run).get(0) is not None
    with pytest.raises(Unfit, match=r"results\.0\.json: it is nested so deeply"):
        as_line(run, 0)
    run.result_file(0).write_text("[" * (least - 120) + "]" * (least - 120))
    as_line(run, 0)
