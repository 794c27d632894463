"""A fault at any step of a command leaves exactly one submission, and the same command once more makes it good.

The steps are counted, not listed: `matrix.py` tries 1, 2, 3 … until an untouched pass ends it. Here every kill point of
`esis run` is tried and a sample of the rest; `ci/faults` (ESIS_FAULTS=full) leaves nothing out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults.bench import Bench, EarlyBench, Nursery
from tests.faults.conftest import FULL
from tests.faults.matrix import COMMANDS, Scene, chunk, points, shortened, summary, try_point

PARTS = 8  # tests, for xdist to spread


@pytest.fixture(scope="module")
def scene_of(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Iterator[Callable[[str], Scene]]:
    """Scenes, each built once a module."""
    made: dict[str, Scene] = {}

    def get(command: str) -> Scene:
        if command not in made:
            made[command] = Scene.make(tmp_path_factory.mktemp("scene") / command, command, nursery)
        return made[command]

    yield get
    for scene in made.values():
        scene.bench.slurm.close()


def check(scene: Scene, kind: str, numbers: Sequence[int]) -> None:
    found = list(points(scene, kind, numbers))
    assert found, "no step was reached"
    unclean = [str(point) for point in found if not point.clean]
    assert not unclean, f"{summary(scene.command, kind, found)}\n" + "\n".join(unclean)


@pytest.mark.parametrize("part", range(PARTS))
def test_f01_run_is_clean_whenever_it_is_killed(scene_of: Callable[[str], Scene], part: int) -> None:
    """F01: SIGKILL before and after each step of `esis run`: one job, its id recorded, the same files, no litter."""
    check(scene_of("run"), "kill", chunk(1, part, PARTS))


@pytest.mark.parametrize("kind", ["kill", "ENOSPC", "full"])
def test_f01_f04_a_copy_that_is_made_early_is_clean_at_each_of_its_steps(
    tmp_path: Path, nursery: Nursery, kind: str
) -> None:
    """A large include is copied before the run has a name: used, removed, or swept by the next command."""
    scene = Scene.make(tmp_path / "early", "run", nursery, EarlyBench)
    steps = [at for at, step in enumerate(scene.steps, 1) if ".esis-build-early-" in step]
    assert any("os.rename" in scene.steps[at - 1] for at in steps)
    if kind == "kill":
        check(scene, kind, steps[:: 1 if FULL else 2])
    else:
        check(scene, kind, range(1, 12))
    scene.bench.slurm.close()


@pytest.mark.parametrize(("command", "every"), [("resubmit", 4), ("dependency", 23), ("arrays", 13)])
def test_f01_resubmit_and_dependency_are_clean_whenever_they_are_killed(
    scene_of: Callable[[str], Scene], command: str, every: int
) -> None:
    """F01: the same for `esis resubmit`, for a chain of two, and for a run of three arrays."""
    check(scene_of(command), "kill", chunk(1 if FULL else every, 0, 1))


@pytest.mark.parametrize(("command", "every"), [("run", 19), ("resubmit", 7), ("dependency", 61), ("arrays", 37)])
@pytest.mark.parametrize("kind", ["ENOSPC", "EDQUOT", "EIO", "EACCES"])
def test_f04_a_step_that_fails_is_told_with_path_and_errno_and_is_clean_afterwards(
    scene_of: Callable[[str], Scene], command: str, kind: str, every: int
) -> None:
    """F04: exit code ≠ 0 and one line, or the fault made no difference; the same command once more is clean."""
    first = 1 + ["ENOSPC", "EDQUOT", "EIO", "EACCES"].index(kind)
    check(scene_of(command), kind, chunk(1 if FULL else every, 0, 1, 1 if FULL else first))


@pytest.mark.parametrize(("command", "every"), [("run", 17), ("resubmit", 5), ("dependency", 47), ("arrays", 29)])
def test_f04_a_disk_that_stays_full_is_told_and_clean_afterwards(
    scene_of: Callable[[str], Scene], command: str, every: int
) -> None:
    """F04: from one step on nothing can be written any more, not even what tidies up."""
    check(scene_of(command), "full", chunk(1 if FULL else every, 0, 1))


@pytest.mark.parametrize(("command", "every"), [("run", 3), ("resubmit", 2), ("dependency", 11), ("arrays", 17)])
def test_f06_a_short_write_makes_no_difference(scene_of: Callable[[str], Scene], command: str, every: int) -> None:
    """F06: write(2) may take 10 bytes at a time; the content is complete all the same."""
    check(scene_of(command), "short", chunk(1 if FULL else every, 0, 1))


def test_the_injector_sees_the_whole_of_a_command(scene_of: Callable[[str], Scene]) -> None:
    """Every record's write, fsync and rename is a step, and so is each program that is started."""
    steps = [shortened(step, Path("/nowhere")) for step in scene_of("run").steps]
    for name in ("submissions/0001.json", "jobid.tx", "sbatch.sh", "state.json", "wf_starttime"):
        assert any(step.startswith("os.rename") and step.endswith(name) for step in steps), name
    for program in ("sbatch --parsable", "gen.sh", "setup.sh", "scontrol show"):
        assert any(step == f"subprocess.Popen {program}" for step in steps), program
        assert any(step == f"after subprocess.Popen {program}" for step in steps), program
    assert sum(step.startswith("os.fsync") for step in steps) > 30
    assert sum(step.endswith("(half)") for step in steps) > 20


