"""esis.export and esis.export_array: merged, atomic, and readable by others."""

from __future__ import annotations

import array
import ast
import contextlib
import io
import json
import math
import os
import signal
import struct
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import esis
from esis.errors import BadInput
from esis.files import write_atomic
from esis.model.workdir import RunDir
from esis.worker import folded, objects
from esis.worker import results as merging
from esis.worker.npy import encode
from tests.worker.conftest import make_run

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def results(run: RunDir, task: int = 5) -> dict[str, Any]:
    value = json.loads(run.result_file(task).read_text("utf-8"), parse_constant=lambda word: pytest.fail(word))
    assert isinstance(value, dict)
    return value


@pytest.fixture
def here(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """Be task 5 of a run."""
    monkeypatch.chdir(run.cwd)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    return run


def test_results_of_several_calls_are_merged(here: RunDir) -> None:
    esis.export(mass=0.31, error=0.02)
    esis.export(mass=0.32, fit={"chi2": 1.5, "points": [1, 2]}, name="größe", nothing=None, good=True)
    assert results(here) == {
        "mass": 0.32,
        "error": 0.02,
        "fit": {"chi2": 1.5, "points": [1, 2]},
        "name": "größe",
        "nothing": None,
        "good": True,
    }
    assert here.result_file(5).read_bytes().count(b"\n") == 1
    assert [path.name for path in here.results.iterdir()] == ["results.5.json"]


def test_f283_numbers_of_numpy_that_are_longer_than_pythons_are_rounded(here: RunDir) -> None:
    """F283: their `tolist` gives themselves."""
    numpy = pytest.importorskip("numpy")
    esis.export(
        x=numpy.longdouble(1) / 3, both=numpy.array([1, 2], dtype=numpy.longdouble), odd=numpy.longdouble("inf")
    )
    assert results(here) == {"x": 1 / 3, "both": [1.0, 2.0], "odd": "Infinity"}
    with pytest.raises(BadInput, match="x: JSON has no form for clongdouble"):
        esis.export(x=numpy.clongdouble(1))


def test_f283_what_cannot_be_written_is_named(here: RunDir) -> None:
    """F283: at the end of a long task no error of Python's own; what was there stays."""
    esis.export(a=1)
    itself: list[object] = []
    itself.append(itself)
    for value, said in ((itself, "holds itself"), (10**5000, "16610 bits")):
        with pytest.raises(BadInput, match=f"v.*{said}"):
            esis.export(v=value)
    esis.export(b=10**4000)
    assert results(here) == {"a": 1, "b": 10**4000}


def test_f130_threads_that_export_at_once_lose_nothing(here: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is held up between reading and writing until the others have begun, or can't."""
    begun = threading.Barrier(4)
    written = write_atomic

    def late(path: Path, content: bytes) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            begun.wait(timeout=0.2)
        written(path, content)

    monkeypatch.setattr(merging, "write_atomic", late)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: esis.export(**{name: name}), "abcd"))
    assert results(here) == dict(zip("abcd", "abcd"))


def test_f130_a_process_forked_while_a_thread_exports_can_export(here: RunDir) -> None:
    """The thread isn't there in the child, so nobody would end its turn."""
    with merging._turn.lock:
        child = threading.Thread(target=lambda: ends.append(forked()))
        ends: list[int] = []
        child.start()
        child.join()
    assert ends == [0]
    assert results(here) == {"child": 1}


