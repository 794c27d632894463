"""A process that is held up for so long that another one takes its run over, and that then goes on.

A laptop's lid, Ctrl-Z, a file server that doesn't answer: at every step of `esis run` and `esis resubmit` another esis
takes the lock and does all that there is to do; the jobs may even run. Then the first one wakes up.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from esis.locks import STALE_SECONDS
from tests.contract.site import BIN, Result
from tests.faults.bench import REPOSITORY, Bench, Nursery, only_run
from tests.faults.conftest import FULL
from tests.faults.matrix import lay_out, queue, shortened
from tests.faults.test_compact import content

SHARES = 4  # tests, for xdist to spread
LONG_AGO = int(STALE_SECONDS) + 60


# The work is counted outside of the run: one that was thrown away counts as well.
COUNTED = """#!/bin/sh
echo "$SLURM_ARRAY_TASK_ID" >>"../../did.$SLURM_ARRAY_TASK_ID"
[ -e ../mended ] || [ "$SLURM_ARRAY_TASK_ID" = 0 ] || [ ! -e ../../flaky ]
"""
WORKER = """#!/bin/sh
echo "log of $SLURM_ARRAY_TASK_ID"
echo '{"a": 1}' >"../results/results.$SLURM_ARRAY_TASK_ID.json"
"""


@dataclass(frozen=True)
class Scene:
    """A command on a bench: what it does with nobody else there, and what it does where it is held up."""

    bench: Bench
    place: Path
    command: str
    steps: tuple[str, ...]
    expected: dict[str, int]  # how often each task has done its work in the end

    @classmethod
    def make(cls, bench: Bench, case: str) -> Scene:
        """Build the scene as it is before the command."""
        command = "run" if case in ("arrays", "rebuilt") else case
        place = lay_out(bench, case, COUNTED)
        if case == "rebuilt":
            steps = bench.broken(place, ["run"], "count", 0).steps
            shutil.rmtree(only_run(place))
            at = next(number for number, step in enumerate(steps, 1) if step == "subprocess.Popen setup.sh")
            bench.broken(place, ["run"], "kill", at)
            for job in bench.slurm.jobs():
                bench.slurm.forget(job.id)
        bench.keep()
        steps = bench.broken(place, [command], "count", 0).steps
        bench.slurm.run()
        return cls(bench, place, command, steps, done(bench))

    def meanwhile(self, jobs_run: bool) -> str:
        """Return what happens while the process is held up, as a shell command; its end is noted."""
        bench, quoted = self.bench, shlex.quote
        entries = f"{quoted(str(bench.home))}/*/wrkdir.*/__esis__/lock/*"
        age = f"for entry in {entries}; do touch -c -d '-{LONG_AGO} sec' $entry; done"
        told = quoted(str(bench.directory / "other"))
        other = f"cd {quoted(str(self.place))} && {quoted(str(BIN / 'esis'))} {self.command} --take-over 2>{told}"
        control = f"PYTHONPATH={quoted(str(REPOSITORY))} {quoted(sys.executable)} -m tests.fakes.control"
        state = quoted(str(bench.directory / "slurm"))
        run = f"{control} {state} run && {control} {state} purge" if jobs_run else "true"
        return f"exec >/dev/null; ({age}; {other}; echo $? >>{told}; {run})"


def done(bench: Bench) -> dict[str, int]:
    """Return how often each task of each run has done its work."""
    found = bench.home.glob("*/did.*")
    return {f"{path.parts[-2]} {path.name}": len(path.read_text().splitlines()) for path in found}


def hold_up(scene: Scene, at: int, jobs_run: bool) -> tuple[Result, str]:
    """Hold the command up at a step; return how it ended, and what the other one said."""
    bench = scene.bench
    bench.restore()
    (bench.directory / "other").write_text("")
    env = {"ESIS_FAULT_MEANWHILE": scene.meanwhile(jobs_run)}
    held_up = bench.broken(scene.place, scene.command.split(), "meanwhile", at, env)
    assert held_up.hit is not None
    return held_up.result, (bench.directory / "other").read_text()


def check(scene: Scene, at: int, jobs_run: bool) -> Iterator[str]:
    """Yield what is wrong where the command is held up at one step."""
    bench, place = scene.bench, scene.place
    held_up, other = hold_up(scene, at, jobs_run)
    if held_up.code not in (0, 7) or "Traceback" in held_up.stderr:
        yield f"the one that was held up ended with {held_up.code}: {held_up.stderr}"
    if not re.search(r"^[07]$", other, re.MULTILINE):
        yield f"the other one: {other}"
    for _ in range(2):
        again = bench.again(place, scene.command)
        if again.code != 0 or "Traceback" in again.stderr:
            yield f"the command once more ended with {again.code}: {again.stderr}"
        bench.slurm.run()
    states = bench.states(place)
    if states.keys() != {"done"}:
        yield f"in the end {states}, {queue(bench)}"
    if done(bench) != scene.expected:
        yield f"the tasks did their work {done(bench)} times instead of {scene.expected}"


EVERY = {"run": 11, "resubmit": 5, "dependency": 31, "arrays": 17, "rebuilt": 11}


@pytest.mark.parametrize("jobs_run", [False, True], ids=["waiting", "over"])
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("case", list(EVERY))
def test_f76_who_was_taken_over_does_no_harm_when_it_goes_on(
    tmp_path: Path, nursery: Nursery, case: str, share: int, jobs_run: bool
) -> None:
    """F76: each task does its work once, the run can be finished by the same command, and exit codes say it."""
    bench = Bench(tmp_path / "bench", nursery)
    with bench.slurm:
        scene = Scene.make(bench, case)
        numbers = range(1, len(scene.steps) + 1)[share :: SHARES if FULL else SHARES * EVERY[case]]
        assert numbers
        wrong = [
            f"step {at} ({shortened(scene.steps[at - 1], bench.home)}): {what}"
            for at in numbers
            for what in check(scene, at, jobs_run)
        ]
        assert not wrong, "\n".join(wrong)


def test_f76_who_was_taken_over_while_it_folded_loses_nothing(tmp_path: Path, nursery: Nursery) -> None:
    """F76: at every step of `esis compact`: no record, log or result is lost, and the same command ends well."""
    bench = Bench(tmp_path / "bench", nursery)
    with bench.slurm:
        place = bench.workflow("a", 3, worker=WORKER)
        bench.esis(place, "run").ok()
        bench.slurm.run()
        bench.esis(place, "wait").ok()
        expected = content(only_run(place))
        bench.keep()
        steps = bench.broken(place, ["compact", "--results"], "count", 0).steps
        scene = Scene(bench, place, "compact --results", steps, {})
        for at in range(1, len(steps) + 1, 1 if FULL else 3):
            held_up, other = hold_up(scene, at, jobs_run=False)
            assert held_up.code in (0, 7), (at, steps[at - 1], held_up)
            assert "Traceback" not in held_up.stderr + other
            assert content(only_run(place)) == expected, (at, steps[at - 1])
            bench.esis(place, "compact", "--results").ok()
            assert content(only_run(place)) == expected, (at, steps[at - 1])
