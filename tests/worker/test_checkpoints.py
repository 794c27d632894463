"""Checkpoints: whole or not there, whatever kills the worker; several files, the last few kept."""

from __future__ import annotations

import errno
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import esis
from esis.errors import BadInput, CorruptState, FileTrouble
from esis.model.workdir import RunDir
from esis.worker import objects
from tests.worker import kill_points
from tests.worker.saved import SCENARIOS

SCRIPT = Path(kill_points.__file__)


@pytest.fixture
def saved(run: RunDir) -> esis.Checkpoints:
    return esis.task(4, run.path).checkpoints(keep=2)


def save(saved: esis.Checkpoints, step: int) -> None:
    with saved.save(step=step) as directory:
        (directory / "state").write_text(str(step))


def test_a_checkpoint_has_its_files_its_step_and_its_note(saved: esis.Checkpoints, run: RunDir) -> None:
    assert saved.latest is None
    with saved.save(step=17, acceptance=0.5) as directory:
        (directory / "lattice").write_bytes(b"\0\1")
        (directory / "sub").mkdir()
        (directory / "sub" / "rng").write_text("state")
        assert saved.latest is None  # not before the end of the block
    found = esis.task(4, run.path).checkpoints().latest
    assert found is not None
    assert (found.step, found.note["acceptance"]) == (17, 0.5)
    assert ((found / "lattice").read_bytes(), (found / "sub/rng").read_text()) == (b"\0\1", "state")
    assert found.directory == run.checkpoints / "task.4" / "main" / "1"


def test_f282_a_step_is_a_whole_number_of_any_kind(saved: esis.Checkpoints) -> None:
    """F282: what is none is refused before anything is written, not read back as 0."""
    numpy = pytest.importorskip("numpy")
    step: Any
    for step in (5.0, numpy.float64(5), numpy.int64(5), numpy.uint8(5)):
        with saved.save(step=step, mean=numpy.float32(0.5), size=numpy.int64(3)):
            pass
        found = saved.latest
        assert found is not None
        assert (found.step, dict(found.note)) == (5, {"step": 5, "mean": 0.5, "size": 3})
    for step in (5.5, "12", None, float("nan"), numpy.arange(2)):
        with pytest.raises(BadInput, match="no step of a checkpoint"), saved.save(step=step):
            pass
    assert len(saved.all()) <= 4


def test_f282_a_nan_is_noted_as_one_whatever_stands_beside_it(saved: esis.Checkpoints) -> None:
    """F282: the next attempt reads a number, also where another value had to be made of what JSON has."""
    numpy = pytest.importorskip("numpy")
    for beside in (3, numpy.int64(3)):
        with saved.save(step=1, mean=float("nan"), size=beside):
            pass
        found = saved.latest
        assert found is not None
        assert math.isnan(found.note["mean"])
        assert found.note["size"] == 3


def test_f308_no_value_of_a_note_depends_on_what_stands_beside_it(saved: esis.Checkpoints) -> None:
    """F308: however deep it stands, what JSON has a form for has that one; so have the numbers of NumPy's arrays."""
    numpy = pytest.importorskip("numpy")
    values: dict[str, object] = {
        "best": [math.inf, 2.0],
        "nested": {"deep": [{"low": -math.inf}], 1.5: "x"},
        "large": 10**4000,
        "array": numpy.array([[math.inf, 1.0]]),
        "single": numpy.float32(math.inf),
        "long": numpy.longdouble(2.5),
        "view": MappingProxyType({"high": math.inf, "count": numpy.int64(3)}),
    }
    alone = {}
    for name, value in values.items():
        with saved.save(step=1, **{name: value}):
            pass
        assert saved.latest is not None
        alone[name] = saved.latest.note[name]
    with saved.save(step=2, **values, accepted=numpy.int64(3), more=[numpy.float32(0.5)]):
        pass
    assert saved.latest is not None
    assert saved.latest.note == {"step": 2, **alone, "accepted": 3, "more": [0.5]}
    assert alone == {
        "best": [math.inf, 2.0],
        "nested": {"deep": [{"low": -math.inf}], "1.5": "x"},
        "large": 10**4000,
        "array": [[math.inf, 1.0]],
        "single": math.inf,
        "long": 2.5,
        "view": {"high": math.inf, "count": 3},
    }


