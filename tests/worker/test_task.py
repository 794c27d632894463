"""esis.task(): found on a node, by hand, or told; its parameters, places and seeds."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import esis
from esis.checkpoint import checkpoint_facility
from esis.errors import BadInput, CorruptState
from esis.model.workdir import RunDir
from esis.worker.seeds import seed_of
from tests.worker.conftest import make_run

PARAMETERS = [{"beta": 0.5, "L": 8}, {"beta": 1, "text": "größe\u2028 und mehr"}, {"beta": [1, 2]}, {}]


def write_files(run: RunDir) -> None:
    for number, value in enumerate(PARAMETERS):
        run.parameter_file(number).write_text(json.dumps(value))


def write_lines(run: RunDir, index: bool = True) -> None:
    lines = [json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in PARAMETERS]
    run.parameters_lines.write_bytes(b"".join(lines))
    if index:
        offsets = [sum(map(len, lines[:number])) for number in range(len(lines))]
        run.parameters_index.write_text("".join(f"{offset:016d}\n" for offset in offsets))


@pytest.mark.parametrize("form", ["files", "lines", "lines without index"])
def test_the_parameters_of_every_task_are_read_in_each_form(run: RunDir, form: str) -> None:
    if form == "files":
        write_files(run)
    else:
        write_lines(run, index=form == "lines")
    assert [esis.task(number, run.path).parameters for number in range(len(PARAMETERS))] == PARAMETERS
    with pytest.raises(BadInput, match="task 4 has no parameters"):
        _ = esis.task(4, run.path).parameters


def test_a_file_of_the_task_outranks_its_line(run: RunDir) -> None:
    write_lines(run)
    run.parameter_file(1).write_text('{"own": true}')
    assert esis.task(1, run.path).parameters == {"own": True}


@pytest.mark.parametrize(
    ("index", "problem"),
    [
        ("0000000000000000\n00000\n", "corrupt at entry 1"),
        ("0000000000000000\n0000000000000x01\n", "corrupt at entry 1"),
        ("0000000000000000\n0000000000009999\n", "points behind the end"),
    ],
)
def test_a_broken_index_is_an_error_and_never_another_tasks_parameters(run: RunDir, index: str, problem: str) -> None:
    write_lines(run)
    run.parameters_index.write_text(index)
    with pytest.raises(CorruptState, match=problem):
        _ = esis.task(1, run.path).parameters


def test_an_offset_into_the_middle_of_a_line_is_noticed(run: RunDir) -> None:
    write_lines(run)
    run.parameters_index.write_text("0000000000000003\n")
    with pytest.raises(CorruptState, match="task 0"):
        _ = esis.task(0, run.path).parameters


def test_parameters_that_are_no_json_name_the_file(run: RunDir) -> None:
    run.parameter_file(0).write_text("{")
    with pytest.raises(CorruptState, match=r"parameters\.0\.json are no JSON"):
        _ = esis.task(0, run.path).parameters


@pytest.mark.parametrize("where", ["cwd", "subdirectory", "record", "submit directory", "explicit", "explicit inside"])
def test_the_run_is_found(run: RunDir, where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    given: Path | None = None
    if where == "cwd":
        monkeypatch.chdir(run.cwd)
    elif where == "subdirectory":
        (run.cwd / "deep" / "er").mkdir(parents=True)
        monkeypatch.chdir(run.cwd / "deep" / "er")
    elif where == "record":
        monkeypatch.setenv("SLURM_ESIS_RECORD", str(run.tasks / "7.0001.1.0.1"))
    elif where == "submit directory":
        monkeypatch.setenv("SLURM_SUBMIT_DIR", str(run.cwd))
    else:
        given = run.path if where == "explicit" else run.cwd / ".." / "results"
    task = esis.task(run=given)
    assert (task.index, task.paths) == (7, run)
    places = [task.paths.cwd, task.paths.parameters, task.paths.results, task.paths.checkpoints, task.paths.includes]
    assert all(place.is_dir() for place in places)


def test_the_run_of_the_job_outranks_the_directory_that_the_worker_went_to(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = make_run(tmp_path / "other")
    monkeypatch.chdir(other.cwd)
    monkeypatch.setenv("SLURM_ESIS_RECORD", str(run.tasks / "7.0001.1.0.1"))
    assert esis.task(7).paths == run


def test_outside_of_a_run_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"SLURM_ARRAY_TASK_ID isn't set.*esis\.task\(0"):
        esis.task()
    with pytest.raises(BadInput, match=r"not inside of a run.*cwd/"):
        esis.task(0)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(BadInput, match="gone, is not inside of a run"):
        esis.task(0)


@pytest.mark.parametrize("index", [-1, True, 1.5, "3"])
def test_what_is_no_index_is_refused(run: RunDir, index: object) -> None:
    with pytest.raises(BadInput, match="no index"):
        esis.task(index, run.path)  # type: ignore[arg-type]


def test_a_unit_test_needs_neither_a_run_nor_slurm(tmp_path: Path) -> None:
    task = esis.task(0, tmp_path, parameters={"beta": 2.0})
    task.export(energy=task.parameters["beta"])
    assert json.loads((tmp_path / "results" / "results.0.json").read_text()) == {"energy": 2.0}
    assert task.seed == esis.task(0, tmp_path / "elsewhere", parameters=None).seed
    assert esis.task(0, tmp_path, base_seed=1).seed != task.seed


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_f211_a_task_can_be_given_to_the_processes_of_a_pool(run: RunDir, again: Callable[[Any], Any]) -> None:
    """What can't be unpickled ends these one after the other, and the worker waits for ever."""
    write_files(run)
    task = again(esis.task(1, run.path))
    assert (task.parameters, task.seed) == (PARAMETERS[1], esis.task(1, run.path).seed)
    assert again(esis.task(0, run.path, parameters=None)).parameters is None
    with again(task.checkpoints()).save(step=3):
        pass
    assert again(task.checkpoints().latest).step == 3


