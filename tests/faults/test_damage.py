"""Whatever stands in the place of a state file: commands end, name it, and the runs beside it are listed (F58)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.errors import ExitCode
from tests.contract.site import BIN, Result
from tests.faults.bench import Bench, Nursery, only_run
from tests.faults.conftest import FULL


def exabyte(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**43)


KINDS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "directory": Path.mkdir,
    "exabyte": exabyte,
}
PIECES = (
    "__esis__/state.json",
    "__esis__/submissions/0001.json",
    "__esis__/completed.state",
    "__esis__/jobid.tx",
    "__esis__/wf_starttime",
    "__esis__/workflow_definition.json",
    "__esis__/wf_status",
    "__esis__/provenance.json",
    "__esis__/tasks.txt",
    "__esis__/logs.zip",
    "__esis__/setup.log",
    "__esis__/generator.log",
    "__esis__/submissions/0001.claim",
    "sbatch.sh",
    "parameters/parameters.1.json",
    "results/results.1.json",
    "results/results.jsonl",
    "parameters/parameters.jsonl",
    "parameters/parameters.index",
    "__esis__",
    "results",
    "parameters",
    "__esis__/tasks",
    "__esis__/submissions",
    "cwd/slurm-1_1.out",
    "README",
    "includes",
)
COMMANDS = (
    ["list"],
    ["list", "--json"],
    ["status"],
    ["status", "--tasks"],
    ["run"],
    ["resubmit"],
    ["log", "1"],
    ["errors"],
    ["export"],
    ["verify"],
    ["why"],
    ["wait", "--timeout", "0"],
    ["compact", "--results"],
    ["archive", "-o", "../a.zip"],
    ["archive", "--anonymous", "-o", "../a.tar.zst"],
    ["cancel"],
    ["doctor"],
)
FEW_COMMANDS = (["status"], ["run"], ["errors"], ["export"], ["verify"], ["archive", "-o", "../a.zip"])
CODES = set(ExitCode.all().values())


@contextmanager
def deadline(seconds: int = 60) -> Iterator[None]:
    """Fail, instead of hanging, where something blocks; nothing here comes near it."""

    def late(*_: object) -> None:
        raise AssertionError("it blocks, or reads what has no end")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def clean(shown: Result, what: object) -> None:
    """See that a command ended as documented."""
    assert shown.code in CODES, (what, shown)
    for sign in ("Traceback", "internal error", "MemoryError"):
        assert sign not in shown.stderr + shown.stdout, (what, shown.stderr)
    assert all(line.startswith(("esis: ", "Usage")) for line in shown.stderr.splitlines() if line.strip()), shown


def two_runs(bench: Bench) -> tuple[Path, Path, Path]:
    """Make two finished runs; return the place of one, its directory, and that of the neighbour."""
    for name in ("a", "b"):
        place = bench.workflow(name, worker="#!/bin/sh\necho '{}' >../results/results.$SLURM_ARRAY_TASK_ID.json\n")
        bench.esis(place, "run").ok()
    bench.slurm.run()
    return bench.home / "a", only_run(bench.home / "a"), only_run(bench.home / "b")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", PIECES)
def test_f58_whatever_stands_in_the_place_of_a_piece_commands_end(bench: Bench, piece: str, kind: str) -> None:
    """F58: a FIFO, a device, a loop, a directory, an exabyte: no command hangs or reads on, and each says so well."""
    commands = COMMANDS if FULL or kind == "fifo" else FEW_COMMANDS
    if not FULL and kind != "fifo" and (PIECES.index(piece) + list(KINDS).index(kind)) % 2:
        pytest.skip("ci/faults tries them all")
    place, run, neighbour = two_runs(bench)
    path = run / piece
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    KINDS[kind](path)
    jobs = len(bench.slurm.jobs())
    with deadline():
        for command in commands:
            clean(bench.esis(place, *command), (piece, kind, command))
        listed = bench.esis(bench.home, "list", "-r")
    assert str(neighbour) in listed.stdout
    assert len(bench.slurm.jobs()) == jobs, "nothing may be submitted because of it"


ABSURD: dict[str, dict[str, Any]] = {
    "a huge count": {"count": 10**11},
    "a count beyond all": {"count": 10**30},
    "a negative count": {"count": -3},
    "true": {"count": True},
    "a fraction": {"count": 2.5},
    "a huge first": {"first": 10**12},
    "null": {"first": None},
    "text": {"count": "3"},
    "a list": {"max_parallel": [1]},
    "a pid of no process": {"pid": -1},
    "infinity": {"count": float("inf")},
    "nan": {"count": float("nan")},
    "1e400": {"count": 1e308},
}


@pytest.mark.parametrize("what", ABSURD)
def test_f58_absurd_numbers_in_a_neighbours_stage_take_no_memory_and_hide_nobody(bench: Bench, what: str) -> None:
    """F58: the count decides how many tasks are judged; it is believed only within reason."""
    place, run, neighbour = two_runs(bench)
    state = run / "__esis__/state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), **ABSURD[what]}).replace("1e+308", "1e400"))
    shutil.rmtree(run / "parameters")
    (run / "parameters").mkdir()
    for command in (["list", "-r"], ["status"], ["run"]):
        shown = limited(bench, place if command[0] != "list" else bench.home, *command)
        clean(shown, command)
        assert shown.code == 1
        assert str(state) in shown.stderr
    assert limited(bench, bench.home, "list", "-r").stdout.split() == [str(neighbour)]


def limited(bench: Bench, cwd: Path, *arguments: str) -> Result:
    """Run a command with little memory."""
    done = subprocess.run(
        ["sh", "-c", 'ulimit -v 700000; exec "$@"', "sh", str(BIN / "esis"), *arguments],
        cwd=cwd,
        env={**bench.env(), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    return Result(done.returncode, done.stdout, done.stderr)


WRONG: dict[str, dict[str, Any]] = {
    "a text for a list": {"jobs": "12"},
    "null for a list": {"arrays": None},
    "nested": {"argv": [["a"]]},
    "a huge range": {"tasks": "0-99999999999"},
    "many huge ranges": {"tasks": "0-9999999,20000000-99999999"},
    "arrays of other tasks": {"arrays": [{"array": "5-7", "offset": 0, "tasks": 3}]},
    "arrays of fewer tasks": {"arrays": [{"array": "0-1", "offset": 0, "tasks": 2}]},
    "no arrays": {"arrays": []},
    "an array that is none": {"arrays": [{"array": "x%y", "offset": 0, "tasks": 3}]},
    "a limit that is none": {"arrays": [{"array": "0-2%", "offset": 0, "tasks": 3}]},
    "an id that is none": {"jobs": [{"id": "12;rm", "cluster": None}]},
    "a number for an id": {"jobs": [{"id": 12, "cluster": None}]},
    "more jobs than arrays": {"jobs": [{"id": "1", "cluster": None}] * 2},
    "a boolean for a number": {"throttle": True},
    "a number for a boolean": {"records": 1},
    "another number": {"number": 7},
    "a time beyond all": {"created": 1e300},
    "a negative time": {"answered": -1},
    "ids seen that are none": {"seen": ["x"]},
    "an object for an owner": {"provenance": "me"},
    "a text for a uid": {"provenance": {"user": "u", "uid": "0"}},
    "an unknown outcome": {"outcome": ["open"]},
    "another scheduler": {"scheduler": "cron"},
    "no tasks": {"tasks": ""},
    "a list for a text": {"output": ["x"]},
    "packs of nothing": {"per_job": 0},
    "a huge pack": {"per_job": 10**40},
}


@pytest.mark.parametrize("what", WRONG)
def test_f58_wrong_types_in_a_submission_are_named_and_never_submitted_again(bench: Bench, what: str) -> None:
    """F58: file and key are named, by every command; nothing is queued, and the neighbour is listed."""
    place, run, neighbour = two_runs(bench)
    target = run / "__esis__/submissions/0001.json"
    target.write_text(json.dumps({**json.loads(target.read_text()), **WRONG[what]}))
    jobs = len(bench.slurm.jobs())
    (key,) = WRONG[what]
    for command in (["run"], ["resubmit"], ["status"], ["list"]):
        shown = bench.esis(place, *command)
        clean(shown, command)
        assert shown.code == 1, (command, shown)
        assert f"{target} is corrupt" in shown.stderr
        assert key in shown.stderr or key in ("arrays", "jobs", "number")
    assert str(neighbour) in bench.esis(bench.home, "list", "-r").stdout
    assert len(bench.slurm.jobs()) == jobs


def test_f58_the_same_key_twice_is_not_believed(bench: Bench) -> None:
    """F58: two readers would take different ones."""
    place, run, _ = two_runs(bench)
    target = run / "__esis__/submissions/0001.json"
    target.write_text(target.read_text().replace('"number": 1', '"number": 1, "number": 1'))
    shown = bench.esis(place, "status")
    assert shown.code == 1
    assert "'number' stands there twice" in shown.stderr


def test_f58_a_loop_of_links_in_the_place_of_a_directory_is_told(bench: Bench) -> None:
    """F58: where the runs are to be, where an archive is to go, and in the place of a run."""
    place, run, neighbour = two_runs(bench)
    (place / "loop").symlink_to("loop")
    workflow = json.loads((place / "wf.esis.json").read_text())
    (place / "wf.esis.json").write_text(json.dumps({**workflow, "workdirpath": "loop"}))
    (place / ("wrkdir." + "f" * 64)).symlink_to("wrkdir." + "f" * 64)
    for command in (
        ["run"],
        ["status"],
        ["archive", str(run), "-o", "loop/a.zip"],
        ["status", "wrkdir.ffff"],
        ["verify", "wrkdir." + "f" * 64],
        ["log", "1", "loop/x"],
        ["doctor"],
        ["export", "loop"],
    ):
        shown = bench.esis(place, *command)
        clean(shown, command)
        assert shown.code in (0, 1, 2), (command, shown)
    assert sorted(bench.esis(bench.home, "list", "-r").ok().stdout.split()) == sorted([str(run), str(neighbour)])


@pytest.mark.parametrize(
    "command", [["resubmit", "--tasks", "0"], ["archive", "-o", "../a.zip"], ["export", "--requirements", "x"]]
)
@pytest.mark.parametrize("text", ["{", "[]", '{"setupscript": 3}'])
def test_f251_a_damaged_copy_of_the_workflow_is_no_file_of_the_users(
    bench: Bench, text: str, command: list[str]
) -> None:
    """F251: the run's own file is named, with what mends it; nobody is told to make the workflow file anew."""
    place, run, _ = two_runs(bench)
    kept = run / "__esis__/workflow_definition.json"
    kept.write_text(text)
    shown = bench.esis(place, *command)
    clean(shown, command)
    assert (shown.code, str(kept) in shown.stderr, "the run's copy" in shown.stderr) == (1, True, True), shown
    assert "esis setup" not in shown.stderr