def test_the_last_ones_are_kept_and_the_latest_is_the_latest_saved(saved: esis.Checkpoints) -> None:
    """Also where the step goes back, because an earlier state was taken up again; and 10 comes after 9."""
    for step in (*range(1, 12), 3):
        save(saved, step)
    assert [item.step for item in saved.all()] == [11, 3]
    assert sorted(os.listdir(saved.directory)) == ["11", "12"]
    assert saved.latest is not None
    assert (saved.latest / "state").read_text() == "3"


def test_an_exception_in_the_block_leaves_what_was_there(saved: esis.Checkpoints) -> None:
    save(saved, 1)
    for error in (ValueError("mine"), SystemExit(3), KeyboardInterrupt()):
        with pytest.raises(type(error)), saved.save(step=2) as directory:
            (directory / "state").write_text("half")
            raise error
    assert [item.step for item in saved.all()] == [1]
    assert os.listdir(saved.directory) == ["1"]


def test_names_and_tasks_have_checkpoints_of_their_own(run: RunDir) -> None:
    for task, name in ((1, "a"), (1, "b"), (11, "a")):
        save(esis.task(task, run.path).checkpoints(name), 10 * task)
    assert [
        len(esis.task(task, run.path).checkpoints(name).all())
        for task, name in ((1, "a"), (1, "b"), (11, "a"), (11, "b"))
    ] == [1, 1, 1, 0]


def test_one_that_another_program_made_is_read(saved: esis.Checkpoints) -> None:
    """The contract for other languages: a directory of the next number; what isn't such a number is none."""
    for name in ("1", "2", "07", "x", "3.tmp", ".4", "0"):
        (saved.directory / name).mkdir(parents=True)
    (saved.directory / "2" / "state").write_text("from C")
    found = saved.latest
    assert found is not None
    assert (found.number, found.step, dict(found.note)) == (2, 0, {})
    save(saved, 9)
    assert saved.latest is not None
    assert (saved.latest.number, saved.latest.step) == (3, 9)


def test_a_note_that_is_no_json_is_an_error_that_names_it(saved: esis.Checkpoints) -> None:
    save(saved, 1)
    found = saved.latest
    assert found is not None
    (found / "step.json").write_text("{")
    again = saved.latest
    assert again is not None
    with pytest.raises(CorruptState, match=r"step\.json is corrupt"):
        _ = again.step


@pytest.mark.parametrize("source", ["caf\udce9.dat", "\ud83d", "größe", 'a "b"\n'])
def test_a_note_comes_back_whatever_text_it_is(saved: esis.Checkpoints, source: str) -> None:
    """Names of files may be no UTF-8; a note that can't be read would stop every later attempt."""
    with saved.save(step=2, source=source, **{source: 1}):
        pass
    found = saved.latest
    assert found is not None
    assert dict(found.note) == {"step": 2, "source": source, source: 1}
    json.loads((found / "step.json").read_bytes().decode("utf-8"))


def test_a_note_that_an_earlier_version_wrote_is_read(saved: esis.Checkpoints) -> None:
    """0.1.0 wrote such bytes as they are."""
    save(saved, 1)
    assert saved.latest is not None
    (saved.latest / "step.json").write_bytes(b'{"step": 2, "source": "caf\xe9.dat"}\n')
    assert dict(saved.latest.note) == {"step": 2, "source": "caf\udce9.dat"}