def test_attempts_count_submissions_and_restarts_what_slurm_requeued(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = esis.task(3, run.path)
    assert (task.attempt, task.restarts) == (1, 0)
    for name in (
        "3.0001.7.0.100.exit1.101",
        "3.0002.9.0.200.exit75.300",
        "3.0002.9.1.400.running",
        "33.0003.9.0.1.running",
        ".3.0004.9.0.1.55",
    ):
        (run.tasks / name).touch()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert (task.attempt, task.restarts) == (2, 1)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    attempts=st.dictionaries(st.integers(0, 120), st.integers(1, 4)),
    task=st.integers(0, 121),
    padding=st.sampled_from([0, 300, 70_000]),
    more=st.booleans(),
)
def test_attempts_whose_records_were_folded_count_too(
    tmp_path_factory: pytest.TempPathFactory, attempts: dict[int, int], task: int, padding: int, more: bool
) -> None:
    """Wherever in the file the lines of the task are, and however long others are."""
    run = make_run(tmp_path_factory.mktemp("run"))
    run.folded_tasks.write_text(
        "".join(
            f'{number}.{attempt:04d}.7{attempt}.0.1.exit0.2 {{"host": "{"x" * (padding if number % 9 == 0 else 5)}"}}\n'
            for number in sorted(attempts)
            for attempt in range(1, attempts[number] + 1)
        )
    )
    if more:
        (run.tasks / f"{task}.0009.99.0.1.running").touch()
    before = attempts.get(task, 0)
    assert esis.task(task, run.path, parameters={}).attempt == max(1, before + more)
    run.tasks.joinpath(f"{task}.0009.99.0.1.running").unlink(missing_ok=True)
    run.tasks.rmdir()  # it may be deleted
    assert esis.task(task, run.path, parameters={}).attempt == max(1, before)


# --- seeds


def test_a_seed_is_what_the_documentation_says(run: RunDir) -> None:
    """The recipe for other languages: sha256sum of "<hash>/<task>", 16 digits, the highest bit cleared."""
    told = subprocess.run(
        [
            "bash",
            "-c",
            'h=$(printf %s "$1/$2" | sha256sum | cut -c 1-16); echo $((0x$h & 0x7fffffffffffffff))',
            "bash",
            run.digest,
            "12",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert esis.task(12, run.path).seed == int(told)
    by_hand = int.from_bytes(hashlib.sha256(f"{run.digest}/12/noise".encode()).digest()[:8], "big") % 2**63
    assert esis.task(12, run.path).stream("noise") == by_hand


def test_seeds_of_many_tasks_runs_and_streams_are_all_different(run: RunDir) -> None:
    seeds = [seed_of(base, task) for base in (run.digest, "0" * 64, 0, 1, 12) for task in range(40_000)]
    seeds += [seed_of(run.digest, task, name) for task in range(10_000) for name in ("a", "b", 0)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62  # all bits are used


@given(st.integers(0, 10**9), st.text(max_size=20))
def test_a_seed_is_the_same_on_every_attempt(index: int, name: str) -> None:
    run = RunDir(Path("wrkdir." + "0f" * 32))
    first, again = esis.Task(index, run), esis.Task(index, run)
    assert (first.seed, first.stream(name)) == (again.seed, again.stream(name))
    assert first.seed != esis.Task(index + 1, run).seed


@pytest.mark.parametrize("bound", ["nothing", "cwd"])
def test_f284_nothing_is_made_of_a_run_that_is_not_there(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """F284: a container into which nothing of the run is bound, or the working directory alone, as some do."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_ESIS_RECORD", f"{run.tasks}/3.1.41.0.1700000000")
    shutil.rmtree(run.path)
    if bound == "cwd":
        run.cwd.mkdir(parents=True)
    monkeypatch.chdir(run.cwd if bound == "cwd" else tmp_path)
    before = sorted(tmp_path.rglob("*"))
    facility = checkpoint_facility(1)

    def save() -> None:
        with esis.checkpoints().save(1):
            pass

    for act in (
        lambda: esis.export(x=1),
        lambda: esis.export_array("x", [1]),
        save,
        lambda: esis.checkpoints().latest,  # None would let the worker begin anew
        lambda: facility.has_checkpoint("a"),
        lambda: facility.has_iterative_checkpoint("a"),
        lambda: facility.create_checkpoint("a"),
        lambda: facility.create_iterative_checkpoint("a"),
        facility.set_run_OK,
    ):
        with pytest.raises(BadInput, match=f"there is no directory {re.escape(str(run.path))}.*bind the whole run"):
            act()
    assert sorted(tmp_path.rglob("*")) == before


def test_f284_a_task_that_is_told_its_run_needs_it_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no directory"):
        esis.task(0, tmp_path / "typo" / "out", parameters={}).export(x=1)
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        checkpoint_facility(1, overwrite_path=tmp_path / "typo").create_checkpoint("a")
    assert list(tmp_path.iterdir()) == []
    esis.task(0, tmp_path, parameters={}).export(x=1)
    assert (tmp_path / "results/results.0.json").exists()