def test_a_process_of_its_own_takes_the_same_steps(tmp_path: Path, scene_of: Callable[[str], Scene]) -> None:
    """The nursery only saves time: an esis started anew, with sitecustomize on PYTHONPATH, takes the same steps.

    Its fault doesn't reach the scripts, nor Slurm's clients, and a kill point does the same to it.
    """
    scene = Scene.make(tmp_path / "own", "run", None)

    def named(some: Scene) -> list[str]:
        return [re.sub(r"-[0-9]+-[0-9a-f]{8}", "", shortened(step, some.bench.home)) for step in some.steps]

    assert len(scene.steps) == len(scene_of("run").steps)
    assert named(scene) == named(scene_of("run"))
    body = (scene.place / "gen.sh").read_text().replace("n=0;", "env >environment; n=0;", 1)
    (scene.place / "gen.sh").write_text(body)
    broken = scene.bench.broken(scene.place, ["run"], "count", 0)
    broken.result.ok()
    seen = next(scene.place.glob("wrkdir.*/parameters/environment")).read_text()
    assert "ESIS_FAULT_" not in seen
    assert f"{os.sep}injector" not in seen
    point = try_point(scene, "kill", len(scene.steps) // 2)
    assert point is not None
    assert point.clean, str(point)


def step_behind(scene: Scene, what: str) -> int:
    """Return the number of the step behind the last one called `what`."""
    return max(number for number, step in enumerate(scene.steps, 1) if step == what) + 1


@pytest.mark.parametrize("command", COMMANDS)
def test_f03_killed_between_sbatch_and_the_record_the_job_is_adopted(
    scene_of: Callable[[str], Scene], command: str
) -> None:
    """F03: sbatch has ended and nothing is recorded: the same job is adopted, sbatch isn't called for it again."""
    scene = scene_of(command)
    at = step_behind(scene, "after subprocess.Popen sbatch --parsable")
    assert scene.steps[at - 1].startswith("open ")
    scene.bench.restore()
    before = len(scene.bench.slurm.calls("sbatch"))
    assert scene.bench.broken(scene.place, scene.argv, "kill", at).result.code == -9
    assert len(scene.bench.slurm.jobs()) == scene.jobs
    called = len(scene.bench.slurm.calls("sbatch"))
    shown = scene.bench.again(scene.place, *scene.argv).ok()
    assert "Slurm has it as job" in shown.stderr
    assert len(scene.bench.slurm.calls("sbatch")) == called > before
    assert len(scene.bench.slurm.jobs()) == scene.jobs


def test_f02_killed_while_sbatch_runs_the_accepted_job_is_adopted(bench: Bench) -> None:
    """F02: sbatch has been accepted and has not ended when esis is killed: one job, one call of sbatch."""
    place = bench.workflow("a")
    scene = Scene(bench, "run", place)
    scene.steps = bench.broken(place, ["run"], "count", 0).steps
    at = scene.steps.index("after subprocess.Popen sbatch --parsable") + 1
    (place / "worker.sh").write_text("#!/bin/sh\necho another workflow\n")
    bench.slurm.fail("sbatch", "hang", seconds=1.0, accepted=True)
    assert bench.broken(place, ["run"], "kill", at).result.code == -9
    shown = bench.again(place, "run", seconds=5).ok()
    assert "Slurm has it as job 2" in shown.stderr, shown.stderr
    assert [job.id for job in bench.slurm.jobs()] == [1, 2]
    assert len(bench.slurm.calls("sbatch")) == 2


def test_f02_killed_while_sbatch_has_not_been_heard_yet_the_job_is_waited_for(bench: Bench) -> None:
    """F02: the orphaned sbatch reaches Slurm only seconds later: within the grace period nothing is sent again."""
    place = bench.workflow("a")
    count = bench.broken(place, ["run"], "count", 0).steps
    at = count.index("after subprocess.Popen sbatch --parsable") + 1
    (place / "worker.sh").write_text("#!/bin/sh\necho another workflow\n")
    bench.wrap("sbatch", 'sleep 1.5\nexec REAL "$@"')
    broken = bench.broken(place, ["run"], "kill", at)
    assert broken.result.code == -9
    assert broken.hit == "after subprocess.Popen sbatch --parsable"
    assert len(bench.slurm.jobs()) == 1
    shown = bench.esis(place, "run", env={"ESIS_LOOKUP_GRACE": "20"}).ok()
    assert "not in the queue" in shown.stderr, shown.stderr
    assert "Slurm has it as job 2" in shown.stderr, shown.stderr
    assert [job.id for job in bench.slurm.jobs()] == [1, 2]