def test_f191_what_a_handler_of_a_signal_exports_meanwhile_stays(here: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """F191: the call that it interrupts has read the results before, and would write them back without."""
    written = write_atomic
    heard: list[Path] = []

    def interrupted(path: Path, content: bytes) -> None:
        if not heard:
            heard.append(path)
            esis.export(stopped=1)
        written(path, content)

    monkeypatch.setattr(merging, "write_atomic", interrupted)
    esis.export(step=7)
    esis.export(more=8)
    assert results(here) == {"step": 7, "stopped": 1, "more": 8}


def forked() -> int:
    """Return how a child ends that exports, and isn't waited for without end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: of processes with threads, as here
        process = os.fork()
    if process == 0:
        signal.alarm(10)
        esis.export(child=1)
        os._exit(0)
    return os.waitpid(process, 0)[1]


def test_what_json_has_no_number_for_is_a_text_that_float_reads(here: RunDir) -> None:
    esis.export(a=math.nan, b=math.inf, c=[-math.inf], d={"x": math.nan})
    written = results(here)
    assert written == {"a": "NaN", "b": "Infinity", "c": ["-Infinity"], "d": {"x": "NaN"}}
    assert math.isnan(float(written["a"]))
    assert (float(written["b"]), float(written["c"][0])) == (math.inf, -math.inf)


@pytest.mark.parametrize("value", [1j, {1, 2}, b"bytes", object(), Path("x"), {"deep": [1, {"er": 2j}]}, {1.5: 1}])
def test_what_json_has_no_form_for_is_refused_and_changes_nothing(here: RunDir, value: object) -> None:
    esis.export(before=1)
    with pytest.raises(BadInput, match=r"^x"):
        esis.export(good=2, x=value)
    assert results(here) == {"before": 1}


def test_a_result_file_that_is_no_json_is_kept_aside(here: RunDir) -> None:
    """The results of a long calculation are not lost because an earlier attempt left half a file."""
    here.result_file(5).write_text('{"half": ')
    with pytest.warns(RuntimeWarning, match="corrupt"):
        esis.export(mass=1)
    assert results(here) == {"mass": 1}
    assert here.result_file(5).with_name("results.5.json.corrupt").read_text() == '{"half": '


def test_a_second_damaged_file_takes_no_place_of_the_first(here: RunDir) -> None:
    for content in ("{", "[1]", "7"):
        here.result_file(5).write_text(content)
        with pytest.warns(RuntimeWarning, match="corrupt"):
            esis.export(mass=1)
    kept = [here.results / f"results.5.json.corrupt{number}" for number in ("", ".2", ".3")]
    assert [path.read_text() for path in kept] == ["{", "[1]", "7"]


def test_a_text_that_is_no_utf_8_comes_back_and_costs_no_other_value(here: RunDir) -> None:
    """Names of files may have such bytes (surrogates): they become JSON's own escapes, in valid UTF-8."""
    esis.export(e=1.5)
    esis.export(file="caf\udce9.dat", **{"\ud83d": ["\udcff"]})
    esis.export(f=2.5)
    assert results(here) == {"e": 1.5, "file": "caf\udce9.dat", "\ud83d": ["\udcff"], "f": 2.5}
    assert [path.name for path in here.results.iterdir()] == ["results.5.json"]


def test_what_an_earlier_version_wrote_is_added_to(here: RunDir) -> None:
    """0.1.0 wrote such bytes as they are, which is no JSON."""
    here.result_file(5).write_bytes(b'{"e": 1.5, "file": "caf\xe9.dat"}\n')
    esis.export(f=2.5)
    assert results(here) == {"e": 1.5, "file": "caf\udce9.dat", "f": 2.5}


@pytest.mark.parametrize("text", ['{"x": NaN}', '{"x": [-Infinity, {"y": 1e400}]}'])
def test_numbers_of_other_programs_that_json_has_not_are_texts_after_the_next_call(here: RunDir, text: str) -> None:
    here.result_file(5).write_text(text)
    esis.export(f=2.5)
    assert results(here) in ({"x": "NaN", "f": 2.5}, {"x": ["-Infinity", {"y": "Infinity"}], "f": 2.5})


def test_what_nobody_could_read_again_is_refused_and_changes_nothing(
    here: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "STATE_FILE_LIMIT", 100)
    esis.export(energy=1.5)
    esis.export(series=[0] * 35)  # fits without blanks
    before = here.result_file(5).read_bytes()
    with pytest.raises(BadInput, match=r"results\.5\.json: the results would take 1.. bytes.*esis.export_array"):
        esis.export(series=[0] * 60)
    assert here.result_file(5).read_bytes() == before
    assert len(before) <= 100
    assert results(here) == {"energy": 1.5, "series": [0] * 35}


# --- what an earlier attempt exported, and esis compact folded


@RELAXED
@given(
    st.dictionaries(
        st.integers(0, 60), st.sampled_from([{}, {"a": 1}, {"a": "x" * 300, "b": [1]}, {"b": "x" * 70_000}, 5])
    ),
    st.integers(0, 61),
)
def test_what_was_folded_is_added_to(
    tmp_path_factory: pytest.TempPathFactory, before: dict[int, object], index: int
) -> None:
    """Wherever in the file the line of the task is, and however long others are; what is no object is a value."""
    task = esis.task(index, make_run(tmp_path_factory.mktemp("run")).path, parameters={})
    lines = "".join(json.dumps({"task": number, "results": before[number]}) + "\n" for number in sorted(before))
    task.paths.results_lines.write_text(lines)
    task.export(gap=2)
    own = before.get(index, {})
    assert results(task.paths, index) == {**(own if isinstance(own, dict) else {"value": own}), "gap": 2}
    task.export(a=3)
    assert results(task.paths, index)["a"] == 3
    assert task.paths.results_lines.read_text() == lines


def test_a_file_of_results_outranks_what_was_folded(here: RunDir) -> None:
    here.results_lines.write_text('{"task": 5, "results": {"old": 1}}\n')
    here.result_file(5).write_text('{"new": 1}')
    esis.export(gap=2)
    assert results(here) == {"new": 1, "gap": 2}


@pytest.mark.parametrize(
    "content", ["x\n", '{"task": 5}\n', '{"task": 5, "x": 1}\n', '{"task": 5, "results": {\n', '{"results": 1}', None]
)
def test_folded_results_that_can_not_be_read_are_named_and_the_new_ones_kept(here: RunDir, content: str | None) -> None:
    """The results of a long calculation are worth more than those that are there still, for somebody to mend."""
    if content is None:
        os.mkfifo(here.results_lines)
    else:
        here.results_lines.write_text(content)
    with pytest.warns(RuntimeWarning, match=r"results\.jsonl.*nothing of it is in the results of task 5"):
        esis.export(gap=2)
    assert results(here) == {"gap": 2}


def test_a_line_is_found_in_a_large_file_by_looking_at_little_of_it(
    here: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rerun of many tasks mustn't read everything for each of them."""
    with here.results_lines.open("w") as stream:
        for number in range(20_000):
            print(json.dumps({"task": number, "results": {"series": [number] * 60}}), file=stream)
    task, read = esis.task(13_001, here.path), 0

    class Counting(io.BufferedReader):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal read
            data = super().read(size)
            read += len(data)
            return data

    monkeypatch.setattr(folded, "open_regular", lambda path: Counting(io.FileIO(path)))
    task.export(gap=2)
    assert results(here, 13_001) == {"series": [13_001] * 60, "gap": 2}
    assert read < here.results_lines.stat().st_size / 5


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@RELAXED
@given(st.lists(st.dictionaries(st.text(min_size=1, max_size=8), values, max_size=4), max_size=4))
def test_any_values_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, calls: list[dict[str, object]]
) -> None:
    task = esis.task(5, tmp_path_factory.mktemp("run"), parameters={})
    expected: dict[str, object] = {}
    for call in calls:
        task.export(**call)
        expected.update(call)
    if calls:
        assert results(task.paths) == expected


# --- arrays


def read_npy(data: bytes) -> tuple[str, tuple[int, ...], list[Any]]:
    """Read the format as its specification has it; return type, shape and all elements."""
    assert data[:8] == b"\x93NUMPY\x01\x00"
    (length,) = struct.unpack("<H", data[8:10])
    assert (10 + length) % 64 == 0
    text = data[10 : 10 + length]
    assert text.endswith(b"\n")
    header = ast.literal_eval(text.decode("ascii"))
    assert set(header) == {"descr", "fortran_order", "shape"}
    assert header["fortran_order"] is False
    descr, shape = header["descr"], header["shape"]
    size = int(descr[2:])
    kind = {
        "i": {1: "b", 2: "h", 4: "i", 8: "q"},
        "u": {1: "B", 2: "H", 4: "I", 8: "Q"},
        "f": {4: "f", 8: "d"},
        "b": {1: "?"},
        "c": {16: "dd"},
    }[descr[1]][size]
    order = {"<": "<", ">": ">", "|": "="}[descr[0]]
    items = list(struct.iter_unpack(order + kind, data[10 + length :]))
    flat = [complex(*item) if descr[1] == "c" else item[0] for item in items]
    assert len(flat) == math.prod(shape)
    return descr, shape, flat


def flatten(values: Any) -> list[Any]:
    return [leaf for item in values for leaf in flatten(item)] if isinstance(values, (list, tuple, range)) else [values]


@pytest.mark.parametrize(
    ("given_", "descr", "shape"),
    [
        ([1, 2, 3], "<i8", (3,)),
        ([[1, 2], [3, 4], [5, 6]], "<i8", (3, 2)),
        ([1, 2.5], "<f8", (2,)),
        ([True, False], "|b1", (2,)),
        ([True, 2], "<i8", (2,)),
        ([1j, 2], "<c16", (2,)),
        ([], "<f8", (0,)),
        ([[], []], "<f8", (2, 0)),
        (range(3), "<i8", (3,)),
        (((1.0, 2.0),), "<f8", (1, 2)),
        ([math.nan], "<f8", (1,)),
        (array.array("d", [1.5, 2.5]), "<f8", (2,)),
        (array.array("f", [1.5]), "<f4", (1,)),
        (array.array("H", [1, 65535]), "<u2", (2,)),
        (array.array("b", [-1]), "|i1", (1,)),
        (memoryview(array.array("i", range(6))).cast("B").cast("i", shape=[2, 3]), "<i4", (2, 3)),
        (memoryview(array.array("i", range(6)))[::2], "<i4", (3,)),
    ],
)
def test_numbers_become_the_file_that_the_format_describes(given_: Any, descr: str, shape: tuple[int, ...]) -> None:
    found = read_npy(encode(given_))
    assert found[:2] == (descr, shape)
    leaves = flatten(given_.tolist() if hasattr(given_, "tolist") else list(given_))
    assert [repr(item) for item in found[2]] == [repr(type(item)(leaf)) for item, leaf in zip(found[2], leaves)]


@pytest.mark.parametrize(
    "given_",
    [
        [[1], [1, 2]],
        [1, [2]],
        [[1], 2],
        ["text"],
        [None],
        [2**63],
        [1.0, 10**400],
        "text",
        5,
        b"bytes",
        {1: 2},
        memoryview(b"abc").cast("c"),
        array.array("u", "abc"),
        [[[], []], [[]]],
    ],
)
def test_what_is_no_array_of_numbers_is_refused(given_: object) -> None:
    with pytest.raises(BadInput):
        encode(given_)


@RELAXED
@given(st.data())
def test_numpy_reads_what_is_written(data: st.DataObject) -> None:
    numpy = pytest.importorskip("numpy")
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    element = data.draw(
        st.sampled_from(
            [st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans(), st.complex_numbers(allow_nan=False)]
        )
    )
    flat = data.draw(st.lists(element, min_size=math.prod(shape), max_size=math.prod(shape)))
    expected = numpy.array(flat).reshape(shape)
    import io

    found = numpy.load(io.BytesIO(encode(expected.tolist())), allow_pickle=False)
    assert found.dtype == expected.dtype
    assert numpy.array_equal(found, expected, equal_nan=found.dtype.kind in "fc")
    assert encode(expected) == encode(expected.tolist())


def test_an_array_stands_beside_the_results_which_name_it(here: RunDir) -> None:
    esis.export(mass=1)
    esis.export_array("correlator", [[1.0, 2.0], [3.0, 4.0]])
    assert results(here) == {"mass": 1, "correlator": "results.5.correlator.npy"}
    assert read_npy((here.results / results(here)["correlator"]).read_bytes())[2] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "x" * 101, "ü"])
