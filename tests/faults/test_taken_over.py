"""A process that is held up for so long that another one takes its run over, and that then goes on.

A laptop's lid, Ctrl-Z, a file server that doesn't answer: at every step of `esis run` and `esis resubmit` another esis
takes the lock and does all that there is to do; the jobs may even run. Then the first one wakes up.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
        esis = f"THE_OTHER=1 {quoted(str(BIN / 'esis'))} {self.command} --take-over"
        other = f"cd {quoted(str(self.place))} && {esis} 2>{told}"
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


def check(scene: Scene, at: int, jobs_run: bool, refused: tuple[int, ...] = ()) -> Iterator[str]:
    """Yield what is wrong where the command is held up at one step; `refused`: more exit codes that it may have."""
    bench, place = scene.bench, scene.place
    (bench.directory / "called").unlink(missing_ok=True)
    held_up, other = hold_up(scene, at, jobs_run)
    if held_up.code not in (0, 7, *refused) or "Traceback" in held_up.stderr:
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


LIMIT = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
REFUSALS = {
    "limit": f'echo "sbatch: error: Batch job submission failed: {LIMIT}" >&2; exit 1',
    "account": 'echo "sbatch: error: Batch job submission failed: Invalid account" >&2; exit 1',
    "lost": 'REAL "$@" >&2; echo "sbatch: error: Batch job submission failed: Socket timed out" >&2; exit 1',
}
# The nth call of the process that will be held up; what others call goes through.
REFUSING = """called={directory}/called
[ -n "$THE_OTHER" ] || echo x >>$called
if [ -n "$THE_OTHER" ] || [ "$(wc -l <$called)" != {nth} ]; then exec REAL "$@"; fi
{refusal}"""


def unrecorded(bench: Bench, fenced: bool) -> Iterator[str]:
    """Yield what the records of submissions don't tell; `fenced`: there may be another job of the same submission."""
    told = {
        job["id"]
        for path in bench.home.glob("*/wrkdir.*/__esis__/submissions/*.json")
        for job in json.loads(path.read_text())["jobs"]
    }
    there = {str(job.id) for job in bench.slurm.jobs() if job.name == "sbatch.sh"}
    if told != there and not (fenced and told < there):
        yield f"Slurm has the jobs {sorted(there)}, the records tell of {sorted(told)}"


@pytest.mark.parametrize("refusal", list(REFUSALS))
@pytest.mark.parametrize(("case", "nth"), [("run", 1), ("arrays", 1), ("arrays", 2)])
def test_f76_who_was_taken_over_writes_no_refusal_over_what_was_done_since(
    tmp_path: Path, nursery: Nursery, case: str, nth: int, refusal: str
) -> None:
    """F76: the call that it was held up in is refused, or its answer is lost, when the other one has got all in."""
    bench = Bench(tmp_path / "bench", nursery)
    with bench.slurm:
        scene = Scene.make(bench, case)
        bench.restore()
        quoted = shlex.quote(str(bench.directory))
        bench.wrap("sbatch", REFUSING.format(directory=quoted, nth=nth, refusal=REFUSALS[refusal]))
        (bench.directory / "called").unlink(missing_ok=True)
        alone = bench.broken(scene.place, [scene.command], "count", 0)
        sent = [at for at, step in enumerate(alone.steps, 1) if step.startswith("after subprocess.Popen sbatch")]
        scene = replace(scene, steps=alone.steps)
        first = sent[nth - 1]
        wrong = [
            f"step {at} ({shortened(scene.steps[at - 1], bench.home)}): {what}"
            for at in range(first, len(scene.steps) + 1, 1 if FULL else 9)
            for what in (
                *check(scene, at, jobs_run=False, refused=(alone.result.code,)),
                *unrecorded(bench, refusal == "lost"),
            )
        ]
        assert not wrong, "\n".join(wrong)


def feeders(bench: Bench) -> set[tuple[bool, str]]:
    """Return of the feeding jobs whether they are held, and their states."""
    return {(job.held, state) for job in bench.slurm.jobs() if job.name == "esis-feed" for state in job.states.values()}


def test_f90_who_was_taken_over_leaves_the_feeding_job_to_the_new_owner(tmp_path: Path, nursery: Nursery) -> None:
    """F90: at every step behind the call that queued it: some job submits the rest, or nothing is left."""
    bench = Bench(tmp_path / "bench", nursery)
    with bench.slurm:
        bench.slurm.set(max_array_size=2, submit_limit=4)
        place = bench.workflow("a", 5, COUNTED)
        bench.keep()
        steps = bench.broken(place, ["run", "--feed"], "count", 0).steps
        first = next(at for at, step in enumerate(steps, 1) if step.startswith("after subprocess.Popen sbatch"))
        scene = Scene(bench, place, "run --feed", steps, {})
        for at in range(first, len(steps) + 1, 1 if FULL else 9):
            held_up, other = hold_up(scene, at, jobs_run=False)
            told = (at, steps[at - 1], held_up, other)
            assert held_up.code in (0, 7), told
            assert re.search(r"^[07]$", other, re.MULTILINE), told
            left = bench.states(place).get("unsubmitted", 0)
            assert not left or (False, "PENDING") in feeders(bench), told
            for _ in range(8):
                bench.slurm.run(parallel=4)
            assert bench.states(place) == {"done": 5}, told


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
