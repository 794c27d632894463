"""The checkpoint interface of ESIS 0.0.4: its names and its layout go on working."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import esis
import esis.checkpoint
from esis.errors import BadInput
from esis.model.workdir import RunDir
from esis.worker.seeds import seed_of

PLAIN = """
import json, os
import esis
task = os.environ["SLURM_ARRAY_TASK_ID"]
facility = esis.checkpoint.checkpoint_facility(17)
if not facility.has_checkpoint("conf" + task):
    cp = facility.create_checkpoint("conf" + task)
    with open(cp.get_file_name("lattice"), "w") as stream:
        stream.write(f"made with {cp.get_seed_int()}")
    open(cp.get_file_name("second"), "w").close()
    if os.path.exists("die"):
        os.kill(os.getpid(), 9)
    cp.set_OK()
cp = facility.load_checkpoint("conf" + task)
print(open(cp.get_file_name("lattice")).read(), len(cp.get_seed()))
"""

ITERATIVE = """
import os
from esis.checkpoint import checkpoint_facility
facility = checkpoint_facility(17)
name = "mc" + os.environ["SLURM_ARRAY_TASK_ID"]
if facility.has_iterative_checkpoint(name):
    cp = facility.open_iterative(name)
else:
    cp = facility.create_iterative_checkpoint(name)
    open(cp.get_file_name("sum"), "w").write("0")
if not facility.iterative_checkpoint_is_finished(name):
    for i in range(cp.get_iteration(), 5):
        total = int(open(cp.get_file_name("sum")).read())
        with open(cp.get_file_name("sum"), "w") as stream:
            stream.write(str(total))
            stream.flush()
            if os.path.exists(f"die{i}"):
                os.remove(f"die{i}")
                stream.write("garbage")
                stream.flush()
                os.kill(os.getpid(), 9)
            stream.seek(0)
            stream.write(str(total + i))
        cp.set_iteration(i + 1)
    cp.set_OK()
    facility.set_run_OK()