def test_a_note_that_nobody_could_read_again_is_refused_before_the_work(
    saved: esis.Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(saved, 1)
    monkeypatch.setattr(objects, "STATE_FILE_LIMIT", 100)
    with saved.save(step=2, series=[0] * 35):  # fits without blanks
        pass
    with pytest.raises(BadInput, match=r"note of a checkpoint would take 1.. bytes"), saved.save(3, series=[0] * 60):
        pytest.fail("the block was entered")
    assert [item.step for item in saved.all()] == [1, 2]
    assert sorted(os.listdir(saved.directory)) == ["1", "2"]


def test_what_is_no_file_hangs_nothing_and_is_a_name_alone(
    saved: esis.Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may leave a FIFO or a socket: for the other end of one nobody waits, also in the place of step.json."""
    other = tmp_path / "other"
    other.write_text("mine")
    left: tuple[Callable[[Path], object], ...] = (os.mkfifo, lambda path: path.symlink_to(other), Path.touch)
    for step, make in enumerate(left, 1):
        with saved.save(step=step) as directory:
            os.mkfifo(directory / "pipe")
            with socket.socket(socket.AF_UNIX) as listener:
                monkeypatch.chdir(directory)  # the path of a socket has to be short
                listener.bind("socket")
            make(directory / "step.json")
        assert saved.latest is not None
        assert saved.latest.step == step
        assert sorted(os.listdir(saved.latest.directory)) == ["pipe", "socket", "step.json"]
    assert other.read_text() == "mine"


def test_a_directory_that_can_not_be_listed_is_an_error(
    saved: esis.Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it may not be on the disk."""
    save(saved, 1)
    scandir = os.scandir

    def broken(path: Any = ".") -> Any:
        if str(path).endswith("/deep"):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(FileTrouble, match=r"publishing a checkpoint.*deep.*EIO"), saved.save(step=2) as directory:
        (directory / "deep").mkdir()
    assert [item.step for item in saved.all()] == [1]


@pytest.mark.parametrize("name", ["", "..", "a/b", ".x", "a b", "\0"])
def test_a_name_can_be_that_of_a_directory(run: RunDir, name: str) -> None:
    with pytest.raises(BadInput, match="name of checkpoints"):
        esis.task(1, run.path).checkpoints(name)
    with pytest.raises(BadInput, match="keep"):
        esis.task(1, run.path).checkpoints(keep=0)


# --- F08


def strike(kind: str, scenario: str, directory: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), kind, scenario, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[:-1], lines[-1]


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_f08_a_kill_at_any_step_leaves_the_old_state_or_the_new_one(tmp_path: Path, scenario: str) -> None:
    """F08: SIGKILL before, in the middle of and after each step; the files that are found always belong together."""
    steps, end = strike("kill", scenario, tmp_path)
    assert [step["ended"] for step in steps] == ["signal 9"] * (len(steps) - 1) + ["exit 0"]
    assert len(steps) > {"results": 5, "arrays": 10}.get(scenario, 20)
    for step in steps:
        step_of, value = step["found"]
        assert step_of == value, step
        assert value in (step["before"], step["before"] + 1), step
    assert {step["found"][1] - step["before"] for step in steps} == {0, 1}
    assert end["last"] == [end["expected"]] * 2
    assert end["litter"] == [], "the next save removes what killed ones left"


@pytest.mark.parametrize("kind", ["ENOSPC", "EIO", "full"])
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_f09_a_disk_that_fails_at_any_step_is_an_error_and_spoils_nothing(
    tmp_path: Path, scenario: str, kind: str
) -> None:
    """F04, F09: the error comes out (or the step was of no matter), and the state is the old one or the new one."""
    steps, end = strike(kind, scenario, tmp_path)
    for step in steps:
        assert step["ended"] in ("exit 0", "exit 10", "exit 11"), step
        assert step["found"][0] == step["found"][1], step
        assert step["found"][1] in (step["before"], step["before"] + 1), step
        if step["ended"] == "exit 0":
            assert step["found"][1] == step["before"] + 1, step
    assert "exit 10" in {step["ended"] for step in steps} or scenario in ("results", "arrays")
    assert end["last"] == [end["expected"]] * 2


def test_files_are_on_the_disk_before_the_name_is(tmp_path: Path) -> None:
    """SIGKILL is not power loss: fsync of every file, then of the directory, the rename, fsync of the parent."""
    strike("count", "new", tmp_path)
    order = (tmp_path / "report").read_text().splitlines()
    (rename,) = (n for n, text in enumerate(order) if text.startswith("os.rename") and text.split("/")[-1].isdigit())
    done = [text.split("/")[-1] for text in order[:rename] if text.startswith("after os.fsync")]
    staging = order[rename].split(" -> ")[0].split("/")[-1]
    assert set(done) == {"big", "small", "deep", "sub", "step.json", staging}
    assert order[rename + 1].startswith("after os.rename")
    assert order[rename + 2].startswith("os.fsync")
    assert order[rename + 2].endswith("/main")
    assert order[rename + 3].startswith("after os.fsync"), "the older ones go only now"
