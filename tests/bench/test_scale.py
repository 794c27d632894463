"""What many tasks cost in files, calls of Slurm and bytes: deterministic, so that it can gate; no times here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.bench import traced
from tests.bench.export import complete, export, table
from tests.bench.scan import Scan, scan, write_records, write_result_lines
from tests.bench.status import FEW, STATES, fewest, opened_by_status

MANY = 3000
ARRAY = 1001  # MaxArraySize, Slurm's default
Make = Callable[..., Scan]


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(scan(*arguments, **options))


@pytest.fixture
def strace() -> None:
    if not traced.works():
        pytest.skip("strace is not installed, or may not trace here")


@pytest.mark.parametrize("form", ["files", "lines"])
@pytest.mark.parametrize(("tasks", "arrays"), [(FEW, 1), (MANY, 3)])
def test_run_calls_sbatch_once_for_each_array_and_slurm_twice_at_most(
    make: Make, form: str, tasks: int, arrays: int
) -> None:
    """Whatever the number of tasks and the form of their parameters."""
    spent = make(tasks, form, max_array_size=ARRAY).esis("run")
    assert spent.calls["sbatch"] == arrays
    assert spent.slurm_calls() <= arrays + 2
    assert spent.calls["generator"] == spent.calls["setup"] == 1


@pytest.mark.parametrize("state", list(STATES))
def test_status_asks_squeue_once_and_sacct_once_at_most(make: Make, state: str) -> None:
    """Whatever the states; of a run that is known to be complete nobody is asked."""
    of = make(MANY, accounting=True)
    of.esis("run")
    STATES[state](of)
    spent = of.esis("status")
    queue, accounting = {"compacted": (0, 0), "all waiting": (1, 0)}.get(state, (1, 1))
    assert (spent.calls["squeue"], spent.calls["sacct"]) == (queue, accounting)
    assert spent.slurm_calls() == queue + accounting


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("state", list(STATES))
def test_status_opens_as_many_files_whatever_the_number_of_tasks(make: Make, state: str) -> None:
    """State is in names: no record is opened, no parameters, no results."""
    opened = []
    for tasks in (fewest(state), MANY):
        of = make(tasks, accounting=True)
        of.esis("run")
        STATES[state](of)
        opened.append(opened_by_status(of))
    few, many = opened
    assert len(few) > 0
    assert len(many) == len(few)


@pytest.mark.parametrize("tasks", [100, MANY])
def test_resubmit_calls_slurm_as_often_whatever_is_scattered(make: Make, tasks: int) -> None:
    """One array of the failed tasks, wherever they stand, and two calls beside it."""
    of = make(tasks)
    of.esis("run")
    write_records(of.run, "1", ((task, 3 if task % 3 else 0) for task in range(tasks)))
    of.forget_jobs()
    spent = of.esis("resubmit")
    assert spent.calls["sbatch"] == 1
    assert spent.slurm_calls() <= 3


def test_a_complete_run_has_few_inodes(make: Make) -> None:
    """With one file of parameters and one of results: fewer than 100, whatever the number of tasks."""
    counts = []
    for tasks in (2000, 10_000):
        of = make(tasks)
        complete(of, "lines")
        assert "done\t" in of.esis("status").out
        counts.append(of.inodes())
    assert counts[0] == counts[1] < 100


@pytest.mark.usefixtures("strace")
def test_an_export_reads_each_byte_once(make: Make) -> None:
    """Parameters, results and folded records are gone through once, in the order of the tasks."""
    of = make(MANY)
    complete(of, "lines")
    read = traced.bytes_read(of.argv(*export()), of.place, of.environment)
    for path in (of.run.parameters_lines, of.run.results_lines):
        assert read[str(path)] == path.stat().st_size
    # The names of the records tell the states, their content the hosts.
    assert read[str(of.run.folded_tasks)] <= 2 * of.run.folded_tasks.stat().st_size
    assert table(of).read_bytes().count(b"\n") == MANY + 1


def test_failed_tasks_of_a_folded_run_are_told(make: Make) -> None:
    """The bench's records are records: what they say comes out again."""
    of = make(FEW)
    of.esis("run")
    write_records(of.run, "1", ((task, 3 if task == 4 else 0) for task in range(FEW)))
    write_result_lines(of.run, range(FEW))
    of.forget_jobs()
    assert "failed\t1\t4\texit code 3" in of.esis("status").out