print(cp.get_iteration(), open(cp.get_file_name("sum")).read(), facility.iterative_checkpoint_is_finished(name))
"""


def worker(run: RunDir, text: str) -> subprocess.CompletedProcess[str]:
    root = Path(esis.__file__).parents[1]
    return subprocess.run([sys.executable, "-c", text], cwd=run.cwd, capture_output=True, text=True, check=False,
                          env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "SLURM_ARRAY_TASK_ID": "3"})


def test_a_plain_checkpoint_is_there_once_it_is_ok(run: RunDir) -> None:
    (run.cwd / "die").touch()
    assert worker(run, PLAIN).returncode == -9
    directory = run.checkpoints / "conf3"
    assert sorted(os.listdir(directory)) == ["storage"]
    (run.cwd / "die").unlink()
    first = worker(run, PLAIN)
    assert (first.returncode, first.stdout) == (0, f"made with {seed_of(17, 'conf3')} 64\n"), first.stderr
    assert sorted(os.listdir(directory)) == ["checkpoint.meta.json", "checkpoint.ok", "storage"]
    assert sorted(os.listdir(directory / "storage")) == ["lattice", "second"]
    (directory / "storage" / "lattice").write_text("kept")
    assert worker(run, PLAIN).stdout == "kept 64\n"


@pytest.mark.parametrize("dies", [[], [0], [3], [1, 2, 4]])
def test_an_iterative_one_goes_on_where_it_was(run: RunDir, dies: list[int]) -> None:
    """Also where the worker was killed while it wrote over its own state."""
    for number in dies:
        (run.cwd / f"die{number}").touch()
    codes = [worker(run, ITERATIVE).returncode for _ in dies]
    assert codes == [-9] * len(dies)
    done = worker(run, ITERATIVE)
    assert (done.returncode, done.stdout) == (0, "5 10 True\n"), done.stderr
    assert worker(run, ITERATIVE).stdout == "5 10 True\n"
    directory = run.checkpoints / "mc3"
    assert (directory / "storage" / "sum").read_text() == "10"
    assert (directory / "checkpoint.ok").exists()
    assert json.loads((directory / "checkpoint.meta.json").read_text())["iteration"] == 5


def test_the_first_iteration_that_dies_begins_anew(run: RunDir) -> None:
    (run.cwd / "die0").touch()
    assert worker(run, ITERATIVE).returncode == -9
    assert not esis.checkpoint.checkpoint_facility(17, overwrite_path=run.path).has_iterative_checkpoint("mc3")


def test_a_requirement_is_read_and_not_written(run: RunDir, tmp_path: Path) -> None:
    worker(run, PLAIN)
    worker(run, ITERATIVE)
    for opened in (esis.checkpoint.checkpoint_facility.open_external(run.path),
                   esis.checkpoint.checkpoint_facility(5, overwrite_path=tmp_path).open_external(str(run.path)),
                   esis.checkpoint.checkpoint_facility(5, external_storage_path=str(run.path))):
        assert opened.has_checkpoint("conf3")
        assert not opened.has_checkpoint("conf4")
        plain, state = opened.load_checkpoint("conf3"), opened.open_iterative("mc3")
        assert plain.get_seed_int() == seed_of(17, "conf3")  # what it was made with
        assert Path(plain.get_file_name("lattice")).read_text().startswith("made with")
        assert (state.get_iteration(), Path(state.get_file_name("sum")).read_text()) == (5, "10")
    external = esis.checkpoint.checkpoint_facility.open_external(run.path)
    for action in (lambda: external.create_checkpoint("new"), lambda: external.create_iterative_checkpoint("new"),
                   lambda: external.load_checkpoint("conf3").set_OK(),
                   lambda: external.open_iterative("mc3").set_iteration(6)):
        with pytest.raises(BadInput, match="to be read"):
            action()
    with pytest.raises(BadInput, match="there are no checkpoints"):
        esis.checkpoint.checkpoint_facility.open_external(tmp_path / "nowhere")


def test_a_half_written_requirement_is_read_as_of_its_last_iteration(run: RunDir) -> None:
    (run.cwd / "die3").touch()
    assert worker(run, ITERATIVE).returncode == -9
    state = esis.checkpoint.checkpoint_facility.open_external(run.path).open_iterative("mc3")
    assert (state.get_iteration(), Path(state.get_file_name("sum")).read_text()) == (3, "3")
    assert "garbage" in (run.checkpoints / "mc3" / "storage" / "sum").read_text()


def test_directories_that_0_0_4_made_are_read(tmp_path: Path) -> None:
    """Its layout, as far as it is known: storage, checkpoint.meta.json, checkpoint.ok."""
    for name, ok in (("done", True), ("half", False)):
        (tmp_path / name / "storage").mkdir(parents=True)
        (tmp_path / name / "storage" / "x").write_text(name)
        (tmp_path / name / "checkpoint.meta.json").write_text('{"iteration": 4, "seed_int": 99}')
        if ok:
            (tmp_path / name / "checkpoint.ok").touch()
    facility = esis.checkpoint.checkpoint_facility(1, overwrite_path=tmp_path)
    assert [facility.has_checkpoint(name) for name in ("done", "half")] == [True, False]
    assert facility.load_checkpoint("done").get_seed_int() == 99
    state = facility.open_iterative("half")
    assert (state.get_iteration(), Path(state.get_file_name("x")).read_text()) == (4, "half")
    state.set_iteration(5)
    assert esis.checkpoint.checkpoint_facility(1, overwrite_path=tmp_path).open_iterative("half").get_iteration() == 5


def test_seeds_of_checkpoints_differ_and_stay(tmp_path: Path) -> None:
    seeds = {esis.checkpoint.checkpoint_facility(base, overwrite_path=tmp_path / str(base))
             .create_checkpoint(name).get_seed_int() for base in (1, 11) for name in ("a", "1", "1a")}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("name", ["", "..", "a/../../b", "/etc/x", "x\0"])
def test_a_name_stays_inside_of_its_directory(tmp_path: Path, name: str) -> None:
    facility = esis.checkpoint.checkpoint_facility(1, overwrite_path=tmp_path / "place")
    with pytest.raises(BadInput, match="can't be the name"):
        facility.create_checkpoint(name)
    with pytest.raises(BadInput, match="can't be the name"):
        facility.create_checkpoint("ok").get_file_name(name)


def test_what_is_not_there_is_an_error_that_says_how_to_ask(tmp_path: Path) -> None:
    facility = esis.checkpoint.checkpoint_facility(1, overwrite_path=tmp_path)
    with pytest.raises(BadInput, match="has_checkpoint"):
        facility.load_checkpoint("x")
    with pytest.raises(BadInput, match="has_iterative_checkpoint"):
        facility.open_iterative("x")
    with pytest.raises(BadInput, match="set_run_OK"):
        facility.set_run_OK()
