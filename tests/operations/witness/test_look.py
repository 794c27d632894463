"""Asking Slurm while tasks go on: what ends between two looks at one thing and the other."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from pathlib import Path

import pytest

from esis.model.workdir import RunDir
from esis.operations.witness.evidence import gather
from esis.operations.witness.look import look, status_after
from esis.operations.witness.status import TaskState
from esis.records import submissions
from esis.records.submissions import Array, Job
from esis.schedulers.answers import classify
from esis.schedulers.base import Sighting, Snapshot
from tests.operations.made import make_run

BEGUN = 1_700_000_000


class Busy:
    """A queue that is asked while a task ends: it does so before the answer is given."""

    name = "slurm"

    def __init__(self, answer: Snapshot, meanwhile: Callable[[], None]) -> None:
        self._answer = answer
        self._meanwhile = meanwhile

    def observe(self, clusters: Sequence[str], owners: Sequence[int] = ()) -> Snapshot:
        self._meanwhile()
        return self._answer

    def account(
        self,
        snapshot: Snapshot,
        jobs: Sequence[str],
        clusters: Sequence[str],
        since: float,
        completed: bool = True,
        besides: Container[str] = (),
    ) -> Snapshot:
        return snapshot._replace(accounting_asked=True, accounting_problem="disabled")


def a_run(tmp_path: Path, per_job: int) -> RunDir:
    run = make_run(tmp_path, [{}] * 3, {}, complete=False)
    for record in run.tasks.iterdir():
        record.unlink()
    (made,) = submissions.read_all(run)
    arrays = (Array("0", 0, 3),) if per_job > 1 else made.arrays
    submissions.save(run, made._replace(scheduler="slurm", jobs=(Job("77"),), per_job=per_job, arrays=arrays))
    return run


def record(run: RunDir, task: int, word: str) -> None:
    """Write the record of a task, or rename that of its start."""
    begun = run.tasks / f"{task}.0001.77.0.{BEGUN}.running"
    if not begun.exists():
        begun.touch()
    if word != "running":
        begun.rename(run.tasks / f"{task}.0001.77.0.{BEGUN}.{word}.{BEGUN + 5}")


def ended(run: RunDir, word: str, indices: Sequence[int]) -> Snapshot:
    return Snapshot((Sighting("77", indices, classify(word), word, place=f"{run.private}/../sbatch.sh|{run.cwd}"),))


@pytest.mark.parametrize("before", ["", "running"])
def test_a_task_that_ended_just_before_its_pack_was_cut_off_is_done(tmp_path: Path, before: str) -> None:
    """F54: its record came behind the listing and before squeue's answer: it isn't given back, to be run twice."""
    run = a_run(tmp_path, 3)
    record(run, 0, "exit0")
    if before:
        record(run, 1, before)
    evidence = gather(run)
    busy = Busy(ended(run, "TIMEOUT", [0]), lambda: record(run, 1, "exit0"))
    _, (status,) = look([evidence], busy)  # type: ignore[arg-type]
    assert status is not None
    assert [status.tasks[task].state for task in range(3)] == [TaskState.DONE, TaskState.DONE, TaskState.UNSUBMITTED]


def test_a_task_that_began_and_ended_while_squeue_was_asked_is_done(tmp_path: Path) -> None:
    """`esis wait` would end with 6 for it: COMPLETED, and no record."""
    run = a_run(tmp_path, 1)

    def finish() -> None:
        for task in range(3):
            record(run, task, "exit0")

    busy = Busy(ended(run, "COMPLETED", [0, 1, 2]), finish)
    _, (status,) = look([gather(run)], busy)  # type: ignore[arg-type]
    assert status is not None
    assert status.summary() == "3 done"


def test_a_task_that_ended_and_was_forgotten_while_squeue_was_asked_is_not_lost(tmp_path: Path) -> None:
    """Slurm forgets soon where MinJobAge is small: absent, and its start long ago, it would be run again."""
    run = a_run(tmp_path, 1)
    for task in range(3):
        record(run, task, "running")

    def finish() -> None:
        for task in (0, 2):
            record(run, task, "exit0")

    _, (status,) = look([gather(run)], Busy(Snapshot(), finish))  # type: ignore[arg-type]
    assert status is not None
    assert status.summary() == "2 done, 1 lost"
    assert status.indices(TaskState.LOST) == [1]


def test_what_left_no_record_is_still_not_done(tmp_path: Path) -> None:
    """A second look invents nothing, and leaves nothing behind."""
    run = a_run(tmp_path, 1)
    evidence = gather(run)
    assert evidence is not None
    assert status_after(evidence, ended(run, "COMPLETED", [0, 1, 2])).summary() == "3 unknown"
    assert not list(run.tasks.iterdir())