def test_the_name_of_an_array_can_be_that_of_a_file(here: RunDir, name: str) -> None:
    with pytest.raises(BadInput, match="name of an array"):
        esis.export_array(name, [1])
    assert list(here.results.iterdir()) == []


def test_values_of_numpy_are_taken_as_numbers(here: RunDir) -> None:
    numpy = pytest.importorskip("numpy")
    esis.export(a=numpy.float32(0.5), b=numpy.int64(3), c=numpy.arange(3), d=numpy.bool_(True), e=numpy.float64("nan"))
    assert results(here) == {"a": 0.5, "b": 3, "c": [0, 1, 2], "d": True, "e": "NaN"}


def test_two_runs_do_not_meet(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    esis.task(0, first.path).export(x=1)
    esis.task(0, second.path).export(x=2)
    assert (results(first, 0), results(second, 0)) == ({"x": 1}, {"x": 2})


def test_f286_lists_of_numbers_and_arrays_of_numpy_are_arrays(here: RunDir) -> None:
    """F286: a list that a loop filled holds NumPy's own numbers."""
    numpy = pytest.importorskip("numpy")
    row = numpy.arange(2.0)
    for given_, kind, values in (
        ([numpy.int64(1), numpy.int8(2)], "<i8", [1, 2]),
        ([numpy.float32(0.5), 1], "<f8", [0.5, 1.0]),
        ([numpy.bool_(True)], "|b1", [True]),
        ([numpy.complex64(1j)], "<c16", [1j]),
        ([numpy.longdouble(0.5)], "<f8", [0.5]),
        ((row, [numpy.float64(2), 3]), "<f8", [[0.0, 1.0], [2.0, 3.0]]),
        (numpy.ma.array(row), "<f8", [0.0, 1.0]),
    ):
        found = numpy.load(io.BytesIO(encode(given_)), allow_pickle=False)
        assert (found.dtype.str, found.tolist()) == (kind, values)


def test_f286_what_a_mask_hides_is_not_exported(here: RunDir) -> None:
    """F286: in a file of NumPy's the values behind the mask would stand as if they were right."""
    numpy = pytest.importorskip("numpy")
    masked = numpy.ma.array([1.0, 2.0], mask=[False, True])
    for given_ in (masked, [masked, masked], [1.0, numpy.ma.masked]):
        with pytest.raises(BadInput, match=r"the array 'x': values of it are masked.*filled"):
            esis.export_array("x", given_)
    assert list(here.results.iterdir()) == []
    esis.export(x=masked, one=masked[1], inner={"y": [masked[1]]})
    assert results(here) == {"x": [1.0, None], "one": None, "inner": {"y": [None]}}


def test_f286_whole_numbers_of_numpy_are_names_as_pythons_are(here: RunDir) -> None:
    numpy = pytest.importorskip("numpy")
    esis.export(sizes={numpy.int64(8): 0.5, 16: numpy.float32(0.25)})
    assert results(here) == {"sizes": {"8": 0.5, "16": 0.25}}
    for name in (numpy.float64(1), numpy.bool_(True), True, 2.5, None, 10**5000):
        with pytest.raises(BadInput, match=r"sizes.*can't be the name of a value"):
            esis.export(sizes={name: 1})


def test_f286_of_two_values_none_is_lost_to_the_other(here: RunDir) -> None:
    """F286: 1 and "1" would be one name."""
    with pytest.raises(BadInput, match=r"fit\.inner: two values would have the name '1'"):
        esis.export(fit={"inner": {1: "a", "1": "b"}})


def test_f286_a_list_that_holds_itself_is_no_array(here: RunDir) -> None:
    pytest.importorskip("numpy")
    itself: list[object] = []
    itself.append(itself)
    with pytest.raises(BadInput, match=r"the array 'x': it holds itself|the array 'x': more than 32"):
        esis.export_array("x", itself)
