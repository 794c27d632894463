"""A task begins, or ends, while its complete run is folded: nothing that it writes, or looks for, is taken away.

Jobs by hand take no lock, and `esis wait` and `esis status` fold behind a look that may be old by then.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pytest

from esis.operations.unchanged import remove, signatures
from tests.contract.site import BIN, Result
from tests.faults.bench import REPOSITORY, Bench, Broken, only_run
from tests.faults.conftest import FULL
from tests.faults.test_compact import content

# The second time task 1 waits until the test lets it go on, at most half a minute.
WORKER = """#!/bin/sh
echo "log of $SLURM_ARRAY_TASK_ID"
if [ -e ../../slow ]; then
    touch ../../begun
    n=0
    while [ ! -e ../../go ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done
fi
echo "{\\"n\\": \\"$(cat ../../version)\\"}" >"../results/results.$SLURM_ARRAY_TASK_ID.json"
echo "last words $(cat ../../version)"
"""
BY_HAND = "cd {cwd} && sbatch --array=1 ../sbatch.sh"
BEGIN = (
    "touch {place}/slow; {hand}; ({control} run &); n=0; "
    "while [ ! -e {place}/begun ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done"
)
END = "{hand}; {control} run"


@pytest.fixture
def complete(bench: Bench) -> Path:
    """Run three tasks to their end."""
    place = bench.workflow("a", 3, worker=WORKER)
    (place / "version").write_text("old")
    return place


def finish(bench: Bench, place: Path) -> None:
    bench.esis(place, "run").ok()
    bench.slurm.run()
    bench.esis(place, "wait").ok()
    bench.keep()
    (place / "version").write_text("new")


def commands(bench: Bench, place: Path, text: str, hand: str = BY_HAND) -> dict[str, str]:
    """Return the environment in which something happens while the command is held up."""
    control = f"PYTHONPATH={shlex.quote(str(REPOSITORY))} {shlex.quote(sys.executable)} -m tests.fakes.control"
    names = {
        "place": shlex.quote(str(place)),
        "cwd": shlex.quote(str(only_run(place) / "cwd")),
        "control": f"{control} {shlex.quote(str(bench.directory / 'slurm'))}",
        "esis": shlex.quote(str(BIN / "esis")),
    }
    said = shlex.quote(str(bench.directory / "said"))
    return {"ESIS_FAULT_MEANWHILE": f"exec >{said} 2>&1; {text}".format(hand=hand.format(**names), **names)}


def let_go(bench: Bench, place: Path) -> None:
    """Let the task go on, and wait until it has ended."""
    (place / "go").touch()
    bench.slurm.wait(lambda: all("RUNNING" not in job.states.values() for job in bench.slurm.jobs()), timeout=60)


def held_up_at(bench: Bench, place: Path, command: list[str], env: Mapping[str, str]) -> Iterator[tuple[str, Broken]]:
    """Yield how the command ended that was held up at each of its steps, with everything as it is then."""
    bench.restore()
    steps = bench.broken(place, command, "count", 0).steps
    look = next(at for at, step in enumerate(steps, 1) if "squeue" in step)
    for at in range(look, len(steps) + 1, 1 if FULL else 9):
        bench.restore()
        (place / "version").write_text("new")
        yield steps[at - 1], bench.broken(place, command, "meanwhile", at, env)


def test_f88_a_rerun_by_hand_that_begins_while_its_run_is_folded_ends_well(bench: Bench, complete: Path) -> None:
    """F88: its record is there to be renamed, its log and what it writes into it stay, its result counts."""
    finish(bench, complete)
    env = commands(bench, complete, BEGIN)
    for step, broken in held_up_at(bench, complete, ["compact", "--results"], env):
        assert broken.result.code in (0, 2), (step, broken.result)
        let_go(bench, complete)
        told = (step, broken.result, (bench.directory / "said").read_text())
        job = bench.slurm.jobs()[-1]
        assert (len(bench.slurm.jobs()), job.states) == (2, {1: "COMPLETED"}), told
        assert bench.states(complete) == {"done": 3}, told
        assert bench.esis(complete, "log", "1").ok().stdout == "log of 1\nlast words new\n", told
        records, logs, results = content(only_run(complete))
        assert len([name for name in records if name.startswith("1.")]) == 2, told
        assert len(logs) == 4, told
        assert results == {0: {"n": "old"}, 1: {"n": "new"}, 2: {"n": "old"}}, told
        bench.esis(complete, "compact", "--results").ok()
        assert content(only_run(complete)) == (records, logs, results), told


def test_f88_results_and_logs_that_a_rerun_by_hand_has_replaced_meanwhile_count(bench: Bench, complete: Path) -> None:
    """F88: also logs that have the same name each time."""
    text = (complete / "template.sh").read_text()
    (complete / "template.sh").write_text(text.replace("#ESIS_PRIVATE", "#SBATCH -o out_%a.log\n#ESIS_PRIVATE"))
    finish(bench, complete)
    for step, broken in held_up_at(bench, complete, ["compact", "--results"], commands(bench, complete, END)):
        assert broken.result.code in (0, 2), (step, broken.result)
        for again in (False, True):
            assert not again or bench.esis(complete, "compact", "--results").ok()
            assert content(only_run(complete))[2] == {0: {"n": "old"}, 1: {"n": "new"}, 2: {"n": "old"}}, step
            assert bench.esis(complete, "log", "1").ok().stdout == "log of 1\nlast words new\n", step
            assert bench.states(complete) == {"done": 3}, step


RESUBMIT = "cd {place} && {esis} resubmit --state done --tasks 1"


@pytest.mark.parametrize("hand", [BY_HAND, RESUBMIT], ids=["by hand", "resubmitted"])
def test_f88_status_folds_nothing_of_a_run_that_goes_on_by_then(bench: Bench, complete: Path, hand: str) -> None:
    """F88: between its look and the lock for the fold a task of the run begins once more."""
    patch = {"esis.operations.compact.WORTH_IT": 2}
    bench.esis(complete, "run").ok()
    bench.slurm.run()
    bench.keep()

    def status(kind: str, at: int, env: Mapping[str, str]) -> tuple[Result, list[str]]:
        report = bench.directory / "report"
        fault: dict[str, Any] = {"ESIS_FAULT_REPORT": str(report), "ESIS_FAULT_KIND": kind, "ESIS_FAULT_AT": str(at)}
        told = bench.esis(complete, "status", env={**fault, **env}, patch=patch)
        return told, report.read_text().splitlines()

    shown, steps = status("count", 0, {})
    assert "folding its task records" in shown.stderr
    at = next(at for at, step in enumerate(steps, 1) if step.startswith("os.mkdir") and "lock" in step)
    bench.restore()
    (complete / "version").write_text("new")
    shown, _ = status("meanwhile", at, commands(bench, complete, BEGIN, hand))
    assert shown.code == 0, shown
    assert not (only_run(complete) / "__esis__/tasks.txt").exists(), shown
    assert bench.states(complete) == {"done": 2, "running": 1}
    let_go(bench, complete)
    assert set(bench.slurm.jobs()[-1].states.values()) == {"COMPLETED"}
    assert bench.states(complete) == {"done": 3}


def test_f88_a_run_that_was_declared_complete_is_not_folded_while_nobody_can_tell(bench: Bench, complete: Path) -> None:
    """F88: a task of it may be running: squeue is asked, and gives no answer."""
    bench.esis(complete, "run").ok()
    run = only_run(complete)
    (run / "__esis__/complete").write_text("by hand: task 2 is not needed\n")
    for task in (0, 1):
        (run / f"__esis__/tasks/{task}.0001.1.0.1000.exit0.1001").write_text("{}")
    (run / "__esis__/tasks/2.0001.1.0.1000.running").write_text("{}")
    before = content(run)
    bench.slurm.fail("squeue", "timeout")
    refused = bench.esis(complete, "compact")
    assert (refused.code, "nothing was folded" in refused.stderr) == (6, True), refused
    assert content(run) == before
    bench.slurm.forget(1)
    bench.esis(complete, "compact").ok()
    assert content(run) == before
    assert os.listdir(run / "__esis__/tasks") == ["2.0001.1.0.1000.running"]
    assert json.loads(bench.esis(complete, "status", "--json").stdout)["complete"]


def test_f200_a_log_that_a_job_opens_just_before_it_is_moved_aside_stays(tmp_path: Path) -> None:
    """F200: nothing is written into it yet, so it looks as before; whether a task has begun is asked once more."""
    log = tmp_path / "slurm-1_0.out"
    log.write_text("before\n")
    job: list[IO[str]] = []

    def is_idle() -> bool:
        if job:
            return False
        job.append(log.open("a"))  # behind the question
        return True

    assert remove(tmp_path, signatures(tmp_path, [log.name]), is_idle) == 0
    with job[0] as stream:
        stream.write("later\n")
    assert log.read_text() == "before\nlater\n"
    assert os.listdir(tmp_path) == [log.name]
