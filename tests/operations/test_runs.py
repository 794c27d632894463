"""The list of runs: a damaged or unreadable one is told, and hides nobody (F58)."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from esis.errors import CorruptState
from esis.model.workdir import RunDir
from esis.operations.runs import Listed, by_time, list_runs
from esis.records.start_time import parse_start_time
from tests.operations.made import make_run
from tests.users import nobody


def listed(place: Path) -> tuple[list[Listed], list[str]]:
    told: list[str] = []
    return list_runs(place, deep=True, tell=told.append), told


def two(place: Path) -> tuple[RunDir, RunDir]:
    return make_run(place, [{}], {}, digest="a" * 64), make_run(place, [{}], {}, digest="b" * 64)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("piece", ["state.json", "0001.json", "jobid.tx", "wf_starttime"])
def test_f58_what_the_file_system_keeps_back_is_named_and_the_others_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, piece: str
) -> None:
    """F58: a neighbour's umask, a bad disk, a server that forgot its handles."""
    good, bad = two(tmp_path)
    really = os.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        if str(bad.path) in str(path) and str(path).endswith(piece):
            raise OSError(number, os.strerror(number), str(path))
        return really(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    found, told = listed(tmp_path)
    assert [item.run for item in found] == [good]
    assert len(told) == 1
    assert piece in told[0]
    assert errno.errorcode[number] in told[0]


def test_f58_a_directory_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold runs."""
    good, bad = two(tmp_path)
    secret = tmp_path / "secret"
    secret.mkdir()
    really = os.scandir

    def refuse(path: Any = ".") -> Any:
        if str(path) == str(secret):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found, told = listed(tmp_path)
    assert [item.run for item in found] == [good, bad]
    assert told == [f"left out: {secret}: Permission denied (EACCES)"]


def test_f58_runs_without_a_damage_are_told_nothing_of(tmp_path: Path) -> None:
    good, gone = two(tmp_path)
    shutil.rmtree(gone.private)
    assert listed(tmp_path) == ([Listed(good, None, None, 1, True, False)], [])


def test_f58_without_anybody_to_tell_the_others_are_listed_all_the_same(tmp_path: Path) -> None:
    good, bad = two(tmp_path)
    bad.submission(1).write_text("{")
    assert [item.run for item in list_runs(tmp_path)] == [good]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "1e300", "-5", "9" * 400, "", "x", "9999-99-99"])
def test_f58_a_time_that_is_none_is_none(text: str) -> None:
    """F58: and no error when it is shown or sorted."""
    assert parse_start_time(text) is None


def test_f58_runs_with_strange_times_are_sorted(tmp_path: Path) -> None:
    good, bad = two(tmp_path)
    good.start_time.write_text("17")
    bad.start_time.write_text("NaN")
    found, told = listed(tmp_path)
    assert told == []
    assert [item.run for item in by_time(found)] == [good, bad]


def test_f58_job_ids_are_shown_without_escape_sequences(tmp_path: Path) -> None:
    good, _ = two(tmp_path)
    good.job_ids.write_bytes(b"12\n\x1b[31m\xff7")
    assert "\x1b" not in str(listed(tmp_path)[0][0].job)


def test_f58_absurd_numbers_of_tasks_are_refused_at_both_ends(tmp_path: Path) -> None:
    """F58: written by ESIS or not, no run has more tasks than memory holds."""
    from esis.model.index_sets import MOST_TASKS
    from esis.records.stage import Stage, State, read, save

    run, _ = two(tmp_path)
    save(run, State(Stage.PREPARED, 0, MOST_TASKS, 1))
    assert read(run) is not None
    save(run, State(Stage.PREPARED, 0, MOST_TASKS + 1, 1))
    with pytest.raises(CorruptState, match=f"a whole number from 1 to {MOST_TASKS}"):
        read(run)


@pytest.mark.parametrize("piece", ["", "__esis__"])
def test_f58_another_users_closed_run_is_told_and_the_others_are_listed(piece: str) -> None:
    """F58: for every piece of it, also the first that is looked at."""
    with tempfile.TemporaryDirectory() as scratch:  # pytest's own directories are closed to other users
        place = Path(scratch)
        place.chmod(0o755)
        good, bad = two(place)
        listed(place)  # what it imports may be closed to them, too
        (bad.path / piece).chmod(0)
        with nobody():
            found, told = listed(place)
        (bad.path / piece).chmod(0o755)
    assert [item.run for item in found] == [good]
    assert len(told) == 1
    assert f"{bad.path / '__esis__'}" in told[0]
    assert "EACCES" in told[0]
