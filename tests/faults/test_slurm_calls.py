"""The cost of one command in Slurm calls does not depend on the number of tasks.

Counted by the fake. What they may be: run = arrays + at most 2, status at most 2, resubmit = arrays + at most 2.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.bench import Bench, only_run

SIZES = (3, 800)
QUESTIONS = ("squeue", "sacct", "scontrol", "sinfo")


class Meter:
    """Count the calls of single commands."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def __call__(self, place: Path, *arguments: str) -> tuple[int, int]:
        """Run a command; return how often it called sbatch, and how often it asked anything."""
        before = len(self._bench.slurm.calls())
        self._bench.esis(place, *arguments).ok()
        calls = Counter(
            "version" if call.argv == ("--version",) else call.program for call in self._bench.slurm.calls()[before:]
        )
        return calls["sbatch"], sum(calls[name] for name in QUESTIONS)


@pytest.fixture(params=[False, True], ids=["without accounting", "with accounting"])
def accounted(request: pytest.FixtureRequest, bench: Bench) -> Bench:
    bench.slurm.set(accounting=request.param)
    return bench


@pytest.mark.parametrize("tasks", SIZES)
def test_run_is_one_sbatch_and_at_most_one_question(accounted: Bench, tasks: int) -> None:
    """A fresh run; called again it asks once more at most, and submits nothing."""
    meter = Meter(accounted)
    place = accounted.workflow("a", tasks)
    submitted, asked = meter(place, "run")
    assert submitted == 1
    assert asked <= 1
    submitted, asked = meter(place, "run")
    assert submitted == 0
    assert asked <= 1


@pytest.mark.parametrize("tasks", SIZES)
def test_status_asks_at_most_twice(accounted: Bench, tasks: int) -> None:
    """Waiting, partly failed, done: squeue once, sacct once at most; a complete run needs no question."""
    meter = Meter(accounted)
    place = accounted.workflow("a", tasks)
    accounted.esis(place, "run", "-m", "0").ok()
    assert meter(place, "status") <= (0, 2)
    accounted.slurm.set_state(1, "FAILED", range(0, tasks, 2))
    for arguments in (["status"], ["status", "--tasks"], ["errors"], ["list"]):
        submitted, asked = meter(place, *arguments)
        assert submitted == 0
        assert asked <= 2, arguments
    for task in range(tasks):
        (only_run(place) / f"__esis__/tasks/{task}.0001.1.0.5.exit0.6").touch()
    accounted.slurm.set_state(1, "COMPLETED")
    accounted.esis(place, "status").ok()
    assert (only_run(place) / "__esis__/completed.state").read_text() == "1"
    assert meter(place, "status") == (0, 0)
    assert meter(place, "run") == (0, 0)


@pytest.mark.parametrize("tasks", SIZES)
def test_resubmit_is_one_sbatch_and_at_most_two_questions(accounted: Bench, tasks: int) -> None:
    """However many tasks failed."""
    meter = Meter(accounted)
    place = accounted.workflow("a", tasks)
    accounted.esis(place, "run", "-m", "0").ok()
    accounted.slurm.set_state(1, "FAILED", range(0, tasks, 2))
    accounted.slurm.set_state(1, "COMPLETED", range(1, tasks, 2))
    submitted, asked = meter(place, "resubmit")
    assert submitted == 1
    assert asked <= 2


@pytest.mark.parametrize("tasks", SIZES)
def test_a_chain_of_four_is_four_sbatch_and_at_most_two_questions(bench: Bench, tasks: int) -> None:
    """A fresh chain; and once everything waits, the same command asks again but submits nothing."""
    meter = Meter(bench)
    for name, required in (("a", []), ("b", ["a"]), ("c", ["b"]), ("d", ["c"])):
        place = bench.workflow(name, tasks, requires=required)
    submitted, asked = meter(place, "dependency")
    assert submitted == 4
    assert asked <= 2
    submitted, asked = meter(place, "dependency")
    assert submitted == 0
    assert asked <= 2
