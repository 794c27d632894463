"""What a worker writes for an attempt that was overtaken: nothing; and it is told."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import esis
from esis.errors import EsisError
from esis.model.workdir import RunDir
from esis.records.tasks import TaskRecord
from esis.worker.attempts import later_attempt
from tests.worker.conftest import make_run

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy


def belong(monkeypatch: pytest.MonkeyPatch, run: RunDir, stem: str = "3.0001.77.0.100") -> None:
    """Make this process a worker of that attempt."""
    for name, value in {
        "SLURM_ESIS_RECORD": str(run.tasks / stem),
        "SLURM_ARRAY_TASK_ID": stem.split(".")[0],
        "SLURM_ARRAY_JOB_ID": stem.split(".")[2],
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(run.cwd)


def overtake(run: RunDir, stem: str = "3.0001.77.1.200") -> None:
    run.attempts.mkdir(exist_ok=True)
    run.latest_attempt(int(stem.split(".")[0])).write_text(f"{stem}\n")


def test_f54_an_attempt_that_was_overtaken_exports_nothing(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """F54: results and arrays are those of the later attempt; the error says which one that is, and what next."""
    belong(monkeypatch, run)
    esis.export(a=1)
    overtake(run)
    writes: Sequence[Callable[[], object]] = (lambda: esis.export(a=2), lambda: esis.export_array("x", [1, 2]))
    for write in writes:
        with pytest.raises(esis.Overtaken, match=r"3\.0001\.77\.1\.200 at task 3 began after this one"):
            write()
    assert os.listdir(run.results) == ["results.3.json"]
    assert json.loads(run.result_file(3).read_text()) == {"a": 1}
    assert issubclass(esis.Overtaken, EsisError)


def test_f54_an_attempt_that_was_overtaken_saves_nothing(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """F54: nor does it sweep away what the later one is writing, whenever it is overtaken."""
    belong(monkeypatch, run)
    saved = esis.checkpoints()
    with saved.save(step=1):
        pass
    with pytest.raises(esis.Overtaken), saved.save(step=2) as directory:
        (directory / "x").write_text("x")
        overtake(run)
    assert [checkpoint.step for checkpoint in saved.all()] == [1]
    writing = saved.directory / ".esis-tmp-1-aaaa"
    writing.mkdir()
    with pytest.raises(esis.Overtaken), esis.checkpoints().save(step=3):
        raise AssertionError("the block isn't entered")
    assert writing.exists()


def test_f54_an_attempt_that_was_overtaken_requeues_nothing(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """F54: Slurm knows both attempts by one name, and would end the later one."""
    belong(monkeypatch, run)
    overtake(run)
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\n: >'{tmp_path}/asked'\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(esis.Requeued) as ended:
        esis.requeue()
    assert (ended.value.how, ended.value.code) == ("nothing", 75)
    assert "3.0001.77.1.200 at this task began after this one" in str(ended.value.problem)
    assert not (tmp_path / "asked").exists()
    assert os.listdir(run.tasks) == []


@pytest.mark.parametrize(
    "latest",
    [
        "3.0001.77.0.100",
        "3.0001.77.0.99",
        "3.0001.76.9.99",
        "4.0001.77.1.200",
        "",
        "\0",
        "3.0001.77.1",
        "3.0001.77.x.200",
        "3.0001.77.1.200.running",
        "é.1.2.3.4",
    ],
)
def test_f54_what_names_no_later_attempt_stops_nobody(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, latest: str
) -> None:
    """F54: its own name, an earlier one, that of another task, half of one."""
    belong(monkeypatch, run)
    overtake(run)
    run.latest_attempt(3).write_text(latest)
    esis.export(a=1)
    assert run.result_file(3).exists()


@pytest.mark.parametrize("kind", ["a FIFO", "a directory", "a dangling link"])
def test_f54_what_is_no_file_stops_nobody(run: RunDir, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """F54: and nobody waits for it."""
    belong(monkeypatch, run)
    run.attempts.mkdir()
    path = run.latest_attempt(3)
    {"a FIFO": os.mkfifo, "a directory": os.mkdir, "a dangling link": lambda it: it.symlink_to("x")}[kind](path)
    esis.export(a=1)
    assert run.result_file(3).exists()


def test_f54_another_run_has_attempts_of_its_own(run: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """F54: a worker that writes for another run or task is no attempt at that."""
    belong(monkeypatch, run)
    overtake(run)
    other = make_run(tmp_path / "other", "cd" * 32)
    esis.task(3, other.path).export(a=1)
    esis.task(4, run.path).export(a=1)
    assert other.result_file(3).exists()
    assert run.result_file(4).exists()
    with pytest.raises(esis.Overtaken):
        esis.task(3, run.path).export(a=1)


def test_f54_a_run_by_another_way_is_the_same_run(run: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """F54: through a symbolic link."""
    belong(monkeypatch, run)
    overtake(run)
    (tmp_path / "link").symlink_to(run.path)
    with pytest.raises(esis.Overtaken):
        esis.task(3, tmp_path / "link").export(a=1)


ATTEMPT = st.builds(
    lambda *told: TaskRecord(*told),  # what has a default keeps it
    st.just(3),
    st.sampled_from([1, 2, 9999, 10000]),
    st.sampled_from(["7", "10", "1790000000000001"]),
    st.integers(0, 11),
    st.integers(98, 102),
)


@RELAXED
@given(ATTEMPT, ATTEMPT)
def test_f54_worker_and_records_agree_on_what_is_later(
    tmp_path_factory: pytest.TempPathFactory, one: TaskRecord, two: TaskRecord
) -> None:
    """F54: esis.records.tasks has the rule."""
    run = make_run(tmp_path_factory.mktemp("later"))
    stem = two.name[: -len(".running")]
    overtake(run, stem)
    found = later_attempt(str(run.tasks / one.name[: -len(".running")]))
    assert found == (stem if two.supersedes(one) else None)


def test_f54_a_number_that_another_attempt_takes_is_no_failure(run: RunDir) -> None:
    """F54: an attempt whose save is under way when it is overtaken may publish; the later one takes the next number."""
    earlier = esis.task(3, run.path).checkpoints()
    with earlier.save(step=1):
        pass
    left = [2]

    class Slow(esis.Checkpoints):
        """See what is there, and only then the other attempt publishes."""

        @property
        def latest(self) -> esis.Checkpoint | None:
            found = super().latest
            while left:
                with earlier.save(step=left.pop()):
                    pass
            return found

    with Slow(earlier.directory).save(step=3):
        pass
    assert [checkpoint.step for checkpoint in earlier.all()] == [2, 3]
    assert earlier.latest is not None
    assert earlier.latest.number == 3


def test_one_look_is_all_that_it_costs(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """F54: on a parallel file system each look counts; nothing is listed."""
    import sys

    belong(monkeypatch, run)
    events: list[str] = []
    active = threading.local()

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if getattr(active, "on", False) and event in ("open", "os.listdir", "os.scandir"):
            events.append(f"{event} {arguments[0]}")

    sys.addaudithook(hear)
    task = esis.task()
    task._check_attempt()
    active.on = True
    task._check_attempt()
    active.on = False
    assert events == [f"open {run.latest_attempt(3)}"]


# --- what another job left in the environment


def test_f48_a_record_of_another_job_is_not_ours(run: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """F48: a job that a task submitted inherits its variables: neither run nor index nor attempt are its own."""
    from esis.worker.job import JobHere

    other = make_run(tmp_path / "other", "cd" * 32)
    belong(monkeypatch, run, "3.0001.77.0.100")
    monkeypatch.setenv("SLURM_ESIS_RECORD", str(other.tasks / "3.0001.76.0.100"))
    monkeypatch.setenv("SLURM_ESIS_INDEX", "9")
    overtake(other, "3.0001.76.1.200")
    monkeypatch.chdir(run.cwd)
    assert esis.task().paths.path == run.path
    esis.export(a=1)
    job = JobHere.here()
    assert job is not None
    assert (job.name, job.record) == ("77_3", None)
    monkeypatch.setenv("SLURM_ESIS_RECORD", str(run.tasks / "3.0001.77.0.100"))
    job = JobHere.here()
    assert job is not None
    assert (job.name, job.record) == ("77_9", str(run.tasks / "3.0001.77.0.100"))


def test_f54_checkpoints_of_0_0_4_are_left_to_the_later_attempt(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """F54: neither begun, nor kept, nor declared complete; reading goes on."""
    from esis.checkpoint import checkpoint_facility

    belong(monkeypatch, run)
    facility = checkpoint_facility(7)
    made, steps = facility.create_checkpoint("state"), facility.create_iterative_checkpoint("steps")
    steps.set_iteration(1)
    overtake(run)
    for write in (
        made.set_OK,
        steps.set_OK,
        lambda: steps.set_iteration(2),
        facility.set_run_OK,
        lambda: facility.create_checkpoint("more"),
    ):
        with pytest.raises(esis.Overtaken):
            write()
    assert not facility.has_checkpoint("state")
    assert facility.open_iterative("steps").get_iteration() == 1
    assert not run.completed.exists()