@pytest.mark.parametrize("command", [["archive", "-o", "../a.zip"], ["why"]])
def test_f251_a_run_without_the_text_of_its_hash_says_so(bench: Bench, command: list[str]) -> None:
    """F251: by its name, not as a file that somebody asked for."""
    place, run, _ = two_runs(bench)
    (run / "__esis__/wf_status").unlink()
    shown = bench.esis(place, *command, str(run))
    clean(shown, command)
    assert (shown.code, "has no wf_status, the text" in shown.stderr) == (2, True), shown


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("piece", PIECES)
def test_f58_what_may_not_be_read_is_named_and_hides_nobody(bench: Bench, piece: str) -> None:
    """F58: as a neighbour's run with umask 077 is."""
    place, run, neighbour = two_runs(bench)
    path = run / piece
    if not path.exists():
        pytest.skip("it isn't there")
    path.chmod(0)
    for command in COMMANDS:
        clean(bench.esis(place, *command), (piece, command))
    assert str(neighbour) in bench.esis(bench.home, "list", "-r").stdout
    path.chmod(0o700)


# --- any JSON at all

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["0-99999999999", "1,2", "\ud800", "\x1b[31m", "../../x", "-1", "٣"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def damages(draw: st.DrawFn, value: Any) -> Any:
    """Change one value somewhere in a JSON value, take it out, or put another one in."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        how = draw(st.sampled_from(["within", "within", "drop", "add"]))
        if how == "drop":
            return {name: item for name, item in value.items() if name != key}
        if how == "add":
            return {**value, draw(st.text(max_size=4)): draw(json_values)}
        return {**value, key: draw(damages(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(damages(value[at])), *value[at + 1 :]]
    return draw(json_values)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Iterator[tuple[Bench, Path]]:
    made = Bench(tmp_path_factory.mktemp("json"), nursery)
    with made.slurm:
        _, run, _ = two_runs(made)
        made.esis(made.home / "a", "wait").ok()
        yield made, run


DAMAGED = ("state.json", "submissions/0001.json", "provenance.json", "workflow_definition.json")


@settings(deadline=None, max_examples=200 if FULL else 12, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize("file", DAMAGED)
def test_f58_no_json_gives_anything_but_a_documented_end(
    finished: tuple[Bench, Path], file: str, data: st.DataObject
) -> None:
    """F58: any value of any kind in any place: one line, a documented exit code, nothing submitted, others listed."""
    bench, run = finished
    target = run / "__esis__" / file
    before = target.read_bytes()
    marked = (run / "__esis__/completed.state").read_bytes()
    jobs = len(bench.slurm.jobs())
    changed = data.draw(damages(json.loads(before)))
    try:
        target.write_text(json.dumps(changed))
        (run / "__esis__/completed.state").write_text("0")
        for command in (
            ["list", "--json"],
            ["status", "--json"],
            ["run"],
            ["errors"],
            ["export"],
            ["verify"],
            ["log", "1"],
            ["archive", "--anonymous", "-o", "../a.zip"],
        ):
            clean(bench.esis(run.parent, *command), (changed, command))
        assert bench.esis(bench.home, "list", "-r").stdout.count("\n") >= 1
        assert len(bench.slurm.jobs()) == jobs
    finally:
        target.write_bytes(before)
        (run / "__esis__/completed.state").write_bytes(marked)
