"""The stage of a build: a directory is a run only once its record says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.errors import CorruptState
from esis.model.workdir import RunDir
from esis.records.stage import Stage, State, read, save

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

STATE = State(Stage.PREPARED, 1, 5, 10, 4711, 99)


def run_at(path: Path) -> RunDir:
    run = RunDir(path / ("wrkdir." + "0" * 64))
    run.private.mkdir(parents=True)
    return run


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("pid", [None, 4711])
def test_a_state_survives_its_file(tmp_path: Path, stage: Stage, pid: int | None) -> None:
    """What is saved is read, in every stage, and nothing else is left behind."""
    run = run_at(tmp_path)
    state = State(stage, 1, 3, 7, pid, 99)
    save(run, State(Stage.SNAPSHOT))
    save(run, state)
    assert read(run) == state
    assert os.listdir(run.private) == ["state.json"]


def test_no_record_is_none(tmp_path: Path) -> None:
    """0.0.4's runs have none; that is not the same as a broken one."""
    assert read(run_at(tmp_path)) is None


@RELAXED
@given(st.integers(0, 1), st.integers(0, 50))
def test_the_tasks_follow_from_first_and_count(first: int, count: int) -> None:
    """Indices run from the first one without a gap."""
    assert list(State(Stage.PREPARED, first, count).tasks) == [first + n for n in range(count)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\0" * 8, b"\xff", b'"prepared"', b"{}"])
def test_f07_garbage_is_corrupt_and_named(tmp_path: Path, content: bytes) -> None:
    """F07: an empty, cut or overwritten record is an error that names the file, never a finished build."""
    run = run_at(tmp_path)
    run.state.write_bytes(content)
    with pytest.raises(CorruptState, match=r"state\.json"):
        read(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stage", "done"),
        ("stage", None),
        ("stage", ["prepared"]),
        ("first", "x"),
        ("first", None),
        ("count", []),
        ("max_parallel", {}),
        ("pid_started", None),
    ],
)
def test_f07_a_wrong_value_is_corrupt(tmp_path: Path, key: str, value: object) -> None:
    """F07: an unknown stage or a value of another kind is corrupt."""
    run = run_at(tmp_path)
    save(run, STATE)
    raw = json.loads(run.state.read_text())
    run.state.write_text(json.dumps({**raw, key: value}))
    with pytest.raises(CorruptState, match=r"state\.json is corrupt"):
        read(run)


@pytest.mark.parametrize("key", ["stage", "first", "count", "max_parallel", "pid", "pid_started"])
def test_f07_a_missing_key_is_corrupt(tmp_path: Path, key: str) -> None:
    """F07: all keys are needed."""
    run = run_at(tmp_path)
    save(run, STATE)
    raw = json.loads(run.state.read_text())
    del raw[key]
    run.state.write_text(json.dumps(raw))
    with pytest.raises(CorruptState, match=r"state\.json is corrupt"):
        read(run)


@pytest.mark.parametrize(("key", "value"), [("count", float("inf")), ("pid", "4711"), ("pid", [1])])
def test_f07_no_kind_of_value_is_half_believed(tmp_path: Path, key: str, value: object) -> None:
    """F07: what would be an internal error later is corrupt when it is read."""
    run = run_at(tmp_path)
    save(run, STATE)
    run.state.write_text(json.dumps({**json.loads(run.state.read_text()), key: value}))
    with pytest.raises(CorruptState, match=r"state\.json"):
        read(run)


def test_a_newer_schema_is_told_apart(tmp_path: Path) -> None:
    """What a later esis means by its fields isn't known."""
    run = run_at(tmp_path)
    save(run, State(Stage.PREPARED, 0, 3))
    run.state.write_text(run.state.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(CorruptState, match=r"schema 2, this esis knows 1; use a newer esis"):
        read(run)
