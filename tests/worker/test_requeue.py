"""esis.requeue: this one task, never the array; a marker where Slurm can't or won't."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import esis
from esis.model.workdir import RunDir


@pytest.fixture
def job(run: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunDir:
    """Be the last task of array 20: its own job id is that of the array."""
    for name, value in {
        "SLURM_ARRAY_JOB_ID": "20",
        "SLURM_ARRAY_TASK_ID": "9",
        "SLURM_JOB_ID": "20",
        "SLURM_ESIS_INDEX": "9",
        "SLURM_ESIS_RECORD": str(run.tasks / "9.0001.20.0.100"),
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return run


def scontrol(tmp_path: Path, body: str = "") -> Path:
    path = tmp_path / "bin" / "scontrol"
    path.write_text(f"#!/bin/sh\necho \"$*\" >>'{tmp_path}/calls'\n{body}\n")
    path.chmod(0o755)
    return tmp_path / "calls"


def requeue(**options: int) -> esis.Requeued:
    with pytest.raises(SystemExit) as caught:
        esis.requeue(**options)
    assert isinstance(caught.value, esis.Requeued)
    assert caught.value.code == 75
    return caught.value


def marker(run: RunDir) -> list[str]:
    return os.listdir(run.tasks)


def test_slurm_is_asked_for_this_task_alone(job: RunDir, tmp_path: Path) -> None:
    calls = scontrol(tmp_path)
    end = requeue()
    assert (end.how, end.problem) == ("slurm", None)
    assert calls.read_text() == "requeue 20_9\n"
    assert marker(job) == []


def test_slurms_own_index_is_named_where_the_tasks_one_differs(
    job: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mapped and shifted arrays: requeueing 20_5012 would be another task, or none."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5012")
    calls = scontrol(tmp_path)
    requeue()
    assert calls.read_text() == "requeue 20_9\n"


def test_f226_the_cluster_of_the_job_is_asked(job: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F226: a login shell may name others again; the job of that number there is another one."""
    monkeypatch.setenv("SLURM_CLUSTERS", "other")
    calls = scontrol(tmp_path, f"echo \"${{SLURM_CLUSTERS-its own}}\" >>'{tmp_path}/calls'")
    assert requeue().how == "slurm"
    assert calls.read_text() == "requeue 20_9\nits own\n"


def test_a_refusal_leaves_a_marker(job: RunDir, tmp_path: Path) -> None:
    scontrol(tmp_path, "echo 'Requested operation is presently disabled for job 20_9' >&2; exit 1")
    end = requeue()
    assert end.how == "resubmit"
    assert "presently disabled" in str(end.problem)
    assert marker(job) == ["9.0001.20.0.100.resume"]


def test_where_there_is_no_scontrol_a_marker_is_left(
    job: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert requeue().how == "resubmit"
    assert marker(job) == ["9.0001.20.0.100.resume"]


@pytest.mark.parametrize("variable", ["SLURM_ESIS_PACKED", "SLURM_ESIS_LOCAL"])
def test_a_shared_job_and_a_local_run_are_never_requeued(
    job: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    calls = scontrol(tmp_path)
    monkeypatch.setenv(variable, "1")
    assert requeue().how == "resubmit"
    assert not calls.exists()
    assert marker(job) == ["9.0001.20.0.100.resume"]


def test_enough_is_enough(job: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker that gets nowhere doesn't go round for ever."""
    scontrol(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert requeue(at_most=3).how == "slurm"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    end = requeue(at_most=3)
    assert (end.how, end.problem) == ("resubmit", "requeued 3 times already")


def test_outside_of_a_job_it_is_an_exit_code(run: RunDir) -> None:
    assert (requeue().how, marker(run)) == ("nothing", [])


def test_a_record_that_cannot_be_marked_is_a_failure_with_75(job: RunDir, tmp_path: Path) -> None:
    scontrol(tmp_path, "exit 1")
    job.tasks.rmdir()
    assert requeue().how == "nothing"
